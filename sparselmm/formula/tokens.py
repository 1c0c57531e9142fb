"""Cutting a formula into tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sparselmm.exceptions import FormulaError

_NAME = r"(?:[^\W\d]|\.(?!\d))[\w.]*"
_TOKEN = re.compile(
    rf"""
    (?P<space>\s+)
  | (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?L?)
  | (?P<name>(?:{_NAME}:::?)?{_NAME})
  | (?P<quoted>`[^`]+`)
  | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
  | (?P<op>%[^%\s]*%|\|\||\*\*|<=|>=|==|!=|&&|[-+*/:^|~()<>!&=,])
    """,
    re.VERBOSE,
)
_HINTS = {
    "$": "write the column's name alone; columns are looked up in the data",
    "[": "indexing is not part of the formula language; make a column first, and write a list of values as c(1, 2)",
    "{": "braces are not part of the formula language; wrap arithmetic in I(...)",
    "`": "a back-tick is not closed",
    "'": "a quote is not closed",
    '"': "a quote is not closed",
    "@": "the formula language has no '@'",
    "%": "an operator such as %in% is not closed; the remainder of a division is %%",
    **dict.fromkeys("‐‑‒–—−", "this is another character than the minus sign '-'"),
    **dict.fromkeys("“”„‘’", "these are not the quotes of a program; write \" or '"),
    "×": "this is another character than '*'",
}
_ODD = "names with such characters go in backticks"
_ESCAPES = {"n": "\n", "t": "\t"}


@dataclass(frozen=True, slots=True)
class Token:
    """One token: its kind (number, name, string, op, end), value and place."""

    kind: str
    value: str
    start: int
    end: int


def error_at(source: str, position: int, what: str) -> FormulaError:
    """Return the error ``what``, with a line that points at the position in the formula."""
    line = source.replace("\n", " ")
    return FormulaError(f"{what}\n  {line}\n  {' ' * position}^")


def tokenize(source: str) -> list[Token]:
    """Cut a formula into tokens, ending with one of kind ``"end"``."""
    tokens: list[Token] = []
    position = 0
    while position < len(source):
        piece = _TOKEN.match(source, position)
        if piece is None:
            char = source[position]
            raise error_at(source, position, f"cannot read {char!r} in the formula: {_HINTS.get(char, _ODD)}")
        kind = str(piece.lastgroup)
        if kind == "op" and source.startswith("//", position):
            raise error_at(source, position, "cannot read '//' in the formula: whole-number division is %/%")
        if kind != "space":
            tokens.append(_token(kind, piece.group(), piece.start(), piece.end()))
        position = piece.end()
    tokens.append(Token("end", "", len(source), len(source)))
    return tokens


def _token(kind: str, text: str, start: int, end: int) -> Token:
    if kind == "quoted":
        return Token("name", text[1:-1], start, end)
    if kind == "name":
        # a package prefix only says where R finds the function
        return Token("name", text.rsplit(":", 1)[-1], start, end)
    if kind == "string":
        return Token("string", re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), text[1:-1]), start, end)
    return Token(kind, {"**": "^"}.get(text, text), start, end)
