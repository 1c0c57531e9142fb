"""M = Λ'Z'WZΛ + I factored by CHOLMOD through scikit-sparse; the only file that imports sksparse.

Facts that shape this file (each was measured, see the tests of the same name):

* CHOLMOD reads the lower triangle and ignores entries outside the analysed pattern, so the
  pattern is built once from the blocks and only values change.
* ``solve_L(..., use_LDLt_decomposition=True)`` would turn a supernodal factor into a slow
  simplicial one for good, so False is always given.
* SuiteSparse 5 opens OpenMP regions on tiny supernodes; libgomp is told not to while a
  factorisation runs in this thread.
"""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.sparse as sp

from sparselmm._typing import FloatArray, IntArray
from sparselmm.exceptions import BackendError, NumericalError, PlanError
from sparselmm.linalg.blocks import BlockGram, Templates, same_templates, scale_blocks
from sparselmm.linalg.exact.selected import SMALL, diagonal_from_factor, pairs_from_factor, pairs_from_full
from sparselmm.linalg.exact.traces import Direction, traces_by_columns
from sparselmm.linalg.inverse_blocks import (
    NEARLY_SINGULAR,
    grouped_products,
    information_by_columns,
    information_from_inverse,
    relative_diagonal,
)
from sparselmm.linalg.iterative.control import Effort
from sparselmm.linalg.machine import TRACE_RATE
from sparselmm.linalg.protocol import Pairs

INSTALL_HELP = (
    "CHOLMOD is not available: scikit-sparse could not be imported ({error}). Install SuiteSparse and then "
    "scikit-sparse: 'apt-get install g++ python3-dev libsuitesparse-dev libopenblas-dev' and "
    "'pip install \"scikit-sparse>=0.4.16,<0.5\"' on Debian or Ubuntu, 'brew install suite-sparse' and the same pip "
    "command on macOS, or 'conda install -c conda-forge scikit-sparse' anywhere."
)
TOO_LARGE = (
    "CHOLMOD has no memory left for the factor of the penalized system ({error}). See LinearMixedModel(...).plan() for "
    "what each solver needs; solver='iterative' needs the least"
)


@lru_cache(maxsize=1)
def _libgomp() -> Any:
    try:
        return ctypes.CDLL("libgomp.so.1")
    except OSError:
        return None


@contextmanager
def no_nested_openmp() -> Iterator[None]:
    """Keep libgomp from opening parallel regions in this thread; restored on leaving."""
    lib = _libgomp()
    if lib is None:
        yield
        return
    before = lib.omp_get_max_active_levels()
    lib.omp_set_max_active_levels(0)
    try:
        yield
    finally:
        lib.omp_set_max_active_levels(before)


@contextmanager
def _calls() -> Iterator[None]:
    """Run CHOLMOD without nested parallel regions; its errors about size become ours."""
    import sksparse.cholmod as module

    try:
        with no_nested_openmp():
            yield
    except (module.CholmodOutOfMemoryError, module.CholmodTooLargeError, MemoryError) as error:
        raise PlanError(TOO_LARGE.format(error=error)) from error


@lru_cache(maxsize=1)
def _adapter() -> type[_Adapter]:
    """Return the adapter of the installed scikit-sparse."""
    try:
        import sksparse.cholmod as module
    except ImportError as error:
        raise BackendError(INSTALL_HELP.format(error=error)) from error
    return _Adapter04 if hasattr(module, "analyze") and hasattr(module, "Factor") else _Adapter05


class _Adapter:
    """The few operations that the system needs of a CHOLMOD factor."""

    def __init__(self, M: sp.csc_array) -> None:
        raise NotImplementedError

    def refactor(self, M: sp.csc_array) -> None:
        raise NotImplementedError

    def logdet(self) -> float:
        raise NotImplementedError

    def half_solve(self, C: FloatArray) -> FloatArray:
        raise NotImplementedError

    def solve(self, C: FloatArray) -> FloatArray:
        raise NotImplementedError

    def factor(self) -> tuple[sp.csc_array, IntArray]:
        raise NotImplementedError

    def order(self) -> IntArray:
        raise NotImplementedError


