"""From statsmodels' three formulas (fixed part, re_formula, vc_formula) to one of lme4's kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._typing import IntArray
from sparselmm.api import LinearMixedModel
from sparselmm.data import build_design
from sparselmm.data.design import Design, GroupedTerm
from sparselmm.data.encoding.contrasts import level_text
from sparselmm.data.encoding.evaluate import Evaluator
from sparselmm.data.encoding.transforms import Columns
from sparselmm.data.source import ModelSource
from sparselmm.data.tables.columns import Factor
from sparselmm.data.tables.frame import Frame, as_frame
from sparselmm.data.tables.labels import check_order
from sparselmm.doors.mixedlm.patsy import patsy_spec, read_formulas
from sparselmm.doors.mixedlm.translation import Members, Translation, check_length, na_action, positions
from sparselmm.exceptions import DataError, FormulaError, ParameterError, UnsupportedError
from sparselmm.formula import ModelSpec
from sparselmm.formula.algebra import Term, TermList, expand_terms
from sparselmm.formula.grammar import parse_expression
from sparselmm.formula.nodes import Call, Name, render
from sparselmm.likelihood.problem import Problem


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

    @property
    def text(self) -> str:
        """The column as it stands in a formula."""
        return render(Name(self.name))


@dataclass(frozen=True)
class _Component:
    """One variance component as a random term.

    Attributes
    ----------
    bar : str
        The random term.
    factors : tuple of str
        Factors whose levels have an effect each, as written.
    """

    bar: str
    factors: tuple[str, ...]


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
    formulas = read_formulas(formula, re_formula, vc_formula, tuple(context or ()))
    given = _with_groups(data, groups)
    factor = given.frame.grouping(given.name).drop_unused()
    evaluator = Evaluator(given.frame, context, {})
    outer = given.text if len(factor.levels) > 1 else ""
    bars = [] if formulas.effects is None else [f"({_terms(formulas.effects)} | {given.text})"]
    components = [_component(name, side, outer, evaluator) for name, side in formulas.components.items()]
    text = " + ".join([formulas.fixed, *bars, *(c.bar for c in components)])
    spec = patsy_spec(text, formulas, given.frame.names)
    lmm = _model(spec, given.table, action, context)
    design = lmm.problem.design
    where = positions([term.label for term in spec.random], design)
    codes = factor.codes[design.rows]
    re = _random_effects(where.pop(0), design, codes, given.title) if bars else None
    vc_names = tuple(formulas.components)
    vcs = (
        _members(t, name, c, design, codes, evaluator) for t, name, c in zip(where, vc_names, components, strict=True)
    )
    usable = given.given or (not outer and not bars)
    return Translation(
        lmm,
        factor.levels,
        codes,
        () if re is None else re.names[: design.terms[re.term].k],
        re,
        vc_names,
        tuple(vcs),
        design.response_name,
        formula,
        text if usable else None,
    )


def _model(spec: ModelSpec, table: Any, action: str, context: Mapping[str, Any] | None) -> LinearMixedModel:
    arguments: dict[str, Any] = {
        "weights": None,
        "offset": None,
        "contrasts": None,
        "na_action": action,
        "context": context,
    }
    encoding, design = build_design(spec, table, **arguments)
    return LinearMixedModel(Problem.from_design(design), ModelSource(spec, encoding, arguments, table))


def _with_groups(data: Any, groups: Any) -> _Groups:
    frame = as_frame(data)
    if groups is None:
        raise ParameterError("groups= is needed: a column name or one label per row")
    if isinstance(groups, str):
        if groups not in frame:
            raise DataError(f"groups={groups!r} is not a column of the data; {frame.suggestion(groups)}")
        return _Groups(data, frame, groups, groups, True)
    check_length(groups, len(frame), "groups")
    check_order(groups, frame.index, "groups")
    name = getattr(groups, "name", None)
    if name in frame.names and np.array_equal(np.asarray(groups), np.asarray(frame.series(str(name)))):
        return _Groups(data, frame, str(name), "Group", True)
    name = next(x for x in ("Group", "Group_", "_Group_") if x not in frame.names)
    if isinstance(data, pd.DataFrame):
        table: Any = data.assign(**{name: pd.Series(groups).to_numpy()})
    else:
        table = {**{column: frame.series(column) for column in frame.names}, name: pd.Series(groups)}
    return _Groups(table, as_frame(table), name, "Group", False)


def _terms(formula: str) -> TermList:
    return expand_terms(parse_expression(formula))


def _component(name: str, formula: str, outer: str, evaluator: Evaluator) -> _Component:
    """Return a variance component: levels of factors within groups, with an effect per column of the rest."""
    what = f"the variance component {name!r} ({formula})"
    side = _terms(formula)
    terms: list[Term] = [*([()] if side.intercept else []), *side.terms]
    split = [_split(term, evaluator) for term in terms]
    if not split:
        raise FormulaError(f"{what} has no columns")
    factors = split[0][0]
    if any(set(f) != set(factors) for f, _ in split):
        raise UnsupportedError(
            f"{what} adds columns of different factors under one variance; start it with '0 +', give each part "
            "a component of its own, or pass the matrices to MixedLM as exog_vc"
        )
    lhs = TermList(any(not rest for _, rest in split), tuple(rest for _, rest in split if rest))
    parts = [_bare(f) for f in factors]
    grouping = ":".join(dict.fromkeys([*([outer] if outer else []), *parts]))
    if not grouping:
        raise FormulaError(f"{what} has one column for the only group; a variance needs several effects")
    one = len(split) == 1 and not any(isinstance(evaluator.variable(v), Columns) for v in split[0][1])
    return _Component(f"({lhs} | {grouping})" if one else f"diag({lhs} | {grouping}, hom=TRUE)", factors)


def _split(term: Term, evaluator: Evaluator) -> tuple[Term, Term]:
    """Return the factors and the other variables of a term."""
    factors = tuple(v for v in term if isinstance(evaluator.variable(v), Factor))
    return factors, tuple(v for v in term if v not in factors)


def _bare(text: str) -> str:
    """Return the column of ``C(column)``: a grouping factor is categorical anyway."""
    node = parse_expression(text)
    match node:
        case Call("C", (Name() as inner,), ()):
            return render(inner)
        case Name():
            return render(node)
    return text


def _random_effects(t: int, design: Design, codes: IntArray, title: str) -> Members:
    term = design.terms[t]
    names = tuple(title if c == "Intercept" else c for c in term.columns)
    return Members(t, _groups_of_levels(term, codes), names * term.m)


def _first_rows(term: Any) -> IntArray:
    assert isinstance(term, GroupedTerm)
    first = np.zeros(term.m, dtype=np.int64)
    first[term.codes[::-1]] = np.arange(len(term.codes))[::-1]
    return first


def _groups_of_levels(term: Any, codes: IntArray) -> IntArray:
    return np.asarray(codes[_first_rows(term)])


def _members(
    t: int, name: str, component: _Component, design: Design, codes: IntArray, evaluator: Evaluator
) -> Members:
    """Return the effects of a component, named by their factor levels and columns."""
    term = design.terms[t]
    first = _first_rows(term)
    texts = [_level_names(factor, evaluator, design.rows[first]) for factor in component.factors]
    names = []
    for parts in zip(*texts) if texts else [()] * term.m:
        for column in term.columns:
            rest = [column] if column != "Intercept" or not parts else []
            names.append(f"{name}[{':'.join([*parts, *rest])}]")
    return Members(t, np.asarray(codes[first]), tuple(names))


def _level_names(factor: str, evaluator: Evaluator, rows: IntArray) -> list[str]:
    value = evaluator.variable(factor)
    assert isinstance(value, Factor)
    texts = [f"{factor}[{level_text(level)}]" for level in value.levels]
    return [texts[code] for code in value.codes[rows]]
