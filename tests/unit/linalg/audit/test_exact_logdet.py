"""The packed Cholesky factorisation of the normalised Schur complement."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

import sparselmm as slm
from sparselmm.exceptions import NumericalError
from sparselmm.linalg import make_system
from sparselmm.linalg.audit.dense import audit_cost, tiled_logdet

FORMULAS = (
    "y ~ 1 + (1 | u) + (1 | i)",
    "y ~ 1 + (1 + x | u) + (1 + x | i)",
    "y ~ 1 + (1 + x || u) + (1 + x || i) + (1 | j)",
    "y ~ 1 + (1 | u) + (1 + x | i) + (1 | j) + (1 | g)",
)


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(4)
    n = 900
    levels = {"u": 80, "i": 70, "j": 66, "g": 4}
    return {name: rng.integers(0, m, n) for name, m in levels.items()} | {
        "x": rng.standard_normal(n),
        "y": rng.standard_normal(n),
    }


@pytest.mark.parametrize("scale", [0.0, 0.4, 3.0])
@pytest.mark.parametrize("formula", FORMULAS)
def test_log_determinants_are_those_of_the_exact_solver(frame, formula, scale):
    gram = slm.LinearMixedModel.from_formula(formula, frame).problem.engine.crossproducts.gram
    rng = np.random.default_rng(2)
    templates = tuple(scale * (np.eye(k) + np.tril(0.3 * rng.standard_normal((k, k)))) for k in gram.k)
    exact, approximate = make_system(gram, "cholmod"), make_system(gram, "iterative")
    exact.refactor(templates)
    approximate.refactor(templates)
    assert approximate.exact_logdet() == pytest.approx(exact.logdet(), abs=1e-9)


@pytest.mark.parametrize("panel", [7, 16, 50, 200])
@pytest.mark.parametrize("K", [1, 3])
def test_panels_of_any_width(panel, K):
    rng = np.random.default_rng(1)
    q = 60 * K
    B = sp.random_array((200, q), density=0.05, rng=rng, format="csr") * 0.15
    E = sp.random_array((q, q), density=0.01, rng=rng, format="csr") * 0.05
    within = E + E.T
    dense = (within - B.T @ B).toarray()
    for first in range(0, q, K):
        dense[first : first + K, first : first + K] = np.eye(K)
    told = []
    found = tiled_logdet(
        sp.csr_array(B), sp.csc_array(sp.tril(within)), np.full(60, K), panel=panel, listener=told.append
    )
    assert found == pytest.approx(np.linalg.slogdet(dense)[1], abs=1e-10)
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_a_matrix_that_is_not_positive_definite_is_an_error():
    B = sp.csr_array(np.full((4, 30), 0.9))
    with pytest.raises(NumericalError, match="not positive definite"):
        tiled_logdet(B, sp.csc_array((30, 30)), np.ones(30, dtype=int), panel=8)


def test_the_forecast_grows_with_the_matrix(frame):
    model = slm.LinearMixedModel.from_formula(FORMULAS[2], frame)
    cost = audit_cost(make_system(model.problem.engine.crossproducts.gram, "iterative").layout)
    assert cost.size == 2 * 70 + 66
    assert cost.bytes > 4.0 * cost.size**2
    assert cost.flops > cost.size**3 / 3.0
    assert cost.fits
