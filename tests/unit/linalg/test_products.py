"""Products with a sparse cross block against dense algebra."""

from __future__ import annotations

import numpy as np
import pytest

from sparselmm.linalg.iterative.products import CrossBlock

EPS = {np.float32: 2e-6, np.float64: 2e-14}


def cells(m_left, m_right, k_left=1, k_right=1, density=0.2, kind="real", seed=0):
    """Return rows, cols, values and the dense block (m_left, k_left, m_right, k_right) of a random pattern."""
    rng = np.random.default_rng(seed)
    rows, cols = np.nonzero(rng.random((m_left, m_right)) < density)
    shape = (len(rows), k_left, k_right)
    values = {
        "ones": lambda: np.broadcast_to(1.0, shape),
        "counts": lambda: rng.integers(1, 6, shape).astype(float),
        "real": lambda: rng.standard_normal(shape),
    }[kind]()
    dense = np.zeros((m_left, k_left, m_right, k_right))
    dense[rows, :, cols, :] = values
    return rows, cols, values, dense


def close(actual, expected, magnitude):
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    assert np.all(np.abs(actual.astype(float) - expected) <= EPS[actual.dtype.type] * (magnitude + 1e-300))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["ones", "counts", "real"])
@pytest.mark.parametrize("k", [(1, 1), (2, 1), (1, 2), (2, 2), (3, 2)])
def test_products_equal_dense_algebra(k, kind, dtype):
    rows, cols, values, dense = cells(30, 17, *k, kind=kind)
    A = dense.reshape(30 * k[0], 17 * k[1])
    block = CrossBlock(rows, cols, values, 30, 17)
    rng = np.random.default_rng(1)
    for c in (1, 3, 8, 16):
        X, Y = (rng.standard_normal((q, c)).astype(dtype) for q in (A.shape[1], A.shape[0]))
        close(block.dot(X), (A @ X).astype(dtype), np.abs(A) @ np.abs(X))
        close(block.tdot(Y), (A.T @ Y).astype(dtype), np.abs(A.T) @ np.abs(Y))
    B, C = rng.standard_normal((17, k[1], k[1])), rng.standard_normal((30, k[0], k[0]))
    np.testing.assert_allclose(block.quadratic_left(B), np.einsum("iajb,jbc,idjc->iad", dense, B, dense), atol=1e-12)
    np.testing.assert_allclose(block.quadratic_right(C), np.einsum("iajb,iac,icjd->jbd", dense, C, dense), atol=1e-12)
