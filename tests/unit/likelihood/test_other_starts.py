"""Other starts: where they are, when they are tried, and what the fit says of them."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm.exceptions import SparseLMMWarning
from sparselmm.likelihood import search
from sparselmm.likelihood.search import FEW_STARTS
from sparselmm.likelihood.starting import SIZES, OtherStarts, column_scales, moment_start
from sparselmm.optimize import Nlopt


def one_way(sd, seed=1, rows=6, groups=8, slope=False):
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(groups), rows)
    x = rng.standard_normal(len(g))
    y = x + sd * rng.standard_normal(groups)[g] + rng.standard_normal(len(g))
    if slope:
        y = y + sd * rng.standard_normal(groups)[g] * x
    return pd.DataFrame({"y": y, "x": x, "g": g.astype(str), "h": np.tile(np.arange(rows), groups).astype(str)})


def quietly(function, *args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SparseLMMWarning)
        return function(*args, **options)


def starts_of(model, count):
    """Return starts, the templates of the best end that they are told, the parameters and the scales of columns."""
    with model.problem.engine.locked() as pls:
        scales = column_scales(pls.crossproducts.gram)
        best = moment_start(pls.crossproducts, pls.parameters)
        starts = OtherStarts(pls.parameters, scales)
        return [starts.next(best) for _ in range(count)], best, pls.parameters, scales


def test_starts_span_all_sizes_and_repeat():
    model = slm.LinearMixedModel.from_formula("y ~ x + (x | g) + (1 | h)", one_way(1.0))
    starts, _, parameters, scales = starts_of(model, 80)
    for size, par in zip(SIZES, starts, strict=False):
        for T, scale in zip(parameters.templates(par), scales, strict=True):
            np.testing.assert_allclose(T, np.diag(size / scale), rtol=1e-12)
    drawn = starts[len(SIZES) + 1 :: 2]
    sizes = [np.log10(np.abs(np.diag(parameters.templates(par)[1]) * scales[1])) for par in drawn]
    assert -1.0 <= np.min(sizes) < 0.0 < 2.0 < np.max(sizes) <= 2.5
    np.testing.assert_array_equal(starts, starts_of(model, 80)[0])


def test_every_other_start_replaces_one_term_of_the_best_end():
    model = slm.LinearMixedModel.from_formula("y ~ x + (x | g) + (1 | h)", one_way(1.0))
    starts, best, parameters, _ = starts_of(model, 80)
    replaced = set()
    for par in starts[len(SIZES) :: 2]:
        changed = [not np.allclose(a, b) for a, b in zip(parameters.split(par), parameters.split(best), strict=True)]
        assert sum(changed) == 1
        replaced.add(changed.index(True))
    assert replaced == {0, 1}


def test_regular_fits_of_few_parameters_try_one_start():
    fit = slm.lmer("y ~ x + (x | g)", one_way(2.0, slope=True))
    assert not fit.is_singular
    assert fit.convergence.starts == 1
    assert "starts" not in str(fit.convergence)


def test_singular_fits_try_more(monkeypatch):
    data = one_way(0.0, seed=1)
    fit = quietly(slm.lmer, "y ~ x + (1 | g)", data)
    assert fit.is_singular
    assert fit.convergence.starts == 1 + FEW_STARTS + 1
    assert str(fit.convergence).endswith(f"best of {FEW_STARTS + 2} starts")
    monkeypatch.setattr(search, "FLOPS_OF_OVERHEAD", search.EXPENSIVE_FLOPS)  # as if evaluations were expensive
    assert quietly(slm.lmer, "y ~ x + (1 | g)", data).convergence.starts == 1 + FEW_STARTS
    monkeypatch.setattr(search, "RESTART_FLOPS", 0.0)
    assert quietly(slm.lmer, "y ~ x + (1 | g)", data).convergence.starts == 1


@pytest.mark.parametrize(("groups", "more"), [(20, True), (40, False)])
def test_many_parameters_of_few_levels_call_for_more_starts(groups, more):
    rng = np.random.default_rng(3)
    n = 30 * groups
    data = one_way(1.0, rows=30, groups=groups).assign(**{f"z{i}": rng.standard_normal(n) for i in range(3)})
    for name in ("z0", "z1", "z2"):
        data["y"] += data[name] * rng.standard_normal(groups)[data["g"].astype(int)]
    fit = quietly(slm.lmer, "y ~ x + (z0 + z1 + z2 | g)", data)
    assert not fit.is_singular
    assert (fit.convergence.starts > 3) == more


def test_a_chosen_optimizer_that_gave_up_is_not_replaced():
    fit = quietly(slm.lmer, "y ~ x + (1 | g)", one_way(0.0, seed=1), optimizer=Nlopt(max_evaluations=2))
    assert fit.convergence.starts == 1


@pytest.mark.parametrize("rows", [3, 4])
def test_nearly_saturated_models_are_told_so(rows):
    """Ten groups with two coefficients for 30 or 40 rows, and ten more effects: q = 30."""
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(10), rows)
    data = pd.DataFrame({"x": rng.standard_normal(len(g)), "g": g, "h": rng.permutation(g)})
    data["y"] = rng.standard_normal(10)[g] + rng.standard_normal(10)[data["h"]] + rng.standard_normal(len(g))
    fit = quietly(slm.lmer, "y ~ x + (x || g) + (1 | h)", data)
    codes = [m.code for m in fit.messages]
    assert ("nearly_saturated" in codes) == (len(g) - 2 <= 30)
    if "nearly_saturated" in codes:
        message = next(m for m in fit.messages if m.code == "nearly_saturated")
        assert "30 random effects and 2 fixed effects for 30 rows" in message.what
