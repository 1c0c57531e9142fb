"""Arguments that a function does not have: refused with what to write instead.

Python's own message names a function inside the package and leaves the reader alone.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C", bound=type)

#: Key of the advice about too many arguments by position.
POSITION = "*"


def argument_hints(hints: Mapping[str, str]) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Return a decorator that refuses arguments a function does not have, with what to write instead.

    Parameters
    ----------
    hints : mapping
        What to do, by the name of the argument; under ``"*"`` what to do about too many by position.

    Examples
    --------
    >>> @argument_hints({"REML": "write reml=False"})
    ... def fit(*, reml=True):
    ...     return reml
    >>> fit(REML=False)
    Traceback (most recent call last):
    TypeError: fit() has no argument 'REML'; write reml=False
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> T:
            check_arguments(function, len(args), kwargs, hints)
            return function(*args, **kwargs)

        return checked

    return decorate


def method_hints(hints: Mapping[str, Mapping[str, str]], common: Mapping[str, str] | None = None) -> Callable[[C], C]:
    """Return a class decorator that does this for every public method, inherited ones included.

    Parameters
    ----------
    hints : mapping
        As for `argument_hints`, by the name of the method.
    common : mapping, optional
        Hints for all methods.
    """

    def decorate(cls: C) -> C:
        for name in dir(cls):
            method = inspect.getattr_static(cls, name)
            own = argument_hints({**(common or {}), **hints.get(name, {})})
            if name.startswith("_"):
                continue
            if inspect.isfunction(method):
                setattr(cls, name, own(method))
            elif isinstance(method, classmethod):
                setattr(cls, name, classmethod(own(method.__func__)))
        return cls

    return decorate


def check_arguments(
    function: Callable[..., Any], n_positional: int, given: Iterable[str], hints: Mapping[str, str]
) -> None:
    """Raise a TypeError for what a function does not take.

    Parameters
    ----------
    function : callable
        Where it takes ``**options``, only names with a hint are refused.
    n_positional : int
        Arguments given by position, with ``self``.
    given : iterable of str
        Arguments given by name.
    hints : mapping
        See `argument_hints`.
    """
    takes, name = _taken(function), getattr(function, "__name__", "the function")
    for argument in given:
        if argument not in takes.named and (argument in hints or not takes.options):
            raise TypeError(f"{name}() has no argument {argument!r}; {_instead(argument, hints, takes.shown())}")
    if n_positional > len(takes.placed) and not takes.more:
        raise TypeError(_too_many(name, takes, hints))


@dataclass(frozen=True)
class _Taken:
    """Names of the arguments that may be given by position and of the others; whether any more are taken."""

    placed: tuple[str, ...]
    others: tuple[str, ...]
    more: bool
    options: bool

    @property
    def named(self) -> tuple[str, ...]:
        return (*self.placed, *self.others)

    def shown(self) -> list[str]:
        return [name for name in self.named if name not in ("self", "cls")]


@functools.cache
def _taken(function: Callable[..., Any]) -> _Taken:
    kinds = {name: p.kind for name, p in inspect.signature(function).parameters.items()}
    placed = tuple(name for name, kind in kinds.items() if kind is inspect.Parameter.POSITIONAL_OR_KEYWORD)
    others = tuple(name for name, kind in kinds.items() if kind is inspect.Parameter.KEYWORD_ONLY)
    found = set(kinds.values())
    return _Taken(placed, others, inspect.Parameter.VAR_POSITIONAL in found, inspect.Parameter.VAR_KEYWORD in found)


def _instead(given: str, hints: Mapping[str, str], names: list[str]) -> str:
    if given in hints:
        return hints[given]
    near = difflib.get_close_matches(given.lower(), names, n=1)
    if near:
        return f"did you mean {near[0]}=?"
    return f"there are {', '.join(names)}" if names else "it takes none"


def _too_many(name: str, takes: _Taken, hints: Mapping[str, str]) -> str:
    placed = [p for p in takes.placed if p in takes.shown()]
    text = f"{name}() takes {'only ' + ', '.join(placed) if placed else 'nothing'} by position"
    if POSITION in hints:
        return f"{text}; {hints[POSITION]}"
    return f"{text}; name the others, as in {takes.others[0]}=..." if takes.others else text
