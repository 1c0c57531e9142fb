"""From statsmodels' arrays (endog, exog, groups, exog_re, exog_vc) to a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from sparselmm._typing import FloatArray, IntArray
from sparselmm.api import Factor, LinearMixedModel, as_series, check_order, list_some, to_grouping
from sparselmm.doors.mixedlm.translation import Members, Translation, check_length, na_action, positions
from sparselmm.exceptions import DataError, ParameterError

GROUP = "Group"


@dataclass(frozen=True)
class _Component:
    """One variance component: its term as arrays; level by level the level, its group and its name."""

    term: dict[str, Any]
    levels: pd.Index
    groups: IntArray
    names: tuple[str, ...]


@dataclass(frozen=True)
class _Entries:
    """The nonzero entries of a component's matrices, put below one another.

    Attributes
    ----------
    rows, columns : (nnz,) int arrays
        Where; columns are numbered through all groups.
    values : (nnz,) array
        What.
    starts : (groups + 1,) int array
        First column of each group.
    """

    rows: IntArray
    columns: IntArray
    values: FloatArray
    starts: IntArray


def translate_arrays(endog: Any, exog: Any, groups: Any, exog_re: Any, exog_vc: Any, missing: str) -> Translation:
    """Return the model of arrays.

    Raises
    ------
    DataError
        When an array does not fit the others, naming the component and the group.
    """
    action = na_action(missing)
    n = len(endog)
    check_length(groups, n, "groups")
    check_rows(endog, exog, groups, exog_re)
    groups = as_series(groups, "groups").reset_index(drop=True)
    factor = to_grouping(groups, "groups").drop_unused()
    matrices = _matrices(exog_vc, factor)
    vc_names = tuple(sorted(matrices))
    terms: list[Any] = []
    re_names: tuple[str, ...] = ()
    if exog_re is not None or not vc_names:
        re_names = (GROUP,) if exog_re is None else _re_names(exog_re)
        Z = None if exog_re is None else _numbers(exog_re, n, "exog_re")
        terms.append({"groups": groups, "Z": Z, "name": GROUP, "columns": list(re_names)})
    order = np.split(np.argsort(factor.codes, kind="stable"), np.cumsum(np.bincount(factor.codes + 1)))[1:-1]
    if isinstance(endog, pd.Series):
        _check_rows_of_groups(exog_vc, endog.index, order, factor)
    components = [_component(name, matrices[name], order, factor, n) for name in vc_names]
    X = _numbers(exog, n, "exog")
    labels = [*([GROUP] if re_names else []), *vc_names]
    lmm = LinearMixedModel.from_arrays(
        endog, X, [*terms, *(c.term for c in components)], column_names=_column_names(exog, X)
    )
    observed = lmm.problem.observed("models")
    if action == "fail" and observed.n < n:
        raise DataError(f"{n - observed.n} of {n} rows have missing values; pass missing='drop' to leave them out")
    where = positions(labels, lmm.problem.layout.terms)
    re = _random_effects(where.pop(0), observed.terms, factor, re_names) if re_names else None
    vcs = tuple(_members(t, c, observed.terms[t]) for t, c in zip(where, components, strict=True))
    endog_name = str(getattr(endog, "name", None) or "y")
    codes = factor.codes[observed.positions]
    plain = not any(isinstance(given, pd.Series | pd.DataFrame) for given in (endog, exog))
    return Translation(lmm, factor.levels, codes, re_names, re, vc_names, vcs, endog_name, plain=plain)


def check_rows(endog: Any, exog: Any, groups: Any, exog_re: Any) -> None:
    """Refuse pandas objects whose rows are not those of the response.

    As in statsmodels the labels of matrices must be those of the response; groups may have other ones.
    """
    if not isinstance(endog, pd.Series):
        return
    for what, given in (("exog", exog), ("exog_re", exog_re), ("groups", groups)):
        check_order(given, endog.index, what, "endog")
        if what != "groups" and isinstance(given, pd.Series | pd.DataFrame) and not given.index.equals(endog.index):
            raise DataError(
                f"{what} and endog have different row labels ({list_some(given.index, 3)} and "
                f"{list_some(endog.index, 3)}); pass {what}.loc[endog.index], or {what}.to_numpy() if row i belongs "
                "to row i"
            )


def _check_rows_of_groups(exog_vc: Any, index: pd.Index, order: Sequence[IntArray], factor: Factor) -> None:
    """Refuse matrices of variance components with the rows of their group in another order."""
    if isinstance(exog_vc, Mapping):
        for name, given in exog_vc.items():
            for level, at in zip(factor.levels, order):
                check_order(given[level], index[at], f"exog_vc[{name!r}][{level!r}]", "endog of the group")


def _numbers(given: Any, n: int, what: str) -> FloatArray:
    """Return a matrix of n rows."""
    try:
        return np.asarray(given, dtype=float).reshape(n, -1)
    except (TypeError, ValueError) as error:
        shape = np.shape(given)
        raise DataError(
            f"{what} must be a matrix of numbers with {n} rows ({error}); it has the shape {shape}. "
            "Factors are coded by slm.mixedlm, which takes a formula"
        ) from error


def _column_names(exog: Any, X: FloatArray) -> list[str]:
    """Return statsmodels' names of fixed effects: those given, or ``const``, ``x1``, ``x2``, ..."""
    if isinstance(exog, pd.DataFrame):
        return [str(c) for c in exog.columns]
    if getattr(exog, "name", None) is not None:
        return [str(exog.name)]
    constant = np.flatnonzero((np.ptp(X, axis=0) == 0) & (X[:1] != 0).any(axis=0)) if len(X) else np.zeros(0, dtype=int)
    names = [f"x{j}" for j in range(1, X.shape[1] + 1 - (len(constant) > 0))]
    if len(constant):
        names.insert(int(constant[0]), "const")
    return names


