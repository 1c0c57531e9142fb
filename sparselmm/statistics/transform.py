"""The coordinates in which cross-products are summed, and the exact way from one to another.

Rows enter as ``r = [X, y - o] M`` with ``M = [[C, -C b0], [0, 1]]`` and the rows of a term as ``Z R``. Sums in the
coordinates M1 become those of M2 by ``K = inv(M1) M2``, which is formed from the differences of centres and of b0 and
so is a small perturbation of a scaled identity: no digits go, while raw sums would lose most of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import solve_triangular

from sparselmm._typing import FloatArray
from sparselmm.covariance import make_structure
from sparselmm.data.rows import DesignTerm, GroupedTerm, Rows

NARROW = 6  # up to so many columns of X are transformed one by one, which is faster than row by row
FAR = 10.0  # a column of Z is centred when its mean exceeds so many standard deviations


@dataclass(frozen=True)
class FixedTransform:
    """How X and y were transformed before their products were summed.

    The transformed matrix is ``X_t = X C = (X - x0 c')·diag(s)·mix``, x0 the constant column.

    Attributes
    ----------
    position : int
        The constant column of X; -1 without one.
    centre : (p,) array
        c, multiples of the constant column; zero for itself.
    scale : (p,) array
        s, powers of two.
    mix : (p, p) array or None
        Upper triangular, makes nearly dependent columns orthogonal; None where they are not.
    b0 : (p,) array
        Coefficients of X_t whose fit was subtracted from ``y - offset``.
    """

    position: int
    centre: FloatArray
    scale: FloatArray
    b0: FloatArray
    mix: FloatArray | None = None

    @property
    def logdet(self) -> float:
        """``-2 log|det C|``, what the transformation takes from log|X'V⁻¹X|."""
        mixed = 0.0 if self.mix is None else float(np.log(np.abs(np.diag(self.mix))).sum())
        return -2.0 * (float(np.sum(np.log(self.scale))) + mixed)

    @property
    def matrix(self) -> FloatArray:
        """C, (p, p)."""
        C = np.diag(self.scale)
        if self.position >= 0:
            C[self.position] -= self.centre * self.scale
        return C if self.mix is None else C @ self.mix

    def apply(self, X: FloatArray, out: FloatArray | None = None) -> FloatArray:
        """Return X_t of rows of X, in ``out`` where it is given."""
        out = np.empty(X.shape) if out is None else out
        if len(self.scale) <= NARROW:
            for j, (c, s) in enumerate(zip(self.centre, self.scale)):
                x = X[:, j] - X[:, self.position] * c if c else X[:, j]
                np.multiply(x, s, out=out[:, j])
        elif self.position < 0 or not self.centre.any():
            np.multiply(X, self.scale, out=out)
        else:
            np.multiply(X - X[:, self.position, None] * self.centre, self.scale, out=out)
        if self.mix is not None:
            out[:] = out @ self.mix
        return out

    def coefficients(self, gamma: FloatArray) -> FloatArray:
        """Return β of coefficients γ of the transformed problem."""
        out: FloatArray = self.matrix @ (self.b0 + gamma)
        return out

    def change(self, other: FixedTransform) -> FloatArray:
        """Return K, (p + 1, p + 1), that takes rows in these coordinates to those of another transformation.

        ``K = [[A, b0 - A b0'], [0, 1]]`` with ``A = inv(C) C'`` and b0' the other one's.
        """
        p = len(self.scale)
        A = _shear(self.position, self.centre, other.position, other.centre, p) * other.scale
        A /= self.scale[:, None]
        if self.mix is not None:
            A = solve_triangular(self.mix, A)
        if other.mix is not None:
            A = A @ other.mix
        K = np.eye(p + 1)
        K[:p, :p], K[:p, p] = A, self.b0 - A @ other.b0
        return K


def _shear(position: int, multiples: FloatArray, new_position: int, new_multiples: FloatArray, k: int) -> FloatArray:
    """Return inv(I - e c') (I - e' c''), (k, k): columns centred by c, to columns centred by c''."""
    if position == new_position or not multiples.any() or not new_multiples.any():
        out = np.eye(k)
        if position == new_position and position >= 0:
            out[position] += multiples - new_multiples
        elif multiples.any():
            out[position] += multiples
        elif new_multiples.any():
            out[new_position] -= new_multiples
        return out
    first, second = np.eye(k), np.eye(k)
    first[position] += multiples
    second[new_position] -= new_multiples
    return first @ second


@dataclass(frozen=True)
class Centre:
    """Multiples of a term's constant column that were taken from its columns far from zero.

    Attributes
    ----------
    position : int
        The constant column.
    multiples : tuple of float
        One per column; zero for columns left as they are.
    """

    position: int
    multiples: tuple[float, ...]


def centre_change(old: Centre | None, new: Centre | None, k: int) -> FloatArray:
    """Return R, (k, k), with ``Z_new = Z_old R`` for the columns of one term."""
    (i, a), (j, b) = ((-1, np.zeros(k)) if c is None else (c.position, np.array(c.multiples)) for c in (old, new))
    return _shear(i, a, j, b, k)


def find_centre(term: DesignTerm) -> Centre | None:
    """Return the centring of a term with columns far from zero beside a constant one, or None."""
    if not isinstance(term, GroupedTerm) or term.k == 1:
        return None
    if not make_structure(term.structure, term.k).is_unrestricted:  # another model in other coordinates
        return None
    position = constant_column(term.Z)
    if position < 0:
        return None
    mean, sd = term.Z.mean(axis=0), term.Z.std(axis=0)
    far = (np.abs(mean) > FAR * sd) & (sd > 0)
    far[position] = False
    centre = np.where(far, rounded(mean, sd) / term.Z[0, position], 0.0)
    return Centre(position, tuple(float(c) for c in centre)) if centre.any() else None


def with_centred_terms(observed: Rows, centres: tuple[Centre | None, ...]) -> Rows:
    """Return the rows with Z in the coordinates of the cross-products."""
    if not any(centres):
        return observed
    terms = []
    for term, centre in zip(observed.terms, centres):
        if centre is not None and isinstance(term, GroupedTerm):
            Z = term.Z - np.outer(term.Z[:, centre.position], centre.multiples)
            term = replace(term, Z=Z)
        terms.append(term)
    return replace(observed, terms=tuple(terms))


def rounded(values: FloatArray, granularity: FloatArray) -> FloatArray:
    """Return values rounded to multiples of the power of two not above the granularity."""
    unit = np.exp2(np.floor(np.log2(np.where(granularity > 0, granularity, 1.0))))
    out: FloatArray = np.round(values / unit) * unit
    return out


def constant_column(A: FloatArray) -> int:
    """Return the position of a constant, nonzero column of A, -1 without one."""
    if not len(A):
        return -1
    for j in np.flatnonzero(A[0]):
        if np.all(A[:, j] == A[0, j]):
            return int(j)
    return -1
