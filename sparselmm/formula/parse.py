"""From the text of a model formula to a `ModelSpec`, and back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from sparselmm.exceptions import FormulaError
from sparselmm.formula.algebra import TermList, expand_terms
from sparselmm.formula.bars import is_bar, random_terms, split_parts, unwrap
from sparselmm.formula.grammar import parse_expression
from sparselmm.formula.nodes import (
    Binary,
    Call,
    Expression,
    Name,
    Node,
    Number,
    Paren,
    Text,
    Unary,
    names,
    rebuilt,
    render,
    sum_of,
    walk,
)
from sparselmm.formula.spec import ModelSpec, Structures

_COMPARISONS = ("<", ">", "<=", ">=", "==", "!=")


def parse_formula(formula: str, structures: Structures, columns: Sequence[str] | None = None) -> ModelSpec:
    """Return what an lme4-style model formula says.

    Parameters
    ----------
    formula : str
        For example ``"y ~ x + (x | g)"``; the grammar is that of R's lme4.
    structures : Structures
        The covariance structures that it may name.
    columns : sequence of str, optional
        Column names of the data, needed only when the fixed part contains ``.``.

    Raises
    ------
    FormulaError
        When the formula cannot be read; the message points at the place or names the term.
    UnsupportedError
        For covariance structures that are recognised but not available yet.

    Examples
    --------
    >>> from sparselmm.covariance import STRUCTURES
    >>> spec = parse_formula("log(y) ~ x*f + (1 | a/b)", STRUCTURES)
    >>> str(spec.fixed)
    '1 + x + f + x:f'
    >>> [term.label for term in spec.random]
    ['b:a', 'a']
    """
    if not isinstance(formula, str):
        raise FormulaError(f"the formula must be a text such as 'y ~ x + (1 | g)', not {type(formula).__name__}")
    if not formula.strip():
        raise FormulaError("the formula is empty; write for example 'y ~ x + (1 | g)'")
    return _parse(formula, structures, tuple(map(str, columns)) if columns is not None and "." in formula else None)


@lru_cache(maxsize=512)
def _parse(formula: str, structures: Structures, columns: tuple[str, ...] | None) -> ModelSpec:
    return spec_of(*split_sides(formula), structures, columns, formula)


def spec_of(
    response: Node, rhs: Node, structures: Structures, columns: Sequence[str] | None, formula: str
) -> ModelSpec:
    """Return the model of the two sides of a formula.

    Parameters
    ----------
    response, rhs : Node
        The sides.
    structures : Structures
        The covariance structures that they may name.
    columns : sequence of str or None
        Columns that ``.`` stands for.
    formula : str
        The formula as given, for messages.
    """
    _check_response(response)
    parts = split_parts(rhs, structures)
    if not parts.bars:
        _refuse_comparison(unwrap(rhs), formula)
        raise FormulaError(
            f"No random effects terms in the formula {formula.strip()!r}: add at least one, for example (1 | group)"
        )
    if parts.fixed is None:
        fixed = TermList(True, ())
    else:
        taken = set(names(response))
        fixed = expand_terms(substitute_dot(parts.fixed, _all_columns(columns, taken)))
    random = tuple(term for bar in parts.bars for term in random_terms(bar))
    for term in random:
        if render(unwrap(response)) in term.grouping:
            raise FormulaError(f"the grouping factor of {term.source} is the response; group by another column")
    return ModelSpec(
        response=Expression(response),
        fixed=fixed,
        random=random,
        offsets=tuple(map(Expression, parts.offsets)),
        source=formula.strip(),
    )


def _refuse_comparison(node: Node, formula: str) -> None:
    """Refuse a comparison that takes in the terms beside it: ``x > 4 + (1 | g)`` compares ``x`` with a sum."""
    if not isinstance(node, Binary) or node.op not in _COMPARISONS or not any(map(is_bar, walk(node))):
        return
    left, right = node.left, node.right
    while isinstance(left, Binary) and left.op in "+-":
        left = left.right
    while isinstance(right, Binary) and right.op in "+-":
        right = right.left
    meant = render(Binary(node.op, left, right))
    raise FormulaError(
        f"in the formula {formula.strip()!r} everything on the two sides of {node.op} is compared, the random terms "
        f"included; a comparison goes in I(...): I({meant})"
    )


def split_sides(formula: str) -> tuple[Node, Node]:
    """Return the two sides of ``response ~ terms``."""
    if "~" not in formula:
        raise FormulaError(f"the formula {formula!r} has no '~': write response ~ terms, for example 'y ~ x + (1 | g)'")
    if formula.lstrip().startswith("~"):
        raise FormulaError(f"the formula {formula.strip()!r} has no response: write it on the left of '~'")
    node = parse_expression(formula)
    if not isinstance(node, Binary) or node.op != "~":
        raise FormulaError(f"the formula {formula!r} must have the form response ~ terms")
    for part in [*walk(node.left), *walk(node.right)]:
        if isinstance(part, Binary | Unary) and part.op == "~":
            raise FormulaError(f"the formula {formula!r} has more than one '~'")
    return node.left, node.right


def _check_response(node: Node) -> None:
    inner = unwrap(node)
    text = render(node)
    if any(is_bar(part) for part in walk(node)):
        raise FormulaError(f"the response {text} contains a bar; random terms stand on the right of '~'")
    if isinstance(inner, Number | Text) or not names(inner):
        raise FormulaError(f"the response {text} names no column")
    if isinstance(inner, Call) and inner.func in ("cbind", "c"):
        raise FormulaError(f"the response {text} has several columns; fit one response at a time")
    if "." in names(inner):
        raise FormulaError("'.' cannot be the response; name a column")


def _all_columns(columns: Sequence[str] | None, taken: set[str]) -> Node | None:
    """Return the sum that ``.`` stands for, or None when the columns are not known."""
    if columns is None:
        return None
    others = [Name(name) for name in columns if name not in taken]
    if not others:
        raise FormulaError("'.' stands for all other columns, but there is none besides the response")
    return Paren(sum_of(others))


def substitute_dot(node: Node, meaning: Node | None) -> Node:
    """Return the tree with every ``.`` outside of calls replaced by its meaning (kept when that is unknown)."""
    if isinstance(node, Name) and node.name == "." and meaning is not None:
        return meaning
    if isinstance(node, Call):
        if any(isinstance(a, Name) and a.name == "." for a in node.args):
            raise FormulaError(f"'.' stands for a sum of columns and cannot be an argument, as in {render(node)}")
        return node
    return rebuilt(node, lambda part: substitute_dot(part, meaning))
