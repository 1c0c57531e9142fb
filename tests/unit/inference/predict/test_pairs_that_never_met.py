"""Variances of predictions for pairs of levels that never met in the data: cached, in batches, and densely."""

from __future__ import annotations

import henderson
import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm.inference.predict import error_variance as module


def sparse_crossing(seed=3):
    """15 x 8 levels of which 20 pairs occur: a chain that joins all of them, each pair twice."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.r_[np.arange(15), [0, 3, 7, 11, 14]], 2)
    h = np.repeat(np.r_[np.arange(15) % 8, (np.array([0, 3, 7, 11, 14]) + 1) % 8], 2)
    x = rng.normal(size=len(g))
    y = 1 + x + rng.normal(size=15)[g] + rng.normal(size=8)[h] + rng.normal(size=len(g))
    return pd.DataFrame({"y": y, "x": x, "g": [f"g{i:02d}" for i in g], "h": [f"h{i}" for i in h]})


def all_pairs(data):
    """One row for each of the 120 pairs, in an order that mixes them."""
    rng = np.random.default_rng(8)
    pairs = [(g, h) for g in sorted(set(data["g"])) for h in sorted(set(data["h"]))]
    g, h = zip(*[pairs[i] for i in rng.permutation(len(pairs))])
    return pd.DataFrame({"g": g, "h": h, "x": rng.normal(size=len(pairs))})


def dense_rows(fit, new):
    """x and z of new rows of known levels, in the order of the fit's terms."""
    encoding, blocks = fit.source.encoding, []
    for i, term in enumerate(fit.result.rows.terms):
        rows = encoding.apply_term(i, new)
        z = np.zeros((len(new), term.m, term.k))
        z[np.arange(len(new)), rows.codes] = rows.Z
        blocks.append(z.reshape(len(new), -1))
    return encoding.apply_fixed(new), np.hstack(blocks)


FORMULAS = {
    "y ~ x + (1 | g) + (1 | h)": [0.8, 0.6],
    "y ~ x + (1 | g) + (x | h)": [0.8, 0.6, 0.2, 0.5],
    "y ~ x + (1 | h) + (x | g)": [0.8, 0.3, 0.4, 0.6],
    "y ~ 0 + (1 | g) + (0 + x | h)": [0.8, 0.6],
}


@pytest.mark.parametrize("cells", [1, 100, 10**7])
@pytest.mark.parametrize("cache", [0, 10**9], ids=["batches", "cache"])
@pytest.mark.parametrize("formula", FORMULAS)
def test_every_pair_of_levels(formula, cache, cells, monkeypatch):
    monkeypatch.setattr(module, "DIRECT_SHARE", 0.0)
    monkeypatch.setattr(module, "CACHE_CELLS", cache)
    monkeypatch.setattr(module, "BATCH_CELLS", cells)
    data = sparse_crossing()
    new = all_pairs(data)
    met = set(zip(data["g"], data["h"]))
    assert sum(pair in met for pair in zip(new["g"], new["h"])) == 20
    fit = slm.LinearMixedModel.from_formula(formula, data).at(FORMULAS[formula])
    expected = henderson.variance(henderson.dense_errors(fit), *dense_rows(fit, new))
    np.testing.assert_allclose(fit.predict(new, se=True)["se"] ** 2, expected, rtol=1e-9)
    again = fit.predict(new.iloc[::-1], se=True)  # what the first call kept serves the second
    np.testing.assert_allclose(again["se"].to_numpy()[::-1] ** 2, expected, rtol=1e-9)
