"""What the user wrote: the trees of a formula, without any data in them."""

from __future__ import annotations

from dataclasses import dataclass

from sparselmm.formula.algebra import TermList
from sparselmm.formula.nodes import Expression


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
        Key of the covariance structure (``"us"``, ``"diag"``, ``"homdiag"``).
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
