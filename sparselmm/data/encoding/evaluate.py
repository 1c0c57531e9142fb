"""Evaluating the expressions of a formula on a frame, without Python's ``eval``."""

from __future__ import annotations

import difflib
import operator
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._typing import FloatArray
from sparselmm.data.encoding.contrasts import Contrast
from sparselmm.data.encoding.summaries import learned
from sparselmm.data.encoding.transforms import CONSTANTS, ELEMENTWISE, FACTOR_MAKERS, FUNCTIONS, WORDS
from sparselmm.data.encoding.values import Columns, State, Value, as_factor, numbers
from sparselmm.data.tables.columns import (
    Column,
    Factor,
    is_missing,
    is_numeric,
    is_temporal,
    list_some,
    logical,
    to_column,
    to_grouping,
)
from sparselmm.data.tables.foreign import EXACT, as_series, is_column
from sparselmm.data.tables.frame import Frame
from sparselmm.data.tables.labels import check_order
from sparselmm.data.tables.texts import level_text, with_trouble
from sparselmm.exceptions import DataError, FormulaError, SparseLMMError
from sparselmm.formula.grammar import parse_expression
from sparselmm.formula.nodes import Binary, Call, Name, Node, Number, Paren, Text, Unary, render
from sparselmm.hints.table import CONTRASTS, FORMULA_FUNCTIONS

_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": np.true_divide, "^": np.power,
    "%%": np.mod, "%/%": np.floor_divide,
}  # fmt: skip
_COMPARISON: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
_NUMPY_EXTRA: dict[str, Callable[..., Any]] = {"round": np.round, "clip": np.clip}
_LONG = 10


