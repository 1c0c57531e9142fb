"""Row labels of vectors and matrices that are given beside the data."""

from __future__ import annotations

from typing import Any

import pandas as pd

from sparselmm.exceptions import DataError


def check_order(given: Any, index: pd.Index, what: str, of: str = "data") -> None:
    """Refuse pandas objects whose rows are those of the data in another order.

    Values are taken by position. So labels that are the same in another order are an error; labels of
    another kind, as after ``reset_index``, say nothing about the order and are let through.

    Parameters
    ----------
    given : object
        What was given; only a Series or DataFrame has labels.
    index : pandas.Index
        Labels of the rows it belongs to.
    what : str
        Its name for messages.
    of : str
        Name of the object with these rows.

    Raises
    ------
    DataError
        With the remedy.

    Examples
    --------
    >>> check_order(pd.Series([1.0, 2.0], index=[1, 0]), pd.RangeIndex(2), "weights")
    Traceback (most recent call last):
    ...
    sparselmm.exceptions.DataError: weights has the rows of the data in another order; pass weights.loc[data.index]
    """
    if not isinstance(given, pd.Series | pd.DataFrame) or given.index.equals(index):
        return
    if len(given) == len(index) and set(given.index) == set(index):
        raise DataError(f"{what} has the rows of the {of} in another order; pass {what}.loc[{of}.index]")
