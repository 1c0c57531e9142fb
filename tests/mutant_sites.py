"""The small faults that a file of source can have."""

from __future__ import annotations

import ast
import difflib
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

COMPARISONS = {
    "<": ("<=", ">"), "<=": ("<", ">"), ">": (">=", "<"), ">=": (">", "<"), "==": ("!=",), "!=": ("==",),
    "is": ("is not",), "is not": ("is",), "in": ("not in",), "not in": ("in",),
}  # fmt: skip
OPERATORS = {"+": "-", "-": "+", "*": "/", "/": "*", "**": "*", "//": "*", "%": "*", "&": "|", "|": "&"}
CALLS = {"max": "min", "min": "max", "any": "all", "all": "any", "maximum": "minimum", "minimum": "maximum",
         "sum": "max", "argmax": "argmin", "argmin": "argmax", "cumsum": "array"}  # fmt: skip
DROPPED_CALLS = ("abs", "np.abs", "np.sqrt", "sorted", "np.sort", "np.exp", "np.log")


@dataclass(frozen=True)
class Mutant:
    """One fault: ``old`` at bytes ``start`` to ``stop`` of a file becomes ``new``."""

    path: str
    line: int
    kind: str
    start: int
    stop: int
    old: str
    new: str

    @property
    def area(self) -> str:
        """The folder or file below the package."""
        parts = Path(self.path).parts
        return "/".join(parts[1:3]) if len(parts) > 3 else parts[1]

    def applied(self, source: bytes) -> bytes:
        return source[: self.start] + self.new.encode() + source[self.stop :]

    def diff(self) -> str:
        before = (ROOT / self.path).read_bytes()
        texts = (x.decode().splitlines() for x in (before, self.applied(before)))
        return "\n".join(list(difflib.unified_diff(*texts, self.path, self.kind, lineterm="", n=2)))


