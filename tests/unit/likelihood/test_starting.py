"""Moment estimates that start the search."""

from __future__ import annotations

import numpy as np
import pytest

from sparselmm import LinearMixedModel
from sparselmm.likelihood import starting
from sparselmm.likelihood.starting import moment_start, moment_variances

pytestmark = pytest.mark.filterwarnings("ignore::sparselmm.exceptions.SparseLMMWarning")


def problem(sd_a, sd_b, seed=0, scale=1.0, n=4000):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 100, n), rng.integers(0, 60, n)
    x = scale * rng.standard_normal(n)
    y = sd_a * rng.standard_normal(100)[a] + sd_b / scale * rng.standard_normal(60)[b] * x + rng.standard_normal(n)
    return LinearMixedModel.from_arrays(y, np.ones((n, 1)), [(a, None, "a"), (b, x, "b")]).problem.engine


@pytest.mark.parametrize(("sd_a", "sd_b"), [(1.0, 0.5), (0.0, 2.0), (3.0, 0.0)])
def test_large_samples_give_the_true_variances(sd_a, sd_b):
    phi, sigma2 = moment_variances(problem(sd_a, sd_b).crossproducts)
    assert sigma2 == pytest.approx(1.0, abs=0.1)  # 4000 rows: standard error 0.02
    # 60 to 100 levels: relative standard error of a variance up to 0.18
    np.testing.assert_allclose(phi, [sd_a**2, sd_b**2], rtol=0.5, atol=0.02)


def test_estimates_are_exact_in_expectation():
    """The linear system solved is that of the expectations: averaged over responses it gives the truth."""
    found = []
    for seed in range(40):
        phi, sigma2 = moment_variances(problem(1.0, 0.5, seed, n=600).crossproducts)
        found.append([*phi, sigma2])
    error = np.std(found, axis=0) / np.sqrt(40)
    bias = np.mean(found, axis=0) - [1.0, 0.25, 1.0]
    # four standard errors, and the loss of one degree of freedom to the mean that the method neglects
    assert np.all(np.abs(bias) < 4 * error + 0.03), bias


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_start_does_not_depend_on_the_scale_of_the_response(factor):
    engine = problem(1.0, 0.5)
    xp = engine.crossproducts
    rng = np.random.default_rng(0)
    y = rng.standard_normal(xp.n)
    design = LinearMixedModel.from_arrays(y, np.ones((xp.n, 1)), [(np.arange(xp.n) % 9, None)]).problem
    scaled = design.with_response(factor * y)
    a, b = (moment_start(p.engine.crossproducts, p.engine.parameters) for p in (design, scaled))
    np.testing.assert_allclose(a, b, rtol=1e-8)  # products of four numbers, scaled


def test_start_is_inside_the_bounds_and_not_on_them():
    engine = problem(0.0, 0.0)
    start = moment_start(engine.crossproducts, engine.parameters)
    assert np.all(start > engine.parameters.lower())
    assert np.all(np.isfinite(start))


def test_cells_are_summed_in_pieces(monkeypatch):
    rng = np.random.default_rng(7)
    data = {"y": rng.standard_normal(80), "x": rng.standard_normal(80), "g": np.arange(80) % 9, "h": np.arange(80) % 7}
    xp = LinearMixedModel.from_formula("y ~ x + (1 + x | g) + (1 | h)", data).problem.engine.crossproducts
    whole = moment_variances(xp)
    monkeypatch.setattr(starting, "CHUNK_CELLS", 5)
    pieces = moment_variances(xp)
    np.testing.assert_allclose(pieces[0], whole[0], rtol=1e-10, atol=1e-12)
    assert pieces[1] == pytest.approx(whole[1], rel=1e-12)
