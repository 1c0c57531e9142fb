"""Models with one term less: which terms may go, and the design without them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from sparselmm._typing import FloatArray, frozen
from sparselmm.covariance import make_structure
from sparselmm.data.design import Design
from sparselmm.data.encoding.encoding import TermEncoding
from sparselmm.data.layout import DesignLayout
from sparselmm.inference.compare.lrt import boundary_p
from sparselmm.inference.compare.montecarlo import with_errors
from sparselmm.inference.distributions import chi2_tail
from sparselmm.inference.fixed.terms import INTERCEPT, FixedTerm, matrix_terms
from sparselmm.statistics.crossproducts import CrossProducts


@dataclass(frozen=True)
class SmallerModel:
    """A random part with something left out.

    Attributes
    ----------
    label : str
        What is left out, for example ``Days in (Days | Subject)``.
    term : int
        Position of the term.
    columns : tuple of int
        Coefficients of the term that stay; empty when the whole term goes.
    """

    label: str
    term: int
    columns: tuple[int, ...] = ()


def droppable(terms: Sequence[FixedTerm]) -> tuple[FixedTerm, ...]:
    """Return the terms with no other term above them: not part of an interaction."""
    names = {t.name: t.factors | t.covariates for t in terms}
    return tuple(
        t
        for t in terms
        if t.name != INTERCEPT and t.columns and not any(names[t.name] < other for other in names.values())
    )


def without_columns(design: Design, columns: Sequence[int]) -> Design:
    """Return a design without some columns of X."""
    layout, gone = design.layout, set(columns)
    keep = [j for j in range(layout.p) if j not in gone]
    rows = replace(design.rows, X=np.ascontiguousarray(design.rows.X[:, keep]))
    return Design(replace(layout, columns=tuple(layout.columns[j] for j in keep), messages=()), rows)


def products_without(xp: CrossProducts, columns: Sequence[int]) -> CrossProducts | None:
    """Return the cross-products without some columns of X, whose pilot fit goes back into the response.

    None where the columns were mixed, or all others depend on them as their constant.
    """
    gone, keep = sorted(set(columns)), [j for j in range(xp.p) if j not in set(columns)]
    if xp.basis.mix is not None or xp.basis.position in gone:
        return None
    back = np.zeros((xp.p + 1, len(keep) + 1))
    back[keep, np.arange(len(keep))] = 1.0
    back[gone, -1], back[-1, -1] = xp.basis.b0[gone], 1.0
    basis = replace(
        xp.basis,
        position=xp.basis.position - sum(j < xp.basis.position for j in gone),
        **{name: frozen(getattr(xp.basis, name)[keep]) for name in ("centre", "scale", "b0")},
    )
    ZtWXy, XytWXy = frozen(xp.ZtWXy @ back), frozen(back.T @ xp.XytWXy @ back)
    return replace(xp, ZtWXy=ZtWXy, XytWXy=XytWXy, p=len(keep), basis=basis)


def reductions(layout: DesignLayout, encodings: Sequence[TermEncoding] | None) -> tuple[SmallerModel, ...]:
    """Return the simpler random parts that `ranova` tests.

    Of a term with slopes each variable in turn leaves the left side; a term with nothing but an
    intercept, or whose coefficients share one variance, leaves as a whole.
    """
    out = []
    for i, term in enumerate(layout.terms):
        encoding = encodings[i] if encodings is not None else None
        shown = f"({_left_side(encoding)} | {term.label})" if encoding is not None else term.name
        parts = () if encoding is None else droppable(matrix_terms(encoding.lhs))
        found = []
        for part in parts:
            keep = tuple(j for j in range(term.k) if j not in part.columns)
            if keep and make_structure(term.structure, len(keep)).n_par < make_structure(term.structure, term.k).n_par:
                found.append(SmallerModel(f"{part.name} in {shown}", i, keep))
        # a lone (0 + x | g) leaves as a whole, while R's "x in (0 + x | g)" would put (1 | g) in its place
        beside = any(e.label == term.label and e.lhs.intercept for e in encodings or () if e is not encoding)
        whole = f"{parts[0].name} in {shown}" if len(parts) == 1 and beside else shown
        out += found or [SmallerModel(whole, i)]
    return tuple(out)


def _left_side(encoding: TermEncoding) -> str:
    names = [t.name for t in matrix_terms(encoding.lhs) if t.name != INTERCEPT]
    if not encoding.lhs.intercept:
        return " + ".join(["0", *names])
    return " + ".join(names) or "1"


def reduced_design(design: Design, reduction: SmallerModel) -> Design | None:
    """Return the design with the reduction, None when no random term is left."""
    terms = list(design.rows.terms)
    if reduction.columns:
        terms[reduction.term] = terms[reduction.term].with_columns(reduction.columns)
    else:
        del terms[reduction.term]
    if not terms:
        return None
    layout = replace(design.layout, terms=tuple(term.layout for term in terms), messages=())
    return Design(layout, replace(design.rows, terms=tuple(terms)))


@dataclass(frozen=True)
class Compared:
    """A model in a table of models with one term less.

    Attributes
    ----------
    npar : int
        Parameters.
    criterion : float
        ML deviance or REML criterion.
    error : float or None
        Monte Carlo standard error of its difference to the full model; None where both are exact.
    """

    npar: int
    criterion: float
    error: float | None = None


def drop1_table(full: Compared, reduced: dict[str, Compared]) -> pd.DataFrame:
    """Return R's ``drop1`` table from the ML deviances of the full and of each smaller model."""
    rows = [(np.nan, full.criterion + 2.0 * full.npar, np.nan, np.nan)]
    for small in reduced.values():
        chisq = max(0.0, small.criterion - full.criterion)
        df = full.npar - small.npar
        rows.append((df, small.criterion + 2.0 * small.npar, chisq, chi2_tail(chisq, df)))
    index = pd.Index(["<none>", *reduced], dtype=object)
    table = pd.DataFrame(rows, columns=["npar", "AIC", "LRT", "Pr(Chi)"], index=index)
    return with_errors(table, [None, *(c.error for c in reduced.values())], "LRT", "npar", {"Pr(Chi)": chi2_tail})


def ranova_table(full: Compared, reduced: dict[str, Compared]) -> pd.DataFrame:
    """Return lmerTest's ``ranova`` table with a further column for the boundary.

    Columns: npar, logLik, AIC, LRT, Df, Pr(>Chisq) from χ²(Df), and Pr(>Chisq) mixture from
    ½χ²(Df - 1) + ½χ²(Df), because a variance of zero is on the boundary.
    """
    rows: list[tuple[float, ...]] = [
        (full.npar, -0.5 * full.criterion, full.criterion + 2.0 * full.npar, *[np.nan] * 4)
    ]
    for small in reduced.values():
        value, chisq, df = small.criterion, max(0.0, small.criterion - full.criterion), full.npar - small.npar
        naive = chi2_tail(chisq, df)
        rows.append((small.npar, -0.5 * value, value + 2.0 * small.npar, chisq, df, naive, boundary_p(chisq, df)))
    tails = {"Pr(>Chisq)": chi2_tail, "Pr(>Chisq) mixture": boundary_p}
    columns = ["npar", "logLik", "AIC", "LRT", "Df", *tails]
    table = pd.DataFrame(rows, columns=columns, index=pd.Index(["<none>", *reduced], dtype=object))
    errors = [None, *(c.error for c in reduced.values())]
    return with_errors(table.astype({"npar": int}), errors, "LRT", "Df", tails)


def no_effects(theta: FloatArray) -> FloatArray:
    """Return θ of the model without random effects."""
    return np.zeros_like(theta)
