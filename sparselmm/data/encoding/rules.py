"""Which columns the terms of a formula have, in which order and under which names: R's rules and patsy's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any, Protocol

import numpy as np
import pandas as pd

from sparselmm.data.encoding.contrasts import Coding, Contrast, coding, full_dummies
from sparselmm.data.tables.texts import level_text
from sparselmm.exceptions import ParameterError
from sparselmm.formula.algebra import Term, TermList

IsFactor = Callable[[str], bool]
#: The variables of a term, each with whether it is coded in full (False for what is not a factor, too).
CodedTerm = tuple[tuple[str, bool], ...]
_Factors = dict[str, bool]

_CONSTANTS = {"sum": "[mean]", "helmert": "[H.intercept]", "poly": ".Constant"}
_POWERS = (".Linear", ".Quadratic", ".Cubic")


class CodingRules(Protocol):
    """How terms become columns."""

    def coded_terms(self, terms: TermList, is_factor: IsFactor) -> list[CodedTerm]:
        """Return the terms in the order of their columns; one may come in several parts."""
        ...

    def coding(self, levels: pd.Index, contrast: Any, variable: str, full: bool) -> Coding:
        """Return the columns of a factor: with the constant (full), or as contrasts."""
        ...

    def suffixes(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return what is added to the name of a variable of several columns."""
        ...


class RRules:
    """Terms as they stand; a factor is coded by contrasts or by one indicator per level."""

    def coded_terms(self, terms: TermList, is_factor: IsFactor) -> list[CodedTerm]:
        """Return the terms by R's rule.

        That rule (``TermCode`` in its model.c): a factor is coded by contrasts when what is left of the
        term without it is contained in an earlier term, or is empty; without an intercept the first
        factor met is coded in full.
        """
        sets = [frozenset(term) for term in terms.terms]
        full = []
        for i, term in enumerate(terms.terms):
            rests = [sets[i] - {variable} for variable in term]
            full.append([bool(rest) and not any(rest <= earlier for earlier in sets[:i]) for rest in rests])
        if not terms.intercept:
            for i, term in enumerate(terms.terms):
                first = next((j for j, variable in enumerate(term) if is_factor(variable)), None)
                if first is not None:
                    full[i][first] = True
                    break
        return [tuple(zip(term, flags)) for term, flags in zip(terms.terms, full)]

    def coding(self, levels: pd.Index, contrast: Any, variable: str, full: bool) -> Coding:
        """Return contrasts or indicators."""
        return full_dummies(levels) if full else coding(levels, contrast, variable)

    def suffixes(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return ``[1]``, ``[2]``, ..."""
        return tuple(f"[{name}]" for name in names)


class PatsyRules:
    """Terms sorted by their numeric variables; factors coded so that no column is redundant among these.

    The rules are those of patsy 1.0 (``build.py``, ``redundancy.py``), which statsmodels uses.
    """

    def coded_terms(self, terms: TermList, is_factor: IsFactor) -> list[CodedTerm]:
        """Return terms without numeric variables, then groups of the same ones in order of appearance.

        Within a group the terms stand by degree. A term whose margins are absent comes in several parts:
        ``1 + a:b`` has b by contrasts and a by contrasts within each level of b.

        Examples
        --------
        >>> terms = TermList(True, (("x",), ("a", "b")))
        >>> PatsyRules().coded_terms(terms, lambda name: name != "x")
        [(('b', False),), (('a', False), ('b', True)), (('x', False),)]
        """
        groups: dict[frozenset[str], list[Term]] = {frozenset(): []}
        for term in terms.terms:
            groups.setdefault(frozenset(v for v in term if not is_factor(v)), []).append(term)
        coded: list[CodedTerm] = []
        for numeric, members in groups.items():
            used = {frozenset[str]()} if terms.intercept and not numeric else set()
            for term in sorted(members, key=len):
                for part in _parts([v for v in term if is_factor(v)], used):
                    coded.append(tuple((v, part.get(v, False)) for v in term if v in part or not is_factor(v)))
        return coded

    def coding(self, levels: pd.Index, contrast: Any, variable: str, full: bool) -> Coding:
        """Return contrasts; in full these and a constant, except that treatment contrasts give way to indicators."""
        kind = contrast.kind if isinstance(contrast, Contrast) else "treatment"
        if kind == "treatment":
            contrast = _by_position(levels, contrast)
        elif isinstance(contrast, Contrast) and contrast.base is not None:
            raise ParameterError(
                f"{variable}: only Treatment takes a level here; for Sum put the level to omit last in the categories"
            )
        if full and kind not in _CONSTANTS:
            return full_dummies(levels)
        found = coding(levels, contrast, variable)
        names = found.names
        if kind == "poly":
            names = (*_POWERS, *(f"^{k}" for k in range(4, len(levels))))[: len(levels) - 1]
        if not full:
            return Coding(found.matrix, names, found.r_names)
        matrix = np.column_stack([np.ones(len(levels)), found.matrix])
        return Coding(matrix, (_CONSTANTS[kind], *names), ("", *found.r_names))

    def suffixes(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return ``[0]``, ``[1]``, ..."""
        return tuple(f"[{j}]" if name == str(j + 1) else f"[{name}]" for j, name in enumerate(names))


def _by_position(levels: pd.Index, contrast: Any) -> Any:
    """Return treatment contrasts with the base level in place of its position, which patsy accepts, too."""
    base = getattr(contrast, "base", None)
    if isinstance(base, float) and base.is_integer() and -len(levels) <= base < len(levels):
        known = base in levels or level_text(base) in map(level_text, levels)
        return contrast if known else Contrast(contrast.kind, levels[int(base)])
    return contrast


def _parts(factors: Sequence[str], used: set[frozenset[str]]) -> list[_Factors]:
    """Return what a product of factors adds to the margins used so far, as products coded in full or not.

    The product stands for all its margins, each by contrasts. From the shortest on, a margin is absorbed
    by the first one with just one factor more, which is then coded in full.
    """
    margins = [frozenset(m) for k in range(len(factors) + 1) for m in combinations(factors, k)]
    parts: list[_Factors] = [dict.fromkeys(sorted(m), False) for m in margins if m not in used]
    used.update(margins)
    while (pair := _absorbable(parts)) is not None:
        short, long = pair
        (extra,) = set(parts[long]) - set(parts[short])
        parts[long] = {**parts[short], extra: True}
        del parts[short]
    return parts


def _absorbable(parts: Sequence[_Factors]) -> tuple[int, int] | None:
    """Return the first pair of a part and a longer one that has just one factor more."""
    for i, short in enumerate(parts):
        for j in range(i + 1, len(parts)):
            if len(parts[j]) - len(short) == 1 and short.items() <= parts[j].items():
                return i, j
    return None


RULES: Mapping[str, CodingRules] = {"R": RRules(), "patsy": PatsyRules()}
