"""Profile intervals against lme4's: the difference is the interpolation that R reads its limits from."""

from __future__ import annotations

import numpy as np
import pytest
import reference_helpers as rh
from scipy.stats import norm

from sparselmm.inference.profile.intervals import profile_conf_int
from sparselmm.inference.profile.profile import profile

FILE = "lme4.json.gz"
RECORDS = rh.read_records(FILE)
MODELS = [m for m in rh.reference_models() if RECORDS[m].get("confint_profile")]
Z = norm.ppf(0.975)
# limits here are roots of ζ to 1e-7; lme4 reads them from a spline, which is off by up to 4.5e-4 standard errors
WITHIN_SE = 1e-3


def named_limits(record):
    saved = record["confint_profile"]
    return {name: (low, high) for name, low, high in zip(saved["par"], saved["lower"], saved["upper"], strict=True)}


def our_name(name):
    """R's sd_(Intercept)|g and cor_x.(Intercept)|g in the names of the variance table."""
    kind, _, rest = name.partition("_")
    if kind not in ("sd", "cor") or "|" not in rest:
        return rh.plain(name)
    columns, label = rest.rsplit("|", 1)
    return rh.plain(f"{kind}({','.join(reversed(columns.split('.')))}|{label})")


def test_all_models_with_profiles_are_compared():
    assert len(MODELS) == 16


@pytest.mark.parametrize("model", MODELS)
def test_limits_of_lme4(model):
    ours = profile_conf_int(rh.fitted(FILE, model))
    by_name = {rh.plain(name).replace(".1|", "|"): row for name, row in ours.iterrows()}
    theirs = named_limits(RECORDS[model])
    # two terms of one grouping label carry lme4's suffix in our names
    by_name |= {rh.plain(name.replace(".1)", ")")): row for name, row in ours.iterrows()}
    for name, limits in theirs.items():
        row = by_name[our_name(name)]
        se = (row.conf_high - row.conf_low) / (2 * Z)
        for what, mine, r in (("lower", row.conf_low, limits[0]), ("upper", row.conf_high, limits[1])):
            if isinstance(r, float):
                rh.close(f"{what} limit of {name}", mine, r, WITHIN_SE * se)


@pytest.mark.parametrize("model", ["ss_slope_ml", "dye_ml", "pas_nested_ml", "edu_int_ml"])
def test_limits_are_exact_roots(model):
    """The deviance minimized with a parameter at its limit exceeds the minimum by the chi-square quantile.

    The minimum is taken here by refitting with an offset (a fixed effect) or over a grid that is refined
    (the relative SD of a single term), neither of which is how the limits were found.
    """
    import sparselmm as slm

    record = RECORDS[model]
    fit, data = rh.fitted(FILE, model), rh.load_reference_data(model)
    row = profile_conf_int(fit, which="Intercept").loc["Intercept"]
    fixed = record["formula"].split("(")[0]
    for limit in (row.conf_low, row.conf_high):
        held = record["formula"].replace(fixed, fixed.replace("1 +", "").replace("~", "~ 0 +"), 1)
        other = rh.quietly(slm.lmer, held, data, offset=np.full(len(data), limit), reml=False)
        rh.close("excess of the deviance", other.criterion - fit.criterion, Z**2, 2e-5)


@pytest.mark.parametrize("model", MODELS)
def test_interpolated_limits(model):
    """The interpolant through the knots agrees with the roots."""
    fit = rh.fitted(FILE, model)
    exact = profile_conf_int(fit)
    made = profile(fit.problem, fit.result).conf_int()
    se = (exact.conf_high - exact.conf_low).to_numpy() / (2 * Z)
    for column in ("conf_low", "conf_high"):
        rh.close(f"interpolated {column}", made[column], exact[column], 5e-4 * se)


def test_a_profile_costs_tens_of_evaluations():
    fit = rh.fitted(FILE, "ss_slope_ml")
    made = profile(fit.problem, fit.result)
    assert made.evaluations / len(made) < 40
