"""The door of every public function and method: arguments it does not have are refused, and BLAS threads limited.

Python's own message about an argument names a function inside the package and leaves the reader alone. Only where
Python refuses a call is the signature read, and the message written anew. BLAS threads that wait spin, which on busy
cores takes many times longer than the work: everything runs with one, unless a large piece of work asks for more.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, ClassVar, ParamSpec, TypeVar

from sparselmm.hints.table import advice
from sparselmm.linalg.threads import blas_threads

P = ParamSpec("P")
T = TypeVar("T")

#: Key of the advice about too many arguments by position.
POSITION = "*"


def hinted(where: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Return a decorator that says what to write in place of arguments that a function does not have.

    Parameters
    ----------
    where : str
        The function in the table of hints, for example ``"lmer"`` or ``"fit.predict"``.

    Examples
    --------
    >>> @hinted("lmer")
    ... def fit(*, reml=True):
    ...     return reml
    >>> fit(REML=False)
    Traceback (most recent call last):
    TypeError: fit() has no argument 'REML'; write reml=True or reml=False
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                with blas_threads(0.0):
                    return function(*args, **kwargs)
            except BaseException as error:
                trace = error.__traceback__
                inside = None if trace is None else trace.tb_next
                if isinstance(error, TypeError) and inside is None:  # Python refused the call itself
                    error.args = (_refusal(function, len(args), kwargs, advice(where)) or str(error),)
                error.__traceback__ = inside  # this frame would tell the reader nothing
                raise

        return call

    return decorate


class Hinted:
    """Base of classes whose public methods do this; ``hints`` is the owner of the methods in the table."""

    _hints: ClassVar[str]

    def __init_subclass__(cls, hints: str = "", **options: Any) -> None:
        super().__init_subclass__(**options)
        if hints:
            cls._hints = hints
        for name, method in list(vars(cls).items()):
            where = f"{cls._hints}.{name}"
            if name.startswith("_"):
                continue
            if inspect.isfunction(method):
                setattr(cls, name, hinted(where)(method))
            elif isinstance(method, classmethod):
                setattr(cls, name, classmethod(hinted(where)(method.__func__)))


def refuse_unknown(function: Callable[..., Any], given: Collection[str], where: str) -> None:
    """Raise a TypeError for a name that a function does not take; where it takes options, for one with a hint only."""
    text = _unknown(function, given, advice(where))
    if text is not None:
        raise TypeError(text)


def refuse_names(function: str, takes: Sequence[str], given: Iterable[str], where: str) -> None:
    """Raise a TypeError for a name that is not among those that the function called so takes."""
    for name in given:
        if name not in takes:
            raise TypeError(_no_argument(function, takes, name, advice(where)))


def _refusal(function: Callable[..., Any], n: int, given: Collection[str], hints: Mapping[str, str]) -> str | None:
    """Return what is wrong with a call with n arguments by position and others by name; None where nothing is."""
    placed = [p.name for p in _parameters(function) if p.kind is p.POSITIONAL_OR_KEYWORD]
    others = [p.name for p in _parameters(function) if p.kind is p.KEYWORD_ONLY]
    unknown = _unknown(function, given, hints)
    if unknown is not None:
        return unknown
    if n > len(placed) and not any(p.kind is p.VAR_POSITIONAL for p in _parameters(function)):
        return _too_many(function.__name__, _shown(placed), others, hints)
    required = [p.name for p in _parameters(function) if p.default is p.empty and p.name in (*placed, *others)]
    missing = [name for name in required if name not in given and name not in placed[:n]]
    return f"{function.__name__}() needs {' and '.join(missing)}" if missing else None


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(function).parameters.values())


def _unknown(function: Callable[..., Any], given: Collection[str], hints: Mapping[str, str]) -> str | None:
    parameters = _parameters(function)
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    options = any(p.kind is p.VAR_KEYWORD for p in parameters)
    for name in given:
        if name not in named and (name in hints or not options):
            return _no_argument(function.__name__, _shown(named), name, hints)
    return None


def _shown(names: Sequence[str]) -> list[str]:
    return [name for name in names if name not in ("self", "cls")]


def _no_argument(function: str, takes: Sequence[str], given: str, hints: Mapping[str, str]) -> str:
    return f"{function}() has no argument {given!r}; {_instead(given, hints, takes)}"


def _instead(given: str, hints: Mapping[str, str], names: Sequence[str]) -> str:
    if given in hints:
        return hints[given]
    near = difflib.get_close_matches(given.lower(), names, n=1)
    if near:
        return f"did you mean {near[0]}=?"
    return f"there are {', '.join(names)}" if names else "it takes none"


def _too_many(function: str, placed: Sequence[str], others: Sequence[str], hints: Mapping[str, str]) -> str:
    text = f"{function}() takes {'only ' + ', '.join(placed) if placed else 'nothing'} by position"
    if POSITION in hints:
        return f"{text}; {hints[POSITION]}"
    return f"{text}; name the others, as in {others[0]}=..." if others else text
