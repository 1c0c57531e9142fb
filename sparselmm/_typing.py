"""Array type names shared by all layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.signedinteger[Any]]
BoolArray = npt.NDArray[np.bool_]
AnyArray = npt.NDArray[Any]


def frozen(a: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the array with its write flag cleared (the same object)."""
    a.flags.writeable = False
    return a
