"""The design doctor: what a design can and cannot tell, before and after a fit, in plain sentences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from html import escape
from textwrap import fill

import numpy as np
import pandas as pd

from sparselmm._typing import FloatArray
from sparselmm.data.design import Design
from sparselmm.data.rows import GroupedTerm, Rows
from sparselmm.data.tables.levels import check_names
from sparselmm.exceptions import Message
from sparselmm.formula.nodes import Name, render
from sparselmm.inference.diagnose.checks import (
    check_coefficients,
    check_fixed,
    check_fixed_groups,
    check_levels,
    check_pairs,
    some,
)
from sparselmm.inference.leave_out.leverage import row_geometry
from sparselmm.inference.leave_out.residuals import residuals_of
from sparselmm.likelihood.result import RESIDUALS, FitResult

ORDER = {"warning": 0, "note": 1, "info": 2}
NEARLY_ONE = 0.95  # absolute correlation of random effects
LITTLE = 0.1  # reliability below which modes are mostly shrunk to zero
OUTLIER = 4.0  # standard deviations; beyond them lies one normal value in 16,000
WIDTH = 100  # columns of the printed text


@dataclass(frozen=True)
class TermOverview:
    """Sizes of one random term.

    Attributes
    ----------
    term : str
        For example ``(Days | Subject)``.
    levels, coefficients : int
        m and k.
    rows_min, rows_median, rows_max : float
        Rows per level (NaN for a term given as a matrix).
    reliability : float
        After a fit: share of the variance of the coefficients that the data recover level by level,
        for one coefficient 1 - mean Var(b | y)/Var(b); NaN before.
    """

    term: str
    levels: int
    coefficients: int
    rows_min: float
    rows_median: float
    rows_max: float
    reliability: float = float("nan")


@dataclass(frozen=True)
class Diagnosis:
    """What the design doctor found.

    Attributes
    ----------
    title : str
        The model.
    findings : tuple of Message
        Each with ``code``, ``severity`` (``"warning"``, ``"note"`` or ``"info"``), ``what`` and ``how``;
        the most severe first.
    terms : tuple of TermOverview
        Sizes of the random terms.
    """

    title: str
    findings: tuple[Message, ...]
    terms: tuple[TermOverview, ...]

    @property
    def codes(self) -> tuple[str, ...]:
        """Codes of the findings."""
        return tuple(f.code for f in self.findings)

    @property
    def healthy(self) -> bool:
        """Whether there is no warning."""
        return all(f.severity != "warning" for f in self.findings)

    def to_frame(self) -> pd.DataFrame:
        """Return the findings as a table: code, severity, what, how."""
        rows = [(f.code, f.severity, f.what, f.how) for f in self.findings]
        return pd.DataFrame(rows, columns=["code", "severity", "what", "how"])

    def terms_frame(self) -> pd.DataFrame:
        """Return the sizes of the random terms as a table."""
        frame = pd.DataFrame([vars(t) for t in self.terms], columns=list(TermOverview.__dataclass_fields__))
        return frame.dropna(axis=1, how="all")

    def _verdict(self) -> str:
        counts = {s: sum(f.severity == s for f in self.findings) for s in ORDER}
        if not counts["warning"] and not counts["note"]:
            return "Nothing stands in the way of this model."
        parts = [f"{n} {s}{'s' if n > 1 else ''}" for s, n in counts.items() if n and s != "info"]
        return f"{' and '.join(parts)}."

    def __str__(self) -> str:
        lines = [self.title, ""]
        if self.terms:
            lines += [self.terms_frame().to_string(index=False, float_format=lambda v: f"{v:.3g}"), ""]
        lines.append(self._verdict())
        for f in self.findings:
            lines.append(fill(f"[{f.severity}] {f}", WIDTH, initial_indent="- ", subsequent_indent="  "))
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        table = self.terms_frame().to_html(index=False, float_format=lambda v: f"{v:.3g}")
        items = "".join(
            f"<li><b>{f.severity}</b> <code>{escape(f.code)}</code>: {escape(f.what)} <i>{escape(f.how)}</i></li>"
            for f in self.findings
        )
        return f"<p><code>{escape(self.title)}</code></p>{table}<p>{self._verdict()}</p><ul>{items}</ul>"


def diagnose_design(design: Design, title: str) -> Diagnosis:
    """Return what can be said of a design before a fit."""
    found = list(design.layout.messages)
    found += check_pairs(design.rows)
    for term in design.rows.terms:
        if isinstance(term, GroupedTerm):
            found += check_coefficients(term)
    for label in {t.label: t for t in design.rows.terms if isinstance(t, GroupedTerm)}.values():
        found += check_levels(label)
        if not set(label.label) & set(":("):
            # a fit looks at fewer names
            found += check_names(render(Name(label.label)), label.levels, most=label.m)
    found += check_fixed_groups(design.rows)
    found += check_fixed(design.rows.X, design.layout.columns)
    if any(f.code == "confounded_terms" for f in found):
        found = [f for f in found if f.code != "aliased_terms"]
    return Diagnosis(title, _sorted(found), tuple(_overview(design.rows)))


def diagnose_result(result: FitResult, title: str) -> Diagnosis:
    """Return what can be said of a fit, the design included."""
    before = diagnose_design(Design(result.layout, result.observed("checks of the design")), title)
    messages = [m for m in result.messages if m not in before.findings and m.code != "aliased_terms"]
    reliability = reliabilities(result)
    found = [*messages, *before.findings, *_check_convergence(result), *_check_correlations(result)]
    found += _check_reliability(result, reliability)
    found += _check_outliers(result)
    terms = tuple(replace(t, reliability=float(r)) for t, r in zip(before.terms, reliability))
    return Diagnosis(title, _sorted(found), terms)


def _sorted(found: list[Message]) -> tuple[Message, ...]:
    return tuple(sorted(dict.fromkeys(found), key=lambda f: ORDER[f.severity]))


def _overview(observed: Rows) -> Iterator[TermOverview]:
    for t in observed.terms:
        name = f"({' + '.join(t.columns)} | {t.label})"
        if isinstance(t, GroupedTerm):
            counts = np.bincount(t.codes, minlength=t.m)
            sizes = float(counts.min()), float(np.median(counts)), float(counts.max())
        else:
            sizes = float("nan"), float("nan"), float("nan")
        yield TermOverview(name, t.m, t.k, *sizes)


def reliabilities(result: FitResult) -> FloatArray:
    """Return 1 - tr(M⁻¹_t)/(m k) per term, (n_terms,): for k = 1 it is 1 - mean Var(b | y)/Var(b)."""
    with result.engine.locked() as pls:
        pls.factor(pls.parameters.templates(result.par))
        inverse = pls.system.inverse_diagonal()
    return np.array([1.0 - float(np.einsum("mkk->", x)) / (x.shape[0] * x.shape[1]) for x in inverse])


def _check_convergence(result: FitResult) -> Iterator[Message]:
    certificate = result.convergence
    if certificate is not None and certificate.certified:
        yield Message("converged", "info", f"The fit is {certificate}.")
    if certificate is None or not certificate.singular or any(m.code == "singular" for m in result.messages):
        return
    facts = "; ".join(f"{d.combination} of {d.term} has zero variance" for d in certificate.singular)
    simpler = "; ".join(dict.fromkeys(d.simpler for d in certificate.singular))
    yield Message("singular", "note", f"Singular fit: {facts}.", f"The fit equals {simpler}.")


def _check_correlations(result: FitResult) -> Iterator[Message]:
    singular = {d.term for d in result.convergence.singular} if result.convergence else set()
    for t in result.varcorr.terms:
        corr = np.tril(t.corr, -1)
        rows, cols = np.nonzero(np.abs(np.nan_to_num(corr)) > NEARLY_ONE)
        if len(rows) and t.name not in singular:
            pairs = [f"{t.columns[c]} and {t.columns[r]} ({corr[r, c]:.3f})" for r, c in zip(rows, cols)]
            what = f"Random coefficients of {t.name} are almost perfectly correlated: {some(pairs)}."
            how = "Centre the covariate if it lies far from zero; else the data hardly support both coefficients."
            yield Message("high_correlation", "note", what, how)


def _check_reliability(result: FitResult, reliability: FloatArray) -> Iterator[Message]:
    singular = {d.term for d in result.convergence.singular} if result.convergence else set()
    for t, r in zip(result.layout.terms, reliability):
        if 0.0 < r < LITTLE and t.name not in singular:
            what = (
                f"The data say little about single levels of {t.label}: their conditional modes recover "
                f"{100 * r:.2g} % of the estimated variance."
            )
            yield Message(
                "little_information", "note", what, "Do not rank its levels; the variance itself may be sound."
            )


def _check_outliers(result: FitResult) -> Iterator[Message]:
    with result.engine.locked() as pls:
        factored = pls.system.factorization is not None
    # without a factor leverages cost a solution each; residuals are then a little smaller than standardized ones
    observed = result.observed(RESIDUALS)
    hat = row_geometry(observed, result.engine, result.par).hat if factored else np.zeros(result.n)
    standardized = residuals_of(result, "scaled") / np.sqrt(np.maximum(1.0 - hat, 1e-12))
    far = np.flatnonzero(np.abs(standardized) > OUTLIER)
    expected = 6.3e-5 * result.n
    if len(far) > max(1.0, 5.0 * expected):
        worst = far[np.argsort(-np.abs(standardized[far]))]
        rows = [f"{observed.index[i]} ({standardized[i]:+.1f})" for i in worst]
        what = (
            f"{len(far)} rows have standardized residuals beyond ±{OUTLIER:g}, where about {expected:.2g} are "
            f"expected: {some(rows, 5)}."
        )
        yield Message("outliers", "note", what, "Look at these rows, and at fit.plot.qq() and fit.influence().")
