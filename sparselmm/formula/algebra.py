"""Expanding ``a*b``, ``a/b``, ``(a + b)^2``, ``-x`` and the like to a list of terms, as R's ``terms`` does."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, reduce

from sparselmm.exceptions import FormulaError
from sparselmm.formula.grammar import parse_expression
from sparselmm.formula.nodes import Binary, Call, Expression, Name, Node, Number, Paren, Text, Unary, render, sum_of

Term = tuple[Expression, ...]
MOST_TERMS = 50_000  # more have neither names nor rows, and take seconds to multiply out


@dataclass(frozen=True)
class TermList:
    """Terms of a one-sided formula.

    Attributes
    ----------
    intercept : bool
        Whether a constant is among them.
    terms : tuple of tuple of Expression
        Each term as its variables.
    """

    intercept: bool
    terms: tuple[Term, ...]

    @property
    def node(self) -> Node:
        """The formula as a tree."""
        constant = Number(1.0, "1") if self.intercept else Number(0.0, "0")
        return sum_of([constant, *(reduce(interaction, map(operand, term)) for term in self.terms)])

    def __str__(self) -> str:
        return render(self.node)


def interaction(left: Node, right: Node) -> Node:
    """Return ``left:right``."""
    return Binary(":", left, right)


def operand(variable: Expression) -> Node:
    """Return a variable as a part of an interaction, a comparison or the like in parentheses: ``:`` binds tighter."""
    node = variable.node
    return node if isinstance(node, Name | Call) else Paren(node)


class _Expander:
    """Collects the intercept and the order in which variables appear."""

    def __init__(self) -> None:
        self.intercept = True
        self.adding = True
        self.order: dict[Expression, int] = {}

    def expand(self, node: Node) -> list[Term]:
        match node:
            case Paren(inner):
                return self.expand(inner)
            case Number(value, text):
                return self.constant(value, text)
            case Unary("+", operand):
                return self.expand(operand)
            case Unary("-", operand):
                self.removed(operand)
                return []
            case Binary("-", left, right):
                kept = self.expand(left)
                gone = {frozenset(term) for term in self.removed(right)}
                return [term for term in kept if frozenset(term) not in gone]
            case Binary("^", left, right):
                return self.power(self.expand(left), right)
            case Binary("+" | ":" | "*" | "/" | "%in%" as op, left, right):
                return _combine(op, self.expand(left), self.expand(right))
            case Text(value):
                raise FormulaError(f"the text {value!r} is not a term; name a column without quotes")
            case _:
                return self.variable(node)

    def constant(self, value: float, text: str) -> list[Term]:
        if value not in (0, 1):
            raise FormulaError(f"the number {text} is not a term; only 0 and 1 (the intercept) are. Use I({text} * x)?")
        self.intercept = (value == 1) == self.adding
        return []

    def removed(self, node: Node) -> list[Term]:
        self.adding = not self.adding
        terms = self.expand(node)
        self.adding = not self.adding
        return terms

    def power(self, base: list[Term], exponent: Node) -> list[Term]:
        while isinstance(exponent, Paren):
            exponent = exponent.inner
        if not isinstance(exponent, Number) or exponent.value < 1 or exponent.value != int(exponent.value):
            raise FormulaError(
                f"the power {render(exponent)} in a formula must be a whole number of at least 1 (it means crossing); "
                "for arithmetic write I(x^2)"
            )
        return self.repeated(base, int(exponent.value))

    def repeated(self, base: list[Term], times: int) -> list[Term]:
        result = base
        for _ in range(times - 1):
            before, result = result, _products(result, base)
            if result == before:  # all products are there
                break
        return result

    def variable(self, node: Node) -> list[Term]:
        if isinstance(node, Name) and node.name == ".":
            raise FormulaError(
                "'.' stands for all other columns and is allowed only in the fixed part of a model with data"
            )
        expression = Expression(node)
        self.order.setdefault(expression, len(self.order))
        return [(expression,)]


class _PatsyExpander(_Expander):
    """Meets the terms of a power in patsy's order: by the number of factors multiplied."""

    def repeated(self, base: list[Term], times: int) -> list[Term]:
        result = products = base
        for _ in range(min(times, len(base)) - 1):
            products = _products(base, products)
            result = _unique(result + products)
        return result


def _unique(terms: list[Term]) -> list[Term]:
    first: dict[frozenset[Expression], Term] = {}
    for term in terms:
        first.setdefault(frozenset(term), term)
    return list(first.values())


def _join(left: Term, right: Term) -> Term:
    return left + tuple(v for v in right if v not in left)


def _products(left: list[Term], right: list[Term]) -> list[Term]:
    if len(left) * len(right) > MOST_TERMS:
        raise FormulaError(
            f"the formula would have more than {MOST_TERMS:,} terms: a product of k variables, a*b*..., has 2^k - 1. "
            "(a + b + ...)^2 has interactions of two variables only"
        )
    return _unique([_join(a, b) for a in left for b in right])


def _combine(op: str, left: list[Term], right: list[Term]) -> list[Term]:
    if op == "+":
        return _unique(left + right)
    if not left or not right:
        # R's rule where one side is only a constant: 1*x is nothing, x*1 is x, x:1 is nothing
        return [] if op == ":" else left
    if op == ":":
        return _products(left, right)
    if op == "*":
        return _unique(left + right + _products(left, right))
    within, inner = (left, right) if op == "/" else (right, left)
    everything: Term = ()
    for term in within:
        everything = _join(everything, term)
    nested = [_join(everything, term) for term in inner]
    return _unique(left + nested) if op == "/" else _unique(nested)


def expand_terms(node: Node) -> TermList:
    """Return the terms of a one-sided formula in R's order.

    Lower degrees come first; within a degree the order of appearance; within a term the
    variables stand in the order in which they first appear in the formula.
    """
    expander = _Expander()
    terms = expander.expand(node)
    ordered = [tuple(sorted(term, key=expander.order.__getitem__)) for term in terms]
    return TermList(expander.intercept, tuple(sorted(ordered, key=len)))


def terms_as_written(node: Node) -> TermList:
    """Return the terms of a one-sided formula, terms and variables in the order in which patsy meets them."""
    expander = _PatsyExpander()
    terms = expander.expand(node)
    return TermList(expander.intercept, tuple(terms))


@lru_cache(maxsize=1024)
def read_terms(text: str) -> TermList:
    """Return the terms of an already expanded formula, keeping their order as written."""
    return terms_as_written(parse_expression(text))
