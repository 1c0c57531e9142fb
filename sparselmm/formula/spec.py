"""What the user wrote: the trees of a formula, without any data in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from sparselmm.formula.algebra import TermList
from sparselmm.formula.nodes import Expression


class Structures(Protocol):
    """The covariance structures that a formula may name; hashable, since parsed formulas are kept."""

    def __hash__(self) -> int: ...

    @property
    def default(self) -> str:
        """Key of a term that names none."""
        ...

    @property
    def planned(self) -> frozenset[str]:
        """Names that are known and not available yet."""
        ...

    def in_formulas(self) -> tuple[str, ...]:
        """Return what may stand before the parenthesis of a term."""
        ...

    def options(self, key: str) -> Mapping[str, Mapping[str, str]]:
        """Return the options of a structure: their values in R's spelling, and the key that each stands for."""
        ...


@dataclass(frozen=True)
class RandomTerm:
    """One random-effects term ``structure(lhs | grouping)``.

    Attributes
    ----------
    lhs : TermList
        Left side of the bar, which prints as ``1 + Days`` or ``0 + f``.
    grouping : tuple of Expression
        Expressions whose interaction is the grouping factor, outermost last as lme4
        labels them: ``(1 | a/b)`` gives ``("b", "a")`` and ``("a",)``.
    structure : str
        Key of the covariance structure (``"us"``, ``"diag"``, ...).
    label : str
        The grouping label as lme4 prints it, for example ``"b:a"``.
    source : Expression
        The bar as the user wrote it.
    """

    lhs: TermList
    grouping: tuple[Expression, ...]
    structure: str
    label: str
    source: Expression


@dataclass(frozen=True)
class ModelSpec:
    """A parsed model formula.

    Attributes
    ----------
    response : Expression
        For example ``log(y)``.
    fixed : TermList
        Fixed part, which prints as ``1 + x + x:f`` (``0`` for p = 0).
    random : tuple of RandomTerm
        Terms in formula order, ``||``, ``/``, ``*`` and ``+`` already expanded.
    offsets : tuple of Expression
        Expressions of ``offset(...)`` terms.
    source : str
        The formula as given.
    rules : str
        Whose rules order and code the terms: ``"R"``, or ``"patsy"``.
    spellings : tuple of (str, str)
        Names of variables, by their text, where these differ.
    """

    response: Expression
    fixed: TermList
    random: tuple[RandomTerm, ...]
    offsets: tuple[Expression, ...]
    source: str
    rules: str = "R"
    spellings: tuple[tuple[str, str], ...] = ()
