"""From tokens to a syntax tree, with the operator precedence of R."""

from __future__ import annotations

from functools import lru_cache

from sparselmm.exceptions import FormulaError
from sparselmm.formula.nodes import Binary, Call, Expression, Name, Node, Number, Paren, Text, Unary, sum_of
from sparselmm.formula.tokens import Token, error_at, tokenize

# R's own table, loosest first; ** reads as ^
_BINDING = {
    "~": 1, "|": 2, "||": 2, "&": 3, "&&": 3,
    "<": 5, ">": 5, "<=": 5, ">=": 5, "==": 5, "!=": 5,
    "+": 6, "-": 6, "*": 7, "/": 7, ":": 9, "^": 11,
}  # fmt: skip
MAX_TOKENS = 20_000  # of a formula; so many are read in 0.1 s
_SPECIAL = 8  # %in%, %% and the like
_PREFIX = {"-": 10, "+": 10, "!": 4, "~": 1}


class _Reader:
    """Precedence climbing over one token list."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.tokens = tokenize(source)
        self.at = 0

    @property
    def current(self) -> Token:
        return self.tokens[self.at]

    def take(self) -> Token:
        token = self.tokens[self.at]
        self.at += 1
        return token

    def error(self, token: Token, what: str) -> FormulaError:
        return error_at(self.source, token.start, what)

    def expect(self, value: str, opened: Token) -> Token:
        token = self.current
        if token.kind != "op" or token.value != value:
            if token.kind == "end":
                raise self.error(opened, f"the parenthesis opened here is not closed: expected {value!r}")
            raise self.error(token, f"expected {value!r} before {token.value!r}")
        return self.take()

    def expression(self, floor: int = 0) -> Node:
        summands = [self.prefix()]
        while True:
            token = self.current
            binding = self.binding(token)
            if binding is None or binding < floor:
                return sum_of(summands)
            self.take()
            # ^ groups to the right, everything else to the left
            right = self.expression(binding if token.value == "^" else binding + 1)
            if token.value == "+":
                summands.append(right)
            else:
                left = sum_of(summands)
                summands = [Binary(token.value, left, right, start=left.start, end=right.end)]

    def binding(self, token: Token) -> int | None:
        if token.kind != "op":
            if token.kind != "end":
                ticks = "; names with spaces go in backticks" if token.kind == "name" else ""
                raise self.error(token, f"expected an operator such as + before {token.value!r}{ticks}")
            return None
        if token.value.startswith("%"):
            return _SPECIAL
        return _BINDING.get(token.value)

    def prefix(self) -> Node:
        token = self.current
        if token.kind == "op" and token.value in _PREFIX:
            self.take()
            operand = self.expression(_PREFIX[token.value])
            return Unary(token.value, operand, start=token.start, end=operand.end)
        return self.primary()

    def primary(self) -> Node:
        token = self.take()
        if token.kind == "number":
            text = token.value.removesuffix("L")
            return Number(float(text), text, start=token.start, end=token.end)
        if token.kind == "string":
            return Text(token.value, start=token.start, end=token.end)
        if token.kind == "name":
            if self.current.kind == "op" and self.current.value == "(":
                return self.call(token)
            return Name(token.value, start=token.start, end=token.end)
        if token.value == "(":
            inner = self.expression()
            if self.current.kind == "op" and self.current.value == ",":
                raise self.error(self.current, "a list of values is written c(1, 2)")
            end = self.expect(")", token).end
            return Paren(inner, start=token.start, end=end)
        what = "the formula ends" if token.kind == "end" else f"{token.value!r} stands"
        raise self.error(token, f"{what} where a variable or term is expected")

    def call(self, name: Token) -> Node:
        opened = self.take()
        args: list[Node] = []
        kwargs: list[tuple[str, Node]] = []
        while not (self.current.kind == "op" and self.current.value == ")"):
            if args or kwargs:
                self.expect(",", opened)
            following = self.tokens[self.at + 1] if self.current.kind == "name" else None
            if following is not None and following.kind == "op" and following.value == "=":
                key = self.take().value
                self.take()
                kwargs.append((key, self.expression()))
            elif kwargs:
                raise self.error(self.current, f"a positional argument follows a named one in {name.value}(...)")
            else:
                args.append(self.expression())
        end = self.take().end
        return Call(name.value, tuple(args), tuple(kwargs), start=name.start, end=end)


def parse_expression(source: str) -> Node:
    """Return the syntax tree of a formula or expression; an `Expression` has its own.

    Raises
    ------
    FormulaError
        With a line pointing at the place that cannot be read.
    """
    return source.node if isinstance(source, Expression) else _read(source)


@lru_cache(maxsize=1024)
def _read(source: str) -> Node:
    reader = _Reader(source)
    if len(reader.tokens) > MAX_TOKENS:
        raise FormulaError(f"the formula has {len(reader.tokens)} words and signs; at most {MAX_TOKENS} can be read")
    try:
        node = reader.expression()
    except RecursionError:
        raise FormulaError("the formula nests too many parentheses to be read") from None
    token = reader.current
    if token.kind != "end":
        raise reader.error(token, f"{token.value!r} is not expected here")
    return node
