"""Random terms of R's output matched with ours, by grouping factor, coefficients and values; never by place.

lme4 orders terms of equally many levels in the reverse of the formula when it has to reorder at all, and then
names a repeated interaction ``a.b``, ``a.b.1`` in its variances and ``a:b`` in theta.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

_MANY = 6  # so many terms of one factor and the same coefficients are not tried in all orders
_COPY = re.compile(r"\.\d+$")


@dataclass(frozen=True)
class Term:
    """A random term of either program.

    Attributes
    ----------
    name : str
        Unique name.
    label : str
        Grouping factor.
    columns : tuple of str
        Coefficients in R's spelling.
    sd : tuple of float
        Their standard deviations.
    theta : tuple of float
        R's covariance parameters of the term; empty for a term of ours.
    """

    name: str
    label: str
    columns: tuple[str, ...]
    sd: tuple[float, ...]
    theta: tuple[float, ...] = ()


def r_terms(record: Mapping[str, Any], key: Callable[[str], str]) -> list[Term]:
    """Return the terms of saved R output, in R's order; ``key`` makes names comparable."""
    varcorr = record["varcorr"]
    rows: dict[str, list[tuple[str, float]]] = {}
    for grp, var1, var2, sdcor in zip(varcorr["grp"], varcorr["var1"], varcorr["var2"], varcorr["sdcor"]):
        if grp != "Residual" and var2 is None and var1 is not None:
            rows.setdefault(str(grp), []).append((str(var1), math.nan if sdcor is None else float(sdcor)))
    names = [str(name) for name in record["theta"]["names"]]
    values = [math.nan if v is None else float(v) for v in record["theta"]["values"]]
    present = {str(label) for label in record["ngroups"]["names"]}
    terms, at = [], 0
    for grp, found in rows.items():
        columns, k = tuple(column for column, _ in found), len(found)
        end = at + k * (k + 1) // 2
        # theta has the label as it is: "a:b.x" for the coefficient x
        first = names[at] if at < len(names) else ""
        exact = first.endswith(f".{columns[0]}")
        label = first.removesuffix(f".{columns[0]}") if exact else grp if grp in present else _COPY.sub("", grp)
        sd = tuple(value for _, value in found)
        terms.append(Term(grp, key(label), tuple(map(key, columns)), sd, tuple(values[at:end])))
        at = end
    return terms


def match(ours: Sequence[Term], theirs: Sequence[Term]) -> dict[str, Term]:
    """Return R's term by the name of ours; terms without a partner are left out.

    Terms with the same factor and the same coefficients, which only differ in their values, are paired so
    that these are nearest.
    """
    pairs: dict[str, Term] = {}
    for key in dict.fromkeys(map(_key, ours)):
        here, there = ([t for t in terms if _key(t) == key] for terms in (ours, theirs))
        if len(here) == 1 or len(here) > _MANY or len(here) != len(there):
            pairs |= {a.name: b for a, b in zip(here, there)}
            continue
        best = min(permutations(there), key=lambda order: sum(map(_distance, here, order)))
        pairs |= {a.name: b for a, b in zip(here, best)}
    return pairs


def _key(term: Term) -> tuple[tuple[str, ...], tuple[str, ...]]:
    plain = re.sub(r"[\s`()]", "", term.label)
    return tuple(sorted(plain.split(":"))), tuple(sorted(term.columns))


def _distance(a: Term, b: Term) -> float:
    there = dict(zip(b.columns, b.sd))
    return math.fsum(abs(math.log1p(x) - math.log1p(there[c])) for c, x in zip(a.columns, a.sd))
