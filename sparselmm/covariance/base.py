"""What the rest of the package asks of a covariance structure.

The conditional modes of one level have covariance ``sigma² Ω``. A structure maps its free parameters
``par`` to Ω and to a lower-triangular template T with ``T T' = Ω``, and gives the derivatives of Ω: those
of T may be infinite where Ω is singular, and gradient, information and curvature need Ω only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np

from sparselmm._typing import BoolArray, FloatArray, IntArray

RANK_TOL = 1e-4  # sd relative to σ, in units of a level's information, that counts as zero


class FreeEntry(NamedTuple):
    """A standard deviation (``row == col``) or correlation (``row > col``) that a structure leaves free.

    ``parameter`` is the position in ``par`` of the parameter that is just this, relative to σ; None where it is
    a function of several, or another function of one.
    """

    row: int
    col: int
    parameter: int | None = None


class CovarianceStructure(ABC):
    """A family of k×k covariances, relative to σ².

    ``par`` may have leading axes in `template`, `domega`, `curvature` and `typical`, for many points at once;
    results have the same ones.
    """

    k: int  #: number of coefficients

    # --- parameters ------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def n_par(self) -> int:
        """Number of free parameters."""

    @abstractmethod
    def start(self) -> FloatArray:
        """Return default parameters, (n_par,): those of the identity."""

    def lower(self) -> FloatArray:
        """Return lower bounds for a search without derivatives, (n_par,); -inf where there is none."""
        return np.full(self.n_par, -np.inf)

    def upper(self) -> FloatArray:
        """Return upper bounds for a search without derivatives, (n_par,); inf where there is none."""
        return np.full(self.n_par, np.inf)

    def box(self) -> tuple[FloatArray, FloatArray]:
        """Return the bounds that Newton's steps must keep, (n_par,) each; none where signs are folded."""
        return np.full(self.n_par, -np.inf), np.full(self.n_par, np.inf)

    def typical(self, par: FloatArray, rows: FloatArray) -> FloatArray:
        """Return changes of the parameters that matter, (..., n_par).

        ``rows``, (..., k), are the lengths of the rows of T, at least a fraction of what the data could see.
        """
        return np.ones(np.shape(par))

    def canonical(self, par: FloatArray) -> FloatArray:
        """Return the unique parameters of the same Ω."""
        return np.array(par, dtype=float)

    @abstractmethod
    def nearest(self, covariance: FloatArray) -> FloatArray:
        """Return canonical parameters whose Ω matches a (k, k) covariance as well as the structure can."""

    # --- Ω and its derivatives -------------------------------------------------------------------------

    @abstractmethod
    def template(self, par: FloatArray) -> FloatArray:
        """Return T, (..., k, k): lower triangular with T T' = Ω, singular where Ω is."""

    @abstractmethod
    def domega(self, par: FloatArray) -> FloatArray:
        """Return ∂Ω, (..., n_par, k, k)."""

    @abstractmethod
    def curvature(self, par: FloatArray, S: FloatArray) -> FloatArray:
        """Return <S, ∂∂Ω>, (..., n_par, n_par), for symmetric S, (..., k, k)."""

    def directions(self, par: FloatArray) -> FloatArray:
        """Return changes of Ω, (n_par, k, k), that span those to consider at ``par``.

        Where the covariances fill a linear space they are a basis of it, whatever ``par``.
        """
        return self.domega(par)

    @property
    def is_linear(self) -> bool:
        """Whether the covariances fill a linear space, of which `directions` are a basis."""
        return False

    @property
    def is_unrestricted(self) -> bool:
        """Whether every positive semidefinite covariance belongs, so that the family is one in all coordinates."""
        return False

    def descent(self, par: FloatArray, S: FloatArray) -> FloatArray:
        """Return the admissible unit change of Ω, (k, k), along which <S, dΩ> is smallest.

        It is asked for where Ω is singular; zero says that the derivatives along the parameters see all changes.
        """
        return np.zeros((self.k, self.k))

    # --- rank ------------------------------------------------------------------------------------------

    @property
    def rank(self) -> int:
        """Largest rank of Ω, k unless the structure is of reduced rank."""
        return self.k

    def is_singular(self, T: FloatArray, scale: FloatArray) -> BoolArray:
        """Return whether templates, (..., k, k), have (relatively) zero pivots that the structure does not ask for."""
        return np.asarray(zero_pivots(T, scale) > self.k - self.rank)

    # --- what is reported ------------------------------------------------------------------------------

    @property
    def n_theta(self) -> int:
        """Number of reported parameters."""
        return self.n_par

    def theta(self, par: FloatArray) -> FloatArray:
        """Return the reported parameters, (n_theta,), of the free ones."""
        return np.array(par, dtype=float)

    def par(self, theta: FloatArray) -> FloatArray:
        """Return the free parameters of the reported ones (inverse of `theta`)."""
        return np.array(theta, dtype=float)

    def dtheta(self, par: FloatArray) -> FloatArray:
        """Return the derivatives of `theta`, (n_theta, n_par); NaN where there are none."""
        return np.eye(self.n_par)

    @abstractmethod
    def theta_names(self, label: str, columns: tuple[str, ...]) -> tuple[str, ...]:
        """Return names of the reported parameters, as lme4 spells those that it has."""

    @abstractmethod
    def entries(self) -> tuple[FreeEntry, ...]:
        """Return the free standard deviations and correlations of Ω.

        Standard deviations come first, correlations by columns. A coefficient without a standard deviation of
        its own shares that of the entry before it.
        """

    def reported_template(self, par: FloatArray) -> FloatArray:
        """Return the template in the user's coordinates, (k, k); `template` may use others."""
        return self.template(par)

    def reported_modes(self, modes: FloatArray) -> FloatArray:
        """Return conditional modes (m, k) in the user's coordinates."""
        return modes


def zero_pivots(T: FloatArray, scale: FloatArray) -> IntArray:
    """Return how many pivots of templates, (..., k, k), are (relatively) zero."""
    pivots = np.abs(np.diagonal(T, axis1=-2, axis2=-1))
    return np.asarray(np.count_nonzero(pivots * scale < RANK_TOL, axis=-1))


def lower_factor(covariance: FloatArray, tol: float = 1e-14) -> FloatArray:
    """Return the lower-triangular T >= 0 on the diagonal with T T' = covariance.

    Works for positive semidefinite input: a column whose pivot is below ``tol`` of the
    largest variance is zero.
    """
    k = len(covariance)
    T = np.zeros((k, k))
    floor = tol * max(float(np.max(np.diag(covariance))), 0.0)
    for j in range(k):
        pivot = covariance[j, j] - T[j, :j] @ T[j, :j]
        if pivot > floor:
            T[j, j] = np.sqrt(pivot)
            T[j + 1 :, j] = (covariance[j + 1 :, j] - T[j + 1 :, :j] @ T[j, :j]) / T[j, j]
    return T


def triangular(A: FloatArray) -> FloatArray:
    """Return the lower triangular T with T T' = A A' and a non-negative diagonal."""
    R = np.linalg.qr(A.T, mode="r")
    signs = np.where(np.diag(R) < 0, -1.0, 1.0)
    out: FloatArray = (signs[:, None] * R).T
    return out
