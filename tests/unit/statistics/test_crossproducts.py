"""The sufficient statistics: against the rows, their guards against cancellation, and exactness."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from sparselmm import LinearMixedModel
from sparselmm.linalg import cells
from sparselmm.statistics import crossproducts, transform
from sparselmm.statistics.crossproducts import CrossProducts
from sparselmm.statistics.moments import pilot_basis
from sparselmm.statistics.transform import FixedTransform, constant_column, find_centre, rounded

pytestmark = pytest.mark.filterwarnings("ignore::sparselmm.exceptions.SparseLMMWarning")


def design(n=50, seed=0, *, structure="us", far=0.0, weights=False, offset=False, x_far=0.0, constant=True):
    rng = np.random.default_rng(seed)
    X = np.column_stack([np.ones(n) if constant else rng.standard_normal(n), x_far + rng.standard_normal(n)])
    g, h = rng.permutation(np.arange(n) % 7), rng.permutation(np.arange(n) % 4)
    Z = np.column_stack([np.ones(n), far + rng.standard_normal(n)])
    terms = [{"groups": g, "Z": Z, "name": "g", "structure": structure}, {"groups": h, "name": "h"}]
    model = LinearMixedModel.from_arrays(
        X @ [1.0, 2.0] + rng.standard_normal(n),
        X,
        terms,
        weights=rng.uniform(0.5, 2, n) if weights else None,
        offset=rng.standard_normal(n) if offset else None,
    )
    return model.problem.rows


def dense_Z(d):
    return np.hstack([t.to_sparse().toarray() for t in d.terms])


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("offset", [False, True])
@pytest.mark.parametrize("x_far", [0.0, 2000.0])
def test_products_of_the_transformed_rows(weights, offset, x_far):
    d = design(weights=weights, offset=offset, x_far=x_far)
    xp = CrossProducts.from_rows(d)
    W = np.ones(d.n) if d.weights is None else d.weights
    o = np.zeros(d.n) if d.offset is None else d.offset
    X = d.X @ xp.basis.matrix
    Xy = np.column_stack([X, d.y - o - X @ xp.basis.b0])
    # rounding of sums of fifty products; X C is formed here in another way, which costs the size of the centre
    near = {"rtol": 1e-10, "atol": 1e-9}
    np.testing.assert_allclose(xp.XytWXy, Xy.T @ (W[:, None] * Xy), **near)
    np.testing.assert_allclose(xp.ZtWXy, dense_Z(d).T @ (W[:, None] * Xy), **near)
    np.testing.assert_allclose(xp.gram.dot(np.eye(d.q)), dense_Z(d).T @ (W[:, None] * dense_Z(d)), **near)
    assert (xp.n, xp.p) == (d.n, 2)
    assert xp.sum_log_weights == pytest.approx(np.log(W).sum(), abs=1e-12)


def test_pilot_fit_leaves_nothing_to_the_fixed_effects():
    d = design(weights=True, x_far=500.0)
    xp = CrossProducts.from_rows(d)
    # normal equations of the weighted fit hold to rounding
    np.testing.assert_allclose(xp.XytWXy[:-1, -1], 0, atol=1e-10)


@pytest.mark.parametrize("size", [1, 7, 50, 51])
def test_chunks_do_not_matter(monkeypatch, size):
    whole = CrossProducts.from_rows(
        design(weights=True, offset=True),
    )
    monkeypatch.setattr(crossproducts, "CHUNK_ROWS", size)
    d = design(weights=True, offset=True)
    parts = CrossProducts.from_rows(d, whole.basis, whole.centres)
    for name in ("XytWXy", "ZtWXy"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-11, atol=1e-11)  # rounding
    # the pilot fit is of all rows, not of the first chunk
    own = pilot_basis(d)
    X = d.X @ own.matrix
    root = np.sqrt(d.weights)
    expected = np.linalg.lstsq(root[:, None] * X, root * (d.y - d.offset))[0]
    np.testing.assert_allclose(own.b0, expected, rtol=1e-9, atol=1e-9)


def test_counts_and_integer_products_are_exact():
    """Dummies and small integers are summed without rounding, so that equal designs give equal bits."""
    n = 60
    x = np.arange(n) % 9
    X = np.column_stack([np.ones(n), x])
    d = LinearMixedModel.from_arrays(np.sin(np.arange(n)), X, [(np.arange(n) % 5, X)]).problem.rows
    xp = CrossProducts.from_rows(d)
    C = [[Fraction(float(v)) for v in row] for row in xp.basis.matrix]
    rows = [[Fraction(1), Fraction(int(v))] for v in x]
    T = [[sum(a * C[i][j] for i, a in enumerate(row)) for j in range(2)] for row in rows]
    for i in range(2):
        for j in range(2):
            assert Fraction(float(xp.XytWXy[i, j])) == sum(t[i] * t[j] for t in T)
    G = xp.gram.diagonal(0)
    for level in range(5):
        picked = x[np.arange(n) % 5 == level]
        np.testing.assert_array_equal(G[level], [[len(picked), picked.sum()], [picked.sum(), (picked**2).sum()]])


class TestCentring:
    def test_far_slope_is_centred_only_beside_a_constant_in_an_unstructured_term(self):
        far = design(far=2000.0).terms[0]
        centre = find_centre(far)
        assert centre.position == 0
        assert centre.multiples[0] == 0
        assert abs(centre.multiples[1] - 2000.0) < 2
        assert find_centre(design(far=0.0).terms[0]) is None
        assert find_centre(design(far=2000.0, structure="diag").terms[0]) is None
        assert find_centre(design(far=2000.0).terms[1]) is None

    def test_centre_of_x_needs_a_constant(self):
        assert pilot_basis(design(x_far=2000.0)).centre[1] == pytest.approx(2000, abs=2)
        assert not pilot_basis(design(x_far=2000.0, constant=False)).centre.any()

    def test_scales_are_powers_of_two(self):
        scale = pilot_basis(design(x_far=2000.0)).scale
        np.testing.assert_array_equal(np.exp2(np.round(np.log2(scale))), scale)

    def test_coefficients_and_determinant_are_undone(self):
        basis = CrossProducts.from_rows(design(x_far=2000.0)).basis
        assert basis.logdet == pytest.approx(-np.linalg.slogdet(basis.matrix)[1] * 2, abs=1e-12)
        X = design(x_far=2000.0).X
        np.testing.assert_allclose(basis.apply(X), X @ basis.matrix, atol=1e-9)  # 2000² times rounding
        gamma = np.array([0.3, -0.2])
        np.testing.assert_allclose(
            X @ basis.coefficients(gamma), X @ basis.matrix @ (basis.b0 + gamma), rtol=1e-9, atol=1e-9
        )


@pytest.mark.parametrize("shift", [1e6, -1e6, 1e8])
def test_large_offset_of_the_response_is_harmless(shift):
    d = design()
    y = d.y + shift
    near = LinearMixedModel.from_arrays(d.y, d.X, list(d.terms)).at([0.5, 0.1, 0.4, 0.8])
    far = LinearMixedModel.from_arrays(y, d.X, list(d.terms)).at([0.5, 0.1, 0.4, 0.8])
    # what rounding of y itself changes: n * 1e-16 * shift over a residual SD of 1
    assert far.criterion == pytest.approx(near.criterion, abs=max(1e-6, 4e-16 * abs(shift) * d.n))


def test_rounded():
    np.testing.assert_array_equal(rounded(np.array([1996.3, -7.3]), np.array([3.0, 0.3])), [1996.0, -7.25])
    assert rounded(np.array([5.7]), np.array([0.0]))[0] == 6.0


def test_constant_column():
    A = np.column_stack([np.arange(3.0), np.full(3, 2.0), np.ones(3)])
    assert constant_column(A) == 1
    assert constant_column(A[:, :1]) == -1
    assert constant_column(np.zeros((3, 2))) == -1
    assert constant_column(np.zeros((0, 2))) == -1


def test_sparse_terms_equal_grouped_ones():
    d = design(weights=True)
    grouped = CrossProducts.from_rows(d)
    terms = [{"matrix": sp.csr_array(t.to_sparse()), "k": t.k, "name": t.name} for t in d.terms]
    other = LinearMixedModel.from_arrays(d.y, d.X, terms, weights=d.weights).problem.rows
    sparse = CrossProducts.from_rows(other)
    np.testing.assert_allclose(sparse.ZtWXy, grouped.ZtWXy, rtol=1e-11, atol=1e-11)  # other order of sums
    assert sparse.gram.pairs[0, 0].is_block_diagonal
    for key in grouped.gram.pairs:
        a, b = sparse.gram.pairs[key], grouped.gram.pairs[key]
        np.testing.assert_array_equal(a.rows, b.rows)
        np.testing.assert_array_equal(a.cols, b.cols)
        np.testing.assert_allclose(a.values, b.values, rtol=1e-11, atol=1e-12)


def test_sparse_level_without_rows_keeps_its_block():
    Z = sp.csr_array(np.eye(6)[np.arange(30) % 5])
    rng = np.random.default_rng(0)
    d = LinearMixedModel.from_arrays(rng.standard_normal(30), np.ones((30, 1)), [(Z, 1)]).problem.rows
    xp = CrossProducts.from_rows(d)
    np.testing.assert_array_equal(xp.gram.diagonal(0).ravel(), [6, 6, 6, 6, 6, 0])


def test_with_response_shares_what_it_can():
    d = design(weights=True, offset=True, far=2000.0)
    xp = CrossProducts.from_rows(d)
    new = pd.Series(d.y).sample(frac=1, random_state=0).to_numpy()
    other = xp.with_response(d, new)
    assert other.gram is xp.gram
    np.testing.assert_array_equal(other.XytWXy[:-1, :-1], xp.XytWXy[:-1, :-1])
    np.testing.assert_allclose(other.XytWXy, other.XytWXy.T, rtol=1e-13)  # weights multiply from one side
    fresh = CrossProducts.from_rows(
        LinearMixedModel.from_arrays(new, d.X, list(d.terms), weights=d.weights, offset=d.offset).problem.rows
    )
    np.testing.assert_allclose(other.basis.b0, fresh.basis.b0, rtol=1e-9, atol=1e-9)  # QR against normal equations
    np.testing.assert_allclose(other.ZtWXy, fresh.ZtWXy, rtol=1e-8, atol=1e-8)
    for array in (other.ZtWXy, other.XytWXy, xp.ZtWXy, xp.XytWXy):
        assert not array.flags.writeable


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("structure", ["us", "diag"])
def test_compiled_loops_over_many_rows(monkeypatch, weights, structure):
    d = design(60, structure=structure, far=300.0, weights=weights)
    few = CrossProducts.from_rows(d)
    monkeypatch.setattr(cells, "MANY_ROWS", 1)
    many = CrossProducts.from_rows(d)
    y = np.random.default_rng(3).standard_normal(d.n)
    for a, b in ((few, many), (few.with_response(d, y), many.with_response(d, y))):
        np.testing.assert_allclose(b.ZtWXy, a.ZtWXy, rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(b.XytWXy, a.XytWXy)
        np.testing.assert_allclose(b.gram.dot(np.eye(d.q)), a.gram.dot(np.eye(d.q)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("centre", [0.0, 3.0])
@pytest.mark.parametrize("mix", [None, np.triu(np.arange(1.0, 10.0).reshape(3, 3))])
def test_narrow_and_wide_matrices_are_transformed_alike(monkeypatch, centre, mix):
    X = np.column_stack([np.ones(20), np.random.default_rng(2).standard_normal((20, 2))])
    basis = FixedTransform(0, np.array([0.0, centre, 0.0]), np.array([1.0, 0.5, 4.0]), np.zeros(3), mix)
    narrow, out = basis.apply(X), np.empty((20, 4))
    monkeypatch.setattr(transform, "NARROW", 0)
    np.testing.assert_array_equal(basis.apply(X), narrow)
    np.testing.assert_array_equal(basis.apply(X, out[:, :3]), narrow)
    np.testing.assert_array_equal(out[:, :3], narrow)
    np.testing.assert_allclose(narrow, X @ basis.matrix, rtol=1e-13, atol=1e-13)