class Evaluator:
    """Values of expressions on one frame; each expression is evaluated once.

    Parameters
    ----------
    frame : Frame
        Where names are looked up first.
    context : mapping
        The caller's own names and functions; nothing else of the caller's is visible.
    state : dict
        What transforms remember, by the text of the call; filled here on first use.
    kinds : mapping, optional
        What columns held when the model was made: ``"numeric"``, ``"text"`` or ``"factor"``. A text that comes back
        as a categorical is read like the text.
    """

    def __init__(
        self,
        frame: Frame,
        context: Mapping[str, Any] | None,
        state: dict[str, State],
        kinds: Mapping[str, str] | None = None,
    ) -> None:
        self.frame = frame
        self.kinds = kinds or {}
        self.context = context or {}
        self.state = state
        self.used: dict[str, str] = {}
        self.grouped: dict[str, str] = {}
        self._values: dict[str, Value] = {}

    def learned_kinds(self) -> dict[str, str]:
        """Return what the columns used hold; those of grouping factors by their type only."""
        return self.used | {name: kind for name, kind in self.grouped.items() if name not in self.used}

    def variable(self, text: str) -> Value:
        """Return the value of an expression: (n,) numbers, a factor, or several columns."""
        if text not in self._values:
            self._values[text] = self._as_variable(self._value(parse_expression(text)), text)
        return self._values[text]

    def grouping(self, text: str) -> Factor:
        """Return an expression as a grouping factor, whatever its type."""
        node = parse_expression(text)
        if isinstance(node, Name) and node.name in self.frame:
            factor = self.frame.grouping(node.name)
            self.grouped[node.name] = "numeric" if is_numeric(self.frame.series(node.name)) else "factor"
            return factor
        value = self.variable(text)
        if isinstance(value, Columns):
            raise DataError(f"the grouping factor {text} has several columns; it must be one")
        return as_factor(value, f"the grouping factor {text}")

    def _levels(self, node: Node) -> Any:
        """Return an argument whose levels count: numbers and days by their exact values."""
        if isinstance(node, Paren):
            return self._levels(node.inner)
        if isinstance(node, Name) and node.name in self.frame:
            series = self.frame.series(node.name)
            return self.grouping(render(node)) if is_numeric(series) or is_temporal(series) else self._value(node)
        if isinstance(node, Name) and is_column(self.context.get(node.name)):
            value = self.context[node.name]
            check_order(value, self.frame.index, node.name)
            return to_grouping(as_series(value, node.name), node.name)
        return self._value(node)

    def _as_variable(self, value: Any, text: str) -> Value:
        result: Value
        if isinstance(value, Factor | Columns):
            result = value
        elif isinstance(value, np.ndarray) and value.ndim == 1:
            result = value.astype(np.float64, copy=False)
        elif isinstance(value, np.ndarray) and value.ndim == 2:
            result = Columns(value.astype(np.float64, copy=False), tuple(str(j + 1) for j in range(value.shape[1])))
        elif isinstance(value, bool | int | float | np.number):
            raise FormulaError(f"{text} is the constant {value}, not a column")
        else:
            raise DataError(f"{text} is not a column of the data; {self.frame.suggestion(text)}")
        length = len(result.block) if isinstance(result, Columns) else len(result)
        if length != len(self.frame):
            raise DataError(f"{text} has {length} values, but the data have {len(self.frame)} rows")
        return result

    # --- the tree ---------------------------------------------------------------------

    def _value(self, node: Node) -> Any:
        match node:
            case Name(name):
                return self._name(name)
            case Number(value, text):
                return int(text) if text.isdecimal() and EXACT <= value < np.inf else value
            case Text(value):
                return value
            case Paren(inner):
                return self._value(inner)
            case Unary(op, operand):
                return self._unary(op, self._value(operand), node)
            case Binary("%in%", left, right):
                return self._binary("%in%", self._levels(left), self._value(right), node)
            case Binary(op, left, right):
                return self._binary(op, self._value(left), self._value(right), node)
            case Call():
                return self._call(node)
        raise FormulaError(f"cannot evaluate {render(node)}")

    def _name(self, name: str) -> Any:
        if name in self.frame:
            return self._column(name)
        if name in self.context:
            return self._outside(self.context[name], name)
        if name in CONSTANTS:
            return CONSTANTS[name]
        if name in CONTRASTS:
            raise FormulaError(f"the contrasts {name} are not available; use treatment, sum, helmert, poly or a matrix")
        hint = self.frame.suggestion(name)
        if hint.startswith("the columns are"):
            hint += f"; a variable of your own goes in context={{{name!r}: ...}}"
        raise DataError(f"column {name!r} is not in the data; {hint}")

    def _column(self, name: str) -> Column:
        """Return a column, in new data as what it was when the model was made where its values can be that."""
        column, before = self.frame.column(name), self.kinds.get(name)
        if before == "numeric" and isinstance(column, Factor) and is_missing(column).all():
            column = np.full(len(column), np.nan)
        if before in ("text", "factor") and not isinstance(column, Factor):
            column = self.frame.grouping(name)
        if not isinstance(column, Factor):
            self.used[name] = "numeric"
            return column
        known = before if before in ("text", "factor") else None
        self.used[name] = known or ("text" if column.text else "factor")
        return replace(column, text=self.used[name] == "text")

    def _exactly(self, node: Node, value: Any, where: str) -> Any:
        """Return a side of a comparison; whole numbers that floating point would round as Python's own."""
        plain = numbers(value, where)
        if not (isinstance(node, Name) and node.name in self.frame and isinstance(plain, np.ndarray)):
            return plain
        if not (np.abs(plain) >= EXACT).any():
            return plain
        factor = self.frame.grouping(node.name)
        return np.array([*factor.levels.tolist(), np.nan], dtype=object)[factor.codes]

    def _outside(self, value: Any, name: str) -> Any:
        """Return something from ``context=`` in the forms used here."""
        check_order(value, self.frame.index, name)
        if isinstance(value, pd.DataFrame):
            return Columns(value.to_numpy(dtype=np.float64), tuple(str(c) for c in value.columns))
        if isinstance(value, np.ndarray) and value.ndim == 2:
            return Columns(value.astype(np.float64), tuple(str(j + 1) for j in range(value.shape[1])))
        if isinstance(value, pd.Series | np.ndarray | pd.Categorical | pd.Index) and np.ndim(value) == 1:
            return to_column(pd.Series(value), name)
        return float(value) if isinstance(value, int | np.number) and not isinstance(value, bool) else value

    def _unary(self, op: str, value: Any, node: Node) -> Any:
        if op == "!":
            truth = self._truth(value, node)
            return logical(truth.codes == 0, truth.codes < 0)
        plain = numbers(value, render(node))
        return -plain if op == "-" else plain

    def _binary(self, op: str, left: Any, right: Any, node: Binary) -> Any:
        if op in _COMPARISON:
            return self._compare(op, left, right, node)
        if op == "%in%":
            if not isinstance(right, list):
                right = [right]
            factor = as_factor(left, render(node))
            wanted = {level_text(v) for v in right}
            member = np.array([level_text(level) in wanted for level in factor.levels] + [False])
            return logical(member[factor.codes])
        if op in ("&", "|", "&&", "||"):
            return _both_or_either(op[0], self._truth(left, node), self._truth(right, node))
        if op == ":" and isinstance(left, float) and isinstance(right, float):
            raise FormulaError(f"the sequence {render(node)} must be written out: {_sequence(left, right)}")
        if op == ":":
            raise FormulaError(f"':' inside {render(node)} would be a sequence in R; use interaction(a, b) for factors")
        if op not in _ARITHMETIC:
            raise FormulaError(f"the operator {op} in {render(node)} is not known")
        with np.errstate(all="ignore"):
            return _ARITHMETIC[op](numbers(left, render(node)), numbers(right, render(node)))

    def _truth(self, value: Any, node: Node) -> Factor:
        if isinstance(value, Factor) and value.is_logical:
            return value
        raise DataError(f"{render(node)} needs conditions such as x > 0")

    def _compare(self, op: str, left: Any, right: Any, node: Binary) -> Factor:
        if isinstance(left, str):
            mirrored = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}
            return self._compare(mirrored.get(op, op), right, left, node)
        if isinstance(left, Factor) and isinstance(right, str):
            if op not in ("==", "!="):
                raise DataError(f"{render(node)}: levels can only be compared with == and !=")
            if not self.kinds and right not in map(level_text, left.levels):
                raise DataError(f"{render(node)}: {right!r} is not among the levels {list_some(left.levels)}")
            member = np.array([level_text(level) == right for level in left.levels] + [False])
            return logical(member[left.codes] == (op == "=="), left.codes < 0)
        a, b = self._exactly(node.left, left, render(node)), self._exactly(node.right, right, render(node))
        with np.errstate(invalid="ignore"):
            result = np.asarray(_COMPARISON[op](a, b), dtype=np.bool_)
        if result.ndim != 1:
            raise FormulaError(f"{render(node)} must compare one column with a number or another column")
        return logical(result, pd.isna(a) | pd.isna(b))

    # --- calls --------------------------------------------------------------------------

    def _call(self, node: Call) -> Any:
        if node.func == "Q" and len(node.args) == 1 and isinstance(node.args[0], Text):
            return self._name(node.args[0].value)
        args = [(self._levels if node.func in FACTOR_MAKERS else self._value)(a) for a in node.args]
        kwargs = {key.replace(".", "_"): self._option(value) for key, value in node.kwargs}
        name = node.func
        if name in self.context:
            return self._call_outside(node, args, kwargs)
        if name in FUNCTIONS:
            return self._call_table(node, args, kwargs)
        ufunc = ELEMENTWISE.get(name) or self._numpy(name)
        if ufunc is None:
            if isinstance(CONSTANTS.get(name), Contrast):
                return self._contrast(node, args, kwargs)
            raise FormulaError(self._unknown_function(node))
        if kwargs or len(args) != getattr(ufunc, "nin", len(args)):
            raise FormulaError(f"{render(node)}: {name}() takes {getattr(ufunc, 'nin', 'other')} argument(s)")
        with np.errstate(all="ignore"):
            return self._floats(ufunc(*(numbers(a, f"{name}()") for a in args)))

    def _option(self, node: Node) -> Any:
        """Return the value of a named argument; R's and Python's words for truth are never columns here."""
        return CONSTANTS[node.name] if isinstance(node, Name) and node.name in WORDS else self._value(node)

    def _contrast(self, node: Call, args: list[Any], kwargs: dict[str, Any]) -> Any:
        try:
            return CONSTANTS[node.func](*args, **kwargs)
        except TypeError:
            what = f"{render(node)}: name the base level, as in {node.func}('b'), or count to it, as in R"
            raise FormulaError(f"{what} ({node.func}(3, base=2))") from None

    def _numpy(self, name: str) -> Callable[..., Any] | None:
        """Return an elementwise numpy function by its qualified name; nothing else of numpy is reachable."""
        prefix, _, attribute = name.partition(".")
        if prefix not in ("np", "numpy"):
            return None
        found = getattr(np, attribute, None)
        if isinstance(found, np.ufunc):
            return found
        return _NUMPY_EXTRA.get(attribute)

    def _floats(self, value: Any) -> Any:
        if isinstance(value, np.ndarray) and value.dtype == np.bool_:
            return logical(value)
        return value

    def _call_table(self, node: Call, args: list[Any], kwargs: dict[str, Any]) -> Any:
        key = render(node)
        state = self.state.setdefault(key, {})
        if args and isinstance(args[0], bool | int | float) and node.func not in ("c", "I", "log", "round"):
            raise FormulaError(f"{key}: the first argument must be a column")
        try:
            with np.errstate(all="ignore"):
                return FUNCTIONS[node.func](state, *args, **kwargs)
        except SparseLMMError:
            raise
        except ValueError as error:
            raise DataError(f"{key}: {error}") from error
        except (TypeError, IndexError, AttributeError) as error:
            text = str(error).replace(f"{getattr(FUNCTIONS[node.func], '__name__', '')}()", f"{node.func}()")
            raise FormulaError(f"{key}: {text}") from error

    def _call_outside(self, node: Call, args: list[Any], kwargs: dict[str, Any]) -> Any:
        name, function = node.func, self.context[node.func]
        if not callable(function):
            raise FormulaError(f"{name} in context= is not a function")
        result = function(*(self._for_outside(a) for a in args), **kwargs)
        if isinstance(result, pd.Series | np.ndarray | pd.Categorical | pd.DataFrame) and len(result) != len(
            self.frame
        ):
            raise DataError(f"{name}() from context= returned {len(result)} values for {len(self.frame)} rows")
        if isinstance(result, float | int | np.number) and not isinstance(result, bool):
            # one number for a column, such as its mean: new rows are held against the same one
            return learned(self.state.setdefault(render(node), {}), lambda: float(result))
        return self._outside(result, f"{name}()")

    def _for_outside(self, value: Any) -> Any:
        """Return a column as the pandas Series that a user's function expects."""
        if isinstance(value, Factor):
            if value.is_logical and not is_missing(value).any():
                return pd.Series(value.codes == 1, index=self.frame.index)
            return pd.Series(pd.Categorical.from_codes(value.codes, value.levels), index=self.frame.index)
        if isinstance(value, np.ndarray) and value.ndim == 1:
            return pd.Series(value, index=self.frame.index)
        return value

    def _unknown_function(self, node: Call) -> str:
        if node.func in FORMULA_FUNCTIONS:
            return f"the function {node.func}() in {render(node)} is not available: {FORMULA_FUNCTIONS[node.func]}"
        known = [*FUNCTIONS, *ELEMENTWISE, *self.context]
        near = difflib.get_close_matches(node.func, known, n=2)
        own = f"a function of your own goes in context={{{node.func!r}: {node.func}}}"
        hint = f"did you mean {' or '.join(near)}? Otherwise {own}" if near else own
        return f"the function {node.func}() in {render(node)} is not known; {hint}"


