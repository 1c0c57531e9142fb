"""Models as statsmodels states them, read by patsy's rules: order of terms, names of variables, what ``scale`` means.

statsmodels takes a formula of the fixed part, one of the correlated effects of a group (``re_formula``), and one
for each variance component (``vc_formula``). Their trees are put together to one model of lme4's kind.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, TypeGuard

from sparselmm.covariance import STRUCTURES
from sparselmm.exceptions import FormulaError, ParameterError, UnsupportedError
from sparselmm.formula.algebra import Term, TermList, expand_terms, interaction, operand, terms_as_written
from sparselmm.formula.bars import split_parts
from sparselmm.formula.grammar import parse_expression
from sparselmm.formula.nodes import Binary, Call, Expression, Name, Node, Paren, Text, rebuilt, render, sum_of, walk
from sparselmm.formula.parse import spec_of, split_sides
from sparselmm.formula.spec import ModelSpec

RENAMED = {"scale": "standardize"}  # R's scale divides by n - 1, patsy's by n

#: Answers a question about the values of an expression.
Question = Callable[[Expression], bool]


@dataclass(frozen=True)
class Side:
    """A formula, or one side of it: its tree, and its text as written."""

    node: Node
    text: str


@dataclass(frozen=True)
class Formulas:
    """The formulas of a model, with patsy's functions under the names they have here.

    Attributes
    ----------
    response, fixed : Node
        The two sides of the fixed formula.
    text : str
        The same as written.
    effects : Node or None
        Correlated effects of a group; None where there are none.
    components : mapping
        One-sided formula by name of a variance component, sorted.
    names : mapping
        patsy's names of variables by their text here, where they differ.
    """

    response: Node
    fixed: Node
    text: str
    effects: Node | None
    components: Mapping[str, Side]
    names: Mapping[str, str]


@dataclass(frozen=True)
class RandomPart:
    """One random term as it is added to the formula.

    Attributes
    ----------
    node, text : Node, str
        Its tree, and its text for `sparselmm.lmer`.
    factors : tuple of Expression
        Of a variance component the factors whose levels have an effect each.
    """

    node: Node
    text: str
    factors: Term = ()


def read_formulas(formula: str, re_formula: str | None, vc_formula: Any, own: Collection[str]) -> Formulas:
    """Return statsmodels' three formulas; functions named in ``own`` are the caller's.

    Raises
    ------
    FormulaError
        For random terms in the fixed formula, an empty formula, or a model without random effects.
    ParameterError
        For formulas that are not texts.
    """
    response, fixed = split_sides(formula)
    bars = split_parts(fixed, STRUCTURES).bars
    if bars:
        raise FormulaError(
            f"the random term {bars[0].source} stands in the fixed formula; give groups=, re_formula= and vc_formula=, "
            "or use sparselmm.lmer for formulas with bars"
        )
    if vc_formula is not None and not isinstance(vc_formula, Mapping):
        raise ParameterError(
            "vc_formula must be a dict with a formula for each component, as in vc_formula={'a': '0 + C(a)'}, "
            f"not {vc_formula!r}"
        )
    components = {str(k): _one_sided(f, f"vc_formula[{k!r}]") for k, f in (vc_formula or {}).items()}
    effects = _effects(re_formula, bool(components))
    whole = Side(Binary("~", response, fixed), formula)
    sides = [whole, *([] if effects is None else [effects]), *components.values()]
    return Formulas(
        in_our_words(response, own),
        in_our_words(fixed, own),
        _text_in_our_words(whole, own).strip(),
        None if effects is None else in_our_words(effects.node, own),
        {k: Side(in_our_words(s.node, own), _text_in_our_words(s, own)) for k, s in sorted(components.items())},
        names_as_written(sides, own),
    )


def _one_sided(formula: Any, what: str) -> Side:
    if not isinstance(formula, str):
        raise ParameterError(f"{what} must be a formula such as '1 + x', not {formula!r}")
    text = formula.strip().removeprefix("~").strip()
    if not text:
        raise FormulaError(f"{what} is empty; write for example '1 + x'")
    return Side(parse_expression(text), text)


def _effects(re_formula: str | None, has_components: bool) -> Side | None:
    """Return the formula of the correlated effects of a group; None where there are none, as for ``"0"``."""
    if re_formula is None:
        return None if has_components else _one_sided("1", "re_formula")
    side = _one_sided(re_formula, "re_formula")
    columns = terms_as_written(side.node)
    if columns.intercept or columns.terms:
        return side
    if not has_components:
        raise FormulaError(f"re_formula={re_formula!r} leaves no random effects; write '1', or give vc_formula= too")
    return None


def in_our_words(node: Node, own: Collection[str] = ()) -> Node:
    """Return a tree with patsy's functions under the names they have here.

    Examples
    --------
    >>> render(in_our_words(parse_expression("y ~ scale(x) + a")))
    'y ~ standardize(x) + a'
    """
    inner = rebuilt(node, lambda part: in_our_words(part, own))
    return replace(inner, func=RENAMED[inner.func]) if _is_renamed(inner, own) else inner


def _is_renamed(node: Node, own: Collection[str]) -> TypeGuard[Call]:
    return isinstance(node, Call) and node.func in RENAMED and node.func not in own


def _text_in_our_words(side: Side, own: Collection[str]) -> str:
    text = side.text
    for node in sorted(walk(side.node), key=lambda n: -n.start):
        if _is_renamed(node, own):
            text = text[: node.start] + RENAMED[node.func] + text[node.start + len(node.func) :]
    return text


def names_as_written(sides: Iterable[Side], own: Collection[str] = ()) -> dict[str, str]:
    """Return patsy's name of each call by its text here, where they differ: it keeps the quotes as written.

    Examples
    --------
    >>> text = 'y ~ Q("my x") + scale(z)'
    >>> names_as_written([Side(parse_expression(text), text)])
    {"Q('my x')": 'Q("my x")', 'standardize(z)': 'scale(z)'}
    """
    differing: dict[str, str] = {}
    for side in sides:
        for theirs, ours in zip(walk(side.node), walk(in_our_words(side.node, own)), strict=True):
            if isinstance(theirs, Call) and render(ours) != _as_written(theirs, side.text):
                differing.setdefault(render(ours), _as_written(theirs, side.text))
    return differing


def _as_written(node: Node, source: str) -> str:
    """Return the text of a node with its quotes."""
    text, out, at = render(node), "", 0
    for part in walk(node):
        if isinstance(part, Text):
            quoted = repr(part.value)
            i = text.index(quoted, at)
            out += text[at:i] + source[part.start : part.end]
            at = i + len(quoted)
    return out + text[at:]


# --- random terms ------------------------------------------------------------------------------


def group_effects(formulas: Formulas, group: str) -> list[RandomPart]:
    """Return the correlated effects of a group as a random term; none without any."""
    if formulas.effects is None:
        return []
    bar = Binary("|", expand_terms(formulas.effects).node, Name(group))
    return [RandomPart(Paren(bar), render(Paren(bar)))]


def component(name: str, side: Side, outer: str | None, is_factor: Question, is_block: Question) -> RandomPart:
    """Return a variance component: levels of factors within groups, with an effect per column of the rest.

    Parameters
    ----------
    name, side : str, Side
        The component.
    outer : str or None
        The column of the groups, None for a single group.
    is_factor, is_block : callable
        Whether an expression is a factor, and whether it has several columns.

    Raises
    ------
    FormulaError
        For a component without columns, or with one column for the only group.
    UnsupportedError
        For columns of different factors under one variance.
    """
    what = f"the variance component {name!r} ({side.text})"
    columns = expand_terms(side.node)
    terms: list[Term] = [*([()] if columns.intercept else []), *columns.terms]
    if not terms:
        raise FormulaError(f"{what} has no columns")
    split = [_split(term, is_factor) for term in terms]
    factors = split[0][0]
    if any(set(f) != set(factors) for f, _ in split):
        raise UnsupportedError(
            f"{what} adds columns of different factors under one variance; start it with '0 +', give each part "
            "a component of its own, or pass the matrices to MixedLM as exog_vc"
        )
    lhs = TermList(any(not rest for _, rest in split), tuple(rest for _, rest in split if rest))
    groups = dict.fromkeys([*([] if outer is None else [Expression(Name(outer))]), *map(_bare, factors)])
    if not groups:
        raise FormulaError(f"{what} has one column for the only group; a variance needs several effects")
    grouping = reduce(interaction, map(operand, groups))
    bar = Binary("|", lhs.node, grouping)
    if len(split) == 1 and not any(map(is_block, split[0][1])):
        return RandomPart(Paren(bar), render(Paren(bar)), factors)
    text = f"diag({render(bar)}, hom=TRUE)"
    return RandomPart(Call("diag", (bar,), (("hom", Name("TRUE")),)), text, factors)


def _split(term: Term, is_factor: Question) -> tuple[Term, Term]:
    """Return the factors and the other variables of a term."""
    factors = tuple(filter(is_factor, term))
    return factors, tuple(v for v in term if v not in factors)


def _bare(factor: Expression) -> Expression:
    """Return the column of ``C(column)``: a grouping factor is categorical anyway."""
    match factor.node:
        case Call("C", (Name() as inner,), ()):
            return Expression(inner)
    return factor


def model_of(formulas: Formulas, parts: Sequence[RandomPart], columns: Sequence[str]) -> ModelSpec:
    """Return a model with its terms in patsy's order, coded by patsy's rules and under patsy's names.

    Parameters
    ----------
    formulas : Formulas
        As given.
    parts : sequence of RandomPart
        Its random terms; the correlated effects of a group come first.
    columns : sequence of str
        Of the data.
    """
    text = " + ".join([formulas.text, *(part.text for part in parts)])
    rhs = sum_of([formulas.fixed, *(part.node for part in parts)])
    spec = spec_of(formulas.response, rhs, STRUCTURES, columns, text)
    fixed = split_parts(formulas.fixed, STRUCTURES).fixed
    if fixed is not None and not any(isinstance(n, Name) and n.name == "." for n in walk(fixed)):
        spec = replace(spec, fixed=terms_as_written(fixed))
    if formulas.effects is not None:
        first = replace(spec.random[0], lhs=terms_as_written(formulas.effects))
        spec = replace(spec, random=(first, *spec.random[1:]))
    return replace(spec, rules="patsy", spellings=tuple(formulas.names.items()))
