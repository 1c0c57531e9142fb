"""Likelihood-ratio tests between fits: which may be compared, and the numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from sparselmm._typing import FloatArray
from sparselmm.covariance.directions import covariance_basis
from sparselmm.covariance.parameters import ParameterMap
from sparselmm.data.rows import DesignTerm, GroupedTerm, Rows
from sparselmm.exceptions import ParameterError, RowsNeededError
from sparselmm.inference.compare.montecarlo import difference_error, with_errors
from sparselmm.inference.compare.table import ComparisonTable
from sparselmm.inference.distributions import chi2_tail
from sparselmm.inference.row_facts import FactsOfRows
from sparselmm.likelihood.result import FitResult

SPAN_TOL = 1e-7  # length of what is left of a unit column, half the digits
PROBES = 3  # random vectors by which covariances of y are told apart; one would do with probability one
NESTED = "comparisons of covariances"


@dataclass(frozen=True)
class Candidate:
    """One fit in a comparison.

    Attributes
    ----------
    name : str
        How the table calls it.
    result : FitResult
        Its numbers.
    formula : str
        What was fitted.
    facts : FactsOfRows or None
        What is known of its rows, where one of the fits has none any more.
    """

    name: str
    result: FitResult
    formula: str = ""
    facts: FactsOfRows | None = None

    @property
    def npar(self) -> int:
        """Number of parameters."""
        return self.result.p + self.result.n_par + 1

    @property
    def llf(self) -> float:
        """Log-likelihood."""
        return -0.5 * self.result.criterion


def check_same_data(candidates: Sequence[Candidate]) -> None:
    """Raise unless all fits describe the same response on the same rows with the same weights.

    Raises
    ------
    ParameterError
        Naming the fits and what differs.
    """
    first = candidates[0]
    for other in candidates[1:]:
        who = f"{first.name} and {other.name} cannot be compared:"
        a, b = first.result, other.result
        if a.n != b.n:
            raise ParameterError(f"{who} they were fitted to {a.n} and {b.n} rows (missing values in a variable that "
                                 "only one of them uses?)")  # fmt: skip
        unlike = [what for what, same in _same_parts(first, other) if not same]
        if "rows" in unlike:
            raise ParameterError(f"{who} they were fitted to different rows of the data")
        if "responses" in unlike:
            names = a.layout.response_name, b.layout.response_name
            if names[0] == names[1] and a.rows and b.rows and not a.rows.index.equals(b.rows.index):
                raise ParameterError(f"{who} they were fitted to different rows (their labels and responses differ)")
            raise ParameterError(f"{who} their responses differ ({names[0]} and {names[1]})")
        if unlike:
            raise ParameterError(f"{who} their {unlike[0]} differ")


def _same_parts(first: Candidate, other: Candidate) -> list[tuple[str, bool]]:
    """Return whether rows, responses, weights and offsets are the same: by their values, else by their hashes."""
    a, b = first.result.rows, other.result.rows
    if a is None or b is None:
        digests = [c.facts.digest for c in (first, other) if c.facts is not None]
        x, z = digests[0], digests[-1]
        return [("rows", x.places == z.places), ("responses", x.y == z.y), ("weights", x.weights == z.weights),
                ("offsets", x.offset == z.offset)]  # fmt: skip
    return [
        ("rows", np.array_equal(a.positions, b.positions)),
        ("responses", np.array_equal(a.y, b.y)),
        ("weights", _same(a.weights, b.weights)),
        ("offsets", _same(a.offset, b.offset)),
    ]


def _same(x: FloatArray | None, z: FloatArray | None) -> bool:
    return x is z if x is None or z is None else np.array_equal(x, z)


def fixed_nested(small: FloatArray, large: FloatArray) -> bool:
    """Return whether the columns of one X, (n, p0), are spanned by those of another, (n, p1)."""
    if not small.shape[1]:
        return True
    if not large.shape[1]:
        return False
    scaled = small / np.linalg.norm(small, axis=0)
    Q = np.linalg.qr(large / np.linalg.norm(large, axis=0))[0]
    return bool(np.max(np.linalg.norm(scaled - Q @ (Q.T @ scaled), axis=0)) < SPAN_TOL)


def random_nested(small: FitResult, large: FitResult) -> bool:
    """Return whether each covariance of y that one model allows is a combination of those of the other.

    The covariances of a model are combinations of Z_t(I⊗B)Z_t' and W⁻¹. Whether matrices depend on each
    other is seen from their products with a few random vectors, so no (n, n) matrix is needed.
    """
    a, b = small.observed(NESTED), large.observed(NESTED)
    v = np.random.default_rng(20_240_817).standard_normal((a.n, PROBES))
    residual = v if a.weights is None else v / a.weights[:, None]
    few = _probes(a, small.engine.parameters, v)
    many = np.array([residual.ravel(), *_probes(b, large.engine.parameters, v)]).T
    if not few:
        return True
    return fixed_nested(np.array(few).T, many)


def _probes(observed: Rows, parameters: ParameterMap, v: FloatArray) -> list[FloatArray]:
    """Return Z_t(I⊗B)Z_t'v, flattened, for a basis of the covariances of each term."""
    out = []
    for term, structure in zip(observed.terms, parameters.structures):
        back = _transposed_times(term, v)
        for B in covariance_basis(structure):
            moved = B @ back
            if isinstance(term, GroupedTerm):
                image = np.einsum("nk,nkr->nr", term.Z, moved[term.codes])
            else:
                image = np.asarray(term.to_sparse() @ moved.reshape(-1, v.shape[1]))
            out.append(image.ravel())
    return out


