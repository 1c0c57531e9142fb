"""The profiled ML deviance and REML criterion as functions of the penalized least-squares solution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Criterion(Protocol):
    """A profiled criterion: minus twice the (restricted) log-likelihood at the best β and σ."""

    @property
    def name(self) -> str:
        """What it is called in reports."""
        ...

    @property
    def reml(self) -> bool:
        """Whether it is restricted."""
        ...

    def df(self, n: int, p: int) -> int:
        """Return the divisor of pwrss in the estimate of σ²."""
        ...

    def value(self, *, ldL2: float, ldRX2: float, pwrss: float, n: int, p: int, sum_log_weights: float) -> float:
        """Return the criterion."""
        ...


@dataclass(frozen=True)
class MaximumLikelihood:
    """Minus twice the log-likelihood: ``ldL2 - Σlog w + n(1 + log(2π pwrss/n))``."""

    name: str = "deviance"
    reml: bool = False

    def df(self, n: int, p: int) -> int:
        """Return n."""
        return n

    def value(self, *, ldL2: float, ldRX2: float, pwrss: float, n: int, p: int, sum_log_weights: float) -> float:
        """Return the ML deviance."""
        return ldL2 - sum_log_weights + n * (1.0 + float(np.log(2.0 * np.pi * pwrss / n)))


@dataclass(frozen=True)
class RestrictedMaximumLikelihood:
    """The REML criterion: ``ldL2 + ldRX2 - Σlog w + (n-p)(1 + log(2π pwrss/(n-p)))``."""

    name: str = "REML criterion"
    reml: bool = True

    def df(self, n: int, p: int) -> int:
        """Return n - p."""
        return n - p

    def value(self, *, ldL2: float, ldRX2: float, pwrss: float, n: int, p: int, sum_log_weights: float) -> float:
        """Return the REML criterion."""
        df = n - p
        return ldL2 + ldRX2 - sum_log_weights + df * (1.0 + float(np.log(2.0 * np.pi * pwrss / df)))


ML = MaximumLikelihood()
REML = RestrictedMaximumLikelihood()


def criterion_for(reml: bool) -> Criterion:
    """Return the REML criterion or the ML deviance."""
    return REML if reml else ML
