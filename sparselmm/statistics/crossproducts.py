"""Cross-products of the design: everything the criterion needs of the n rows, formed once.

Columns of X far from zero are centred (where X has a constant column) and scaled, and the response
enters as ``y - o - X b0`` with b0 the weighted least-squares fit, so the sums hold no large common
parts that would cancel (architecture, "numerical guard"). Centres are rounded to few binary digits
and scales are powers of two: products of integers and dummies stay exact. `FixedTransform` undoes both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from scipy.linalg import solve_triangular

from sparselmm._typing import FloatArray, frozen
from sparselmm.covariance import make_structure
from sparselmm.data.rows import DesignTerm, GroupedTerm, Rows, is_ones_column
from sparselmm.data.tables.codes import chunks
from sparselmm.linalg.blocks import BlockGram, BlockPairs
from sparselmm.linalg.cells import CodedRows, add_level_sums, cells, level_blocks, level_sums, many
from sparselmm.linalg.rank import triangular_factor

CHUNK_ROWS = 262_144
NEAR = 1.0  # a column of X is centred when its mean exceeds so many standard deviations
NEARLY_DEPENDENT = 1e3  # condition of the centred and scaled X beyond which its columns are made orthogonal
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


@dataclass(frozen=True)
class CrossProducts:
    """Sufficient statistics of the rows of a design.

    Attributes
    ----------
    gram : BlockGram
        Z'WZ by blocks.
    ZtWXy : (q, p + 1) array
        Z'W[X y], transformed.
    XytWXy : (p + 1, p + 1) array
        [X y]'W[X y], transformed.
    n, p : int
        Rows and fixed-effects columns.
    sum_log_weights : float
        Σ log w.
    basis : FixedTransform
        The transformation of X and y.
    centres : tuple of Centre or None
        The transformation of each term's Z.
    """

    gram: BlockGram
    ZtWXy: FloatArray
    XytWXy: FloatArray
    n: int
    p: int
    sum_log_weights: float
    basis: FixedTransform
    centres: tuple[Centre | None, ...] = ()

    @classmethod
    def from_rows(
        cls, observed: Rows, basis: FixedTransform | None = None, centres: tuple[Centre | None, ...] | None = None
    ) -> CrossProducts:
        """Sum the products of all rows, in chunks; ``basis`` and ``centres`` fix the transformations."""
        centres = tuple(find_centre(t) for t in observed.terms) if centres is None else centres
        observed = with_centred_terms(observed, centres)
        basis = basis or pilot_basis(observed)
        m, k = tuple(t.m for t in observed.terms), tuple(t.k for t in observed.terms)
        offsets = np.concatenate([[0], np.cumsum(np.array(m, dtype=np.int64) * np.array(k, dtype=np.int64))])
        p = observed.p
        ZtWXy = np.zeros((int(offsets[-1]), p + 1))
        XytWXy = np.zeros((p + 1, p + 1))
        for rows in chunks(observed.n, CHUNK_ROWS):
            Xy, WXy = transformed(observed, basis, rows)
            XytWXy += Xy.T @ WXy
            for t, term in enumerate(observed.terms):
                add_term_products(term, WXy, rows, ZtWXy[offsets[t] : offsets[t + 1]])
        pairs = {
            (i, j): _pair_products(observed.terms[i], observed.terms[j], observed.weights)
            for i in range(len(m))
            for j in range(i + 1)
        }
        return cls(
            gram=BlockGram(m, k, pairs),
            ZtWXy=frozen(ZtWXy),
            XytWXy=frozen(XytWXy),
            n=observed.n,
            p=p,
            sum_log_weights=sum_of_logs(observed.weights),
            basis=basis,
            centres=centres,
        )

    def with_response(self, observed: Rows, y: FloatArray) -> CrossProducts:
        """Return the cross-products of the same design with another response; Z and X parts are shared."""
        observed = with_centred_terms(replace(observed, y=y), self.centres)
        p = self.p
        basis = replace(self.basis, b0=np.zeros(p))
        right = np.zeros(p)
        for rows in chunks(observed.n, CHUNK_ROWS):
            Xy, WXy = transformed(observed, basis, rows)
            right += Xy[:, :p].T @ WXy[:, p]
        if p:
            basis = replace(basis, b0=frozen(np.linalg.lstsq(self.XytWXy[:p, :p], right)[0]))
        ZtWXy, XytWXy, Zty = self.ZtWXy.copy(), self.XytWXy.copy(), np.zeros((self.gram.q, 1))
        XytWXy[p], XytWXy[:, p] = 0.0, 0.0
        for rows in chunks(observed.n, CHUNK_ROWS):
            Xy, WXy = transformed(observed, basis, rows)
            XytWXy[:, p] += Xy.T @ WXy[:, p]
            for t, term in enumerate(observed.terms):
                a, b = self.gram.offsets[t], self.gram.offsets[t + 1]
                add_term_products(term, WXy[:, p:], rows, Zty[a:b])
        ZtWXy[:, p:], XytWXy[p] = Zty, XytWXy[:, p]
        return replace(self, ZtWXy=frozen(ZtWXy), XytWXy=frozen(XytWXy), basis=basis)

    def __add__(self, other: CrossProducts) -> CrossProducts:
        """Add the statistics of further rows summed with the same basis, levels and columns."""
        same = all(
            np.array_equal(getattr(self.basis, x), getattr(other.basis, x)) for x in ("centre", "scale", "b0", "mix")
        )
        if not same or self.centres != other.centres or self.gram.m != other.gram.m or self.gram.k != other.gram.k:
            raise ValueError("cross-products can only be added when they share basis, levels and columns")
        pairs = {key: _merge(self.gram.pairs[key], other.gram.pairs[key]) for key in self.gram.pairs}
        return CrossProducts(
            gram=BlockGram(self.gram.m, self.gram.k, pairs),
            ZtWXy=frozen(self.ZtWXy + other.ZtWXy),
            XytWXy=frozen(self.XytWXy + other.XytWXy),
            n=self.n + other.n,
            p=self.p,
            sum_log_weights=self.sum_log_weights + other.sum_log_weights,
            basis=self.basis,
            centres=self.centres,
        )


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


def sum_of_logs(weights: FloatArray | None) -> float:
    """Return Σ log w."""
    return 0.0 if weights is None else float(np.sum(np.log(weights)))


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


def pilot_basis(observed: Rows) -> FixedTransform:
    """Return centres and scales from the first rows and the least-squares fit of all of them."""
    p = observed.p
    if p == 0:
        return FixedTransform(-1, np.zeros(0), np.zeros(0), np.zeros(0))
    head = observed.X[:CHUNK_ROWS]
    position = constant_column(observed.X)
    mean, sd = head.mean(axis=0), head.std(axis=0)
    centre = np.zeros(p)
    if position >= 0:
        far = np.abs(mean) > NEAR * sd
        far[position] = False
        centre[far] = rounded(mean, sd)[far] / observed.X[0, position]
    size = np.sqrt((head**2).mean(axis=0) if position < 0 else np.where(centre != 0, sd**2, (head**2).mean(axis=0)))
    scale = np.exp2(-np.floor(np.log2(np.where(size > 0, size, 1.0))))
    basis = FixedTransform(position, frozen(centre), frozen(scale), np.zeros(p))
    R = np.zeros((0, p + 1))
    for rows in chunks(observed.n, CHUNK_ROWS):
        Xy, _ = transformed(observed, basis, rows)
        if observed.weights is not None:
            Xy *= np.sqrt(observed.weights[rows])[:, None]
        R = triangular_factor(np.vstack([R, Xy]) if len(R) else Xy)
    Rx = R[:p, :p]
    if np.linalg.cond(Rx) < NEARLY_DEPENDENT:
        return replace(basis, b0=frozen(solve_triangular(Rx, R[:p, p])))
    # cross-products square the condition of X: orthogonal columns keep what the rounding would take
    return replace(basis, b0=frozen(R[:p, p].copy()), mix=frozen(solve_triangular(Rx, np.eye(p))))


def _centred(observed: Rows, rows: slice) -> FloatArray:
    return observed.y[rows] if observed.offset is None else observed.y[rows] - observed.offset[rows]


def transformed(observed: Rows, basis: FixedTransform, rows: slice) -> tuple[FloatArray, FloatArray]:
    """Return the transformed [X y] and W[X y] of a chunk of rows, each (c, p + 1)."""
    p = observed.p
    Xy = np.empty((rows.stop - rows.start, p + 1))
    fixed = basis.apply(observed.X[rows], Xy[:, :p])
    Xy[:, p] = _centred(observed, rows)
    if basis.b0.any():
        Xy[:, p] -= fixed @ basis.b0
    if observed.weights is None:
        return Xy, Xy
    return Xy, Xy * observed.weights[rows, None]


def coded(term: GroupedTerm, rows: slice = slice(None)) -> CodedRows:
    """Return the rows of a term, a column of ones as None."""
    return CodedRows(term.codes[rows], term.m, None if is_ones_column(term.Z) else term.Z[rows])


def add_term_products(term: DesignTerm, WXy: FloatArray, rows: slice, out: FloatArray) -> None:
    """Add Z_t'W[X y] of a chunk of rows to out, (m*k, r)."""
    if not isinstance(term, GroupedTerm):
        out += term.matrix[rows].T @ WXy
    elif many(len(term.codes)):
        add_level_sums(coded(term, rows), WXy, out.reshape(term.m, term.k, -1))
    else:
        out += level_sums(coded(term, rows), WXy).reshape(out.shape)


