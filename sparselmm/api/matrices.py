"""Access to the matrices of a fit: what lme4 offers as ``getME``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp

from sparselmm._typing import FloatArray, IntArray
from sparselmm.api.estimates import Estimates
from sparselmm.data.rows import Rows
from sparselmm.exceptions import ParameterError
from sparselmm.linalg import make_system
from sparselmm.linalg.blocks import apply_transposed
from sparselmm.linalg.protocol import factorization_of
from sparselmm.statistics.crossproducts import CrossProducts

NO_FACTOR = "L, P and RZX belong to a Cholesky factor of all random effects"


class Matrices(Estimates):
    """Mixin of `MixedModelFit` with its design and factor matrices."""

    @property
    def X(self) -> FloatArray:
        """Fixed-effects matrix, (n, p)."""
        return self.result.observed("matrices").X

    @property
    def Z(self) -> sp.csr_array:
        """Random-effects matrix, (n, q), columns term by term and level by level."""
        return sp.csr_array(sp.hstack([t.to_sparse() for t in self.result.observed("matrices").terms], format="csr"))

    @property
    def Lambda(self) -> sp.csr_array:
        """Relative covariance factor Λ(θ), (q, q), lower triangular and block diagonal."""
        templates = self.problem.engine.parameters.reported_templates(self.result.par)
        blocks = [sp.kron(sp.eye_array(t.m), T) for t, T in zip(self.result.layout.terms, templates)]
        return sp.csr_array(sp.block_diag(blocks, format="csr"))

    @property
    def L(self) -> sp.csc_array:
        """Sparse lower Cholesky factor with L L' = P(Λ'Z'WZΛ + I)P', (q, q)."""
        return sp.csc_array(self._cholesky()[0])

    @property
    def P(self) -> IntArray:
        """The fill-reducing permutation of `L`, (q,)."""
        return np.asarray(self._cholesky()[1])

    def _cholesky(self) -> tuple[Any, Any]:
        """Return L and P in the user's coordinates."""
        parameters = self.problem.engine.parameters
        templates = parameters.reported_templates(self.result.par)
        with self.problem.engine.locked() as pls:
            system = pls.system
            if any(self.problem.engine.crossproducts.centres):
                system = make_system(self._plain_crossproducts.gram, system.name)
            factorization = factorization_of(system, NO_FACTOR)
            system.refactor(templates)
            return factorization.factor()

    @property
    def _plain_crossproducts(self) -> CrossProducts:
        """Cross-products with Z as the user wrote it."""
        xp = self.problem.engine.crossproducts
        if not any(xp.centres):
            return xp
        observed = self.result.observed("matrices")
        return CrossProducts.from_rows(observed, xp.basis, (None,) * len(observed.terms))

    @property
    def RX(self) -> FloatArray:
        """Upper triangular Cholesky factor of X'(W⁻¹ + ZΛΛ'Z')⁻¹X, (p, p)."""
        return self.result.RX

    @property
    def RZX(self) -> FloatArray:
        """L⁻¹PΛ'Z'WX, (q, p)."""
        xp = self._plain_crossproducts
        templates = self.problem.engine.parameters.reported_templates(self.result.par)
        L, P = self._cholesky()
        ZtWX = np.asarray(np.linalg.solve(xp.basis.matrix.T, xp.ZtWXy[:, :-1].T).T, dtype=np.float64)
        C = apply_transposed(ZtWX, templates, xp.gram)
        return np.asarray(sp.linalg.spsolve_triangular(sp.csr_array(L), C[P], lower=True))

    def _spherical(self) -> FloatArray:
        """Return u with b = Λu, (q,); in a direction without variance, zero."""
        r = self.result
        parts = np.split(r.b, self.problem.engine.crossproducts.gram.offsets[1:-1])
        templates = self.problem.engine.parameters.reported_templates(r.par)
        return np.concatenate([(b.reshape(-1, len(T)) @ np.linalg.pinv(T).T).ravel() for b, T in zip(parts, templates)])

    def devcomp(self) -> dict[str, float]:
        """Return the parts of the criterion: ldL2, ldRX2, wrss, ussq, pwrss, sigmaML, sigmaREML."""
        r = self.result
        n, p = r.n, r.p
        ussq = float(r.u @ r.u)
        return {
            "ldL2": r.ldL2,
            "ldRX2": r.ldRX2,
            "wrss": r.pwrss - ussq,
            "ussq": ussq,
            "pwrss": r.pwrss,
            "sigmaML": float(np.sqrt(r.pwrss / n)),
            "sigmaREML": float(np.sqrt(r.pwrss / (n - p))),
        }

    def getME(self, name: str | Sequence[str]) -> Any:
        """Return a component by lme4's name; for several names, a dict.

        Parameters
        ----------
        name : str or sequence of str
            Any of ``X``, ``Z``, ``Zt``, ``Ztlist``, ``y``, ``mu``, ``u``, ``b``, ``theta``, ``beta``, ``fixef``,
            ``sigma``, ``Lambda``, ``Lambdat``, ``L``, ``P``, ``RX``, ``RZX``, ``cnms``, ``flist``, ``Gp``, ``Tlist``,
            ``weights``, ``offset``, ``n``, ``p``, ``q``, ``devcomp``.
        """
        layout, r = self.result.layout, self.result

        def observed() -> Rows:
            return self.result.observed("vectors of the rows")

        table = {
            "X": lambda: self.X,
            "Z": lambda: self.Z,
            "Zt": lambda: self.Z.T.tocsr(),
            "Ztlist": lambda: {t.name: t.to_sparse().T.tocsr() for t in observed().terms},
            "y": lambda: observed().y,
            "mu": lambda: r.linear_predictor,
            "u": self._spherical,
            "b": lambda: r.b,
            "theta": lambda: r.theta,
            "beta": lambda: r.beta,
            "fixef": lambda: dict(zip(layout.columns, r.beta)),
            "sigma": lambda: r.sigma,
            "Lambda": lambda: self.Lambda,
            "Lambdat": lambda: self.Lambda.T.tocsr(),
            "L": lambda: self.L,
            "P": lambda: self.P,
            "RX": lambda: self.RX,
            "RZX": lambda: self.RZX,
            "cnms": lambda: {t.name: list(t.columns) for t in layout.terms},
            "flist": lambda: {t.label: getattr(t, "codes", None) for t in observed().terms},
            "Gp": lambda: self.problem.engine.crossproducts.gram.offsets,
            "Tlist": lambda: dict(
                zip((t.name for t in layout.terms), self.problem.engine.parameters.reported_templates(r.par))
            ),
            "weights": lambda: np.ones(r.n) if observed().weights is None else observed().weights,
            "offset": lambda: np.zeros(r.n) if observed().offset is None else observed().offset,
            "n": lambda: r.n,
            "p": lambda: r.p,
            "q": lambda: layout.q,
            "devcomp": self.devcomp,
        }
        names = list(name) if isinstance(name, list | tuple) else [name]
        unknown = [one for one in names if not isinstance(one, str) or one not in table]
        if unknown:
            raise ParameterError(f"unknown component {unknown[0]!r}; there are {', '.join(table)}")
        found = {str(one): table[str(one)]() for one in names}
        return found[name] if isinstance(name, str) else found
