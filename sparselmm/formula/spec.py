"""What the user wrote: a parsed formula without any data in it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RandomTerm:
    """One random-effects term ``structure(lhs | grouping)``.

    Attributes
    ----------
    lhs : str
        Left side of the bar as a one-sided formula in formulaic's spelling with an
        explicit intercept decision, for example ``"1 + Days"`` or ``"0 + f"``.
    grouping : tuple of str
        Expressions whose interaction is the grouping factor, outermost last as lme4
        labels them: ``(1 | a/b)`` gives ``("b", "a")`` and ``("a",)``.
    structure : str
        Key of the covariance structure (``"us"``, ``"diag"``, ``"homdiag"``).
    label : str
        The grouping label as lme4 prints it, for example ``"b:a"``.
    source : str
        The bar as the user wrote it, for messages.
    """

    lhs: str
    grouping: tuple[str, ...]
    structure: str
    label: str
    source: str


@dataclass(frozen=True)
class ModelSpec:
    """A parsed model formula.

    Attributes
    ----------
    response : str
        Response expression in Python spelling, for example ``"log(y)"``.
    fixed : str
        Fixed part as a one-sided formula in formulaic's spelling with an explicit
        intercept decision (``"1 + x + x:f"``; ``"0"`` for p = 0).
    random : tuple of RandomTerm
        Terms in formula order, ``||``, ``/``, ``*`` and ``+`` already expanded.
    offsets : tuple of str
        Expressions of ``offset(...)`` terms.
    source : str
        The formula as given.
    rules : str
        Whose rules order and code the terms: ``"R"``, or ``"patsy"``.
    spellings : tuple of (str, str)
        Names of variables, by their text, where these differ.
    """

    response: str
    fixed: str
    random: tuple[RandomTerm, ...]
    offsets: tuple[str, ...]
    source: str
    rules: str = "R"
    spellings: tuple[tuple[str, str], ...] = ()
