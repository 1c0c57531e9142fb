"""New data whose types are not those of the fit: values are matched, or both types are named."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm.exceptions import DataError

RNG = np.random.default_rng(6)
N = 120
CODES = RNG.integers(1, 4, N)
DATA = pd.DataFrame({
    "x": RNG.normal(size=N), "g": RNG.integers(0, 8, N), "c": pd.Categorical(CODES), "t": RNG.choice(list("abc"), N),
})  # fmt: skip
DATA["gc"] = pd.Categorical(DATA["g"])
DATA["y"] = DATA["x"] + RNG.normal(size=8)[DATA["g"]] + RNG.normal(size=N)
MANY = (
    "y ~ scale(x) + poly(x, 2) + cut(x, 3) + factor(c) + relevel(t, 'b') + I(t == 'a') + interaction(c, t) + "
    "as.numeric(c) + ifelse(t == 'a', 1, 2) + I(x > mean(x)) + bs(x, df=4) + ns(x, df=3) + as.character(c) + "
    "C(t, contr.sum) + (t | g)"
)
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def fit():
    return slm.lmer("y ~ x + c + t + (1 | g)", DATA)


@pytest.fixture(scope="module")
def many():
    return slm.lmer(MANY, DATA)


NOTHING = {
    "None": [None] * 3, "NaN": [np.nan] * 3, "NA": pd.array([pd.NA] * 3, dtype="string"), "float": np.full(3, np.nan),
    "category": pd.Categorical([None] * 3), "Int64": pd.array([None] * 3, dtype="Int64"),
}  # fmt: skip


@pytest.mark.parametrize("column", ["x", "c", "t", "g"])
@pytest.mark.parametrize("kind", NOTHING)
def test_a_column_without_values(fit, many, column, kind):
    new = DATA.head(3).assign(**{column: NOTHING[kind]})
    assert fit.predict(new).isna().all()
    assert many.predict(new).isna().all()


def test_an_empty_table(fit, many):
    pl = pytest.importorskip("polars")
    names = ["x", "c", "t", "g"]
    for new in (pd.DataFrame(columns=names), pd.DataFrame({name: [] for name in names}), {name: [] for name in names},
                pl.DataFrame({name: [] for name in names}), DATA.head(0)):  # fmt: skip
        for model in (fit, many):
            assert model.predict(new).shape == (0,)
            assert model.predict(new, se=True).shape == (0, 4)
            assert model.simulate(newdata=new, seed=1).shape == (0, 1)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_a_missing_group_is_a_new_one_where_these_are_allowed(missing):
    fit = slm.lmer("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    new = pd.DataFrame({"Days": [1.0, 1.0], "Subject": [missing, "308"]})
    allowed = fit.predict(new, allow_new_levels=True)
    # lme4: predict(fit, data.frame(Days = 1, Subject = NA), allow.new.levels = TRUE)
    assert allowed[0] == pytest.approx(261.8724, abs=5e-5)
    assert allowed[1] == pytest.approx(fit.predict(new)[1])
    assert np.isnan(fit.predict(new)[0])
    stranger = fit.predict(new.assign(Subject=["stranger", "308"]), se=True, allow_new_levels=True)
    pd.testing.assert_frame_equal(fit.predict(new, se=True, allow_new_levels=True), stranger)
    # a missing covariate is still missing
    assert np.isnan(fit.predict(new.assign(Days=np.nan), allow_new_levels=True)).all()


KINDS = {
    "integers": lambda c: c.astype(int), "text": lambda c: c.astype(int).astype(str),
    "floats": lambda c: c.astype(float),
    "objects": lambda c: c.astype(int).astype(object), "nullable": lambda c: c.astype(int).astype("Int64"),
    "categories of text": lambda c: c.astype(int).astype(str).astype("category"),
    "other order": lambda c: pd.Series(pd.Categorical(c.astype(int), [3, 2, 1]), index=c.index),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_category_of_integers_is_matched_by_value(fit, kind):
    expected = fit.predict(DATA)
    column = KINDS[kind](DATA["c"])
    np.testing.assert_allclose(fit.predict(DATA.assign(c=column)), expected)
    for i in range(5):
        row = DATA.iloc[[i]].assign(c=column.iloc[[i]])
        np.testing.assert_allclose(fit.predict(row), expected.iloc[[i]])


@pytest.mark.parametrize("kind", ["integers", "text", "floats", "nullable"])
def test_a_grouping_category_of_integers_is_matched_by_value(kind):
    fit = slm.lmer("y ~ x + (1 | gc)", DATA)
    new = DATA.assign(gc=KINDS[kind](DATA["gc"]))
    np.testing.assert_allclose(fit.predict(new), fit.predict(DATA))
    with pytest.raises(DataError, match=r"not seen .gc: 99"):
        fit.predict(DATA.head(3).assign(gc=[0, 99, 1]))
    zero = fit.predict(DATA.head(3).assign(gc=[0, 99, 1]), allow_new_levels=True)
    np.testing.assert_allclose(zero[1], fit.predict(DATA.head(3), re_form="~0").iloc[1])


def test_types_that_do_not_match_are_both_named(fit):
    new = DATA.head(3)
    for column, values, message in (
        ("c", ["u", "v", "w"], r"'c' held numbers .* \(1, 2, 3\), and is now text \(u, v, w\)"),
        ("t", [1, 2, 3], r"'t' held text .* \(a, b, c\), and is now numbers \(1, 2, 3\)"),
        ("c", [7, 8, 1], "levels the model has not seen: 7, 8; it was made with 1, 2, 3"),
        ("x", ["u", "v", "w"], "'x' held numbers .* and is now text"),
        ("g", ["u", "v", "w"], "'g' held numbers .* and is now text"),
    ):
        with pytest.raises(DataError, match=message):
            fit.predict(new.assign(**{column: values}))
    grouped = slm.lmer("y ~ x + (1 | gc)", DATA)
    with pytest.raises(DataError, match=r"'gc' held numbers .* and is now text"):
        grouped.predict(new.assign(gc=["u", "v", "w"]), allow_new_levels=True)


def test_positions_and_conditions_are_those_of_the_fit(many):
    """as.numeric(c), relevel(t, 'b') and t == 'a' on rows that lack some of the levels."""
    expected = many.predict(DATA)
    for i in range(20):
        row = DATA.iloc[[i]]
        row = row.assign(c=pd.Categorical(row["c"].astype(int)), t=pd.Categorical(row["t"]))
        np.testing.assert_allclose(many.predict(row), expected.iloc[[i]], atol=1e-9)
    plain = slm.lmer("y ~ as.numeric(c) + (1 | g)", DATA)
    with pytest.raises(DataError, match="has not seen the levels 9"):
        plain.predict(DATA.head(1).assign(c=pd.Categorical([9])))


def test_polars_columns_that_the_model_does_not_use():
    pl = pytest.importorskip("polars")
    table = pl.DataFrame({
        "y": DATA["y"].to_numpy(), "g": DATA["g"].to_numpy(), "big": pl.Series([2**100] * N, dtype=pl.Int128),
        "thing": pl.Series([object()] * N, dtype=pl.Object), "list": [[1, 2]] * N,
    })  # fmt: skip
    fit = slm.lmer("y ~ 1 + (1 | g)", table)
    expected = slm.lmer("y ~ 1 + (1 | g)", DATA)
    np.testing.assert_allclose(fit.predict(table), expected.predict(DATA))
    assert fit.augment()["big"].tolist() == [2**100] * N
    assert "thing" not in fit.augment()
    assert fit.update(subset="g > 1").nobs == (DATA["g"] > 1).sum()
    assert fit.simulate(newdata=table, seed=1).shape == (N, 1)
    # and one that it uses
    numbers = slm.lmer("y ~ x + (1 | g)", table.with_columns(x=pl.Series(range(N), dtype=pl.Int128)))
    assert numbers.params["x"] == pytest.approx(slm.lmer("y ~ x + (1 | g)", DATA.assign(x=range(N))).params["x"])


def test_big_endian_columns():
    data = DATA.assign(g=DATA["g"].to_numpy().astype(">i4"), x=DATA["x"].to_numpy().astype(">f8"))
    fit, expected = slm.lmer("y ~ x + (x | g)", data), slm.lmer("y ~ x + (x | g)", DATA)
    np.testing.assert_array_equal(fit.predict(data), expected.predict(DATA))
    np.testing.assert_array_equal(fit.predict(DATA), expected.predict(data))
    assert len(fit.augment()) == N


@pytest.mark.parametrize("word", ["TRUE", "FALSE", "NULL", "True", "None", "T", "F", "pi"])
def test_columns_named_like_a_constant(tmp_path, word):
    data, expected = DATA.rename(columns={"x": word}), slm.lmer("y ~ x + cut(x, 3, right=TRUE) + (x | g)", DATA)
    for written in (word, f"`{word}`", f"Q('{word}')"):
        fit = slm.lmer(f"y ~ {written} + cut({written}, 3, right=TRUE) + ({written} | g)", data)
        np.testing.assert_allclose(fit.predict(data), expected.predict(DATA))
    fit.save(tmp_path / "m.slmm")
    np.testing.assert_allclose(slm.load(tmp_path / "m.slmm").predict(data), expected.predict(DATA))
    groups = slm.lmer(f"y ~ x + (1 | {word})", DATA.rename(columns={"g": word}))
    assert groups.ngroups == {word: 8}
    if word in ("TRUE", "T"):
        assert list(slm.lmer("y ~ . - g - gc - c - t + (1 | g)", data).params.index) == ["Intercept", word]