def _sequence(first: float, last: float) -> str:
    """Return R's ``first:last`` as ``c(...)``, long ones shortened."""
    step = 1 if last >= first else -1
    length = int(abs(last - first)) + 1
    texts = [f"{first + step * i:g}" for i in (range(length) if length <= _LONG else (0, 1, 2, length - 1))]
    return f"c({', '.join(texts if length <= _LONG else [*texts[:3], '...', texts[-1]])})"


def _both_or_either(op: str, a: Factor, b: Factor) -> Factor:
    """Return R's ``a & b`` or ``a | b``: one FALSE, or one TRUE, decides whatever the missing other would be."""
    decides = 0 if op == "&" else 1
    decided = (a.codes == decides) | (b.codes == decides)
    return logical(decided == bool(decides), ~decided & ((a.codes < 0) | (b.codes < 0)))


def numeric(value: Value, text: str) -> FloatArray:
    """Return a value that must be one column of numbers.

    Raises
    ------
    DataError
        When it is a factor or has several columns.
    """
    if isinstance(value, Factor):
        kind = "truth values" if value.is_logical else f"text or categories ({list_some(value.levels, 5)})"
        raise DataError(with_trouble(f"{text} must be numeric, but it holds {kind}", value.levels))
    if isinstance(value, Columns):
        raise DataError(f"{text} must be one column of numbers, but it has {value.block.shape[1]}")
    return value
