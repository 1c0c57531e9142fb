"""What a model was made from: enough to name it, to encode new rows and to update it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sparselmm._typing import FloatArray
from sparselmm.data.encoding.encoding import EncodingSpec
from sparselmm.data.rows import Rows
from sparselmm.exceptions import DataError, RowsNeededError
from sparselmm.formula import ModelSpec

ARRAY = "(array)"


@dataclass(frozen=True)
class ModelSource:
    """Formula, encoding and arguments of a model; the data are kept by reference and never pickled.

    Attributes
    ----------
    spec : ModelSpec or None
        The parsed formula (None for a model made from arrays).
    encoding : EncodingSpec or None
        What new rows need.
    arguments : mapping
        ``weights``, ``offset``, ``contrasts``, ``na_action`` and ``context`` as given.
    data : object
        The table given, or None after unpickling.
    response : (rows of the data,) array or None
        The response of a refit, NaN in rows for which none was given; None while it is the formula's.
    """

    spec: ModelSpec | None = None
    encoding: EncodingSpec | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    data: Any = field(default=None, repr=False)
    response: FloatArray | None = field(default=None, repr=False)

    @property
    def formula(self) -> str:
        """The formula as given."""
        return "(model made from arrays)" if self.spec is None else self.spec.source

    @property
    def weights_name(self) -> str | None:
        """Name of the column of weights, ``"(array)"`` for an array, None without weights."""
        return _argument_name(self.arguments.get("weights"))

    @property
    def offset_name(self) -> str | None:
        """Name of the column given by ``offset=``, ``"(array)"`` for an array, None without one."""
        return _argument_name(self.arguments.get("offset"))

    def table(self) -> Any:
        """Return the data, or fail with the reason why they are not there."""
        if self.data is None:
            raise DataError("the data of this model are not kept after it was saved or copied; pass data=")
        return self.data

    def with_response(self, y: FloatArray, observed: Rows) -> ModelSource:
        """Return the source of a model with another response, (n,), on these rows."""
        response = np.full(len(observed.frame_index), np.nan)
        response[observed.positions] = y
        return replace(self, response=response)

    def without_data(self) -> ModelSource:
        """Return this without the table and without arguments as long as it; ``"(array)"`` stands for them."""
        names = {"weights": self.weights_name, "offset": self.offset_name}
        return replace(self, arguments={**self.arguments, **names}, data=None, response=None)

    def complete(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments with those given in their place.

        Raises
        ------
        RowsNeededError
            When one of them was an array and has gone with the rows.
        """
        arguments = {**self.arguments, **given}
        gone = [name for name in ("weights", "offset") if isinstance(x := arguments.get(name), str) and x == ARRAY]
        if gone:
            raise RowsNeededError(
                f"the fit had an array as {gone[0]}, which was dropped with its rows: pass {gone[0]}="
            )
        return arguments

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "data": None, "response": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)


def _argument_name(value: Any) -> str | None:
    if value is None:
        return None
    return value if isinstance(value, str) else ARRAY
