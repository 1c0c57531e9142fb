"""Products with a sparse cross block against dense algebra."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sparselmm import set_threads
from sparselmm.linalg import products
from sparselmm.linalg.products import CrossBlock, aligned_empty, run_jobs

EPS = {np.float32: 2e-6, np.float64: 4e-15}
KINDS = {
    "ones": lambda rng, shape: np.broadcast_to(1.0, shape),
    "counts": lambda rng, shape: rng.integers(1, 6, shape).astype(float),
    "halves": lambda rng, shape: rng.integers(-5, 6, shape) / 2.0,
    "real": lambda rng, shape: rng.standard_normal(shape),
}


def cells(m_left, m_right, k=(1, 1), kind="real", density=0.2, seed=0):
    """Return rows, cols, values and the dense block (m_left, k_left, m_right, k_right) of a random pattern."""
    rng = np.random.default_rng(seed)
    rows, cols = np.nonzero(rng.random((m_left, m_right)) < density)
    values = KINDS[kind](rng, (len(rows), *k))
    dense = np.zeros((m_left, k[0], m_right, k[1]))
    dense[rows, :, cols, :] = values
    return rows, cols, values, dense


def matrix(dense):
    return dense.reshape(dense.shape[0] * dense.shape[1], -1)


def assert_product(actual, A, X):
    """Require A X in the dtype of X, up to the rounding of the sums of absolute values."""
    assert actual.dtype == X.dtype
    assert actual.shape == (len(A), X.shape[1])
    assert actual.flags.c_contiguous
    error = np.abs(actual - A @ X.astype(float))
    assert np.all(error <= EPS[X.dtype.type] * (np.abs(A) @ np.abs(X.astype(float))))


def assert_products(block, dense, columns, dtype, seed=1):
    A, rng = matrix(dense), np.random.default_rng(seed)
    assert_product(block.dot(X := rng.standard_normal((A.shape[1], columns)).astype(dtype)), A, X)
    assert_product(block.tdot(Y := rng.standard_normal((A.shape[0], columns)).astype(dtype)), A.T, Y)


@pytest.fixture
def small_tiles(monkeypatch):
    """Cut even small factors into tiles."""
    monkeypatch.setattr(products, "TILE", 8)
    monkeypatch.setattr(products, "CELLS_PER_SEGMENT", 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("columns", range(1, 41))
def test_every_number_of_columns(columns, dtype, small_tiles):
    rows, cols, values, dense = cells(40, 27, kind="ones")
    assert_products(CrossBlock(rows, cols, values, 40, 27), dense, columns, dtype)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [(1, 1), (2, 1), (1, 2), (2, 2), (3, 2)])
def test_cells_of_all_shapes(k, kind, small_tiles):
    rows, cols, values, dense = cells(30, 17, k, kind)
    block = CrossBlock(rows, cols, values, 30, 17)
    for dtype in (np.float32, np.float64) if kind == "real" else (np.float64,):
        assert_products(block, dense, 4, dtype)


@pytest.mark.parametrize("columns", [1, 3, 17])
def test_cells_with_values_and_any_number_of_columns(columns, small_tiles):
    rows, cols, values, dense = cells(30, 17, (2, 1))
    assert_products(CrossBlock(rows, cols, values, 30, 17), dense, columns, np.float32)


@pytest.mark.parametrize("kind", ["ones", "real"])
@pytest.mark.parametrize("k", [(1, 1), (2, 1), (2, 2), (3, 2)])
def test_quadratic_forms(k, kind, small_tiles):
    rows, cols, values, dense = cells(30, 17, k, kind)
    block = CrossBlock(rows, cols, values, 30, 17, threads=2)
    rng = np.random.default_rng(1)
    B, C = rng.standard_normal((17, k[1], k[1])), rng.standard_normal((30, k[0], k[0]))
    np.testing.assert_allclose(block.quadratic_left(B), np.einsum("iajb,jbc,idjc->iad", dense, B, dense), atol=1e-12)
    np.testing.assert_allclose(block.quadratic_right(C), np.einsum("iajb,iac,icjd->jbd", dense, C, dense), atol=1e-12)


def test_empty_rows_and_columns(small_tiles):
    rows, cols, values, dense = cells(40, 33, kind="ones")
    dense[[0, 7, 39]] = 0.0
    dense[:, :, [0, 8, 9, 10, 32]] = 0.0
    kept = dense[rows, 0, cols, 0] > 0
    block = CrossBlock(rows[kept], cols[kept], values[kept], 40, 33)
    assert_products(block, dense, 4, np.float64)
    assert not block.dot(np.ones((33, 4)))[[0, 7, 39]].any()


@pytest.mark.parametrize("shape", [(5, 3), (0, 3), (5, 0)])
def test_no_cells(shape):
    none = np.zeros(0, dtype=int)
    block = CrossBlock(none, none, np.zeros((0, 1, 1)), *shape, threads=2)
    assert block.nnz == 0
    np.testing.assert_array_equal(block.dot(np.ones((shape[1], 4))), np.zeros((shape[0], 4)))
    np.testing.assert_array_equal(block.tdot(np.ones((shape[0], 4))), np.zeros((shape[1], 4)))
    assert block.quadratic_left(np.ones((shape[1], 1, 1))).shape == (shape[0], 1, 1)


@pytest.mark.parametrize(
    ("kind", "per_cell"), [("ones", 0), ("counts", 2 * 1), ("halves", 2 * 4), ("real", 2 * 8)], ids=list(KINDS)
)
def test_values_are_stored_in_the_smallest_exact_type(kind, per_cell):
    rows, cols, values, _ = cells(200, 100, kind=kind)
    block = CrossBlock(rows, cols, values, 200, 100)
    pointers = 8 * (201 + 101)
    assert block.bytes == (2 * 2 + per_cell) * len(rows) + pointers


@pytest.mark.parametrize("value", [2.0, 0.1, -1.0, 1e300])
def test_a_broadcast_of_another_number_is_kept(value):
    rows, cols, _, dense = cells(20, 10, kind="ones")
    block = CrossBlock(rows, cols, np.broadcast_to(value, (len(rows), 1, 1)), 20, 10)
    assert_products(block, value * dense, 1, np.float64)


def test_pieces_of_values_are_all_looked_at():
    values = np.ones((50, 1, 1))
    assert products._holds(values, lambda part: part == 1.0, step=7)
    values[49] = 2.0
    assert not products._holds(values, lambda part: part == 1.0, step=7)


@pytest.mark.parametrize("kind", ["ones", "real"])
def test_results_do_not_depend_on_threads(kind, small_tiles):
    rows, cols, values, _ = cells(300, 170, kind=kind, density=0.5)
    blocks = [CrossBlock(rows, cols, values, 300, 170, threads) for threads in (1, 2, 3)]
    X = np.random.default_rng(1).standard_normal((170, 16)).astype(np.float32)
    B = np.random.default_rng(2).standard_normal((300, 1, 1))
    expected = blocks[0].dot(X), blocks[0].tdot(blocks[0].dot(X)), blocks[0].quadratic_right(B)
    for block in blocks[1:]:
        for a, b in zip(expected, (block.dot(X), block.tdot(block.dot(X)), block.quadratic_right(B))):
            np.testing.assert_array_equal(a, b)


def test_concurrent_calls():
    rows, cols, values, _ = cells(300, 170, kind="ones", density=0.5)
    block = CrossBlock(rows, cols, values, 300, 170, threads=2)
    X = np.random.default_rng(1).standard_normal((170, 16)).astype(np.float32)
    expected = block.dot(X)
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(lambda _: block.dot(X), range(40)):
            np.testing.assert_array_equal(result, expected)


def test_a_sparse_block_between_large_factors_is_not_cut():
    rng = np.random.default_rng(0)
    rows, cols = np.arange(2000), rng.permutation(100_000)[:2000]
    block = CrossBlock(rows, cols, np.broadcast_to(1.0, (2000, 1, 1)), 2000, 100_000)
    X, Y = rng.standard_normal((100_000, 4)), rng.standard_normal((2000, 4))
    np.testing.assert_array_equal(block.dot(X), X[cols])
    expected = np.zeros_like(X)
    expected[cols] = Y
    np.testing.assert_array_equal(block.tdot(Y), expected)
    assert block.bytes < 2000 * 8 + 110_000 * 8


def test_operands_may_be_read_only_and_anywhere_in_memory():
    rows, cols, values, dense = cells(40, 27, kind="ones")
    block = CrossBlock(rows, cols, values, 40, 27)
    X = np.random.default_rng(1).standard_normal((28, 16)).astype(np.float32)
    expected = block.dot(X[1:])
    for shift in (0, 1):
        memory = aligned_empty((27 * 16 + 16,), np.float32)
        moved = memory[shift : 27 * 16 + shift].reshape(27, 16)
        moved[:] = X[1:]
        np.testing.assert_array_equal(block.dot(moved), expected)
        moved.flags.writeable = False
        np.testing.assert_array_equal(block.dot(moved), expected)
    assert_product(expected, matrix(dense), X[1:])


@pytest.mark.parametrize("X", [np.ones((26, 4)), np.ones((27, 4), dtype=int), np.ones((27, 4), dtype=np.float16)])
def test_other_operands_are_refused(X):
    rows, cols, values, _ = cells(40, 27, kind="ones")
    block = CrossBlock(rows, cols, values, 40, 27)
    with pytest.raises(ValueError, match="27 rows of floats"):
        block.dot(X)
    with pytest.raises(ValueError, match="forms need"):
        block.quadratic_right(np.ones((27, 1, 1)))


@pytest.mark.parametrize("kind", ["ones", "real"])
def test_a_copy_gives_the_same_products(kind):
    rows, cols, values, dense = cells(40, 27, kind=kind)
    block = CrossBlock(rows, cols, values, 40, 27, threads=2)
    for copied in (copy.deepcopy(block), pickle.loads(pickle.dumps(block))):
        assert_products(copied, dense, 4, np.float64)


def test_counts_per_level(small_tiles):
    rows, cols, values, dense = cells(40, 27, kind="ones")
    block = CrossBlock(rows, cols, values, 40, 27)
    np.testing.assert_array_equal(block.counts_left(), dense.sum(axis=(1, 2, 3)))
    np.testing.assert_array_equal(block.counts_right(), dense.sum(axis=(0, 1, 3)))


@pytest.mark.parametrize("draw", [lambda rng, m: rng.random(m), lambda rng, m: np.full(m, 0.1)])
def test_long_sums_in_single_precision(draw):
    m = 100_000
    Y = np.repeat(draw(np.random.default_rng(0), m)[:, None], 4, axis=1).astype(np.float32) * np.arange(
        1, 5, dtype=np.float32
    )
    everyone, first = np.arange(m), np.zeros(m, dtype=int)
    total = CrossBlock(everyone, first, np.broadcast_to(1.0, (m, 1, 1)), m, 1).tdot(Y)
    expected = Y.astype(float).sum(axis=0)
    np.testing.assert_allclose(total[0], expected, rtol=2e-6)


def test_aligned_memory():
    for shape in ((3,), (5, 7), (50, 4, 3)):
        array = aligned_empty(shape, np.float32)
        assert array.shape == shape
        assert array.ctypes.data % 64 == 0


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_in_a_job_is_raised(threads):
    def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_jobs([fail] * 5, threads)


def test_threads_set_later_hold_for_blocks_made_before(monkeypatch):
    """No helper is asked for work after set_threads(1)."""
    done = []
    monkeypatch.setattr(products, "_pool", lambda workers: pytest.fail("a helper was asked"))
    try:
        set_threads(1)
        products.run_jobs([lambda i=i: done.append(i) for i in range(5)], 4)
    finally:
        set_threads(None)
    assert done == list(range(5))