def _transposed_times(term: DesignTerm, v: FloatArray) -> FloatArray:
    """Return Z'v by level, (m, k, r)."""
    if not isinstance(term, GroupedTerm):
        return np.asarray((term.to_sparse().T @ v).reshape(term.m, term.k, v.shape[1]))
    out = np.empty((term.m, term.k, v.shape[1]))
    for i in range(term.k):
        for r in range(v.shape[1]):
            out[:, i, r] = np.bincount(term.codes, weights=term.Z[:, i] * v[:, r], minlength=term.m)
    return out


def check_nested(small: Candidate, large: Candidate) -> None:
    """Raise unless the first model is a special case of the second.

    Raises
    ------
    ParameterError
        Saying whether fixed or random parts are the reason.
    """
    advice = "compare them by AIC or BIC (slm.information_weights)"
    if small.npar == large.npar:
        raise ParameterError(
            f"{small.name} and {large.name} have the same number of parameters ({small.npar}), so neither is a special "
            f"case of the other; {advice}"
        )
    for what, nested in _nested_parts(small, large):
        if not nested:
            raise ParameterError(
                f"the {what} effects of {small.name} are not a special case of those of {large.name}; {advice}"
            )


def _nested_parts(small: Candidate, large: Candidate) -> Iterator[tuple[str, bool]]:
    """Yield whether the fixed and the random effects of one model are a special case of those of another.

    Raises
    ------
    RowsNeededError
        Where only the rows could tell.
    """
    a, b = small.result, large.result
    if a.rows is not None and b.rows is not None:
        yield "fixed", fixed_nested(a.rows.X, b.rows.X)
        yield "random", random_nested(a, b)
        return
    by_name = nested_by_name(a, b) and _same_columns(small, large)
    if not by_name:
        raise RowsNeededError(
            f"the names of columns and levels do not show that {small.name} is a special case of {large.name}, and "
            "the rows that could were dropped: compare the fits that still have them (fit.with_rows(data) gives them "
            "back)"
        )


def same_fixed(a: Candidate, b: Candidate) -> bool:
    """Return whether two models of as many fixed effects have the same column space."""
    if a.result.rows is not None and b.result.rows is not None:
        return fixed_nested(a.result.rows.X, b.result.rows.X)
    return set(a.result.layout.columns) == set(b.result.layout.columns) and _same_columns(a, b)


def nested_by_name(small: FitResult, large: FitResult) -> bool:
    """Return whether columns, labels, levels and structures alone show that a model is a special case."""
    if not set(small.layout.columns) <= set(large.layout.columns):
        return False
    labels = dict.fromkeys(t.label for t in small.layout.terms)
    return all(_spanned_by_name(label, small, large) for label in labels)


def _spanned_by_name(label: str, small: FitResult, large: FitResult) -> bool:
    """Return whether the covariances of one grouping factor are combinations of those of another model."""
    few, many = ([t for t in r.layout.terms if t.label == label] for r in (small, large))
    if not many or not few[0].levels.equals(many[0].levels):
        return False
    names = list(dict.fromkeys(c for t in many for c in t.columns))
    if not {c for t in few for c in t.columns} <= set(names):
        return False
    spans = []
    for result in (small, large):
        columns = []
        for t in _places(result, label):
            place = [names.index(c) for c in result.layout.terms[t].columns]
            for B in covariance_basis(result.engine.parameters.structures[t]):
                whole = np.zeros((len(names), len(names)))
                whole[np.ix_(place, place)] = B
                columns.append(whole.ravel())
        spans.append(np.array(columns).T)
    return fixed_nested(*spans)