def _pair_products(a: DesignTerm, b: DesignTerm, weights: FloatArray | None) -> BlockPairs:
    """Return the blocks of Z_a'W Z_b (lower levels only when a is b)."""
    if not (isinstance(a, GroupedTerm) and isinstance(b, GroupedTerm)):
        return _sparse_pair_products(a, b, weights)
    left = coded(a)
    if a is b or a.codes is b.codes:
        return level_blocks(left, left if a is b else coded(b), weights)
    return cells(left, coded(b), weights)


def _sparse_pair_products(a: DesignTerm, b: DesignTerm, weights: FloatArray | None) -> BlockPairs:
    """Return the blocks of Z_a'W Z_b for terms given as sparse matrices."""
    left = a.to_sparse()
    if weights is not None:
        left = sp.diags_array(weights) @ left
    C = sp.coo_array(left.T @ b.to_sparse())
    rows, cols = C.row.astype(np.int64), C.col.astype(np.int64)
    br, bc = rows // a.k, cols // b.k
    values = C.data
    if a is b:
        keep = br >= bc
        rows, cols, br, bc, values = rows[keep], cols[keep], br[keep], bc[keep], values[keep]
    keys = br * b.m + bc
    if a is b:  # every diagonal block is stored, also of a level that no row touches
        keys = np.concatenate([keys, np.arange(a.m, dtype=np.int64) * (b.m + 1)])
    unique, inverse = np.unique(keys, return_inverse=True)
    blocks = np.zeros((len(unique), a.k, b.k))
    np.add.at(blocks, (inverse[: len(rows)], rows % a.k, cols % b.k), values)
    return BlockPairs(unique // b.m, unique % b.m, blocks)


def _merge(x: BlockPairs, y: BlockPairs) -> BlockPairs:
    """Return the sum of two sets of blocks."""
    width = 1 + max(int(x.cols.max(initial=0)), int(y.cols.max(initial=0)))
    unique, inverse = np.unique(np.concatenate([x.keys(width), y.keys(width)]), return_inverse=True)
    values = np.zeros((len(unique), *x.values.shape[1:]))
    np.add.at(values, inverse, np.concatenate([x.values, y.values]))
    return BlockPairs(unique // width, unique % width, values)
