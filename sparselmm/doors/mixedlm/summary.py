"""A summary in statsmodels' layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from sparselmm.api import QUICK_SECONDS, trace_seconds
from sparselmm.doors.mixedlm.estimates import MixedLMEstimates
from sparselmm.exceptions import ParameterError
from sparselmm.report.latex import escape_latex

TITLE = "Mixed Linear Model Regression Results"


@dataclass(frozen=True, repr=False)
class MixedLMSummary:
    """A printable summary of a fit.

    Attributes
    ----------
    info : tuple of (str, str)
        What stands above the table.
    table : pandas.DataFrame
        Estimates as text.
    notes : tuple of str
        What stands below.
    title : str
        The heading.
    """

    info: tuple[tuple[str, str], ...]
    table: pd.DataFrame
    notes: tuple[str, ...]
    title: str = TITLE

    @property
    def tables(self) -> list[pd.DataFrame]:
        """The head and the table of estimates."""
        return [_head(self.info), self.table]

    def as_text(self) -> str:
        """Return the summary as text."""
        half = (len(self.info) + 1) // 2
        wide = [max(len(part[i]) for part in self.info[:half]) for i in (0, 1)]
        wide += [max(len(part[i]) for part in self.info[half:]) for i in (0, 1)]
        cells = _head(self.info).to_numpy()
        head = ["  ".join([f"{a:<{wide[0]}} {b:<{wide[1]}}", f"{c:<{wide[2]}} {d:<{wide[3]}}"]) for a, b, c, d in cells]
        body = self.table.to_string().splitlines()
        width = max(len(line.rstrip()) for line in [*head, *body, self.title])
        lines = [self.title.center(width).rstrip(), "=" * width, *head, "-" * width, *body, "=" * width, *self.notes]
        return "\n".join(line.rstrip() for line in lines)

    def as_html(self) -> str:
        """Return the summary as HTML, as notebooks show it."""
        return self._repr_html_()

    def as_latex(self, label: str | None = None) -> str:
        """Return the summary as a LaTeX table; the preamble needs ``booktabs``. ``lmm.to_latex`` has lme4's layout."""
        head = [" & ".join(map(escape_latex, row)) for row in _head(self.info).to_numpy()]
        columns = " & ".join(["", *map(escape_latex, self.table.columns)])
        body = [
            " & ".join(map(escape_latex, (name, *row))) for name, row in zip(self.table.index, self.table.to_numpy())
        ]
        end = r" \\"
        return "\n".join([
            r"\begin{table}", rf"\caption{{{escape_latex(self.title)}}}", *([rf"\label{{{label}}}"] if label else []),
            r"\begin{center}",
            r"\begin{tabular}{llll}", r"\toprule", *(line + end for line in head), r"\bottomrule", r"\end{tabular}",
            "",
            rf"\begin{{tabular}}{{l{'r' * len(self.table.columns)}}}", r"\toprule", columns + end, r"\midrule",
            *(line + end for line in body), r"\bottomrule", r"\end{tabular}",
            r"\end{center}", *map(escape_latex, self.notes), r"\end{table}",
        ])  # fmt: skip

    def __str__(self) -> str:
        return self.as_text()

    def __repr__(self) -> str:
        return self.as_text()

    def _repr_html_(self) -> str:
        head = _head(self.info).to_html(header=False, index=False, border=0)
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        return f"<p><b>{escape(self.title)}</b></p>{head}{self.table.to_html(border=0)}{notes}"


def _head(info: tuple[tuple[str, str], ...]) -> pd.DataFrame:
    half = (len(info) + 1) // 2
    right = [*info[half:], *[("", "")] * (2 * half - len(info))]
    return pd.DataFrame([(*a, *b) for a, b in zip(info[:half], right)])


@dataclass(frozen=True)
class Labels:
    """Names to show in place of the model's; None keeps these.

    Attributes
    ----------
    response, title : str, optional
        The response, the heading.
    fixed, random : sequence of str, optional
        The fixed effects, the entries of the covariance of the random effects.
    """

    response: str | None = None
    fixed: Sequence[str] | None = None
    random: Sequence[str] | None = None
    title: str | None = None

    def rows(self, result: MixedLMEstimates) -> list[str]:
        """Return the names of the rows of the table."""
        names, p = list(result.param_names), result.k_fe
        for what, given, at in (
            ("xname_fe", self.fixed, slice(0, p)),
            ("xname_re", self.random, slice(p, p + result.k_re2)),
        ):
            if given is not None:
                if len(given) != len(names[at]):
                    raise ParameterError(f"{what} has {len(given)} names; it needs one each for {', '.join(names[at])}")
                names[at] = map(str, given)
        return names


def summarize(result: MixedLMEstimates, alpha: float, labels: Labels | None = None) -> MixedLMSummary:
    """Return the summary of a fit.

    The variances and their standard errors are in squared units of the response.
    """
    if not 0.0 < alpha < 1.0:
        raise ParameterError(f"alpha must be between 0 and 1, not {alpha!r}")
    labels = labels or Labels()
    sizes = np.bincount(result.translation.group_codes, minlength=len(result.translation.group_labels))
    info = (
        ("Model:", "MixedLM"),
        ("No. Observations:", str(result.nobs)),
        ("No. Groups:", str(len(sizes))),
        ("Min. group size:", str(sizes.min())),
        ("Max. group size:", str(sizes.max())),
        ("Mean group size:", f"{sizes.mean():.1f}"),
        ("Dependent Variable:", labels.response or result.translation.endog_name),
        ("Method:", result.method),
        ("Scale:", f"{result.scale:.4f}"),
        ("Log-Likelihood:", f"{result.llf:.4f}"),
        ("Converged:", "Yes" if result.converged else "No"),
    )
    notes = [str(message) for message in result.lmm.messages if message.severity != "info"]
    if result.lmer_formula is not None:
        notes.insert(0, f"lmer formula: {result.lmer_formula}")
    seconds = trace_seconds(result.lmm)
    if seconds > QUICK_SECONDS:
        notes.append(f"Standard errors of the variances would take about {seconds:.0f} s; bse_re has them.")
    table = _estimates(result, alpha, seconds <= QUICK_SECONDS).set_axis(labels.rows(result), axis=0)
    return MixedLMSummary(info, table, tuple(notes), labels.title or TITLE)


def _estimates(result: MixedLMEstimates, alpha: float, errors: bool) -> pd.DataFrame:
    p = result.k_fe
    values = np.full((len(result.param_names), 6), np.nan)
    values[:p, 0], values[p:, 0] = result.fe_params, np.asarray(result.params)[p:] * result.scale
    values[:p, 1] = result.bse_fe
    if errors:
        values[p:, 1] = result.bse_re
    values[:p, 2] = values[:p, 0] / values[:p, 1]
    values[:p, 3] = 2.0 * ndtr(-np.abs(values[:p, 2]))
    half = -float(ndtri(alpha / 2.0)) * values[:p, 1]
    values[:p, 4], values[:p, 5] = values[:p, 0] - half, values[:p, 0] + half
    columns = ["Coef.", "Std.Err.", "z", "P>|z|", f"[{alpha / 2:g}", f"{1 - alpha / 2:g}]"]
    text = [[f"{x:.3f}" if np.isfinite(x) else "" for x in row] for row in values]
    return pd.DataFrame(text, index=result.param_names, columns=columns)
