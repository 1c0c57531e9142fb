"""From the left side of the formula back to the response: ``log(y)``, ``sqrt(y + 1)``, ``scale(y)``, ...

A mean η of the left side becomes g(η) with g the inverse of what the formula does; its standard error is
|g'(η)| times that of η (delta method), its limits are those of η, transformed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._typing import FloatArray
from sparselmm.data.encoding.encoding import EncodingSpec
from sparselmm.exceptions import ParameterError
from sparselmm.formula.grammar import parse_expression
from sparselmm.formula.nodes import Binary, Call, Name, Node, Number, Paren, Unary, render

TYPES = ("link", "response")
Function = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class Step:
    """The inverse of one function, and its derivative."""

    inverse: Function
    slope: Function


_LOGARITHMS = {"log": float(np.e), "log10": 10.0, "log2": 2.0}
_CALLS: dict[str, Step] = {
    "log1p": Step(np.expm1, np.exp),
    "exp": Step(np.log, lambda x: 1.0 / x),
    "expm1": Step(np.log1p, lambda x: 1.0 / (1.0 + x)),
    "sqrt": Step(np.square, lambda x: 2.0 * x),
}
_SCALING = ("scale", "center", "standardize")
_SAME = ("I", "identity")


@dataclass(frozen=True)
class BackTransform:
    """The way from the left side of a formula to the response.

    Attributes
    ----------
    source : str
        The left side.
    steps : tuple of Step
        Inverses in the order in which they apply.
    log_base : float or None
        Base of the logarithm that the left side is; differences are then logarithms of ratios.
    root : bool
        Whether the left side cannot be negative.
    """

    source: str
    steps: tuple[Step, ...]
    log_base: float | None
    root: bool

    def mean(self, eta: FloatArray) -> FloatArray:
        """Return g(η)."""
        for step in self.steps:
            eta = step.inverse(eta)
        return eta

    def slope(self, eta: FloatArray) -> FloatArray:
        """Return g'(η)."""
        out = np.ones_like(eta)
        for step in self.steps:
            out = out * step.slope(eta)
            eta = step.inverse(eta)
        return out

    def table(self, table: pd.DataFrame, estimate: str) -> pd.DataFrame:
        """Return a table of means with estimate, standard error and limits on the scale of the response."""
        eta, low, high = (table[name].to_numpy(dtype=np.float64) for name in (estimate, "conf_low", "conf_high"))
        low = np.maximum(low, 0.0) if self.root else low
        ends = np.stack([self.mean(low), self.mean(high)])
        changed = {
            estimate: self.mean(eta),
            "std_error": np.abs(self.slope(eta)) * table["std_error"].to_numpy(),
            "conf_low": ends.min(axis=0),
            "conf_high": ends.max(axis=0),
        }
        return table.assign(**changed).rename(columns={estimate: "response"})

    def ratios(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return a table of differences of logarithms as ratios; tests stay as they are."""
        rate = np.log(self.log_base or np.e)
        ratio = np.exp(rate * table["estimate"])
        limits = {name: np.exp(rate * table[name]) for name in ("conf_low", "conf_high")}
        out = table.assign(estimate=ratio, std_error=rate * ratio * table["std_error"], **limits)
        return out.rename(columns={"estimate": "ratio"})


def back_transform(encoding: EncodingSpec) -> BackTransform | None:
    """Return the way back to the response; None where the left side is the response.

    Raises
    ------
    ParameterError
        For a left side that cannot be undone.
    """
    source = encoding.spec.response
    outer = _plain(parse_expression(source))
    node, steps = outer, []
    while not isinstance(node, Name):
        step, node = _undone(node, encoding.state, source)
        steps.append(step)
        node = _plain(node)
    if not steps:
        return None
    base = _log_base(outer)
    return BackTransform(source, tuple(steps), base, isinstance(outer, Call) and _function(outer) == "sqrt")


def _plain(node: Node) -> Node:
    while isinstance(node, Paren) or (isinstance(node, Call) and _function(node) in _SAME and len(node.args) == 1):
        node = node.inner if isinstance(node, Paren) else node.args[0]
    if isinstance(node, Call) and node.func == "Q":
        return Name(render(node))
    return node


def _function(node: Call) -> str:
    return node.func.removeprefix("numpy.").removeprefix("np.")


def _log_base(node: Node) -> float | None:
    if not isinstance(node, Call) or _function(node) not in _LOGARITHMS:
        return None
    given = [*node.args[1:], *(value for _, value in node.kwargs)]
    base = _constant(given[0]) if given else None
    return _LOGARITHMS[_function(node)] if base is None else base


def _undone(node: Node, state: Mapping[str, Any], source: str) -> tuple[Step, Node]:
    """Return the inverse of the outermost function, and what it is applied to."""
    base = _log_base(node)
    if isinstance(node, Call) and base is not None:
        rate = float(np.log(base))
        return Step(lambda x: np.exp(rate * x), lambda x: rate * np.exp(rate * x)), node.args[0]
    if isinstance(node, Call) and _function(node) in _CALLS and len(node.args) == 1:
        return _CALLS[_function(node)], node.args[0]
    if isinstance(node, Call) and node.func in _SCALING and render(node) in state:
        learned = state[render(node)]
        centre, scale = float(learned.get("center") or 0.0), float(learned.get("scale") or 1.0)
        return _line(scale, centre), node.args[0]
    if isinstance(node, Unary) and node.op in "+-":
        return _line(-1.0 if node.op == "-" else 1.0, 0.0), node.operand
    if isinstance(node, Binary):
        left, right = _constant(node.left), _constant(node.right)
        if right is not None and left is None and node.op in _RIGHT:
            return _RIGHT[node.op](right), node.left
        if left is not None and right is None and node.op in _LEFT:
            return _LEFT[node.op](left), node.right
    raise ParameterError(
        f"type='response' cannot undo {render(node)} in {source}; it undoes logarithms, exp, sqrt, powers, scale and "
        "arithmetic with numbers. Use type='link'"
    )


def _line(factor: float, shift: float) -> Step:
    return Step(lambda x: factor * x + shift, lambda x: np.full_like(x, factor))


def _power(exponent: float) -> Step:
    p = 1.0 / exponent
    return Step(lambda x: x**p, lambda x: p * x ** (p - 1.0))


# y op c, and c op y
_RIGHT: dict[str, Callable[[float], Step]] = {
    "+": lambda c: _line(1.0, -c),
    "-": lambda c: _line(1.0, c),
    "*": lambda c: _line(1.0 / c, 0.0),
    "/": lambda c: _line(c, 0.0),
    "^": _power,
}
_LEFT: dict[str, Callable[[float], Step]] = {
    "+": lambda c: _line(1.0, -c),
    "-": lambda c: _line(-1.0, c),
    "*": lambda c: _line(1.0 / c, 0.0),
    "/": lambda c: Step(lambda x: c / x, lambda x: -c / x**2),
}


def _constant(node: Node) -> float | None:
    """Return the number that an expression without variables is, or None."""
    match node:
        case Number(value, _):
            return value
        case Paren(inner):
            return _constant(inner)
        case Unary("-", operand):
            positive = _constant(operand)
            return None if positive is None else -positive
        case Binary("+" | "-" | "*" | "/" | "^" as op, left, right):
            a, b = _constant(left), _constant(right)
            if a is None or b is None:
                return None
            return {"+": a + b, "-": a - b, "*": a * b, "^": a**b}.get(op, a / b if b else None)
        case Name("pi"):
            return float(np.pi)
    return None
