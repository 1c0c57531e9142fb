"""Rows of a table and of the arrays that go with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sparselmm.data.tables.frame import as_pandas
from sparselmm.data.tables.labels import check_order
from sparselmm.exceptions import DataError, ParameterError


def take_subset(data: Any, subset: Any, arguments: dict[str, Any]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the rows of a table chosen by a query or mask, and weights, offset and response arrays cut alike."""
    table = as_pandas(data)
    if isinstance(subset, str):
        try:
            mask = table.eval(subset)
        except (pd.errors.UndefinedVariableError, SyntaxError, TypeError, ValueError) as error:
            raise DataError(f"the subset {subset!r} cannot be evaluated: {error}") from error
    else:
        check_order(subset, table.index, "subset")
        mask = subset
    mask = np.asarray(mask)
    if mask.dtype != bool or mask.shape != (len(table),):
        raise ParameterError(f"subset must give one True or False for each of the {len(table)} rows")
    cut = dict(arguments)
    for name in ("weights", "offset", "response"):
        value = cut.get(name)
        if value is not None and not isinstance(value, str):
            cut[name] = np.asarray(value)[mask]
    return table.loc[mask], cut
