"""Penalized least squares: all quantities of the criterion at one θ, from cross-products alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from threading import RLock
from typing import Any

import numpy as np
from scipy.linalg import lapack

from sparselmm._typing import FloatArray
from sparselmm.covariance.parameters import ParameterMap
from sparselmm.exceptions import NumericalError
from sparselmm.likelihood.criterion import Criterion
from sparselmm.linalg.blocks import BlockGram, Templates, apply_transposed
from sparselmm.linalg.protocol import PenalizedSystem, approximate
from sparselmm.statistics.crossproducts import CrossProducts


@dataclass(frozen=True)
class PLSSolution:
    """The penalized least-squares problem solved at one parameter vector.

    Attributes
    ----------
    par : (n_par,) array
        Where.
    templates : tuple of (k, k) arrays
        T of each term.
    ldL2, ldRX2 : float
        log|L|² and log|RX|² on the scale of the original X.
    pwrss : float
        Penalized, weighted residual sum of squares.
    gamma : (p,) array
        Coefficients of the transformed X.
    RX : (p, p) array
        Upper triangular; RX'RX is the Schur complement for the transformed X.
    scaled : (q, p + 1) array
        Λ'Z'W[X y].
    """

    par: FloatArray
    templates: Templates
    ldL2: float
    ldRX2: float
    pwrss: float
    gamma: FloatArray
    RX: FloatArray
    scaled: FloatArray


class PenalizedLeastSquares:
    """Owns the workspace of one model; `solve` depends on its argument alone."""

    def __init__(self, crossproducts: CrossProducts, parameters: ParameterMap, system: PenalizedSystem) -> None:
        self.crossproducts = crossproducts
        self.parameters = parameters
        self.system = system

    def factor(self, templates: Templates) -> None:
        """Factor M for the templates, unless the system holds just this factor."""
        held = self.system.templates
        if len(held) != len(templates) or not all(map(np.array_equal, held, templates)):
            self.system.refactor(templates)

    def solve(self, par: FloatArray) -> PLSSolution:
        """Return the solution at ``par``."""
        xp = self.crossproducts
        templates = self.parameters.templates(par)
        self.factor(templates)
        C = apply_transposed(xp.ZtWXy, templates, xp.gram)
        S = xp.XytWXy - self.system.quadratic(C)[0]
        RX, gamma, pwrss = _eliminate(S, par)
        ldRX2 = 2.0 * float(np.log(np.diag(RX)).sum()) + xp.basis.logdet if xp.p else 0.0
        return PLSSolution(np.array(par), templates, self.system.logdet(), ldRX2, pwrss, gamma, RX, C)

    def value(self, solution: PLSSolution, criterion: Criterion) -> float:
        """Return the criterion of a solution."""
        xp = self.crossproducts
        value = float(
            criterion.value(
                ldL2=solution.ldL2,
                ldRX2=solution.ldRX2,
                pwrss=solution.pwrss,
                n=xp.n,
                p=xp.p,
                sum_log_weights=xp.sum_log_weights,
            )
        )
        if not np.isfinite(value):
            raise NumericalError(f"the criterion is not finite at parameters {solution.par}")
        return value

    def spherical(self, solution: PLSSolution) -> FloatArray:
        """Return u = M⁻¹Λ'Z'W(y - o - Xβ), (q,), of a solution."""
        self.factor(solution.templates)
        right = solution.scaled[:, -1:] - solution.scaled[:, :-1] @ solution.gamma[:, None]
        return self.system.solve(right)[:, 0]


def _eliminate(S: FloatArray, par: FloatArray) -> tuple[FloatArray, FloatArray, float]:
    """Return RX, γ and pwrss of the Schur complement S of M, (p + 1, p + 1)."""
    p = len(S) - 1
    if p == 0:
        RX, c, pwrss = np.zeros((0, 0)), np.zeros(0), float(S[0, 0])
    else:
        factor, info = lapack.dpotrf(S[:p, :p], lower=0, clean=1)
        if info != 0:
            raise NumericalError(f"X'V⁻¹X is not positive definite at parameters {par} (column {info})")
        RX = np.ascontiguousarray(factor)
        c = lapack.dtrtrs(factor, S[:p, p], lower=0, trans=1)[0]
        pwrss = float(S[p, p] - c @ c)
    if not pwrss > 0:
        raise NumericalError(
            f"the penalized residual sum of squares is {pwrss:.3g} at parameters {par}: "
            "the model reproduces the response exactly, so the residual variance cannot be estimated"
        )
    return RX, lapack.dtrtrs(factor, c, lower=0)[0] if p else c, pwrss


@dataclass
class _Shared:
    """What engines of one design share: a system made on first use, its lock, and who has it open."""

    system: PenalizedSystem | None = None
    lock: AbstractContextManager[Any] = field(default_factory=RLock)
    opened: list[Engine] = field(default_factory=list)


class Engine:
    """A `PenalizedLeastSquares` built on first use, shared safely between threads, never pickled.

    Engines that share an approximate system each have the effort of their own fit put in when they are
    opened, so that a criterion does not depend on what was fitted in between.
    """

    def __init__(
        self,
        crossproducts: CrossProducts,
        parameters: ParameterMap,
        make_system: Callable[[BlockGram], PenalizedSystem],
    ) -> None:
        self.crossproducts = crossproducts
        self.parameters = parameters
        self._make_system = make_system
        self._effort: object = None
        self._shared = _Shared()
        self._pls: PenalizedLeastSquares | None = None

    @contextmanager
    def locked(self) -> Iterator[PenalizedLeastSquares]:
        """Yield the workspace to one thread at a time."""
        shared = self._shared
        with shared.lock:
            if shared.system is None:
                shared.system = self._make_system(self.crossproducts.gram)
            if self._pls is None:
                self._pls = PenalizedLeastSquares(self.crossproducts, self.parameters, shared.system)
            pls = self._pls
            drawn = approximate(shared.system)
            if drawn is None or (shared.opened and shared.opened[-1] is self):
                yield pls
                return
            before = drawn.effort
            drawn.use(self._effort)
            shared.opened.append(self)
            try:
                yield pls
            finally:
                shared.opened.pop()
                if shared.opened:
                    drawn.use(before)

    def with_response(self, crossproducts: CrossProducts) -> Engine:
        """Return an engine for another response, or other fixed effects, that shares this one's system."""
        return self._sharing(crossproducts, self._effort)

    def settled(self, pls: PenalizedLeastSquares) -> Engine:
        """Return this engine with the effort that its opened workspace has come to; itself for an exact system."""
        drawn = approximate(pls.system)
        if drawn is None or drawn.effort is self._effort:
            return self
        return self._sharing(self.crossproducts, drawn.effort)

    def _sharing(self, crossproducts: CrossProducts, effort: object) -> Engine:
        other = Engine(crossproducts, self.parameters, self._make_system)
        other._effort, other._shared = effort, self._shared
        return other

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_shared", "_pls")}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._shared, self._pls = _Shared(), None

    def __deepcopy__(self, memo: dict[int, object]) -> Engine:
        return self
