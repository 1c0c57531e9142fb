"""Formulas as patsy reads them: the order of terms, the names of variables, and what ``scale`` means."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sparselmm.covariance import STRUCTURES
from sparselmm.data.formulas import parse_formula
from sparselmm.exceptions import FormulaError, ParameterError
from sparselmm.formula import ModelSpec
from sparselmm.formula.algebra import terms_as_written
from sparselmm.formula.bars import split_parts
from sparselmm.formula.grammar import parse_expression
from sparselmm.formula.nodes import Call, Name, Node, Text, render, walk
from sparselmm.formula.parse import split_sides

RENAMED = {"scale": "standardize"}  # R's scale divides by n - 1, patsy's by n


@dataclass(frozen=True)
class Formulas:
    """The formulas of a model, without ``~``, with patsy's functions under the names they have here.

    Attributes
    ----------
    fixed : str
        Response and fixed part.
    effects : str or None
        Correlated effects of a group; None where there are none.
    components : mapping
        Formula by name of a variance component, sorted.
    names : mapping
        patsy's names of variables by their text here, where they differ.
    """

    fixed: str
    effects: str | None
    components: Mapping[str, str]
    names: Mapping[str, str]


def read_formulas(formula: str, re_formula: str | None, vc_formula: Any, own: Collection[str]) -> Formulas:
    """Return statsmodels' three formulas; functions named in ``own`` are the caller's.

    Raises
    ------
    FormulaError
        For random terms in the fixed formula, an empty formula, or a model without random effects.
    ParameterError
        For formulas that are not texts.
    """
    bars = split_parts(split_sides(formula)[1], STRUCTURES).bars
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
    return Formulas(
        in_our_words(formula, own).strip(),
        None if effects is None else in_our_words(effects, own),
        {name: in_our_words(components[name], own) for name in sorted(components)},
        names_as_written([formula, *([effects] if effects else []), *components.values()], own),
    )


def _one_sided(formula: Any, what: str) -> str:
    if not isinstance(formula, str):
        raise ParameterError(f"{what} must be a formula such as '1 + x', not {formula!r}")
    text = formula.strip().removeprefix("~").strip()
    if not text:
        raise FormulaError(f"{what} is empty; write for example '1 + x'")
    return text


def _effects(re_formula: str | None, has_components: bool) -> str | None:
    """Return the formula of the correlated effects of a group; None where there are none, as for ``"0"``."""
    if re_formula is None:
        return None if has_components else "1"
    text = _one_sided(re_formula, "re_formula")
    side = terms_as_written(parse_expression(text))
    if side.intercept or side.terms:
        return text
    if not has_components:
        raise FormulaError(f"re_formula={re_formula!r} leaves no random effects; write '1', or give vc_formula= too")
    return None


def in_our_words(formula: str, own: Collection[str] = ()) -> str:
    """Return a formula with patsy's functions under the names they have here.

    Examples
    --------
    >>> in_our_words("y ~ scale(x) + a")
    'y ~ standardize(x) + a'
    """
    text = formula
    calls = [n for n in walk(parse_expression(formula)) if isinstance(n, Call) and n.func in RENAMED]
    for node in sorted(calls, key=lambda n: -n.start):
        if node.func not in own:
            text = text[: node.start] + RENAMED[node.func] + text[node.start + len(node.func) :]
    return text


def patsy_spec(text: str, formulas: Formulas, columns: Sequence[str]) -> ModelSpec:
    """Return a model with its terms in patsy's order, coded by patsy's rules and under patsy's names.

    Parameters
    ----------
    text : str
        The model as one formula of lme4's kind; the correlated effects of a group are its first bar.
    formulas : Formulas
        The same as given.
    columns : sequence of str
        Of the data.
    """
    spec = parse_formula(text, columns)
    part = split_parts(split_sides(formulas.fixed)[1], STRUCTURES).fixed
    if part is not None and not any(isinstance(n, Name) and n.name == "." for n in walk(part)):
        spec = replace(spec, fixed=terms_as_written(part))
    if formulas.effects is not None:
        first = replace(spec.random[0], lhs=terms_as_written(parse_expression(formulas.effects)))
        spec = replace(spec, random=(first, *spec.random[1:]))
    return replace(spec, rules="patsy", spellings=tuple(formulas.names.items()))


def names_as_written(formulas: Iterable[str], own: Collection[str] = ()) -> dict[str, str]:
    """Return patsy's name of each call by its text here, where they differ: it keeps the quotes as written.

    Examples
    --------
    >>> names_as_written(['y ~ Q("my x") + scale(z)'])
    {"Q('my x')": 'Q("my x")', 'standardize(z)': 'scale(z)'}
    """
    found: dict[str, str] = {}
    for formula in formulas:
        old, new = walk(parse_expression(formula)), walk(parse_expression(in_our_words(formula, own)))
        for a, b in zip(old, new, strict=True):
            if isinstance(a, Call) and render(b) != _as_written(a, formula):
                found.setdefault(render(b), _as_written(a, formula))
    return found


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
