"""The parameter vector of a model, split between the structures of its terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np

from sparselmm._typing import BoolArray, FloatArray, IntArray, frozen
from sparselmm.covariance.base import CovarianceStructure
from sparselmm.exceptions import ParameterError

Matrices = tuple[FloatArray, ...]


@dataclass(frozen=True)
class ParameterMap:
    """Splits the parameter vector of a model between its terms."""

    structures: tuple[CovarianceStructure, ...]

    @property
    def n_par(self) -> int:
        """Length of ``par``."""
        return sum(s.n_par for s in self.structures)

    @property
    def n_theta(self) -> int:
        """Length of ``theta``."""
        return sum(s.n_theta for s in self.structures)

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """The parameters of each term in ``par``."""
        ends = list(accumulate(s.n_par for s in self.structures))
        return tuple(slice(end - s.n_par, end) for s, end in zip(self.structures, ends))

    def split(self, par: FloatArray) -> list[FloatArray]:
        """Return the parameters of each term, (..., n_par of the term)."""
        return [par[..., here] for here in self.slices]

    def templates(self, par: FloatArray) -> Matrices:
        """Return the templates of all terms."""
        return tuple(s.template(x) for s, x in zip(self.structures, self.split(par)))

    def reported_templates(self, par: FloatArray) -> Matrices:
        """Return the templates of all terms in the user's coordinates."""
        return tuple(s.reported_template(x) for s, x in zip(self.structures, self.split(par)))

    @property
    def maps(self) -> Matrices:
        """The matrix C of each term, (k, k), that makes coefficients in the user's coordinates: b = C b_c."""
        return tuple(s.reported_modes(np.eye(s.k)).T for s in self.structures)

    @property
    def deficits(self) -> tuple[int, ...]:
        """By how much the rank of each Ω falls short of k by design."""
        return tuple(s.k - s.rank for s in self.structures)

    def reported_modes(self, b: FloatArray, offsets: IntArray) -> FloatArray:
        """Return conditional modes, (q,), in the user's coordinates; term t has b[offsets[t]:offsets[t + 1]]."""
        parts = np.split(b, offsets[1:-1])
        modes = [s.reported_modes(x.reshape(-1, s.k)).ravel() for s, x in zip(self.structures, parts)]
        return np.concatenate(modes)

    def theta(self, par: FloatArray) -> FloatArray:
        """Return lme4's θ of the free parameters."""
        return np.concatenate([s.theta(x) for s, x in zip(self.structures, self.split(par))])

    def par(self, theta: FloatArray | Sequence[float]) -> FloatArray:
        """Return the free parameters of θ; a wrong length or a value that is not finite is an error."""
        theta = np.asarray(theta, dtype=float)
        if theta.shape != (self.n_theta,):
            raise ParameterError(f"theta must have {self.n_theta} values, not {theta.size} (shape {theta.shape})")
        if not np.all(np.isfinite(theta)):
            raise ParameterError(f"theta must be finite, not {theta}")
        parts = np.split(theta, np.cumsum([s.n_theta for s in self.structures])[:-1])
        return np.concatenate([s.par(x) for s, x in zip(self.structures, parts)])

    def lower(self) -> FloatArray:
        """Return the lower bounds of ``par``."""
        return np.concatenate([s.lower() for s in self.structures])

    def upper(self) -> FloatArray:
        """Return the upper bounds of ``par``."""
        return self._upper

    @cached_property
    def _upper(self) -> FloatArray:
        return frozen(np.concatenate([s.upper() for s in self.structures]))

    def box(self) -> tuple[FloatArray, FloatArray] | None:
        """Return the bounds that Newton's steps must keep, None where there are none."""
        return self._box

    @cached_property
    def _box(self) -> tuple[FloatArray, FloatArray] | None:
        low, high = (np.concatenate(each) for each in zip(*(s.box() for s in self.structures)))
        return (low, high) if np.isfinite(low).any() or np.isfinite(high).any() else None

    def typical(self, par: FloatArray, scales: Sequence[FloatArray]) -> FloatArray:
        """Return changes of the parameters that matter, (n_par,).

        Rows of T count with their length, at least half of what ``scales``, the roots of the mean diagonals of
        Z'WZ, (k,) each, could see.
        """
        parts = []
        for structure, x, scale in zip(self.structures, self.split(par), scales):
            rows = np.maximum(np.sqrt((structure.template(x) ** 2).sum(axis=-1)), 0.5 / scale)
            parts.append(structure.typical(x, rows))
        return np.concatenate(parts, axis=-1)

    def start(self) -> FloatArray:
        """Return the default start, identity templates."""
        return np.concatenate([s.start() for s in self.structures])

    def nearest(self, covariances: Sequence[FloatArray]) -> FloatArray:
        """Return parameters that match a covariance of each term, (k, k), as well as the structures can."""
        return np.concatenate([s.nearest(omega) for s, omega in zip(self.structures, covariances)])

    def canonical(self, par: FloatArray) -> FloatArray:
        """Return the parameters of the same covariances in the unique form."""
        return np.concatenate([s.canonical(x) for s, x in zip(self.structures, self.split(par))])

    def is_singular(self, par: FloatArray, scales: Sequence[FloatArray]) -> BoolArray:
        """Return whether some term has a (relatively) singular Ω that its structure does not ask for, (...)."""
        each = [s.is_singular(T, c) for s, T, c in zip(self.structures, self.templates(par), scales)]
        return np.asarray(np.any(each, axis=0))