class Sites(ast.NodeVisitor):
    """Collects every fault that one file can have."""

    def __init__(self, path: str, source: bytes) -> None:
        self.path, self.source, self.found = path, source, list[Mutant]()
        self._lines = [0, *(m.end() for m in re.finditer(rb"\n", source))]
        self.visit(ast.parse(source))

    def _span(self, node: ast.AST) -> tuple[int, int]:
        start = self._lines[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]
        return start, self._lines[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]

    def _text(self, node: ast.AST) -> str:
        start, stop = self._span(node)
        return self.source[start:stop].decode()

    def _add(self, kind: str, node: ast.AST, new: str) -> None:
        self._add_between(kind, *self._span(node), node.lineno, new)  # type: ignore[attr-defined]

    def _add_between(self, kind: str, start: int, stop: int, line: int, new: str) -> None:
        old = self.source[start:stop].decode()
        if new != old:
            self.found.append(Mutant(self.path, line, kind, start, stop, old, new))

    def _operator(self, left: ast.AST, right: ast.AST, text: str) -> tuple[int, int, int]:
        """Return where an operator between two operands stands, and its line; parentheses may surround it."""
        start, stop = self._span(left)[1], self._span(right)[0]
        between = re.search(rf"(?<![\w*/<>=!]){re.escape(text)}(?![\w*/=])", self.source[start:stop].decode())
        if between is None:
            between = re.search(re.escape(text), self.source[start:stop].decode())
        assert between is not None
        at = start + len(self.source[start:stop].decode()[: between.start()].encode())
        return at, at + len(text), self.source[:at].count(b"\n") + 1

    # what says nothing about behaviour is left out: annotations, decorators, texts, imports for type checkers

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for default in [*node.args.defaults, *(d for d in node.args.kw_defaults if d is not None)]:
            self.visit(default)
        for statement in node.body:
            self.visit(statement)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for statement in node.body:
            self.visit(statement)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        pass

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if not re.match(r"(Callable|dict|list|tuple|Sequence|Mapping|Iterator|NDArray|cast)$", self._text(node.value)):
            self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        self._add("drop", node, "pass")

    # the faults

    def visit_Compare(self, node: ast.Compare) -> None:
        names = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=", ast.Is: "is",
                 ast.IsNot: "is not", ast.In: "in", ast.NotIn: "not in"}  # fmt: skip
        for left, op, right in zip([node.left, *node.comparators], node.ops, node.comparators):
            text = names[type(op)]
            for new in COMPARISONS[text]:
                self._add_between("compare", *self._operator(left, right, text), new)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        names = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**", ast.FloorDiv: "//",
                 ast.Mod: "%", ast.BitAnd: "&", ast.BitOr: "|"}  # fmt: skip
        text = names.get(type(node.op))
        new = OPERATORS.get(text) if text else None
        texts = any(isinstance(x, ast.JoinedStr) or (isinstance(x, ast.Constant) and isinstance(x.value, str))
                    for x in (node.left, node.right))  # fmt: skip
        if text and new and not texts:
            self._add_between("sign" if text in "+-" else "operator", *self._operator(node.left, node.right, text), new)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._add("drop", node, "pass")
        old = {ast.Add: "+=", ast.Sub: "-=", ast.Mult: "*=", ast.Div: "/="}.get(type(node.op))
        if old:
            swapped = {"+=": "-=", "-=": "+=", "*=": "/=", "/=": "*="}[old]
            self._add_between("sign", *self._operator(node.target, node.value, old), swapped)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.USub | ast.Not | ast.Invert):
            self._add("sign" if isinstance(node.op, ast.USub) else "negation", node, f"({self._text(node.operand)})")
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in pairwise(node.values):
            self._add_between("and/or", *self._operator(left, right, old), new)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self._add("constant", node, str(not node.value))
        elif isinstance(node.value, int):
            self._add("constant", node, str(node.value + 1))
            if node.value:
                self._add("constant", node, f"{node.value - 1}")
        elif isinstance(node.value, float):
            self._add("constant", node, repr(node.value * 2 if node.value else 1.0))
            if node.value:
                self._add("constant", node, repr(node.value / 10))

    def visit_If(self, node: ast.If) -> None:
        if "TYPE_CHECKING" in self._text(node.test):
            return
        for truth in ("True", "False"):
            self._add("branch", node.test, truth)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._add("branch", node, f"({self._text(node.body)})")
        self._add("branch", node, f"({self._text(node.orelse)})")
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call):
            self._add("drop", node, "pass")
        if not isinstance(node.value, ast.Constant):
            self.generic_visit(node)

    def visit_Continue(self, node: ast.Continue) -> None:
        self._add("drop", node, "pass")

    visit_Break = visit_Continue  # type: ignore[assignment]

    def visit_Call(self, node: ast.Call) -> None:
        name = self._text(node.func)
        if re.search(r"(Error|Warning|warn|TypeVar|cast|Message|add_argument)$", name):
            return  # texts
        plain = [a for a in node.args if not isinstance(a, ast.Starred)]
        for one, two in pairwise(plain):
            if self._text(one) != self._text(two) and name not in ("isinstance", "getattr", "hasattr", "range"):
                (a, b), (c, d) = self._span(one), self._span(two)
                middle = self.source[b:c].decode()
                self._add_between("swap", a, d, one.lineno, self._text(two) + middle + self._text(one))
        last = name.rsplit(".", 1)[-1]
        if last in CALLS and isinstance(node.func, ast.Attribute | ast.Name):
            stop = self._span(node.func)[1]
            self._add_between("function", stop - len(last), stop, node.func.end_lineno or node.lineno, CALLS[last])
        if name in DROPPED_CALLS and len(node.args) == 1:
            self._add("function", node, f"({self._text(node.args[0])})")
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if node.attr == "T":
            self._add("transpose", node, self._text(node.value))
        self.generic_visit(node)