class _Adapter04(_Adapter):
    """scikit-sparse 0.4.16."""

    def __init__(self, M: sp.csc_array) -> None:
        import sksparse.cholmod as module

        self._error = module.CholmodNotPositiveDefiniteError
        with _calls(), warnings.catch_warnings():
            warnings.simplefilter("ignore", module.CholmodTypeConversionWarning)
            self._factor = module.analyze(sp.csc_matrix(M), mode="auto", ordering_method="default")

    def refactor(self, M: sp.csc_array) -> None:
        try:
            with _calls():
                self._factor.cholesky_inplace(M)
        except self._error as error:
            raise NumericalError(f"the penalized system is not positive definite (column {error.column})") from error
        if not np.isfinite(self.logdet()):  # a simplicial factor takes an indefinite matrix without a word
            raise NumericalError("the penalized system is not positive definite")

    def logdet(self) -> float:
        return float(self._factor.logdet())

    def half_solve(self, C: FloatArray) -> FloatArray:
        with _calls():
            out: FloatArray = self._factor.solve_L(self._factor.apply_P(C), use_LDLt_decomposition=False)
        return out

    def solve(self, C: FloatArray) -> FloatArray:
        with _calls():
            out: FloatArray = self._factor.solve_A(C)
        return out

    def factor(self) -> tuple[sp.csc_array, IntArray]:
        with _calls():
            return sp.csc_array(self._factor.L()), self.order()

    def order(self) -> IntArray:
        return np.asarray(self._factor.P(), dtype=np.int64)


class _Adapter05(_Adapter):
    """scikit-sparse 0.5: the symbolic factor is copied before each numeric factorisation.

    Its index arrays must have exactly the type of the analysed matrix (a mismatch is not checked
    there), and a second ``factorize`` on one object would be simplicial and slow.
    """

    def __init__(self, M: sp.csc_array) -> None:
        import sksparse.cholmod as module

        self._error = module.CholmodNotPositiveDefiniteError
        with no_nested_openmp():
            self._symbolic = module.CholeskyFactor(M, lower=True, supernodal_mode="auto", order="default")
        self._order = np.array(self._symbolic.get_perm(), dtype=np.int64)

    def refactor(self, M: sp.csc_array) -> None:
        try:
            with no_nested_openmp():
                self._factor = self._symbolic.copy()
                self._factor.factorize(M)
        except self._error as error:
            raise NumericalError(f"the penalized system is not positive definite ({error})") from error

    def logdet(self) -> float:
        return float(self._factor.logdet())

    def half_solve(self, C: FloatArray) -> FloatArray:
        with no_nested_openmp():
            out: FloatArray = self._factor.solve(np.ascontiguousarray(C[self._order]), system="L")
        return out

    def solve(self, C: FloatArray) -> FloatArray:
        with no_nested_openmp():
            out: FloatArray = self._factor.solve(C)
        return out

    def factor(self) -> tuple[sp.csc_array, IntArray]:
        return sp.csc_array(self._factor.get_factor()).copy(), self._order

    def order(self) -> IntArray:
        return self._order


def fill_reducing_order(lower: sp.csc_array) -> IntArray:
    """Return CHOLMOD's permutation for a symmetric pattern given by its lower triangle."""
    M = sp.csc_array(lower, dtype=np.float64)
    M.sort_indices()
    return _adapter()(M).order()


