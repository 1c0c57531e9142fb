"""Products with Z'WZ of designs too large for the dense path: against Z'W(ZB), and whole fits against dense algebra."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse as sp

from sparselmm import LinearMixedModel
from sparselmm.linalg import SYSTEMS, blocks
from sparselmm.linalg.inverse_blocks import NEARLY_SINGULAR, relative_diagonal

LEVELS, ROWS = 2_200, 2_600


def memberships(m, k, rng, n=ROWS, at_most=3):
    """Return a Z in which each row belongs to two or three levels with weights of its own, (n, m*k)."""
    rows, cols, values = [], [], []
    for i in range(n):
        for level in rng.choice(m, rng.integers(2, at_most + 1), replace=False):
            rows += [i] * k
            cols += range(level * k, level * k + k)
            values += list(rng.uniform(0.2, 1.0) * np.append(1.0, rng.standard_normal(k - 1)))
    return sp.csr_array((values, (rows, cols)), shape=(n, m * k))


def model(terms, seed=3, solver=None, scale=1.0):
    """Return a model, its Z in the order of the terms (decreasing m), weights, X and y."""
    rng = np.random.default_rng(seed)
    inputs, parts = [], []
    for i, (m, k, kind) in enumerate(terms):
        if kind == "membership":
            matrix = memberships(m, k, rng)
            inputs.append({"matrix": matrix, "k": k, "name": f"t{i}"})
        else:
            codes, Z = rng.permutation(np.arange(ROWS) % m), np.ones((ROWS, k))
            Z[:, 1:] = rng.standard_normal((ROWS, k - 1))
            inputs.append({"groups": codes, "Z": Z, "name": f"t{i}"})
            cols = codes[:, None] * k + np.arange(k)
            entries = (Z.ravel(), (np.repeat(np.arange(ROWS), k), cols.ravel()))
            matrix = sp.csr_array(entries, shape=(ROWS, m * k))
        parts.append((m, matrix))
    weights = rng.uniform(0.3, 3.0, ROWS)
    X = np.column_stack([np.ones(ROWS), rng.standard_normal(ROWS)])
    Z = sp.hstack([matrix for _, matrix in sorted(parts, key=lambda part: -part[0])]).tocsr()
    y = X @ [1.0, 0.5] + scale * (Z @ rng.standard_normal(Z.shape[1])) + rng.standard_normal(ROWS)
    return LinearMixedModel.from_arrays(y, X, inputs, weights=weights, solver=solver), Z, weights, X, y


TERMS = {
    "one membership": ((LEVELS, 1, "membership"),),
    "membership with slopes": ((LEVELS // 2, 2, "membership"),),
    "two memberships": ((LEVELS, 1, "membership"), (60, 1, "membership")),
    "membership below a factor": ((LEVELS, 1, "factor"), (900, 1, "membership")),
    "crossed factors": ((LEVELS // 2, 2, "factor"), (70, 1, "factor")),
}


@pytest.mark.filterwarnings("ignore::sparselmm.exceptions.SparseLMMWarning")
@pytest.mark.parametrize("many", [False, True], ids=["sparse matrices", "blocks of many cells"])
@pytest.mark.parametrize("name", TERMS)
def test_products_are_those_of_the_rows(name, many, monkeypatch):
    if many:
        monkeypatch.setattr(blocks, "MANY_CELLS", 1)
    made, Z, weights, *_ = model(TERMS[name])
    gram = made.problem.engine.crossproducts.gram
    assert Z.shape[1] == gram.q > blocks.DENSE_COLUMNS
    B = np.random.default_rng(1).standard_normal((gram.q, 3))
    expected = Z.T @ (weights[:, None] * (Z @ B))
    size = abs(Z.T) @ (weights[:, None] * (abs(Z) @ np.abs(B)))
    assert np.all(np.abs(gram.dot(B) - expected) <= 1e-14 * size)  # rounding of sums of some tens of products


@pytest.mark.parametrize("name", ["one membership", "membership below a factor"])
def test_a_large_membership_model_is_that_of_dense_algebra(name):
    """REML criterion, β and its covariance from the (n, n) covariance of y, by every exact solver."""
    _, Z, weights, X, y = model(TERMS[name])
    theta = np.linspace(0.7, 0.4, len(TERMS[name]))
    widths = sorted((m * k for m, k, _ in TERMS[name]), reverse=True)
    scaled = (Z @ sp.diags_array(np.repeat(theta, widths))).toarray()
    V = scaled @ scaled.T
    V.flat[:: ROWS + 1] += 1.0 / weights
    L = scipy.linalg.cholesky(V, lower=True, overwrite_a=True)
    R = np.linalg.qr(scipy.linalg.solve_triangular(L, np.column_stack([X, y]), lower=True), mode="r")
    pwrss, df, inverse = R[2, 2] ** 2, ROWS - 2, np.linalg.inv(R[:2, :2])
    logdets = 2 * np.log(np.diag(L)).sum() + 2 * np.log(np.abs(np.diag(R)[:2])).sum()
    criterion = logdets + df * (1 + np.log(2 * np.pi * pwrss / df))
    solvers = {"cholmod", "schur"} if "factor" in name else {"cholmod"}  # Schur's eliminates a factor
    assert solvers <= set(SYSTEMS)
    for solver in solvers:
        fit = model(TERMS[name], solver=solver)[0].at(theta, reml=True)
        assert fit.criterion == pytest.approx(criterion, rel=1e-11), solver
        np.testing.assert_allclose(fit.params, inverse @ R[:2, 2], rtol=1e-9)
        np.testing.assert_allclose(fit.cov_params(), pwrss / df * inverse @ inverse.T, rtol=1e-9)


@pytest.mark.parametrize("m", [40, LEVELS])
def test_nearly_singular_does_not_depend_on_the_number_of_levels(m):
    """An intercept with n/m rows in each level: its scaled diagonal is θ √(n/m) whatever m is."""
    codes = np.arange(ROWS) % m
    y = np.random.default_rng(2).standard_normal(ROWS)
    gram = LinearMixedModel.from_arrays(y, np.ones((ROWS, 1)), [(codes, None, "g")]).problem.engine.crossproducts.gram
    size = np.sqrt(np.mean(np.bincount(codes)))
    for theta in (1.0, 0.5 * NEARLY_SINGULAR / size):
        assert relative_diagonal(gram, 0, np.array([[theta]])) == pytest.approx(theta * size, rel=1e-12)
