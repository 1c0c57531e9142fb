"""Models beyond the 76, fitted in R by extra_models.R, with the same checks."""

from __future__ import annotations

import pytest
import reference_helpers as rh

FILE = "extra_models.json.gz"
RECORDS = rh.read_records(FILE)
MODELS = list(RECORDS)
FULL = [m for m in MODELS if not RECORDS[m].get("criterion_only")]


@pytest.mark.parametrize("model", MODELS)
def test_criterion_at_fixed_theta(model):
    rh.check_fixed_theta(rh.built(FILE, model), RECORDS[model])


@pytest.mark.parametrize("model", FULL)
def test_everything_at_the_theta_of_r(model):
    record = RECORDS[model]
    rh.check_same_theta(rh.built(FILE, model), record, rh.reference_frame(record["data"]))


@pytest.mark.parametrize("model", MODELS)
def test_optimum(model):
    rh.check_optimum(rh.fitted(FILE, model), RECORDS[model])


@pytest.mark.parametrize("model", [m for m in FULL if not RECORDS[m]["isSingular"]])
def test_estimates_of_regular_models(model):
    record, fit = RECORDS[model], rh.fitted(FILE, model)
    rh.check_sizes(fit, record)
    rh.check_estimates(fit, record)
    rh.check_rows(fit, record, rh.reference_frame(record["data"]), rh.RTOL_VARIANCE)


@pytest.mark.parametrize("model", [m for m in FULL if RECORDS[m]["isSingular"]])
def test_singular_models(model):
    rh.check_sizes(rh.fitted(FILE, model), RECORDS[model])
    assert rh.fitted(FILE, model).is_singular
