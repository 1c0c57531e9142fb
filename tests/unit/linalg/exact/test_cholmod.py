"""Traps of CHOLMOD through scikit-sparse; each was a wrong or slow answer somewhere."""

from __future__ import annotations

import ctypes
import sys
import threading
import time

import numpy as np
import pytest
import scipy.sparse as sp

from sparselmm.exceptions import BackendError, NumericalError
from sparselmm.linalg.blocks import BlockGram, BlockPairs
from sparselmm.linalg.exact import cholmod
from sparselmm.linalg.exact.cholmod import CholmodSystem, no_nested_openmp


def crossed_gram(m1=60, m2=50, n=2000, seed=0):
    """Z'WZ of two crossed intercepts: filled enough for CHOLMOD to go supernodal when large."""
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, m1, n), rng.integers(0, m2, n)
    C = sp.coo_array((np.ones(n), (b, a)), shape=(m2, m1)).tocsr()
    C.sum_duplicates()
    rows = np.repeat(np.arange(m2), np.diff(C.indptr))
    pairs = {
        (0, 0): BlockPairs(np.arange(m1), np.arange(m1), np.bincount(a, minlength=m1).astype(float).reshape(-1, 1, 1)),
        (1, 1): BlockPairs(np.arange(m2), np.arange(m2), np.bincount(b, minlength=m2).astype(float).reshape(-1, 1, 1)),
        (1, 0): BlockPairs(rows, C.indices.astype(np.int64), C.data.reshape(-1, 1, 1)),
    }
    return BlockGram((m1, m2), (1, 1), pairs)


def dense(gram, t1, t2):
    """Return M, (q, q)."""
    q = gram.q
    A = np.zeros((q, q))
    for i, j in gram.pairs:
        r, c = gram.element_indices(i, j)
        A[r, c] = A[c, r] = gram.pairs[i, j].values.ravel()
    scale = np.repeat([t1, t2], gram.m)
    return scale[:, None] * A * scale + np.eye(q)


def templates(t1, t2):
    return (np.array([[t1]]), np.array([[t2]]))


def test_pattern_is_the_lower_triangle_of_M_and_nothing_else():
    gram = crossed_gram(9, 7, 30)
    system = CholmodSystem(gram)
    system.refactor(templates(0.7, 1.3))
    M = dense(gram, 0.7, 1.3)
    stored = system._M
    assert stored.has_canonical_format
    rows, cols = stored.tocoo().coords
    assert np.all(rows >= cols)
    lower = np.tril(M)
    assert {*zip(rows.tolist(), cols.tolist())} == {*zip(*(x.tolist() for x in np.nonzero(lower)))}
    # products of two rounded factors in either order
    np.testing.assert_allclose(stored.toarray(), lower, rtol=1e-15)


def test_pattern_of_slopes_leaves_out_the_upper_half_of_diagonal_blocks():
    block = np.array([[4.0, 1.0], [1.0, 3.0]])
    gram = BlockGram((5,), (2,), {(0, 0): BlockPairs(np.arange(5), np.arange(5), np.array([block] * 5))})
    system = CholmodSystem(gram)
    T = np.array([[1.0, 0.0], [2.0, 0.5]])
    system.refactor((T,))
    M = np.kron(np.eye(5), T.T @ block @ T + np.eye(2))
    assert system._M.nnz == 15
    np.testing.assert_allclose(system._M.toarray(), np.tril(M), rtol=1e-15)  # as above
    assert system.logdet() == pytest.approx(np.linalg.slogdet(M)[1], rel=1e-13)


def test_pattern_does_not_shrink_at_zero():
    """Analysed once: what vanishes at θ = 0 is stored as zero and comes back."""
    gram = crossed_gram(9, 7, 30)
    system = CholmodSystem(gram)
    entries = system._M.nnz
    system.refactor(templates(0.0, 0.0))
    assert system._M.nnz == entries
    assert system.logdet() == 0.0
    system.refactor(templates(0.7, 1.3))
    # a hundred logarithms in double precision
    assert system.logdet() == pytest.approx(np.linalg.slogdet(dense(gram, 0.7, 1.3))[1], rel=1e-13)


