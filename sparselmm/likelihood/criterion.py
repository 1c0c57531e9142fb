"""The profiled ML deviance and REML criterion as functions of the penalized least-squares solution.

All quantities may be arrays, for many responses or many parameters at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

LOG_2PI = float(np.log(2.0 * np.pi))


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

    def value(self, *, ldL2: Any, ldRX2: Any, pwrss: Any, n: int, p: int, sum_log_weights: float) -> Any:
        """Return the criterion."""
        ...

    def at_sigma(
        self, tau: float, *, ldL2: float, ldRX2: float, pwrss: float, n: int, p: int, sum_log_weights: float
    ) -> float:
        """Return the criterion before σ is profiled out, at τ = 1/σ."""
        ...


class _Gaussian:
    """``log-determinants - Σlog w + df(1 + log(2π pwrss/df))``, which σ² = pwrss/df minimizes over σ."""

    reml: bool

    def df(self, n: int, p: int) -> int:
        """Return n - p if restricted, else n."""
        return n - p if self.reml else n

    def _log_parts(self, ldL2: Any, ldRX2: Any, sum_log_weights: float) -> Any:
        return (ldL2 + ldRX2 if self.reml else ldL2) - sum_log_weights

    def value(self, *, ldL2: Any, ldRX2: Any, pwrss: Any, n: int, p: int, sum_log_weights: float) -> Any:
        """Return the criterion."""
        df = self.df(n, p)
        return self._log_parts(ldL2, ldRX2, sum_log_weights) + df * (1.0 + np.log(2.0 * np.pi * pwrss / df))

    def at_sigma(
        self, tau: float, *, ldL2: float, ldRX2: float, pwrss: float, n: int, p: int, sum_log_weights: float
    ) -> float:
        """Return ``log-determinants - Σlog w + df(log 2π - 2 log τ) + τ² pwrss``."""
        log_parts = self._log_parts(ldL2, ldRX2, sum_log_weights)
        return float(log_parts + self.df(n, p) * (LOG_2PI - 2.0 * float(np.log(tau))) + tau**2 * pwrss)


@dataclass(frozen=True)
class MaximumLikelihood(_Gaussian):
    """Minus twice the log-likelihood: ``ldL2 - Σlog w + n(1 + log(2π pwrss/n))``."""

    name: str = "deviance"
    reml: bool = False


@dataclass(frozen=True)
class RestrictedMaximumLikelihood(_Gaussian):
    """The REML criterion: ``ldL2 + ldRX2 - Σlog w + (n-p)(1 + log(2π pwrss/(n-p)))``."""

    name: str = "REML criterion"
    reml: bool = True


ML = MaximumLikelihood()
REML = RestrictedMaximumLikelihood()


def criterion_for(reml: bool) -> Criterion:
    """Return the REML criterion or the ML deviance."""
    return REML if reml else ML