class CholmodSystem:
    """Sparse Cholesky factorisation of the whole of M with a fill-reducing order."""

    name = "cholmod"
    monte_carlo = None

    def __init__(self, gram: BlockGram) -> None:
        self.gram = gram
        self._keys = sorted(gram.pairs)
        self._M, self._source, self._diagonal = _lower_pattern(gram, self._keys)
        self._buffer = np.empty(sum(gram.pairs[key].values.size for key in self._keys))
        self.templates: Templates = ()
        self.flops = 1000.0 * len(self._M.data)  # a guess: the factor's size is not known before it is made
        self._adapter = _adapter()(self._M)

    @property
    def factorization(self) -> CholmodSystem:
        """Itself: the factor is there."""
        return self

    @property
    def blas_flops(self) -> float:
        """Operations that BLAS may spread over threads."""
        return self.flops

    def holds(self, templates: Templates, effort: Effort | None = None) -> bool:
        """Return whether M is factored for these templates."""
        return same_templates(self.templates, templates)

    def update(self, gram: BlockGram) -> None:
        """Take other numbers of Z'WZ in the same pattern; nothing is factored until `refactor`."""
        self.gram.refuse_other_pattern(gram)
        self.gram, self.templates = gram, ()

    def refactor(self, templates: Templates, effort: Effort | None = None) -> None:
        """Factor M for the k×k templates of the terms."""
        self.templates = ()
        start = 0
        for i, j in self._keys:
            values = scale_blocks(self.gram.pairs[i, j].values, templates[i], templates[j])
            self._buffer[start : start + values.size] = values.ravel()
            start += values.size
        np.take(self._buffer, self._source, out=self._M.data)
        self._M.data[self._diagonal] += 1.0
        self._adapter.refactor(self._M)
        self.templates = templates

    def logdet(self) -> float:
        """Return log|M|."""
        return self._adapter.logdet()

    def quadratic(self, C: FloatArray, width: int | None = None) -> FloatArray:
        """Return C_g'M⁻¹C_g for each group of ``width`` columns, (groups, width, width)."""
        H = self._adapter.half_solve(C)
        return grouped_products(H, H, width)

    def solve(self, C: FloatArray) -> FloatArray:
        """Return M⁻¹C, (q, r)."""
        return self._adapter.solve(C)

    def inverse_diagonal(self) -> tuple[FloatArray, ...]:
        """Return the diagonal blocks of M⁻¹, one (m, k, k) array per term."""
        if self.gram.q <= SMALL:
            full = self.solve(np.eye(self.gram.q))
            rows = (self.gram.offsets[t] + np.arange(m * k).reshape(m, k) for t, m, k in self._terms())
            return tuple(full[at[:, :, None], at[:, None, :]] for at in rows)
        return diagonal_from_factor(self.gram, *self.factor())

    def _terms(self) -> Iterator[tuple[int, int, int]]:
        return ((t, m, k) for t, (m, k) in enumerate(zip(self.gram.m, self.gram.k)))

    def covariance_pairs(self) -> Pairs:
        """Return the blocks of ΛM⁻¹Λ' in the pattern of Z'WZ, aligned with ``gram.pairs``."""
        if self.gram.q <= SMALL:
            return pairs_from_full(self.gram, self.solve(np.eye(self.gram.q)), self.templates)
        return pairs_from_factor(self.gram, *self.factor(), self.templates)

    def information_blocks(self) -> tuple[FloatArray, ...]:
        """Return the diagonal blocks of Z'V⁻¹Z, one (m, k, k) array per term."""
        regular = [relative_diagonal(self.gram, t, T) > NEARLY_SINGULAR for t, T in enumerate(self.templates)]
        inverse = self.inverse_diagonal() if any(regular) else ()
        return tuple(
            information_from_inverse(inverse[t], T) if regular[t] else information_by_columns(self, t, self.templates)
            for t, T in enumerate(self.templates)
        )

    def information_sums(self) -> tuple[FloatArray, ...]:
        """Return the sums over levels of `information_blocks`, one (k, k) array per term."""
        return tuple(blocks.sum(axis=0) for blocks in self.information_blocks())

    def trace_products(self, directions: Sequence[Direction]) -> FloatArray:
        """Return tr(Z'V⁻¹Z B_i Z'V⁻¹Z B_j) for changes of Ω of single terms, (n, n)."""
        return traces_by_columns(self, directions)

    def trace_seconds(self) -> float:
        """Return roughly the time that `trace_products` takes: solves with every place of a column."""
        sizes = [np.bincount(component).max() * k for component, k in zip(self.gram.components, self.gram.k)]
        return float(sum(sizes)) * (40.0 * len(self._M.data) + 20.0 * self.gram.q) / TRACE_RATE

    def factor(self) -> tuple[sp.csc_array, IntArray]:
        """Return sparse L and the permutation P with L L' = M[P][:, P]."""
        return self._adapter.factor()


def _lower_pattern(gram: BlockGram, keys: list[tuple[int, int]]) -> tuple[sp.csc_array, IntArray, IntArray]:
    """Return M's lower triangle with its pattern, where each value comes from, and its diagonal.

    The second array holds, for each stored entry, its position among all block values
    concatenated in the order of ``keys``.
    """
    rows, cols = (np.concatenate(x) for x in zip(*(gram.element_indices(i, j) for i, j in keys)))
    position = np.flatnonzero(rows >= cols)
    rows, cols = rows[position], cols[position]
    order = np.lexsort((rows, cols))
    rows, cols, source = rows[order], cols[order], position[order]
    small = max(gram.q, len(rows)) < np.iinfo(np.int32).max
    indptr: Any = np.searchsorted(cols, np.arange(gram.q + 1))
    indices: Any = rows
    if small:
        indptr, indices = indptr.astype(np.int32), indices.astype(np.int32)
    M = sp.csc_array((np.zeros(len(rows)), indices, indptr), shape=(gram.q, gram.q))
    M.has_sorted_indices = True
    diagonal = np.flatnonzero(rows == cols)
    M.data[diagonal] = 1.0
    return M, source, diagonal
