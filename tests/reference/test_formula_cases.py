"""Every spelling of the formula grammar against lme4 (formula_cases.R)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd
import pytest
import reference_helpers as rh

import sparselmm as slm
from sparselmm.exceptions import DataError, DesignError, FormulaError, SparseLMMError, UnsupportedError

RECORDS = rh.read_records("formula_cases.json")
FITS = [m for m, r in RECORDS.items() if r["kind"] == "fit"]
REFUSED = [m for m, r in RECORDS.items() if r["kind"] in ("error", "refuse", "unsupported")]
EXCEPTIONS = {
    "14": DesignError,
    "15": (FormulaError, DesignError),
    "31": FormulaError,
    "35": UnsupportedError,
    "36": UnsupportedError,
    "38": DesignError,
    "39": DesignError,
    "41": FormulaError,
    "42c": (DataError, FormulaError),
    "43d": FormulaError,
}
# Spellings that must give the very same model.
SAME = [("02a", "02b"), ("03a", "03b", "03c"), ("05a", "05b", "08"), ("11a", "11b"), ("12a", "12b"), ("13a", "10"),
        ("17a", "17b", "17c"), ("18a", "18b"), ("33", "02a"), ("34a", "03a"), ("43c", "01")]  # fmt: skip


@lru_cache
def frame() -> pd.DataFrame:
    data = pd.read_csv(rh.HERE / "formula_cases.csv", keep_default_na=False, na_values=["NA"])
    for factor in ("g", "h", "f", "f2", "gna"):
        data[factor] = data[factor].astype("category")
    levels = list(data["g"].cat.categories)
    data["gu"] = pd.Categorical(data["gu"], categories=["aa", *levels, "zz"])
    return data


def data_of(model: str) -> pd.DataFrame:
    columns = RECORDS[model].get("columns")
    return frame()[columns] if columns else frame()


@lru_cache
def built(model: str):
    return rh.build_model(RECORDS[model], data_of(model))


@lru_cache
def fitted(model: str):
    return rh.quietly(built(model).fit, reml=RECORDS[model]["REML"])


def test_the_table_is_complete():
    rows = {int(r["id"][:2]) for r in RECORDS.values()}
    assert rows >= set(range(1, 43))


@pytest.mark.parametrize("model", FITS)
def test_sizes_and_columns(model):
    record = RECORDS[model]
    fit = rh.quietly(built(model).at, first_theta(model), reml=record["REML"])
    assert len(fit.params) == record["p"]
    assert sum(table.size for table in fit.ranef().values()) == record["q"]
    assert len(fit.theta) == record["n_theta"]
    assert fit.nobs == record["nobs"]
    assert [rh.plain(n) for n in fit.params.index] == [rh.plain(n) for n in record["x_columns"]]
    assert [rh.plain(n) for n in fit.dropped_columns] == [rh.plain(n) for n in record["dropped_columns"]]


@pytest.mark.parametrize("model", FITS)
def test_names_of_r(model):
    record = RECORDS[model]
    fit = rh.quietly(built(model).at, first_theta(model), reml=record["REML"])
    assert [fit.r_names[n] for n in fit.params.index] == record["x_columns"]


def first_theta(model: str) -> np.ndarray:
    record = renamed(model)
    return rh.theta_from_r(record, record["criterion_at"][0]["theta"], built(model).theta_names)


def renamed(model: str) -> rh.Record:
    """Record whose grouping names are those of the formula, where R was given another spelling."""
    record = RECORDS[model]
    swaps = {"30a": ("s_factor", "factor(s)"), "30b": ("z_cut", "cut(z, 3)"), "30c": ("f_f2", "interaction(f, f2)")}
    if record["id"][:3] not in swaps:
        return record
    old, new = swaps[record["id"][:3]]
    names = [n.replace(old, new, 1) for n in record["theta_names"]]
    return {**record, "theta_names": names}


@pytest.mark.parametrize("model", FITS)
def test_criterion_at_fixed_theta(model):
    rh.check_fixed_theta(built(model), renamed(model))


@pytest.mark.parametrize("model", FITS)
def test_optimum(model):
    rh.check_optimum(fitted(model), RECORDS[model])


@pytest.mark.parametrize(
    "model",
    [m for m in FITS if not RECORDS[m]["isSingular"] and not {"criterion_only", "r_formula"} & set(RECORDS[m])],
)
def test_estimates_of_regular_models(model):
    rh.check_estimates(fitted(model), RECORDS[model])
    rh.check_rows(fitted(model), RECORDS[model], frame(), rh.RTOL_VARIANCE)


@pytest.mark.parametrize("model", [m for m in FITS if "criterion_only" not in RECORDS[m]])
def test_singularity(model):
    assert bool(fitted(model).is_singular) == RECORDS[model]["isSingular"]


@pytest.mark.parametrize("same", SAME, ids=lambda s: "=".join(s))
def test_spellings_of_one_model(same):
    first = built(f"{same[0]}_reml")
    theta = np.linspace(0.3, 1.1, len(first.theta_names))
    for other in same[1:]:
        order = [list(map(rh.plain, first.theta_names)).index(rh.plain(n)) for n in built(f"{other}_reml").theta_names]
        ours = rh.quietly(built(f"{other}_reml").at, theta[order]).criterion
        assert ours == pytest.approx(rh.quietly(first.at, theta).criterion, rel=1e-12)


@pytest.mark.parametrize("model", REFUSED)
def test_refusals(model):
    record = RECORDS[model]
    kind = EXCEPTIONS[record["id"].split("_")[0]]
    with pytest.raises(kind) as caught:
        slm.LinearMixedModel.from_formula(record["formula"], frame(), weights=record.get("weights"))
    assert isinstance(caught.value, SparseLMMError)
    assert len(str(caught.value)) > 20


def test_natural_splines_count_like_r():
    """R's row 24: `ns(x, 3)` beside the intercept gives p = 4 (its values are compared in test_model_matrix)."""
    model = slm.LinearMixedModel.from_formula("y ~ ns(x, 3) + (1|g)", frame())
    assert model.problem.layout.p == 4
