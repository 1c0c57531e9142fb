"""Functions of a whole column are learned once, and contrasts count as in R."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm.data import build_design
from sparselmm.data.formulas import parse_formula
from sparselmm.exceptions import DataWarning


def built(rhs, data, **options):
    return build_design(parse_formula(f"y ~ {rhs}", list(data)), data, **options)


@pytest.mark.parametrize(
    ("call", "value"),
    [
        ("mean(x)", lambda x: x.mean()),
        ("median(x)", lambda x: x.median()),
        ("sd(x)", lambda x: x.std()),
        ("var(x)", lambda x: x.var()),
        ("min(x)", lambda x: x.min()),
        ("max(x)", lambda x: x.max()),
        ("sum(x)", lambda x: x.sum()),
        ("np.mean(x)", lambda x: x.mean()),
        ("numpy.max(x)", lambda x: x.max()),
        ("np.std(x)", lambda x: x.std(ddof=0)),
        ("np.std(x, ddof=1)", lambda x: x.std()),
        ("mean(x, na.rm=TRUE)", lambda x: x.mean()),
        ("own(x)", lambda x: x.mean()),
    ],
)
def test_the_number_is_learned_once(call, value, data):
    data = data.drop(columns="x").rename(columns={"xna": "x"})
    encoding, d = built(f"I(x - {call}) + (1|g)", data, context={"own": lambda x: x.mean()})
    expected = (data["x"] - value(data["x"])).to_numpy()
    np.testing.assert_allclose(d.rows.X[:, 1], expected[d.rows.positions])
    np.testing.assert_allclose(encoding.apply_fixed(data.iloc[10:12])[:, 1], expected[10:12])


def test_without_leaving_out_missing_values_there_is_none(data):
    with pytest.raises(slm.exceptions.DataError, match="none of the 192 rows"), pytest.warns(DataWarning):
        built("I(xna - mean(xna, na.rm=FALSE)) + (1|g)", data)


def test_prediction_and_file_use_the_mean_of_the_fit(data, tmp_path):
    fit = slm.lmer("y ~ I(x - mean(x)) + (0 + I(x / sd(x)) | g)", data)
    expected = fit.predict(data)[:5]
    np.testing.assert_allclose(fit.predict(data.iloc[:5]), expected)
    fit.save(tmp_path / "fit")
    np.testing.assert_allclose(slm.load(tmp_path / "fit").predict(data.iloc[:5]), expected)


@pytest.mark.parametrize(
    ("coded", "columns"),
    [
        # attr(C(f, contr.treatment(3, base=2)), "contrasts") in R 4, and so on
        ("C(f, contr.treatment(3, base=2))", ["[T.a]", "[T.c]"]),
        ("C(f, contr.treatment, base=3)", ["[T.a]", "[T.b]"]),
        ("C(f, base=2)", ["[T.a]", "[T.c]"]),
        ("C(f, base='c')", ["[T.a]", "[T.b]"]),
        ("C(f, contr.treatment('b'))", ["[T.a]", "[T.c]"]),
        ("C(f, Treatment(reference='b'))", ["[T.a]", "[T.c]"]),
        ("factor(f, ordered=TRUE)", ["[T.b]", "[T.c]"]),
    ],
)
def test_bases_of_contrasts(coded, columns, data):
    found = built(f"{coded} + (1|g)", data)[1].layout.columns[1:]
    assert [name[name.index("[") :] for name in found] == columns


def test_contrasts_under_another_name_are_pointed_out(data):
    with pytest.warns(DataWarning, match=r"'s' are ignored: .*; the name there is 'factor\(s\)'"):
        built("factor(s) + (1|g)", data, contrasts={"s": "sum"})


def test_a_quoted_name_may_be_the_response(data):
    d = build_design(parse_formula('Q("y.1") ~ x + (1|g)'), data.rename(columns={"y": "y.1"}))[1]
    np.testing.assert_array_equal(d.rows.y, data["y"])


def test_many_dropped_columns_are_not_all_listed(data):
    wide = pd.concat([data, pd.DataFrame({f"x{k}": data["x"] for k in range(30)})], axis=1)
    with pytest.warns(slm.exceptions.RankDeficiencyWarning, match=r"30 columns dropped \(.*x19 and 10 more\)"):
        built("x + " + " + ".join(f"x{k}" for k in range(30)) + " + (1|g)", wide)
