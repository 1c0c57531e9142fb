"""How many solutions of the penalized system are made for one request after an approximate fit.

An exact solver has a factor, from which the covariances of all levels that occur together follow at once.
The iterative one solves for what is asked, column by column.
"""

from __future__ import annotations

from sparselmm.exceptions import UnsupportedError

MOST_SOLUTIONS = 5_000  # for one request; each takes iterations over all cells of the design


def refuse_many(wanted: int, what: str, instead: str) -> None:
    """Raise unless so many solutions are few enough, saying what can be asked for instead.

    Raises
    ------
    UnsupportedError
        Naming the number and the limit.

    Examples
    --------
    >>> refuse_many(10, "these", "less")
    """
    if wanted > MOST_SOLUTIONS:
        raise UnsupportedError(
            f"{what} would take {wanted:,} solutions of the system one by one, as the iterative solver has no factor; "
            f"up to {MOST_SOLUTIONS:,} are made at once: {instead}, or fit with solver='schur' or 'cholmod' if the "
            "design allows"
        )