def _re_names(exog_re: Any) -> tuple[str, ...]:
    if isinstance(exog_re, pd.DataFrame):
        return tuple(str(c) for c in exog_re.columns)
    if getattr(exog_re, "name", None) is not None:
        return (str(exog_re.name),)
    k = 1 if np.ndim(exog_re) == 1 else np.shape(exog_re)[1]
    return tuple(f"x_re{j}" for j in range(1, k + 1))


def _random_effects(t: int, terms: Sequence[Any], factor: Factor, names: tuple[str, ...]) -> Members:
    groups = factor.levels.get_indexer(terms[t].levels)
    return Members(t, np.asarray(groups, dtype=np.int64), names * terms[t].m)


def _members(t: int, component: _Component, term: Any) -> Members:
    at = component.levels.get_indexer(term.levels)
    return Members(t, component.groups[at], tuple(component.names[i] for i in at))


# --- variance components -----------------------------------------------------------------------------


def _matrices(exog_vc: Any, factor: Factor) -> dict[str, list[tuple[Any, list[str]]]]:
    """Return for each component the matrix and the column names of every group, groups in increasing order."""
    if exog_vc is None:
        return {}
    if isinstance(exog_vc, Mapping):
        return {str(name): _by_group(str(name), given, factor) for name, given in exog_vc.items()}
    names = getattr(exog_vc, "names", None)
    if names is None or not hasattr(exog_vc, "mats") or not hasattr(exog_vc, "colnames"):
        raise ParameterError("exog_vc must be a dict of dicts (component, group) of arrays or a statsmodels VCSpec")
    out = {}
    for name, mats, columns in zip(names, exog_vc.mats, exog_vc.colnames):
        if len(mats) != len(factor.levels):
            raise DataError(f"exog_vc[{name!r}] has {len(mats)} matrices for {len(factor.levels)} groups")
        out[str(name)] = [(mat, [str(c) for c in cols]) for mat, cols in zip(mats, columns)]
    return out


def _by_group(name: str, given: Any, factor: Factor) -> list[tuple[Any, list[str]]]:
    if not isinstance(given, Mapping):
        raise ParameterError(f"exog_vc[{name!r}] must be a dict with one array per group, not {type(given).__name__}")
    absent = [level for level in factor.levels if level not in given]
    if absent:
        raise DataError(f"exog_vc[{name!r}] has no matrix for the groups {list_some(absent)}")
    if len(given) > len(factor.levels):
        extra = [key for key in given if key not in factor.levels]
        raise DataError(f"exog_vc[{name!r}] has matrices for unknown groups: {list_some(extra)}")
    return [_with_names(given[level]) for level in factor.levels]


def _with_names(mat: Any) -> tuple[Any, list[str]]:
    if isinstance(mat, pd.DataFrame):
        return mat.to_numpy(), [str(c) for c in mat.columns]
    mat = mat if sp.issparse(mat) else np.asarray(mat)
    mat = mat[:, None] if mat.ndim == 1 else mat
    return mat, [str(j) for j in range(mat.shape[1])]


def _component(
    name: str, mats: list[tuple[Any, list[str]]], order: Sequence[IntArray], factor: Factor, n: int
) -> _Component:
    """Return a component as a grouped term where each row has one column of it, as a sparse term otherwise."""
    entries = _entries(name, mats, order, factor)
    sizes = np.diff(entries.starts)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    columns = [column for _, cols in mats for column in cols]
    levels = pd.Index(np.array([f"{factor.levels[int(g)]}:{c}" for g, c in zip(groups, columns)], dtype=object))
    if len(entries.rows) == len(np.unique(entries.rows)) and (sizes > 0).all() and (factor.codes >= 0).all():
        codes, Z = entries.starts[factor.codes], np.zeros((n, 1))
        codes[entries.rows], Z[entries.rows, 0] = entries.columns, entries.values
        parts: dict[str, Any] = {"groups": pd.Categorical.from_codes(codes, levels), "Z": Z}
    else:
        matrix = sp.csr_array((entries.values, (entries.rows, entries.columns)), shape=(n, int(entries.starts[-1])))
        parts = {"matrix": matrix, "levels": levels}
    return _Component(
        {**parts, "name": name, "columns": [name]}, levels, groups, tuple(f"{name}[{column}]" for column in columns)
    )


def _entries(name: str, mats: list[tuple[Any, list[str]]], order: Sequence[IntArray], factor: Factor) -> _Entries:
    rows, columns, values, starts = [], [], [], [0]
    for g, ((mat, names), at) in enumerate(zip(mats, order)):
        if mat.shape != (len(at), len(names)):
            raise DataError(
                f"exog_vc[{name!r}] of the group {factor.levels[g]} has shape {mat.shape}; "
                f"it needs {len(at)} rows and {len(names)} columns"
            )
        twice = pd.Index(names)[pd.Index(names).duplicated()]
        if len(twice):
            raise DataError(
                f"the variance component {name!r} has two columns called {twice[0]!r} in the group {factor.levels[g]}; "
                "give each column of exog_vc a name of its own"
            )
        part = sp.coo_array(mat)
        rows.append(at[part.row])
        columns.append(part.col + starts[-1])
        values.append(part.data)
        starts.append(starts[-1] + len(names))
    return _Entries(
        np.concatenate(rows),
        np.concatenate(columns).astype(np.int64),
        np.concatenate(values).astype(np.float64),
        np.asarray(starts, dtype=np.int64),
    )
