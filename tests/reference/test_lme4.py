"""The 76 saved lme4 models: first without an optimizer, then at the optimum."""

from __future__ import annotations

import pytest
import reference_helpers as rh

FILE = "lme4.json.gz"
MODELS = list(rh.reference_models())
RECORDS = rh.read_records(FILE)


def test_no_model_is_missing():
    assert len(MODELS) == 76


@pytest.mark.parametrize("model", MODELS)
def test_criterion_at_fixed_theta(model):
    rh.check_fixed_theta(rh.built(FILE, model), RECORDS[model])


@pytest.mark.parametrize("model", MODELS)
def test_everything_at_the_theta_of_r(model):
    record = RECORDS[model]
    rh.check_same_theta(rh.built(FILE, model), record, rh.load_reference_data(model))


@pytest.mark.parametrize("model", MODELS)
def test_optimum(model):
    rh.check_optimum(rh.fitted(FILE, model), RECORDS[model])


@pytest.mark.parametrize("model", [m for m in MODELS if not RECORDS[m]["isSingular"]])
def test_estimates_of_regular_models(model):
    record, fit = RECORDS[model], rh.fitted(FILE, model)
    rh.check_sizes(fit, record)
    rh.check_estimates(fit, record)
    rh.check_rows(fit, record, rh.load_reference_data(model), rh.RTOL_VARIANCE)
    assert not fit.is_singular


@pytest.mark.parametrize("model", [m for m in MODELS if RECORDS[m]["isSingular"]])
def test_singular_models(model):
    record, fit = RECORDS[model], rh.fitted(FILE, model)
    rh.check_sizes(fit, record)
    rh.check_singular_estimates(fit, record)
    assert fit.is_singular
    assert any(message.code == "singular" for message in fit.messages)


@pytest.mark.parametrize("model", MODELS)
def test_names_of_r(model):
    """`r_names` translates our names of the fixed effects into R's own."""
    record, fit = RECORDS[model], rh.fitted(FILE, model)
    assert [fit.r_names[name] for name in fit.params.index] == list(record["beta"])


@pytest.mark.parametrize("model", [m for m in MODELS if RECORDS[m]["data"] != "InstEval"])
def test_bobyqa_reaches_every_optimum(model):
    """Purely derivative-free: within 1e-6 of R's optimum and of the default's."""
    check_bobyqa(model)


@pytest.mark.slow
@pytest.mark.parametrize("model", [m for m in MODELS if RECORDS[m]["data"] == "InstEval"])
def test_bobyqa_reaches_large_optima(model):
    check_bobyqa(model)


def check_bobyqa(model):
    record = RECORDS[model]
    fit = rh.quietly(rh.built(FILE, model).fit, record["REML"], optimizer="bobyqa")
    assert fit.optimizer_report.name == "bobyqa"
    assert fit.converged
    assert fit.criterion <= min(record["criterion"], rh.fitted(FILE, model).criterion) + 1e-6
