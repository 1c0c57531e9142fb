"""The methods for tests of fixed effects by name."""

from __future__ import annotations

from collections.abc import Callable

from sparselmm.exceptions import ParameterError
from sparselmm.inference.fixed.kenward_roger import kenward_roger
from sparselmm.inference.fixed.satterthwaite import satterthwaite
from sparselmm.inference.fixed.wald import Asymptotic, TestMethod, fixed_effects
from sparselmm.likelihood.result import FitResult

DEFAULT = "satterthwaite"


def _normal(result: FitResult) -> TestMethod:
    return Asymptotic("normal", fixed_effects(result), float("inf"))


def _residual(result: FitResult) -> TestMethod:
    fixed = fixed_effects(result)
    return Asymptotic("residual", fixed, float(fixed.n - fixed.p))


METHODS: dict[str, Callable[[FitResult], TestMethod]] = {
    "satterthwaite": satterthwaite,
    "kenward-roger": kenward_roger,
    "normal": _normal,
    "residual": _residual,
}


def method_key(ddf: str) -> str:
    """Return the name of a method in the spelling used here.

    Raises
    ------
    ParameterError
        For an unknown name.

    Examples
    --------
    >>> method_key("Kenward-Roger")
    'kenward-roger'
    """
    key = ddf.strip().lower().replace("_", "-").replace(" ", "-") if isinstance(ddf, str) else ""
    if key not in METHODS:
        raise ParameterError(f"unknown ddf {ddf!r}; there are {', '.join(METHODS)}")
    return key
