"""Finding the random terms of a formula and expanding them as lme4 does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TypeGuard

from sparselmm.exceptions import FormulaError, UnsupportedError
from sparselmm.formula.algebra import TermList, expand_terms
from sparselmm.formula.nodes import Binary, Call, Expression, Name, Node, Number, Paren, Text, Unary, render, walk
from sparselmm.formula.spec import RandomTerm, Structures

_BARS = ("|", "||")


@dataclass(frozen=True)
class Bar:
    """A random term as written: ``structure(lhs op grouping, hom=...)``."""

    lhs: Node
    op: str
    grouping: Node
    structure: str
    source: Expression


@dataclass
class Parts:
    """What a right-hand side consists of: fixed part, bars and offsets."""

    structures: Structures
    fixed: Node | None = None
    bars: list[Bar] = field(default_factory=list)
    offsets: list[Node] = field(default_factory=list)


def is_bar(node: Node) -> TypeGuard[Binary]:
    """Return whether the node is ``lhs | grouping`` or ``lhs || grouping``."""
    return isinstance(node, Binary) and node.op in _BARS


def unwrap(node: Node) -> Node:
    """Return the node without parentheses around it."""
    while isinstance(node, Paren):
        node = node.inner
    return node


def split_parts(node: Node, structures: Structures) -> Parts:
    """Return the bars and offsets found anywhere in a right-hand side, and the rest."""
    parts = Parts(structures)
    parts.fixed = _strip(unwrap(node) if is_bar(unwrap(node)) else node, parts, top=True)
    return parts


def _strip(node: Node, parts: Parts, top: bool = False) -> Node | None:
    """Move bars and offsets from the tree into ``parts``; return what is left."""
    inner = unwrap(node)
    if is_bar(inner) and (top or isinstance(node, Paren)):
        parts.bars.append(_bar(inner, parts.structures.default, Expression(Paren(inner))))
        return None
    match node:
        case Paren(child):
            rest = _strip(child, parts, top)
            return None if rest is None else Paren(rest, start=node.start, end=node.end)
        case Binary("+", left, right):
            return _rejoin(node, _strip(left, parts, top), _strip(right, parts, top))
        case Binary("-", left, right):
            _refuse_special(right, "be subtracted in a model formula; leave it out (or use update)")
            return _rejoin(node, _strip(left, parts, top), right)
        case Binary("*" | ":" | "/" | "%in%", left, Unary("+" | "-", operand)) if is_bar(unwrap(operand)):
            raise FormulaError(f"nothing stands on the right of {node.op!r} in {render(left)} {node.op} ...")
        case Binary("*" | ":" | "/" | "%in%", left, right):
            return _rejoin(node, _strip(left, parts), _strip(right, parts))
        case Binary("^", left, right):
            base = _strip(left, parts)
            return None if base is None else _rejoin(node, base, right)
        case Call("offset", args, kwargs):
            if not top or len(args) != 1 or kwargs:
                raise FormulaError(f"{render(node)} must be an offset(expression) added to the formula with +")
            parts.offsets.append(args[0])
            return None
        case Call(_, args, _) if args and is_bar(args[0]) and node.func != "I":
            parts.bars.append(_structured(node, parts.structures))
            return None
        case Unary():
            _refuse_special(node.operand, f"follow {node.op!r}")
    return node


def _rejoin(node: Binary, left: Node | None, right: Node | None) -> Node | None:
    if left is None:
        # what is left of "(1|g) - x" is "- x"
        return Unary("-", right) if node.op == "-" and right is not None else right
    if right is None:
        return left
    return Binary(node.op, left, right, start=node.start, end=node.end)


def _refuse_special(node: Node, what: str) -> None:
    for part in walk(node):
        if is_bar(part):
            raise FormulaError(f"the random term ({render(part)}) cannot {what}")
        if isinstance(part, Call) and part.func == "offset":
            raise FormulaError(f"{render(part)} cannot {what}")


def _bar(node: Binary, structure: str, source: Expression) -> Bar:
    for part in chain(walk(node.left), walk(node.right)):
        if is_bar(part):
            raise FormulaError(
                f"the random term {source} has a second bar inside; each term has the form (lhs | grouping)"
            )
        if isinstance(part, Call) and part.func == "offset":
            raise FormulaError(f"offset() cannot stand inside the random term {source}; add it to the formula with +")
    return Bar(node.left, node.op, node.right, structure, source)


def _structured(node: Call, structures: Structures) -> Bar:
    source = Expression(node)
    first, available = node.args[0], structures.in_formulas()
    if node.func in structures.planned and node.func not in available:
        raise UnsupportedError(
            f"the covariance structure {node.func}() in {source} is not yet supported; "
            f"available: {', '.join(available)}"
        )
    if node.func not in available:
        raise FormulaError(
            f"{node.func}() in {source} is not a covariance structure; available: {', '.join(available)}"
            f" (a bar inside any other function is not a random term)"
        )
    if not is_bar(first):
        raise FormulaError(f"{source} needs a random term (lhs | grouping) as its first argument")
    bar = _bar(first, node.func, source)
    if bar.op == "||":
        raise FormulaError(f"{source}: use a single bar inside {node.func}(); '||' splits the term by itself")
    given, known = dict(node.kwargs), structures.options(node.func)
    if len(node.args) > 1 or set(given) - set(known):
        raise FormulaError(f"{source}: {_all_options(structures)}")
    for name, value in given.items():
        bar = replace(bar, structure=_meant(name, value, known[name], source))
    return bar


def _all_options(structures: Structures) -> str:
    """Return the sentence that says what options there are."""
    each = [
        f"{' or '.join(f'{name}={value}' for value in values)}, of {key}()"
        for key in structures.in_formulas()
        for name, values in structures.options(key).items()
    ]
    return f"the only option is {each[0]}" if len(each) == 1 else f"the options are {'; '.join(each)}"


def _meant(name: str, value: Node, values: Mapping[str, str], source: str) -> str:
    """Return the key of the structure that the value of an option stands for."""
    text = render(value)
    key = values.get({"True": "TRUE", "T": "TRUE", "False": "FALSE", "F": "FALSE"}.get(text, text))
    if key is None:
        raise FormulaError(f"{source}: {name} must be {' or '.join(values)}, not {text}")
    return key


@dataclass(frozen=True)
class _Group:
    """One grouping factor: the variables that interact, and lme4's label."""

    factors: tuple[Expression, ...]
    label: str


