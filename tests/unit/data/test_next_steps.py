"""Messages about data and formulas say the next step."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm.cli import main
from sparselmm.exceptions import DataError, DesignError, ParameterError
from sparselmm.hints.shell import for_shell

RNG = np.random.default_rng(7)
N = 120
DATA = pd.DataFrame({"x": RNG.uniform(0, 1, N), "g": np.arange(N) % 8, "z": RNG.normal(size=N)})
DATA["y"] = DATA["x"] ** 3 + RNG.normal(size=8)[DATA["g"]] + 0.1 * RNG.normal(size=N)


@pytest.mark.parametrize("keys", [["g"], ["g", "x"]])
def test_variables_in_the_index(keys):
    with pytest.raises(
        DataError, match=r"'g' is in the index of the data; make it a column with data\.reset_index\(\)"
    ):
        slm.lmer("y ~ z + (1 | g)", DATA.set_index(keys))
    fit = slm.lmer("y ~ z + (1 | g)", DATA)
    with pytest.raises(DataError, match="reset_index"):
        fit.predict(DATA.set_index(keys))
    with pytest.raises(DataError, match="reset_index"):
        slm.mixedlm("y ~ z", DATA.set_index(keys), groups="g")
    with pytest.raises(DataError, match="reset_index"):
        slm.lmer("y ~ 1 + (1 | g)", DATA.set_index("z"), weights="z")


@pytest.mark.parametrize("formula", ["y ~ day + (1 | g)", "y ~ x * day + (1 | g)"])
def test_text_with_a_value_per_row(formula):
    days = pd.date_range("2024-01-01", periods=N).strftime("%d.%m.%Y")
    with pytest.raises(
        DesignError, match=r"day in .* is text with 120 levels in 120 rows \(01\.01\.2024.*dates or numbers"
    ):
        slm.lmer(formula, DATA.assign(day=days))


def test_a_level_per_row_with_few_columns():
    data, line = DATA.assign(f=[f"{i:03d}" for i in range(N)]), np.linspace(-1, 1, N)[:, None]
    fit = slm.lmer("y ~ f + (1 | g)", data, contrasts={"f": line})
    assert fit.params.iloc[1] == pytest.approx(slm.lmer("y ~ l + (1 | g)", data.assign(l=line[:, 0])).params["l"])


def test_splines_beyond_the_data():
    fit = slm.lmer("y ~ bs(x, df=5) + (1 | g)", DATA)
    new = pd.DataFrame({"x": [0.5, 1.5, -2.0], "g": 1})
    with pytest.raises(
        DataError, match=r"range in the fit; 2 of the new ones lie beyond it, such as 1\.5.*extrapolation='ext"
    ):
        fit.predict(new)
    # R: predict(lm(I(x^3 - x^2) ~ bs(x, df = 5), x = 0 to 1), x = 1.5, -2) is 1.125, -12, the polynomial itself
    x = np.linspace(0, 1, N)
    data = DATA.assign(x=x, y=x**3 - x**2 + 1e-3 * DATA["z"])
    extended = slm.lmer("y ~ bs(x, df=5, extrapolation='extend') + (1 | g)", data).predict(new, re_form="~0")
    inside = slm.lmer("y ~ bs(x, df=5) + (1 | g)", data)
    np.testing.assert_allclose(inside.predict(new.head(1), re_form="~0"), extended[:1])
    assert extended[1] == pytest.approx(1.125, abs=0.2)
    ends = slm.lmer("y ~ bs(x, df=5, extrapolation='clip') + (1 | g)", data).predict(new, re_form="~0")
    assert ends[1] == pytest.approx(inside.predict(pd.DataFrame({"x": [1.0], "g": 1}), re_form="~0")[0])


def test_hypotheses_about_dropped_coefficients():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = slm.lmer("y ~ x + I(2 * x) + z + (1 | g)", DATA)
    assert fit.dropped_columns == ("I(2 * x)",)
    for hypothesis in (
        "I(2 * x) = 0",
        "x - I(2 * x) = 0",
        "z = 0, I(2 * x) = 1",
        pd.Series({"x": 1.0, "I(2 * x)": 1.0}),
    ):
        for test in (fit.t_test, fit.f_test, fit.wald_test):
            with pytest.raises(ParameterError, match=r"I\(2 \* x\) was dropped for rank deficiency"):
                test(hypothesis)
    with pytest.raises(ParameterError, match=r"needs 3 values per row, not 4: I\(2 \* x\) was dropped"):
        fit.t_test(np.eye(4))
    factor = DATA.assign(f=np.where(DATA["g"] < 4, "a", "b"), h=np.where(DATA["g"] < 4, "u", "v"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nested = slm.lmer("y ~ f + h + (1 | g)", factor)
    for name in ("h[T.v]", "hv"):
        with pytest.raises(ParameterError, match="dropped for rank deficiency"):
            nested.t_test(f"{name} = 0")


def test_interactions_of_many_levels_are_coded_pair_by_pair():
    n, m = 4_000, 3_000
    rng = np.random.default_rng(9)
    data = pd.DataFrame({name: rng.integers(0, m, n) for name in "abcdefg"})
    data["k"] = rng.integers(0, 50, n)
    for name in "abcdefg":
        data[name] = data[name].groupby(data["k"]).transform("first")
    effect = rng.normal(size=50)[data["k"]]
    data["y"] = effect + rng.normal(size=n)
    names = ":".join("abcdefg")
    fit = slm.lmer(f"y ~ 1 + (1 | {names})", data)
    groups = data[list("abcdefg")].drop_duplicates().sort_values(list("abcdefg"))
    assert fit.ngroups == {names: len(groups)}
    expected = [":".join(map(str, row)) for row in groups.itertuples(index=False)]
    assert list(fit.ranef()[names].index) == expected
    plain = slm.lmer("y ~ 1 + (1 | k)", data)
    assert fit.criterion == pytest.approx(plain.criterion, abs=1e-8)
    np.testing.assert_allclose(fit.predict(data), plain.predict(data))
    shuffled = data.sample(frac=0.1, random_state=1)
    np.testing.assert_allclose(fit.predict(shuffled), plain.predict(shuffled))
    with pytest.raises(DataError, match=r"not seen \(a:b:c:d:e:f:g: "):
        fit.predict(shuffled.assign(d=shuffled["e"]))
    gone = fit.predict(shuffled.assign(d=np.where(np.arange(len(shuffled)) < 3, np.nan, shuffled["d"])))
    assert gone.isna().tolist() == [True] * 3 + [False] * (len(shuffled) - 3)


def test_pair_by_pair_models_are_saved(tmp_path):
    n = 400
    rng = np.random.default_rng(9)
    k = rng.integers(0, 30, n)
    data = pd.DataFrame(
        {name: rng.permutation(200)[k] * 10**5 + np.arange(n) % 2 for name in "abc"} | {"y": rng.normal(size=30)[k]}
    )
    data["y"] += rng.normal(size=n)
    import sparselmm.data.encoding.grouping as grouping

    before = slm.lmer("y ~ 1 + (1 | a:b:c)", data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grouping, "MOST_KEYS", 10**4)
        fit = slm.lmer("y ~ 1 + (1 | a:b:c)", data)
        assert len(fit.source.encoding.terms[0].grouping.parts) == 2
        assert list(fit.ranef()["a:b:c"].index) == list(before.ranef()["a:b:c"].index)
        fit.save(tmp_path / "m.slmm")
    np.testing.assert_allclose(slm.load(tmp_path / "m.slmm").predict(data), before.predict(data))
    clash = pd.DataFrame({"y": rng.normal(size=8), "a": ["x:y", "x"] * 4, "b": ["z", "y:z"] * 4, "c": list("ppqqrrss")})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grouping, "MOST_KEYS", 10)
        with pytest.raises(DataError, match="'x:y:z'; take the colons out"):
            slm.lmer("y ~ 1 + (1 | a:b:c)", clash)


@pytest.mark.parametrize(
    ("cells", "formula", "option"),
    [
        ("y;x;g", "y ~ x + (1 | g)", "--sep ';'"),
        (["1,5", "2,5"], "y ~ x + (1 | g)", "--decimal ','"),
        (["1.5", "n/d", "2", "3"], "y ~ x + (1 | g)", "--na 'n/d'"),
    ],
)
def test_the_shell_is_told_its_options(tmp_path, capsys, cells, formula, option):
    if isinstance(cells, str):
        text = cells + "\n" + "".join(f"{i};{i % 5};{i % 3}\n" for i in range(30))
    else:
        quoted = [f'"{cells[i % len(cells)]}"' for i in range(30)]
        text = "y,x,g\n" + "".join(f"{q},{i % 5},{i % 3}\n" for i, q in enumerate(quoted))
    (tmp_path / "d.csv").write_text(text)
    assert main(["fit", formula, str(tmp_path / "d.csv")]) == 2
    error = capsys.readouterr().err
    assert option in error
    assert "=" not in error.split("file again")[-1]


def test_summaries_of_the_shell(tmp_path, capsys):
    levels = [f'"{i / 4},5"' if i else '"0,5"' for i in range(12)]
    text = "y,x,g\n" + "".join(f"{i * 7 % 11},{levels[i % 12]},{i % 6}\n" for i in range(120))
    (tmp_path / "d.csv").write_text(text.replace(".", ""))
    assert main(["fit", "y ~ x + (1 | g)", str(tmp_path / "d.csv")]) == 0
    out = capsys.readouterr().out
    assert "--decimal ','" in out
    assert "decimal=" not in out


def test_messages_for_the_shell():
    assert (
        for_shell("read it again with decimal=',', thousands='.'") == "read it again with --decimal ',' --thousands '.'"
    )
    assert for_shell("again with na_values=['n/d', 'absent']") == "again with --na 'n/d' --na 'absent'"
    assert for_shell("again with encoding='utf-8-sig'") == "again with --encoding 'utf-8-sig'"
    hint = "column 'k' is not in the data; the columns are: y, x; a variable of your own goes in context={'k': ...}"
    assert for_shell(hint) == "column 'k' is not in the data; the columns are: y, x"