def test_refactor_a_b_a_gives_the_same_bits():
    gram = crossed_gram()
    system = CholmodSystem(gram)
    C = np.random.default_rng(1).standard_normal((gram.q, 2))

    def at(t1, t2):
        system.refactor(templates(t1, t2))
        return system.logdet(), system.quadratic(C), system.solve(C)

    first, _, again = at(0.7, 1.3), at(30.0, 0.0), at(0.7, 1.3)
    for x, y in zip(first, again):
        np.testing.assert_array_equal(x, y)


def fastest(system, runs=4):
    """Return the shortest of several refactorisations: other work on the machine only ever adds time."""
    times = []
    for _ in range(runs):
        start = time.thread_time()
        system.refactor(templates(0.7, 1.3))
        times.append(time.thread_time() - start)
    return min(times)


@pytest.mark.parametrize("after", ["quadratic", "solve", "factor", "logdet", "all of them"])
def test_factor_stays_supernodal(after):
    """A factor converted to simplicial would be several times slower for the rest of the fit.

    Timed against a fresh system; a conversion was seen to cost a factor from 3.4 upwards, of which 2 are allowed.
    """
    gram = crossed_gram(1500, 1200, 12000)
    fresh = fastest(CholmodSystem(gram))
    system = CholmodSystem(gram)
    system.refactor(templates(0.7, 1.3))
    C = np.ones((gram.q, 2))
    for name in ("quadratic", "solve", "factor", "logdet"):
        if after in (name, "all of them"):
            method = getattr(system, name)
            method(C) if name in ("quadratic", "solve") else method()
    assert fastest(system) < 2 * fresh


@pytest.mark.skipif(cholmod._adapter() is not cholmod._Adapter04, reason="a trap of scikit-sparse 0.4")
def test_default_of_scikit_sparse_is_the_trap():
    """The guard above is needed, and a conversion is slow enough to be seen by it."""
    gram = crossed_gram(1500, 1200, 12000)
    system = CholmodSystem(gram)
    before = fastest(system)
    factor = system._adapter._factor
    factor.solve_L(factor.apply_P(np.ones((gram.q, 1))))
    assert fastest(system) > 2 * before


def indefinite(gram):
    """Return the same blocks with a cross-product too large to be one."""
    pairs = dict(gram.pairs)
    pairs[1, 0] = BlockPairs(pairs[1, 0].rows, pairs[1, 0].cols, 10.0 * pairs[1, 0].values)
    return BlockGram(gram.m, gram.k, pairs)


@pytest.mark.parametrize("size", [(600, 500, 9000), (60, 50, 2000), (9, 7, 30)], ids=["supernodal", "dense", "small"])
def test_breakdown_is_a_numerical_error_and_recovery_is_complete(size):
    """A simplicial factor of an indefinite matrix comes back without complaint, with a log-determinant of NaN."""
    gram = indefinite(crossed_gram(*size))
    system, untouched = CholmodSystem(gram), CholmodSystem(gram)
    C = np.ones((gram.q, 1))
    good = templates(0.01, 0.01)
    with pytest.raises(NumericalError, match="not positive definite"):
        system.refactor(templates(1.0, 1.0))
    for s in (system, untouched):
        s.refactor(good)
    assert system.logdet() == untouched.logdet()
    np.testing.assert_array_equal(system.solve(C), untouched.solve(C))


def test_nan_templates_are_not_silently_factored():
    system = CholmodSystem(crossed_gram(9, 7, 30))
    try:
        system.refactor(templates(np.nan, 1.0))
    except NumericalError:
        return
    assert not np.isfinite(system.logdet())


