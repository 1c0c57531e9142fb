"""The syntax tree of formulas, and its text in Python's and in R's spelling."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Self

PLAIN_NAME = re.compile(r"(?:[^\W\d]|\.(?!\d))[\w.]*\Z")
_LONG_SUM = 64  # terms of a sum beyond which its tree is balanced: Python nests some 1,000 calls
_PYTHON_WORDS = {"TRUE": "True", "FALSE": "False", "NULL": "None"}
_R_WORDS = {python: r for r, python in _PYTHON_WORDS.items()}


@dataclass(frozen=True)
class Node:
    """A piece of a formula; ``start`` and ``end`` are its place in the source text."""

    start: int = field(compare=False, kw_only=True, default=0)
    end: int = field(compare=False, kw_only=True, default=0)


@dataclass(frozen=True)
class Name(Node):
    """A column, constant or ``.``."""

    name: str


@dataclass(frozen=True)
class Number(Node):
    """A numeric literal; ``text`` keeps its spelling."""

    value: float
    text: str


@dataclass(frozen=True)
class Text(Node):
    """A string literal."""

    value: str


@dataclass(frozen=True)
class Unary(Node):
    """``-x``, ``+x`` or ``!x``."""

    op: str
    operand: Node


@dataclass(frozen=True)
class Binary(Node):
    """``left op right``; ``**`` is stored as ``^``."""

    op: str
    left: Node
    right: Node


@dataclass(frozen=True)
class Paren(Node):
    """``(inner)``."""

    inner: Node


@dataclass(frozen=True)
class Call(Node):
    """``func(args, key=value, ...)``."""

    func: str
    args: tuple[Node, ...]
    kwargs: tuple[tuple[str, Node], ...]


class Expression(str):
    """An expression of a formula: its text in Python's spelling, by which it is known, and the tree behind it.

    Attributes
    ----------
    node : Node
        The tree; it needs not be read from the text again.

    Examples
    --------
    >>> x = Expression(Binary("^", Name("x"), Number(2.0, "2")))
    >>> x, x.node.op
    ('x ** 2', '^')
    """

    __slots__ = ("node",)
    node: Node

    def __new__(cls, node: Node) -> Self:
        """Return the expression of a tree."""
        made = super().__new__(cls, render(node))
        made.node = node
        return made

    def __getnewargs__(self) -> tuple[Node]:  # type: ignore[override]
        """Return what a copy is made from."""
        return (self.node,)


def sum_of(nodes: Sequence[Node]) -> Node:
    """Return the sum of nodes; a long one as a balanced tree, so that hundreds of terms do not nest too deep."""
    if len(nodes) > _LONG_SUM:
        middle = len(nodes) // 2
        left, right = sum_of(nodes[:middle]), sum_of(nodes[middle:])
        return Binary("+", left, right, start=left.start, end=right.end)
    total = nodes[0]
    for node in nodes[1:]:
        total = Binary("+", total, node, start=total.start, end=node.end)
    return total


def children(node: Node) -> tuple[Node, ...]:
    """Return the direct parts of a node."""
    match node:
        case Unary(_, operand):
            return (operand,)
        case Binary(_, left, right):
            return (left, right)
        case Paren(inner):
            return (inner,)
        case Call(_, args, kwargs):
            return args + tuple(value for _, value in kwargs)
        case _:
            return ()


def rebuilt(node: Node, change: Callable[[Node], Node]) -> Node:
    """Return a node with its direct parts changed."""
    match node:
        case Unary(_, operand):
            return replace(node, operand=change(operand))
        case Binary(_, left, right):
            return replace(node, left=change(left), right=change(right))
        case Paren(inner):
            return replace(node, inner=change(inner))
        case Call(_, args, kwargs):
            changed = tuple((key, change(value)) for key, value in kwargs)
            return replace(node, args=tuple(map(change, args)), kwargs=changed)
    return node


def walk(node: Node) -> Iterator[Node]:
    """Yield the node and everything below it, from left to right."""
    yield node
    for child in children(node):
        yield from walk(child)


def names(node: Node) -> list[str]:
    """Return the names that stand for values (not the functions called), each once.

    >>> from sparselmm.formula.grammar import parse_expression
    >>> names(parse_expression("log(x) + x + Q('my y')"))
    ['x', 'my y']
    """
    seen: dict[str, None] = {}
    for part in walk(node):
        match part:
            case Name(name) | Call("Q", (Text(name),), ()):
                seen[name] = None
    return list(seen)


@dataclass(frozen=True)
class Style:
    """How a language writes what both can say."""

    power: str
    tight: frozenset[str]
    equals: str
    python: bool


PYTHON = Style(power=" ** ", tight=frozenset({":"}), equals="=", python=True)
R = Style(power="^", tight=frozenset({":", "/"}), equals=" = ", python=False)


@lru_cache(maxsize=4096)
def render(node: Node, style: Style = PYTHON) -> str:
    """Return the text of a node in one normal form per language."""
    match node:
        case Name(name):
            return _render_name(name, style)
        case Number(_, text):
            return text
        case Text(value):
            return repr(value) if style.python else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        case Unary(op, operand):
            return op + render(operand, style)
        case Binary(op, left, right):
            return render(left, style) + _operator(op, style) + render(right, style)
        case Paren(inner):
            return f"({render(inner, style)})"
        case Call(func, args, kwargs):
            parts = [render(a, style) for a in args]
            parts += [f"{key}{style.equals}{render(value, style)}" for key, value in kwargs]
            return f"{func}({', '.join(parts)})"
    raise TypeError(f"not a formula node: {node!r}")


def _operator(op: str, style: Style) -> str:
    if op == "^":
        return style.power
    return op if op in style.tight else f" {op} "


def _render_name(name: str, style: Style) -> str:
    name = (_PYTHON_WORDS if style.python else _R_WORDS).get(name, name)
    return name if PLAIN_NAME.match(name) else f"`{name}`"