def _places(result: FitResult, label: str) -> list[int]:
    return [t for t, term in enumerate(result.layout.terms) if term.label == label]


def _same_columns(small: Candidate, large: Candidate) -> bool:
    """Return whether columns of X of the same name have the same products."""
    if small.facts is None or large.facts is None:
        return False
    at = [large.result.layout.columns.index(c) for c in small.result.layout.columns]
    few, many = small.facts.X, large.facts.X[:, at]
    size = np.linalg.norm(few, axis=0)
    return bool(np.allclose(few.T @ few / np.outer(size, size), many.T @ many / np.outer(size, size), atol=SPAN_TOL))


def lrt_table(candidates: Sequence[Candidate]) -> ComparisonTable:
    """Return the comparison table of R's ``anova``, one row per fit by increasing number of parameters.

    Columns: npar, AIC, BIC, logLik, -2*log(L), Chisq, Df, Pr(>Chisq); and ``Chisq se`` where a criterion
    has a Monte Carlo error.
    """
    ordered = sorted(candidates, key=lambda c: c.npar)
    rows = []
    errors = [None, *(difference_error(a.result, b.result) for a, b in pairwise(ordered))]
    for i, c in enumerate(ordered):
        deviance, log_n = c.result.criterion, float(np.log(c.result.n))
        chisq, df, p = np.nan, np.nan, np.nan
        if i:
            chisq = max(0.0, ordered[i - 1].result.criterion - deviance)
            df = float(c.npar - ordered[i - 1].npar)
            p = chi2_tail(chisq, df)
        rows.append((c.npar, deviance + 2 * c.npar, deviance + log_n * c.npar, c.llf, deviance, chisq, df, p))
    columns = ["npar", "AIC", "BIC", "logLik", "-2*log(L)", "Chisq", "Df", "Pr(>Chisq)"]
    table = pd.DataFrame(rows, columns=columns, index=pd.Index([c.name for c in ordered], dtype=object))
    return _with_formulas(with_errors(table, errors, "Chisq", "Df", {"Pr(>Chisq)": chi2_tail}), ordered)


def _with_formulas(table: pd.DataFrame, candidates: Sequence[Candidate]) -> ComparisonTable:
    out = ComparisonTable(table)
    out.attrs["formulas"] = {c.name: c.formula for c in candidates}
    return out


def boundary_p(chisq: float, df: int) -> float:
    """Return P(½χ²(df-1) + ½χ²(df) > chisq): a test of one variance being zero, with its covariances.

    Exact in large samples when one coefficient leaves the random part (Self and Liang 1987; Stram and Lee
    1994, Biometrics 50, case 5-7). When several leave at once it is an upper bound: the weights of
    χ² distributions with even and with odd degrees of freedom each add up to ½.

    Examples
    --------
    >>> round(boundary_p(2.705543, 1), 4)
    0.05
    """
    if chisq <= 0:
        return 1.0
    lower = chi2_tail(chisq, df - 1) if df > 1 else 0.0
    return 0.5 * lower + 0.5 * chi2_tail(chisq, df)


def information_table(candidates: Sequence[Candidate]) -> ComparisonTable:
    """Return AIC and BIC with their differences to the best and the weights exp(-Δ/2)/Σ.

    Where a criterion has a Monte Carlo error there are also the standard errors of the differences.
    """
    criterion, npar = np.array([[c.result.criterion, c.npar] for c in candidates]).T
    n = candidates[0].result.n
    table = pd.DataFrame({"npar": [c.npar for c in candidates], "logLik": -0.5 * criterion},
                         index=pd.Index([c.name for c in candidates], dtype=object))  # fmt: skip
    for name, penalty in (("AIC", 2.0), ("BIC", float(np.log(n)))):
        values = criterion + penalty * npar
        delta = values - values.min()
        weights = np.exp(-delta / 2.0)
        table[name], table[f"delta_{name}"] = values, delta
        errors = [difference_error(candidates[int(values.argmin())].result, c.result) for c in candidates]
        if any(error is not None for error in errors):
            table[f"delta_{name} se"] = [0.0 if error is None else error for error in errors]
        table[f"weight_{name}"] = weights / weights.sum()
    return _with_formulas(table, candidates)
