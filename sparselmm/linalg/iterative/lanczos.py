"""Lanczos on several columns at once: quadratic forms of functions of S and solutions with I - S.

Each column has its own recursion. Nothing but the last two Lanczos vectors is kept: the solution
comes from the LU factors of the tridiagonal I - T, as in conjugate gradients (Paige and Saunders
1975). The recursion runs on S, not on I - S, whose small deviations from I would be rounded away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sparselmm._typing import AnyArray, FloatArray
from sparselmm.exceptions import NumericalError

MAX_STEPS = 200


@dataclass(frozen=True)
class Tridiagonals:
    """The Lanczos matrices of c columns.

    Attributes
    ----------
    alpha : (steps, c) array
        Diagonals.
    beta : (steps, c) array
        ``beta[j]`` couples step j with step j + 1; the last couples to what was not done.
    squares : (c,) array
        Squared norms of the columns.
    order : int
        Powers of S that the forms leave out: 1 for log(I - S) + S, 2 for log(I - S) + S + S²/2.
    """

    alpha: FloatArray
    beta: FloatArray
    squares: FloatArray
    order: int

    def _dense(self, steps: int) -> FloatArray:
        c = len(self.squares)
        T = np.zeros((c, steps, steps))
        i = np.arange(steps)
        T[:, i, i] = self.alpha[:steps].T
        T[:, i[1:], i[:-1]] = T[:, i[:-1], i[1:]] = self.beta[: steps - 1].T
        return T

    def forms(self, steps: int | None = None) -> FloatArray:
        """Return the forms of all columns by Gauss quadrature, (c,); upper bounds."""
        return self._quadrature(self._dense(steps or len(self.alpha)))

    def square_forms(self) -> FloatArray:
        """Return b'f(S)²b of each column, (c,): twice its mean bounds the variance of the forms of random signs."""
        nodes, vectors = np.linalg.eigh(self._dense(len(self.alpha)))
        squares = remainder(np.minimum(nodes, 1.0 - 1e-15), self.order) ** 2
        return np.asarray(self.squares * (vectors[:, 0, :] ** 2 * squares).sum(axis=1))

    def lower_forms(self, smallest: float) -> FloatArray:
        """Return lower bounds of the forms: Gauss-Radau with a node at ``1 - smallest``.

        ``smallest`` must not exceed the smallest eigenvalue of I - S (Golub and Meurant 2010, section 6.2).
        """
        steps = len(self.alpha)
        T = self._dense(steps)
        node = 1.0 - 0.999_999 * smallest  # never quite an eigenvalue of T
        last = np.zeros((len(T), steps, 1))
        last[:, -1, 0] = self.beta[-1] ** 2
        shifted = T - node * np.eye(steps)
        delta = np.linalg.solve(shifted, last)[:, -1, 0]
        extended = np.zeros((len(T), steps + 1, steps + 1))
        extended[:, :steps, :steps] = T
        extended[:, steps, steps - 1] = extended[:, steps - 1, steps] = self.beta[-1]
        extended[:, steps, steps] = node + delta
        try:
            return self._quadrature(extended)
        except NumericalError:  # rounding has carried a Ritz value past the node
            return np.full(len(T), -np.inf)

    def _quadrature(self, T: FloatArray) -> FloatArray:
        nodes, vectors = np.linalg.eigh(T)
        if not np.all(nodes < 1.0):
            raise NumericalError("the Schur complement is not positive definite")
        return np.asarray(self.squares * (vectors[:, 0, :] ** 2 * remainder(nodes, self.order)).sum(axis=1))


def remainder(x: FloatArray, order: int) -> FloatArray:
    """Return log(1 - x) less its Taylor polynomial of the order 1 or 2."""
    first = np.log1p(-x) + x
    return np.asarray(first if order == 1 else first + x * x / 2.0)


@dataclass(frozen=True)
class LanczosResult:
    """What the recursion found.

    Attributes
    ----------
    forms : (c,) array
        b'f(S)b, f being the remainder of log(1 - x).
    X : (q, c) array
        (I - S)⁻¹B.
    tridiagonals : Tridiagonals
        The recursion.
    """

    forms: FloatArray
    X: AnyArray
    tridiagonals: Tridiagonals


def column_dots(X: AnyArray, Y: AnyArray) -> FloatArray:
    """Return the inner products of columns, (c,), summed in double precision."""
    if X.dtype == np.float64:
        return np.asarray(np.einsum("ij,ij->j", X, Y))
    step, out = 4096, np.zeros(X.shape[1])
    for a in range(0, len(X), step):  # short single-precision sums, added in double precision
        out += np.einsum("ij,ij->j", X[a : a + step], Y[a : a + step])
    return out


def lanczos(
    apply: Callable[[AnyArray], AnyArray],
    B: AnyArray,
    SB: AnyArray,
    order: int,
    form_tolerance: float,
    solve_tolerance: float,
) -> LanczosResult:
    """Return forms and solutions of the columns of B, (q, c), in the precision of B; SB is their product with S.

    Steps are taken until the forms change by less than ``form_tolerance`` (absolute, each) and the
    residuals of the solutions fall below ``solve_tolerance`` (relative).
    """
    kind = B.dtype.type
    squares = column_dots(B, B)
    norms = np.sqrt(squares)
    scale = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
    v, before = B * scale.astype(kind), np.zeros_like(B)
    P, X = np.zeros_like(B), np.zeros_like(B)
    alphas: list[FloatArray] = []
    betas: list[FloatArray] = []
    beta, eta, zeta = np.zeros_like(norms), np.ones_like(norms), norms.copy()
    forms: FloatArray | None = None
    for step in range(MAX_STEPS):
        w = apply(v) if step else SB * scale.astype(kind)
        w -= before * beta.astype(kind)
        alpha = column_dots(v, w)
        w -= v * alpha.astype(kind)
        # I - T = LU: the new pivot, the coefficient of its direction, the direction
        pivot = (1.0 - alpha) - (beta**2 / eta if step else 0.0)
        if not np.all(pivot > 0):
            raise NumericalError("the Schur complement is not positive definite")
        zeta = zeta if step == 0 else zeta * beta / eta
        P = v + P * (beta / eta).astype(kind) if step else v.copy()
        X += P * (zeta / pivot).astype(kind)
        eta = pivot
        following = np.sqrt(column_dots(w, w))
        alphas.append(alpha)
        betas.append(following)
        residual = np.abs(zeta / eta) * following
        if np.all(residual <= solve_tolerance * norms):  # the forms are as good soon after; each look costs step³
            found = Tridiagonals(np.array(alphas), np.array(betas), squares, order)
            forms, last = found.forms(), found.forms(step) if forms is None and step else forms
            if last is not None and np.all(np.abs(forms - last) < form_tolerance):
                return LanczosResult(forms, X, found)
        alive = following > np.finfo(kind).eps * 1e-3
        inverse = np.divide(1.0, following, out=np.zeros_like(following), where=alive)
        before, v = v, w * inverse.astype(kind)
        beta = np.where(alive, following, 0.0)
    found = Tridiagonals(np.array(alphas), np.array(betas), squares, order)
    return LanczosResult(found.forms(), X, found)
