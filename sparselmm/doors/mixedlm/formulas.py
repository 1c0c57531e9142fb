"""From statsmodels' three formulas (fixed part, re_formula, vc_formula) to one of lme4's kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._typing import IntArray
from sparselmm.api import Frame, LinearMixedModel, Variables, as_frame, as_series, check_order, patsy, to_grouping
from sparselmm.doors.mixedlm.translation import Members, Translation, check_length, na_action, positions
from sparselmm.exceptions import DataError, ParameterError


@dataclass(frozen=True)
class _Groups:
    """The data with the groups as a column.

    Attributes
    ----------
    table : object
        The data, with one more column where the groups were not in them.
    frame : Frame
        Its columns.
    name : str
        The column.
    title : str
        statsmodels' name of a random intercept.
    given : bool
        Whether the column is the user's.
    """

    table: Any
    frame: Frame
    name: str
    title: str
    given: bool


def translate_formula(
    formula: str,
    data: Any,
    groups: Any,
    re_formula: str | None,
    vc_formula: Any,
    missing: str,
    context: Mapping[str, Any] | None,
) -> Translation:
    """Return the model of statsmodels' formulas; terms, coefficients and names are in patsy's order and words.

    Raises
    ------
    FormulaError
        For random terms in the fixed formula, or a formula that cannot be read.
    UnsupportedError
        For a variance component whose columns belong to different factors.
    """
    action = na_action(missing)
    formulas = patsy.read_formulas(formula, re_formula, vc_formula, tuple(context or ()))
    given = _with_groups(data, groups)
    variables = Variables(given.frame, context)
    levels, codes = variables.groups(given.name)
    bars = patsy.group_effects(formulas, given.name)
    outer = given.name if len(levels) > 1 else None
    components = [
        patsy.component(name, side, outer, variables.is_factor, variables.is_block)
        for name, side in formulas.components.items()
    ]
    spec = patsy.model_of(formulas, [*bars, *components], given.frame.names)
    lmm = LinearMixedModel.from_spec(spec, given.table, na_action=action, context=context)
    layout, observed = lmm.problem.layout, lmm.problem.observed("models")
    where = positions([term.label for term in spec.random], layout.terms)
    codes = codes[observed.positions]
    re = _random_effects(where.pop(0), observed, codes, given.title) if bars else None
    vc_names = tuple(formulas.components)
    vcs = (
        _members(t, name, c, observed, codes, variables) for t, name, c in zip(where, vc_names, components, strict=True)
    )
    usable = given.given or (outer is None and not bars)
    return Translation(
        lmm,
        levels,
        codes,
        () if re is None else re.names[: layout.terms[re.term].k],
        re,
        vc_names,
        tuple(vcs),
        layout.response_name,
        formula,
        spec.source if usable else None,
    )


def _with_groups(data: Any, groups: Any) -> _Groups:
    frame = as_frame(data)
    if groups is None:
        raise ParameterError("groups= is needed: a column name or one label per row")
    if isinstance(groups, str):
        if groups not in frame:
            raise DataError(f"groups={groups!r} is not a column of the data; {frame.suggestion(groups)}")
        return _Groups(data, frame, groups, groups, True)
    _refuse_names(groups, frame)
    check_length(groups, len(frame), "groups")
    check_order(groups, frame.index, "groups")
    name = getattr(groups, "name", None)
    column = as_series(groups, "groups").reset_index(drop=True)
    if name in frame.names and _same_groups(column, frame, str(name)):
        return _Groups(data, frame, str(name), "Group", True)
    name = next(x for x in ("Group", "Group_", "_Group_") if x not in frame.names)
    if isinstance(data, pd.DataFrame):
        table: Any = data.assign(**{name: column.set_axis(data.index)})
    else:
        table = {**{other: frame.series(other) for other in frame.names}, name: column}
    return _Groups(table, as_frame(table), name, "Group", False)


def _refuse_names(groups: Any, frame: Frame) -> None:
    """Refuse a list with names of columns, which is neither a column nor one label per row."""
    if not isinstance(groups, list | tuple) or len(groups) == len(frame) or not len(groups):
        return
    if not all(isinstance(name, str) and name in frame for name in groups):
        return
    if len(groups) == 1:
        raise ParameterError(f"groups={groups!r} is a list: write groups={groups[0]!r}, the name alone")
    outer, inner = groups[:2]
    raise ParameterError(
        f"groups={groups!r} names {len(groups)} columns and one can be the groups: write groups={outer!r}, "
        f"re_formula='1' and vc_formula={{{inner!r}: '0 + C({inner})'}} for {inner} within {outer}, "
        f"or slm.lmer with (1 | {outer}) + (1 | {inner}) where they are crossed"
    )


def _same_groups(groups: pd.Series, frame: Frame, name: str) -> bool:
    """Whether labels are those of a column."""
    given, column = to_grouping(groups, "groups"), frame.grouping(name)
    return np.array_equal(given.codes, column.codes) and given.levels.equals(column.levels)


def _random_effects(t: int, observed: Any, codes: IntArray, title: str) -> Members:
    term = observed.terms[t]
    names = tuple(title if c == "Intercept" else c for c in term.columns)
    return Members(t, _groups_of_levels(term, codes), names * term.m)


def _first_rows(term: Any) -> IntArray:
    first = np.zeros(term.m, dtype=np.int64)
    first[term.codes[::-1]] = np.arange(len(term.codes))[::-1]
    return first


def _groups_of_levels(term: Any, codes: IntArray) -> IntArray:
    return np.asarray(codes[_first_rows(term)])


def _members(
    t: int, name: str, component: patsy.RandomPart, observed: Any, codes: IntArray, variables: Variables
) -> Members:
    """Return the effects of a component, named by their factor levels and columns."""
    term = observed.terms[t]
    first = _first_rows(term)
    texts = [
        [f"{factor}[{level}]" for level in variables.level_texts(factor, observed.positions[first])]
        for factor in component.factors
    ]
    names = []
    for parts in zip(*texts) if texts else [()] * term.m:
        for column in term.columns:
            rest = [column] if column != "Intercept" or not parts else []
            names.append(f"{name}[{':'.join([*parts, *rest])}]")
    return Members(t, np.asarray(codes[first]), tuple(names))
