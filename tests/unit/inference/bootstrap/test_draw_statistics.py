"""Drawing sufficient statistics: the law of the draws against dense algebra and simulated rows."""

from __future__ import annotations

import numpy as np
import pytest
from resampling_designs import FORMULAS, made_fit

import sparselmm as slm
from sparselmm.inference.bootstrap.draw_statistics import Sampler
from sparselmm.statistics.transform import with_centred_terms


class UnitStream:
    """A generator whose normal draws are one unit vector, so that draws are the columns of a linear map."""

    def __init__(self, position: int) -> None:
        self.position = position

    def standard_normal(self, size: int) -> np.ndarray:
        out = np.zeros(size)
        out[self.position] = 1.0
        return out

    def chisquare(self, df: float) -> float:
        return 0.0


def sampler_of(fit, pls):
    xp = fit.crossproducts
    return Sampler.of(pls.system, xp.ZtWXy[:, : xp.p], xp.XytWXy[: xp.p, : xp.p], xp.n)


def gram_of(fit, sampler):
    A = sampler.gram.dot(np.eye(sampler.gram.q))
    return np.block([[A, sampler.ZtWX], [sampler.ZtWX.T, sampler.XtWX]])


def rows_of(fit):
    """√W[Z X] in the solver's coordinates, and the weights."""
    design, xp = fit.result.rows, fit.crossproducts
    Z = np.hstack([t.to_sparse().toarray() for t in with_centred_terms(design, xp.centres).terms])
    w = np.ones(design.n) if design.weights is None else design.weights
    return np.hstack([Z, xp.basis.apply(design.X)]), w


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", FORMULAS)
def test_law_of_the_draws(name, weighted):
    """The draws are linear in independent normals; the covariance of that map is exact."""
    fit = made_fit(name, weighted=weighted)
    B, w = rows_of(fit)
    rank = np.linalg.matrix_rank(np.sqrt(w)[:, None] * B)
    with fit.problem.engine.locked() as pls:
        sampler = sampler_of(fit, pls)
        assert sampler.df == fit.nobs - rank
        q, n = sampler.gram.q, 3 * sampler.gram.q + sampler.K.shape[1]
        templates = pls.parameters.templates(fit.result.par)
        y = sampler.draw(pls.system, templates, 2.0, [UnitStream(i) for i in range(n)])
        residual = sampler.draw(pls.system, tuple(0 * T for T in templates), 2.0, [UnitStream(i) for i in range(n)])
    A = gram_of(fit, sampler)
    Lam = np.zeros((len(A), len(A)))
    start = 0
    for m, T in zip(sampler.gram.m, templates):
        for _ in range(m):
            Lam[start : start + len(T), start : start + len(T)] = T
            start += len(T)
    scale = 1.0 / np.sqrt(np.maximum(np.diag(A), 1e-12))
    for found, expected in ((residual, 4.0 * A), (y, 4.0 * (A + A @ Lam @ Lam.T @ A))):
        S = np.vstack([found.ZtWy, found.XtWy])
        error = (S @ S.T - expected) * np.outer(scale, scale)
        assert np.max(np.abs(error)) < 1e-9 * np.max(np.abs(expected * np.outer(scale, scale)))
        # the quadratic form is that of the projection on the columns
        P = np.linalg.pinv(A * np.outer(scale, scale), rcond=1e-10)
        s = scale[:, None] * S
        np.testing.assert_allclose(found.yWy, np.einsum("ar,ab,br->r", s, P, s), rtol=1e-6, atol=1e-6)
    assert q == sampler.gram.q


@pytest.mark.parametrize("name", ["correlated", "far column"])
def test_moments_of_simulated_rows(name):
    """Means and covariances of statistics of responses simulated row by row."""
    fit = made_fit(name, weighted=True)
    B, w = rows_of(fit)
    rng = np.random.default_rng(8)
    R, q = 4000, fit.crossproducts.gram.q
    with fit.problem.engine.locked() as pls:
        sampler = sampler_of(fit, pls)
        templates = pls.parameters.templates(fit.result.par)
        streams = [np.random.default_rng(s) for s in np.random.SeedSequence(4).spawn(R)]
        y = sampler.draw(pls.system, templates, fit.sigma, streams)
    u = fit.sigma * rng.standard_normal((q, R))
    b = np.concatenate(
        [
            (u[a:c].reshape(m, k, R).transpose(0, 2, 1) @ T.T).transpose(0, 2, 1).reshape(m * k, R)
            for a, c, m, k, T in zip(
                sampler.gram.offsets, sampler.gram.offsets[1:], sampler.gram.m, sampler.gram.k, templates
            )
        ]
    )
    rows = B[:, :q] @ b + fit.sigma / np.sqrt(w)[:, None] * rng.standard_normal((len(B), R))
    theirs = np.vstack([B.T @ (w[:, None] * rows), np.einsum("n,nr->r", w, rows**2)])
    ours = np.vstack([y.ZtWy, y.XtWy, y.yWy])
    assert np.max(np.abs(ours.mean(1) - theirs.mean(1)) / (theirs.std(1) / np.sqrt(R))) < 5.5
    size = np.outer(theirs.std(1), theirs.std(1))
    assert np.max(np.abs(np.cov(ours) - np.cov(theirs)) / size) < 6 * np.sqrt(2.0 / R)


@pytest.mark.filterwarnings("ignore::sparselmm.exceptions.SingularFitWarning")
def test_rank_of_linked_factors():
    """Pairs of rows across batches link the six batches in three groups: rank 15 + 6 - 3."""
    data = slm.load_dataset("Dyestuff").assign(pair=lambda d: np.arange(len(d)) // 2)
    fit = slm.lmer("Yield ~ 1 + (1 | Batch) + (1 | pair)", data, reml=False)
    with fit.problem.engine.locked() as pls:
        sampler = sampler_of(fit, pls)
    assert (sampler.rank_z, sampler.df, sampler.K.shape) == (18, 12, (1, 0))
