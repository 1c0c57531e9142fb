"""Levels that look like a mistake: numbers that were read as text, and names that differ only by blanks or case."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import pandas as pd

from sparselmm.data.tables.columns import Factor
from sparselmm.data.tables.texts import is_written_number, number_trouble
from sparselmm.exceptions import Message
from sparselmm.formula.grammar import parse_expression
from sparselmm.formula.nodes import Name
from sparselmm.formula.nodes import names as names_in

MANY_TEXTS = 10  # values of a text column from which numbers written as text look like a mistake
MANY_CODES = 20  # whole numbers; fewer may well be codes
MOST_NAMES = 20_000  # levels that are compared by name, in 10 ms
_SHORT = 3
_SHOWN = 3


def check_numbers(text: str, factor: Factor) -> Iterator[Message]:
    """Yield what there is to say of a predictor whose entries are numbers written as text."""
    if not factor.text or len(factor.levels) < MANY_TEXTS or not isinstance(parse_expression(text), Name):
        return
    trouble = number_trouble(factor.levels)
    if trouble is None or (is_written_number(factor.levels) and _like_codes(factor.levels)):
        return
    reason, _, remedy = trouble.partition("; ")
    what = f"{text} is text, so each of its {len(factor.levels)} values has a coefficient; {reason}."
    yield Message("numbers_as_text", "warning", what, remedy[0].upper() + remedy[1:] + ".")


def _like_codes(levels: pd.Index) -> bool:
    """Whether texts of numbers may well be names: a few whole numbers."""
    return len(levels) < MANY_CODES and all(float(level).is_integer() for level in levels)


def check_names(text: str, levels: pd.Index, most: int = MOST_NAMES) -> Iterator[Message]:
    """Yield what there is to say of levels that differ only by blanks or by upper and lower case.

    Parameters
    ----------
    text : str
        The factor as written.
    levels : pandas.Index
        Its levels.
    most : int
        Factors with more levels are not looked at: a fit should not wait for it.
    """
    if len(levels) > most or levels.dtype.kind not in "OTU":
        return
    alike: defaultdict[str, list[str]] = defaultdict(list)
    for level in levels:
        if not isinstance(level, str):
            return
        alike[_plain(level).casefold()].append(level)
    groups = [names for names in alike.values() if len(names) > 1]
    blanks = [names for names in groups if len({_plain(name) for name in names}) < len(names)]
    cases = [names for names in groups if names not in blanks and all(map(_usual_case, names))]
    column = f"data[{next(iter(names_in(parse_expression(text))), text)!r}]"
    remedies = (("blanks", blanks, "strip()"), ("upper and lower case", cases, "lower()"))
    for difference, pairs, method in remedies:
        if pairs:
            what = f"Some levels of {text} differ only by {difference}: {_listed(pairs)}."
            how = f"If they mean the same, make them one before the fit: {column} = {column}.str.{method}."
            yield Message("similar_levels", "note", what, how)


def _plain(name: str) -> str:
    return " ".join(name.split())


def _usual_case(name: str) -> bool:
    """Whether a text is written like a word; genotypes such as Aa and aA are not."""
    return len(name) >= _SHORT and name in (name.lower(), name.upper(), name.capitalize(), name.title())


def _listed(groups: list[list[str]]) -> str:
    shown = "; ".join(" and ".join(map(repr, names[:_SHOWN])) for names in groups[:_SHOWN])
    return shown + (f"; and {len(groups) - _SHOWN} more" if len(groups) > _SHOWN else "")
