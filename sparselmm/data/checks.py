"""lme4's checks of a design, and a few it lacks; each error names the term and the counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from sparselmm._typing import FloatArray
from sparselmm.covariance import make_structure
from sparselmm.data.rows import DesignTerm, GroupedTerm, is_ones_column
from sparselmm.data.tables.codes import chunks
from sparselmm.data.tables.columns import list_some
from sparselmm.exceptions import DataWarning, DesignError, Message, RankDeficiencyWarning, ScaleWarning, warn_user
from sparselmm.linalg.rank import independent_columns, triangular_factor

SCALE_TOLERANCE = 1e3
PERFECT_FIT_TOLERANCE = 1e-12
LARGEST = 1e70  # of a column, and its reciprocal the least: products of four such columns stay below 1e308
_PROBE_ROWS = 4096
_SHOWN, _MANY = 5, 20


def check_terms(terms: Sequence[DesignTerm], n: int) -> None:
    """Refuse random terms that the n rows cannot tell from the residuals, or from each other."""
    seen: dict[tuple[object, ...], str] = {}
    structured = not all(make_structure(term.structure, term.k).is_unrestricted for term in terms)
    for term in terms:
        if term.m < 2:
            raise DesignError(
                f"the grouping factor {term.label} has only one level in the {n} rows used; "
                "a random effect needs at least two"
            )
        if isinstance(term, GroupedTerm) and term.m >= n:
            raise DesignError(
                f"the grouping factor {term.label} has {term.m} levels for {n} rows; the number of levels must be "
                "smaller than the number of rows, or its variance cannot be told from the residual variance"
            )
        if not structured and term.m * term.k >= n:
            raise DesignError(
                f"the random term {_written(term)} has {term.m * term.k} random effects for "
                f"{n} rows; their variance cannot be told from the residual variance. Use fewer coefficients per level"
            )
        key = (frozenset(term.label.replace("(", "").replace(")", "").split(":")), term.columns)
        if isinstance(term, GroupedTerm) and key in seen:
            raise DesignError(
                f"the random term {_written(term)} is in the formula twice; "
                "the two variances cannot be told apart. Remove one"
            )
        seen[key] = term.name


def _written(term: DesignTerm) -> str:
    """Return a term for messages, without most of many columns."""
    more = len(term.columns) - _SHOWN
    listed = [*term.columns[:_SHOWN], *([f"... and {more} more"] if more > 0 else [])]
    return f"({' + '.join(listed)} | {term.label})"


def check_column_names(columns: Sequence[str], terms: Sequence[DesignTerm]) -> None:
    """Refuse two columns of one name: a result could not say which is which."""
    for where, names in [("the fixed part", columns), *((f"the random term {_written(t)}", t.columns) for t in terms)]:
        twice = [name for name, times in Counter(names).items() if times > 1]
        if twice:
            reason = ", as the constant is called" if twice[0] == "Intercept" else ""
            raise DesignError(f"{where} has two columns named {twice[0]!r}{reason}; rename the column of the data")


def check_aliased(terms: Sequence[DesignTerm]) -> list[Message]:
    """Warn when two terms of different names have the same groups and the same columns."""
    messages = []
    for i, first in enumerate(terms):
        for second in terms[i + 1 :]:
            if first.label != second.label and _same_groups(first, second):
                what = (
                    f"The grouping factors {first.label} and {second.label} describe the same {first.m} groups; "
                    "the variances of these terms cannot be told apart."
                )
                messages.append(Message("aliased_terms", "warning", what, "Remove one of them."))
                warn_user(str(messages[-1]), DataWarning)
    return messages


def _same_groups(first: DesignTerm, second: DesignTerm) -> bool:
    if not (isinstance(first, GroupedTerm) and isinstance(second, GroupedTerm)):
        return False
    if first.m != second.m or first.Z.shape != second.Z.shape:
        return False
    partner = np.zeros(first.m, dtype=np.int64)
    partner[first.codes] = second.codes
    return bool((partner[first.codes] == second.codes).all()) and np.array_equal(first.Z, second.Z)


def check_magnitudes(
    y: FloatArray, name: str, X: FloatArray, columns: Sequence[str], terms: Sequence[DesignTerm]
) -> None:
    """Refuse columns whose squares, products or quotients would leave the range of double precision."""
    check_magnitude(y[:, None], (f"the response {name}",))
    check_magnitude(X, [f"the column {c} of the fixed part" for c in columns])
    for term in terms:
        if not isinstance(term, GroupedTerm):
            check_magnitude(term.matrix.data[:, None], (f"the random term {_written(term)}",))
        elif not is_ones_column(term.Z):
            check_magnitude(term.Z, [f"the column {c} of the random term {_written(term)}" for c in term.columns])


def check_magnitude(values: FloatArray, names: Sequence[str]) -> None:
    """Refuse columns, (n, c), with numbers too large or too small for sums of squares."""
    if not values.size:
        return
    for what, column in zip(names, values.T):  # by column: along the rows of long, narrow arrays numpy is slow
        size = max(column.max(), -column.min())
        if size > LARGEST or 0.0 < size < 1.0 / LARGEST:
            raise DesignError(
                f"the values of {what} go up to {size:.3g}: squares and products would leave the range of numbers. "
                f"Rescale it: divide it by {10.0 ** np.floor(np.log10(size)):.0e}"
            )


def check_response(y: FloatArray, X: FloatArray, has_intercept: bool, name: str) -> None:
    """Refuse a response that the fixed effects fit exactly: the residual variance would be zero.

    ``y`` has the offset subtracted already; ``X`` has full column rank.
    """
    n, p = X.shape
    if has_intercept and n > 1 and (y == y[0]).all():
        raise DesignError(f"the response {name} is constant ({y[0]:g} in all {n} rows): there is nothing to explain")
    if n <= p:
        raise DesignError(f"there are {n} rows for {p} fixed effects; the model needs more rows than fixed effects")
    # an exact fit of all rows is one of the first rows too, which is cheap to look at
    probe = min(n, max(_PROBE_ROWS, 4 * p))
    if _fits_exactly(y[:probe], X[:probe]) and (probe == n or _fits_exactly(y, X)):
        raise DesignError(
            f"the fixed effects fit the response {name} exactly in all {n} rows; the residual variance would be zero "
            "and nothing is left for random effects. Is the response also a predictor?"
        )


def _fits_exactly(y: FloatArray, X: FloatArray) -> bool:
    R = triangular_factor(np.column_stack([X, y]))
    length = float(np.linalg.norm(R[:, -1]))
    return abs(float(R[-1, -1])) <= PERFECT_FIT_TOLERANCE * length


def drop_dependent(X: FloatArray, columns: Sequence[str]) -> tuple[list[int], list[Message]]:
    """Return the positions of the columns to keep, with a message when some are dropped."""
    kept = independent_columns(X) if X.shape[1] else []
    dropped = [name for j, name in enumerate(columns) if j not in set(kept)]
    if not dropped:
        return kept, []
    noun, listed = "column" if len(dropped) == 1 else "columns", list_some(dropped, _MANY)
    message = Message(
        code="rank_deficient",
        severity="note",
        what=f"The fixed-effects matrix is rank deficient: {len(dropped)} {noun} dropped ({listed}).",
        how="They depend on earlier columns; leave them out of the formula to silence this.",
    )
    warn_user(str(message), RankDeficiencyWarning)
    return kept, [message]


def check_scales(X: FloatArray, columns: Sequence[str]) -> list[Message]:
    """Warn when continuous columns of X differ in spread by a factor of a thousand, as lme4 does."""
    spread = {name: _spread(x) for name, x in zip(columns, X.T) if len(x) > 1 and not _is_binary(x)}
    logs = {name: abs(np.log(s)) if s > 0 else np.inf for name, s in spread.items()}
    limit = np.log(SCALE_TOLERANCE)
    far = [name for name, value in logs.items() if value > limit]
    positive = {name: s for name, s in spread.items() if s > 0}
    if len(positive) > 1 and max(positive.values()) / min(positive.values()) > SCALE_TOLERANCE:
        far += [f(positive, key=positive.__getitem__) for f in (min, max)]
    if not far:
        return []
    listed = list_some([f"{name} (SD {spread[name]:.3g})" for name in dict.fromkeys(far)], _MANY)
    message = Message(
        code="scale",
        severity="warning",
        what=f"Some predictors are on very different scales: {listed}.",
        how="Consider rescaling them, for example with scale(x).",
    )
    warn_user(str(message), ScaleWarning)
    return [message]


def _spread(x: FloatArray) -> float:
    """Return the standard deviation of a column, in pieces: the column of a matrix is not contiguous."""
    mean = x.mean()
    return float(np.sqrt(sum(float(((x[rows] - mean) ** 2).sum()) for rows in chunks(len(x))) / (len(x) - 1)))


def _is_binary(x: FloatArray) -> bool:
    head = x[:64]
    return bool(((head == 0) | (head == 1)).all()) and bool(((x == 0) | (x == 1)).all())
