"""What a model was made from: enough to name it, to encode new rows and to update it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sparselmm._typing import FloatArray
from sparselmm.data.design import Design
from sparselmm.data.encoding.encoding import EncodingSpec
from sparselmm.exceptions import DataError
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

    def with_response(self, y: FloatArray, design: Design) -> ModelSource:
        """Return the source of a model with another response, (n,), on the rows of its design."""
        response = np.full(len(design.frame_index), np.nan)
        response[design.rows] = y
        return replace(self, response=response)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "data": None, "response": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)


def _argument_name(value: Any) -> str | None:
    if value is None:
        return None
    return value if isinstance(value, str) else ARRAY
