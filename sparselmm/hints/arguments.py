"""Arguments that a function does not have: refused with what to write instead.

Python's own message names a function inside the package and leaves the reader alone.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
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
            check_names(function, kwargs, hints)
            _check_places(function, len(args), kwargs, hints)
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


def check_names(function: Callable[..., Any], given: Collection[str], hints: Mapping[str, str]) -> None:
    """Raise a TypeError for a name that a function does not take.

    Parameters
    ----------
    function : callable
        Where it takes ``**options``, only names with a hint are refused.
    given : collection of str
        Arguments given by name.
    hints : mapping
        See `argument_hints`.
    """
    takes = _taken(function)
    wrong = [name for name in given if name not in takes.named and (name in hints or not takes.options)]
    refuse_names(function.__name__, takes.shown(), wrong, hints)


def refuse_names(function: str, takes: Sequence[str], given: Iterable[str], hints: Mapping[str, str]) -> None:
    """Raise a TypeError for a name that is not among those that the function called so takes."""
    for name in given:
        if name not in takes:
            raise TypeError(f"{function}() has no argument {name!r}; {_instead(name, hints, takes)}")


def _check_places(function: Callable[..., Any], n: int, given: Collection[str], hints: Mapping[str, str]) -> None:
    """Raise a TypeError for more arguments by position than are taken, or for one that is lacking."""
    takes = _taken(function)
    if n > len(takes.placed) and not takes.more:
        raise TypeError(_too_many(function.__name__, takes, hints))
    missing = [name for name in takes.required if name not in given and name not in takes.placed[:n]]
    if missing:
        raise TypeError(f"{function.__name__}() needs {' and '.join(missing)}")


@dataclass(frozen=True)
class _Taken:
    """What a function takes: arguments by position, by name only, those without default; whether any more."""

    placed: tuple[str, ...]
    others: tuple[str, ...]
    required: tuple[str, ...]
    more: bool
    options: bool

    @property
    def named(self) -> tuple[str, ...]:
        return (*self.placed, *self.others)

    def shown(self) -> list[str]:
        return [name for name in self.named if name not in ("self", "cls")]


@functools.cache
def _taken(function: Callable[..., Any]) -> _Taken:
    parameters = inspect.signature(function).parameters.values()
    placed = tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD)
    others = tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)
    required = tuple(p.name for p in parameters if p.default is p.empty and p.name in (*placed, *others))
    kinds = {p.kind for p in parameters}
    return _Taken(
        placed, others, required, inspect.Parameter.VAR_POSITIONAL in kinds, inspect.Parameter.VAR_KEYWORD in kinds
    )


def _instead(given: str, hints: Mapping[str, str], names: Sequence[str]) -> str:
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
