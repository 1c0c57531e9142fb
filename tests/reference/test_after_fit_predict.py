"""Conditional variances and predictions of the saved lme4 models, at R's own theta."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import reference_helpers as rh

FILE = "lme4.json.gz"
RECORDS = rh.read_records(FILE)
MODELS = list(rh.reference_models())
PREDICTED = [m for m in MODELS if RECORDS[m].get("predict")]
RTOL = 1e-6


def at_r(model):
    record = RECORDS[model]
    built = rh.built(FILE, model)
    return rh.quietly(built.at, rh.theta_from_r(record, record["theta"], built.theta_names), reml=record["REML"])


@pytest.mark.parametrize("model", MODELS)
def test_conditional_variances(model):
    record = RECORDS[model]
    found = at_r(model).ranef(condvar=True)
    checked = 0
    for block in record["ranef"]:
        ours = found[block["group"]]
        frame = ours.modes.rename(columns=rh.plain)
        rows = frame.index.astype(str).get_indexer([str(v) for v in block["levels"]])
        wanted = {tuple(block["terms"]): block["condvar"]} if block.get("condvar") is not None else {}
        for name, value in (block.get("condvar_by_term") or {}).items():
            wanted[(name,)] = value
        for names, value in wanted.items():
            columns = [list(frame.columns).index(rh.plain(n)) for n in names]
            theirs = np.array(value, float).reshape(len(rows), len(columns), len(columns))
            mine = ours.cov[np.ix_(rows, columns, columns)]
            sd = np.sqrt(np.maximum(np.einsum("mkk->mk", theirs), 0))
            scale = sd[:, :, None] * sd[:, None, :] + 1e-9 * record["sigma"] ** 2
            rh.close(f"condvar {block['group']} {names}", mine, theirs, RTOL * scale)
            checked += 1
    assert checked >= len(record["ranef"]) > 0


@pytest.mark.parametrize("model", MODELS)
def test_joint_covariance_holds_the_blocks_by_term(model):
    for found in at_r(model).ranef(condvar=True).values():
        start = 0
        for block in found.cov_by_term.values():
            k = block.shape[1]
            np.testing.assert_array_equal(found.cov[:, start : start + k, start : start + k], block)
            start += k
        assert start == found.modes.shape[1]
        assert (np.linalg.eigvalsh(found.cov) > -1e-8 * np.abs(found.cov).max(initial=1e-300)).all()


@pytest.mark.parametrize("model", PREDICTED)
def test_predictions(model):
    record = RECORDS[model]
    fit = at_r(model)
    data = rh.load_reference_data(model)
    newdata = {
        name: [str(v) for v in values] if isinstance(data[name].dtype, pd.CategoricalDtype) else values
        for name, values in record["predict"]["newdata"].items()
    }
    for result in record["predict"]["results"]:
        re_form = None if result["re_form"] == "NULL" else result["re_form"]
        ours = fit.predict(newdata, re_form=re_form, allow_new_levels=result["allow_new_levels"])
        rh.close(f"predict {result['re_form']}", ours, result["values"], RTOL * record["sigma"])
    rows = fit.predict(re_form="~0").iloc[:10]
    rh.close("fitted, fixed part", rows, record["predict"]["fitted_fixed10"], RTOL * record["sigma"])


@pytest.mark.parametrize("model", MODELS)
def test_fitted_rows_are_predicted_again(model):
    record = RECORDS[model]
    fit, data = at_r(model), rh.load_reference_data(model)
    rows = data.loc[fit.fittedvalues.index[:300]]
    expected = fit.fittedvalues.iloc[:300]
    rh.close("predict() and fittedvalues", fit.predict(), fit.fittedvalues, 1e-10 * record["sigma"])
    again = fit.predict(rows, chunk_rows=77)
    assert again.index.equals(expected.index)
    rh.close("predict(data) and fittedvalues", again, expected, 1e-8 * record["sigma"])