def random_terms(bar: Bar) -> list[RandomTerm]:
    """Return the terms a bar stands for: ``||`` split, then the grouping expanded."""
    try:
        lhs = expand_terms(bar.lhs)
    except FormulaError as error:
        raise FormulaError(f"in the random term {bar.source}: {error}") from error
    if not lhs.intercept and not lhs.terms:
        raise FormulaError(
            f"the random term {bar.source} has nothing on the left of the bar: no intercept and no slope"
        )
    groups = _expand_grouping(bar.grouping, bar.source)
    sides = _split_double_bar(lhs) if bar.op == "||" else [lhs]
    return [
        RandomTerm(side, group.factors, bar.structure, group.label, bar.source) for side in sides for group in groups
    ]


def _split_double_bar(lhs: TermList) -> list[TermList]:
    intercept = [TermList(True, ())] if lhs.intercept else []
    return intercept + [TermList(False, (term,)) for term in lhs.terms]


def _expand_grouping(node: Node, source: str) -> list[_Group]:
    match node:
        case Paren(inner):
            return _expand_grouping(inner, source)
        case Binary(":" | "%in%" | "*" | "/" | "+" as op, left, right):
            return _combine_groups(op, _expand_grouping(left, source), _expand_grouping(right, source), source)
        case Number() | Text():
            raise FormulaError(f"the grouping factor of {source} must be a column or an expression, not {render(node)}")
        case Name("."):
            raise FormulaError(f"'.' cannot be the grouping factor of {source}; name a column")
        case Unary() | Binary("-" | "^" | "~", _, _):
            raise FormulaError(
                f"{render(node)} is not a grouping factor in {source}; use columns joined by : / * + or a call"
            )
        case Name(name):
            return [_Group((Expression(node),), name)]
        case _:
            expression = Expression(node)
            return [_Group((expression,), expression)]


def _combine_groups(op: str, left: list[_Group], right: list[_Group], source: str) -> list[_Group]:
    if op == "+":
        return left + right
    if op == "/":
        # the first group on the left is the finest one: a/b/c is c within b within a
        if any(set(group.factors) - set(left[0].factors) for group in left):
            raise FormulaError(f"{source}: only a chain such as a/b/c can be nested in; write the terms out")
        return [_interaction(inner, left[0], nested=True) for inner in right] + left
    products = [_interaction(a, b) for a in left for b in right]
    return left + right + products if op == "*" else products


def _interaction(first: _Group, second: _Group, nested: bool = False) -> _Group:
    factors = first.factors + tuple(f for f in second.factors if f not in first.factors)
    head = f"({first.label})" if nested and len(first.factors) > 1 else first.label
    tail = f"({second.label})" if len(second.factors) > 1 else second.label
    return _Group(factors, f"{head}:{tail}")
