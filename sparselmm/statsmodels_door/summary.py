"""A summary in statsmodels' layout."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from sparselmm.exceptions import ParameterError

if TYPE_CHECKING:
    from sparselmm.statsmodels_door.results import MixedLMResults

MANY_EFFECTS = 3000  # random effects beyond which standard errors of variances are not worth the wait in a summary
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
    """

    info: tuple[tuple[str, str], ...]
    table: pd.DataFrame
    notes: tuple[str, ...]

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
        width = max(len(line.rstrip()) for line in [*head, *body, TITLE])
        lines = [TITLE.center(width).rstrip(), "=" * width, *head, "-" * width, *body, "=" * width, *self.notes]
        return "\n".join(line.rstrip() for line in lines)

    def as_html(self) -> str:
        """Return the summary as HTML, as notebooks show it."""
        return self._repr_html_()

    def __str__(self) -> str:
        return self.as_text()

    def __repr__(self) -> str:
        return self.as_text()

    def _repr_html_(self) -> str:
        head = _head(self.info).to_html(header=False, index=False, border=0)
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        return f"<p><b>{TITLE}</b></p>{head}{self.table.to_html(border=0)}{notes}"


def _head(info: tuple[tuple[str, str], ...]) -> pd.DataFrame:
    half = (len(info) + 1) // 2
    right = [*info[half:], *[("", "")] * (2 * half - len(info))]
    return pd.DataFrame([(*a, *b) for a, b in zip(info[:half], right)])


def summarize(result: MixedLMResults, alpha: float) -> MixedLMSummary:
    """Return the summary of a fit.

    The variances and their standard errors are in squared units of the response.
    """
    if not 0.0 < alpha < 1.0:
        raise ParameterError(f"alpha must be between 0 and 1, not {alpha!r}")
    sizes = np.bincount(result.translation.group_codes, minlength=len(result.translation.group_labels))
    info = (
        ("Model:", "MixedLM"),
        ("No. Observations:", str(result.nobs)),
        ("No. Groups:", str(len(sizes))),
        ("Min. group size:", str(sizes.min())),
        ("Max. group size:", str(sizes.max())),
        ("Mean group size:", f"{sizes.mean():.1f}"),
        ("Dependent Variable:", result.translation.endog_name),
        ("Method:", result.method),
        ("Scale:", f"{result.scale:.4f}"),
        ("Log-Likelihood:", f"{result.llf:.4f}"),
        ("Converged:", "Yes" if result.converged else "No"),
    )
    notes = [str(message) for message in result.lmm.messages if message.severity != "info"]
    if result.lmer_formula is not None:
        notes.insert(0, f"lmer formula: {result.lmer_formula}")
    if result.translation.design.q > MANY_EFFECTS:
        notes.append("Standard errors of the variances take long with so many random effects; bse_re has them.")
    return MixedLMSummary(info, _estimates(result, alpha), tuple(notes))


def _estimates(result: MixedLMResults, alpha: float) -> pd.DataFrame:
    p = result.k_fe
    values = np.full((len(result.param_names), 6), np.nan)
    values[:p, 0], values[p:, 0] = result.fe_params, result.params.to_numpy()[p:] * result.scale
    values[:p, 1] = result.bse_fe
    if result.translation.design.q <= MANY_EFFECTS:
        values[p:, 1] = result.bse_re
    values[:p, 2] = values[:p, 0] / values[:p, 1]
    values[:p, 3] = 2.0 * ndtr(-np.abs(values[:p, 2]))
    half = -float(ndtri(alpha / 2.0)) * values[:p, 1]
    values[:p, 4], values[:p, 5] = values[:p, 0] - half, values[:p, 0] + half
    columns = ["Coef.", "Std.Err.", "z", "P>|z|", f"[{alpha / 2:g}", f"{1 - alpha / 2:g}]"]
    text = [[f"{x:.3f}" if np.isfinite(x) else "" for x in row] for row in values]
    return pd.DataFrame(text, index=result.param_names, columns=columns)
