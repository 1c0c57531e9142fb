"""Kenward and Roger's adjusted covariance, degrees of freedom and F scaling, all in q-space.

Σ = Σ_r γ_r G_r is linear in γ: the entries of σ²Ω_t, and σ². Kenward and Roger (1997, Biometrics 53,
983-997), with I_rs = tr(P G_r P G_s), A = 2 I⁻¹, U_r and W_rs the whitened X'Σ⁻¹G_rΣ⁻¹X and
X'Σ⁻¹G_rΣ⁻¹G_sΣ⁻¹X, and Cov(β) = σ² K K':

    Φ_A = σ² K (1 + 2 Σ_rs A_rs (W_rs - U_r U_s)) K'

Nothing depends on the basis chosen for the G_r, so Σ itself stands for the residual direction: then
U = 1, W_0s = U_s, tr(Σ⁻¹Σ Σ⁻¹G_s) = tr(Σ⁻¹G_s), and no product with W⁻¹ is needed. The scaling of F
follows Halekoh and Højsgaard (2014, J. Stat. Softw. 59(9), section 4 and appendix).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparselmm._typing import FloatArray
from sparselmm.covariance import CovarianceStructure
from sparselmm.covariance.directions import covariance_basis, independent_rows
from sparselmm.exceptions import NumericalError, ParameterError, UnsupportedError
from sparselmm.inference.fixed.wald import FixedEffects, FTest, fixed_effects, rotate
from sparselmm.likelihood.information import Direction, omega_information
from sparselmm.likelihood.pls import PenalizedLeastSquares, PLSSolution
from sparselmm.likelihood.result import FitResult

CONDITION = 1e-10  # eigenvalues of the information, scaled to a unit diagonal, below this are rounding
ROW_TOL = 1e-8  # of rows of unit length that count as independent


@dataclass(frozen=True)
class KenwardRoger:
    """Tests by Kenward and Roger's method.

    Attributes
    ----------
    fixed : FixedEffects
        The estimates.
    adjusted : (p, p) array
        Φ_A.
    gradients : (n, p, p) array
        K U_r K', -1/σ² times Φ P_r Φ of the publications, along each variance parameter.
    weights : (n, n) array
        A, the covariance of the variance parameters.
    notes : tuple of str
        What the user should know.
    """

    fixed: FixedEffects
    adjusted: FloatArray
    gradients: FloatArray
    weights: FloatArray
    notes: tuple[str, ...] = ()
    name: str = "Kenward-Roger"

    def cov(self) -> FloatArray:
        """Return Φ_A."""
        return self.adjusted

    def row_df(self, L: FloatArray) -> FloatArray:
        """Return the degrees of freedom of each row: 2 / Σ A_rs a_r a_s, a_r = l'KU_rK'l / l'KK'l."""
        unit = self.fixed.cov / self.fixed.sigma**2
        variance = np.einsum("ra,ab,rb->r", L, unit, L)
        with np.errstate(divide="ignore", invalid="ignore"):
            a = np.einsum("ra,iab,rb->ri", L, self.gradients, L) / variance[:, None]
            out = 2.0 / np.einsum("ri,ij,rj->r", a, self.weights, a)
        return np.where(variance > 0, out, np.nan)

    def f_test(self, L: FloatArray, rhs: FloatArray) -> FTest:
        """Return the scaled F test."""
        unit = self.fixed.cov / self.fixed.sigma**2
        if len(rotate(L, self.fixed.cov, L @ self.fixed.beta - rhs).rows) < len(L):  # take a basis of the rows
            keep = independent_rows(L, ROW_TOL)
            L, rhs = L[keep], rhs[keep]
        q = len(L)
        root = np.linalg.cholesky(L @ unit @ L.T)
        w = np.linalg.solve(root, L)
        moved = w @ self.gradients @ w.T
        slopes = np.einsum("iaa->i", moved)
        A1 = float(slopes @ self.weights @ slopes)
        A2 = float(np.einsum("iab,jba,ij->", moved, moved, self.weights))
        den_df, scale = scaled_f(A1, A2, q)
        d = L @ self.fixed.beta - rhs
        wald = float(d @ np.linalg.solve(L @ self.adjusted @ L.T, d))
        return FTest(scale * wald / q, q, den_df, scale)


def scaled_f(A1: float, A2: float, q: int) -> tuple[float, float]:
    """Return denominator df and scale of F from Kenward and Roger's A1 and A2, for q rows.

    Examples
    --------
    >>> scaled_f(0.1, 0.1, 1)  # one row: 2/A2 degrees of freedom and no scaling
    (20.0, 1.0)
    """
    if q == 1:
        return 2.0 / A2 if A2 > 0 else float("inf"), 1.0
    if not A2 > 0:
        return float("inf"), 1.0
    B = (A1 + 6.0 * A2) / (2.0 * q)
    g = ((q + 1) * A1 - (q + 4) * A2) / ((q + 2) * A2)
    below = 3.0 * q + 2.0 * (1.0 - g)
    c1, c2, c3 = g / below, (q - g) / below, (q + 2 - g) / below
    v0, v1, v2 = 1.0 + c1 * B, 1.0 - c2 * B, 1.0 - c3 * B
    v0 = 0.0 if abs(v0) < 1e-10 else v0
    mean = 1.0 - A2 / q
    ratio = 1.0 if abs(mean) < 1e-14 and abs(v1) < 1e-14 else mean / v1
    rho = ratio**2 * v0 / v2 / q
    den_df = 4.0 + (q + 2) / (q * rho - 1.0)
    scale = 1.0 if abs(den_df - 2.0) < 1e-2 else den_df * mean / (den_df - 2.0)
    return float(den_df), float(scale)


def linear_directions(structure: CovarianceStructure) -> list[FloatArray]:
    """Return a basis of the covariances a structure can take, (k, k) each.

    Raises
    ------
    UnsupportedError
        When the covariances are not a linear family with as many dimensions as parameters.
    """
    basis = covariance_basis(structure)
    if len(basis) != structure.n_par:
        raise UnsupportedError(
            "Kenward and Roger's method needs covariances that are linear in their parameters, "
            f"which a random term here is not ({structure.n_par} parameters, {len(basis)} dimensions)"
        )
    return basis


def kenward_roger(result: FitResult) -> KenwardRoger:
    """Return the tests of a REML fit.

    Raises
    ------
    ParameterError
        For a maximum likelihood fit: the method is derived for REML estimates.

    Examples
    --------
    >>> import numpy as np, sparselmm as slm
    >>> fit = slm.lmer("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    >>> kenward_roger(fit.result).row_df(np.eye(2)).round(3)
    array([17., 17.])
    """
    if not result.criterion_type.reml:
        raise ParameterError(
            "Kenward and Roger's method is defined for REML fits; use fit.refit(reml=True), or ddf='satterthwaite'"
        )
    fixed = fixed_effects(result)
    with result.engine.locked() as pls:
        solution = pls.solve(result.par)
        U, W, information = relative_information(pls, solution)
    values = np.linalg.eigvalsh(information)
    if not np.all(np.isfinite(values)) or values[-1] <= 0:
        raise NumericalError("the information about the variance parameters is not positive at these estimates")
    notes: tuple[str, ...] = ()
    scale = 1.0 / np.sqrt(np.diag(information))
    unit = information * np.outer(scale, scale)
    if np.linalg.eigvalsh(unit)[0] < CONDITION:
        notes = ("Kenward-Roger: the information about the variance parameters is singular; it was inverted as far as "
                 "it has rank.",)  # fmt: skip
    # Φ_A = Φ + 2Φ Σ_ij A_ij (Q_ij - P_i Φ P_j) Φ, A = 2 I⁻¹ the covariance of the parameters; W and U are Q and P
    # between the factors of Φ = RX⁻¹RX⁻ᵀ (Kenward and Roger 1997, section 3)
    A = 2.0 * np.outer(scale, scale) * np.linalg.pinv(unit, rcond=CONDITION, hermitian=True)
    inner = np.einsum("ij,ijab->ab", A, W) - np.einsum("ij,iab,jbc->ac", A, U, U, optimize=True)
    root = pls.crossproducts.basis.matrix @ np.linalg.inv(solution.RX)
    adjusted = result.sigma**2 * root @ (np.eye(fixed.p) + inner + inner.T) @ root.T
    return KenwardRoger(fixed, (adjusted + adjusted.T) / 2.0, root @ U @ root.T, A, notes)


def relative_information(
    pls: PenalizedLeastSquares, solution: PLSSolution
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return U (n, p, p), W (n, n, p, p) and tr(P V_r P V_s) (n, n) along a linear basis, V itself last."""
    directions: list[Direction] = [
        (t, B) for t, s in enumerate(pls.parameters.structures) for B in linear_directions(s)
    ]
    info = omega_information(pls, solution, directions)
    sums = pls.system.information_sums()
    first = np.array([float(np.sum(sums[t] * B)) for t, B in directions])
    n, p = len(directions), pls.crossproducts.p
    U = np.concatenate([info.U, np.eye(p)[None]])
    W = np.empty((n + 1, n + 1, p, p))
    W[:n, :n] = info.W
    W[n, :n] = W[:n, n] = info.U
    W[n, n] = np.eye(p)
    traces = np.empty((n + 1, n + 1))
    traces[:n, :n] = info.projected_traces
    # P V P = P, so tr(P V_r P V) = tr(P V_r)
    traces[n, :n] = traces[:n, n] = first - np.einsum("iaa->i", info.U)
    traces[n, n] = pls.crossproducts.n - p
    return U, W, traces