def test_read_only_inputs_are_accepted_and_unchanged():
    gram = crossed_gram(9, 7, 30)
    for pair in gram.pairs.values():
        pair.values.flags.writeable = False
    system = CholmodSystem(gram)
    T = templates(0.7, 1.3)
    C = np.random.default_rng(1).standard_normal((gram.q, 2))
    for array in (*T, C):
        array.flags.writeable = False
    kept = C.copy()
    system.refactor(T)
    for method in (system.solve, system.quadratic):
        out = method(C)
        out += 1.0
    np.testing.assert_array_equal(C, kept)


@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_order_of_right_hand_sides_does_not_matter(order):
    gram = crossed_gram(9, 7, 30)
    system = CholmodSystem(gram)
    system.refactor(templates(0.7, 1.3))
    C = np.random.default_rng(1).standard_normal((gram.q, 3))
    np.testing.assert_array_equal(system.solve(np.asarray(C, order=order)), system.solve(C.copy()))
    np.testing.assert_array_equal(system.quadratic(np.asarray(C, order=order)), system.quadratic(C.copy()))


@pytest.mark.skipif(cholmod._libgomp() is None, reason="no libgomp on this machine")
class TestOpenMP:
    """The setting belongs to the thread, and comes back whatever happens."""

    def levels(self):
        return ctypes.CDLL("libgomp.so.1").omp_get_max_active_levels()

    @pytest.fixture(autouse=True)
    def _known_setting(self):
        lib = ctypes.CDLL("libgomp.so.1")
        before = lib.omp_get_max_active_levels()
        lib.omp_set_max_active_levels(3)
        yield
        lib.omp_set_max_active_levels(before)

    def test_zero_inside_and_restored_outside(self):
        with no_nested_openmp():
            assert self.levels() == 0
        assert self.levels() == 3

    def test_restored_after_an_exception(self):
        with pytest.raises(KeyError), no_nested_openmp():
            raise KeyError
        assert self.levels() == 3

    def test_restored_after_each_call_even_a_failing_one(self):
        gram = indefinite(crossed_gram(600, 500, 9000))
        system = CholmodSystem(gram)
        assert self.levels() == 3
        with pytest.raises(NumericalError):
            system.refactor(templates(1.0, 1.0))
        assert self.levels() == 3
        system.refactor(templates(0.01, 0.01))
        system.solve(np.ones((gram.q, 1)))
        system.quadratic(np.ones((gram.q, 1)))
        system.factor()
        assert self.levels() == 3

    @pytest.mark.skipif(cholmod._adapter() is not cholmod._Adapter04, reason="looks inside the adapter of 0.4")
    def test_calls_run_with_zero(self, monkeypatch):
        seen = []
        system = CholmodSystem(crossed_gram(9, 7, 30))

        class Spy:
            def cholesky_inplace(spy, M):
                seen.append(self.levels())

            def logdet(spy):
                return 0.0

        monkeypatch.setattr(system._adapter, "_factor", Spy())
        system.refactor(templates(1.0, 1.0))
        assert seen == [0]

    def test_other_threads_keep_their_own(self):
        found = {}

        def other():
            ctypes.CDLL("libgomp.so.1").omp_set_max_active_levels(2)
            system = CholmodSystem(crossed_gram(9, 7, 30))
            system.refactor(templates(1.0, 1.0))
            found["other"] = self.levels()

        with no_nested_openmp():
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
            assert self.levels() == 0
        assert found == {"other": 2}
        assert self.levels() == 3


def test_missing_scikit_sparse_names_the_install_commands(monkeypatch):
    monkeypatch.setitem(sys.modules, "sksparse.cholmod", None)
    cholmod._adapter.cache_clear()
    try:
        with pytest.raises(BackendError) as caught:
            CholmodSystem(crossed_gram(9, 7, 30))
    finally:
        cholmod._adapter.cache_clear()
    for command in ("apt-get install", "brew install", "conda-forge"):
        assert command in str(caught.value)
