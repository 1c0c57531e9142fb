"""pandas' labels count: rows and levels given beside the data are those that their labels say, or are refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sparselmm.data import build_design
from sparselmm.data.formulas import parse_formula
from sparselmm.exceptions import DataError, ParameterError

CODING = pd.DataFrame({"B": [0.0, 1, 0], "C": [0.0, 0, 1]}, index=list("abc"))


def design(rhs, data, **options):
    return build_design(parse_formula(f"y ~ {rhs}", list(data)), data, **options)[1]


def test_context_has_the_rows_of_the_data(data):
    z = data["z"]
    np.testing.assert_array_equal(design("v + (1|g)", data, context={"v": z}).rows.X[:, 1], z)
    for other in (z[::-1], z.to_frame()[::-1]):
        with pytest.raises(DataError, match=r"v has the rows of the data in another order; pass v\.loc\[data\.index\]"):
            design("v + (1|g)", data, context={"v": other})
    with pytest.raises(DataError, match=r"turn\(\) has the rows of the data in another order"):
        design("turn(x) + (1|g)", data, context={"turn": lambda x: x.sort_values()})


def test_a_dict_of_series_has_one_index(data):
    columns = {name: data[name] for name in ("y", "x", "g")}
    with pytest.raises(DataError, match="'y' and 'x' have different row labels"):
        design("x + (1|g)", columns | {"x": data["x"].sort_values()})
    labelled = {name: column.set_axis(column.index + 7) for name, column in columns.items()}
    d = design("x + v + (1|g)", labelled | {"v": data["z"].to_numpy()})
    assert list(d.rows.index[:2]) == [7, 8]
    np.testing.assert_array_equal(d.rows.X[:, 2], data["z"])


def test_rows_of_contrasts_go_by_the_names_of_levels(data):
    expected = design("f + (1|g)", data, contrasts={"f": CODING})
    d = design("f + (1|g)", data, contrasts={"f": CODING.loc[list("cba")]})
    assert d.layout.columns == ("Intercept", "f[B]", "f[C]")
    np.testing.assert_array_equal(d.rows.X, expected.rows.X)
    np.testing.assert_array_equal(design("f + (1|g)", data, contrasts={"f": CODING.to_numpy()}).rows.X, expected.rows.X)


def test_rows_of_contrasts_by_numbers(data):
    coding = pd.DataFrame({"late": [-1.0, 1.0, 0.0]}, index=[0, 2, 1])
    d = design("factor(k) + (1|g)", data.assign(k=data["s"] % 3), contrasts={"factor(k)": coding})
    np.testing.assert_array_equal(d.rows.X[:, 1], np.array([-1.0, 0.0, 1.0])[data["s"] % 3])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (list("xyz"), "x, y, z is not a level; there is no row for a, b, c"),
        (list("abd"), "d is not a level; there is no row for c"),
        (list("abb"), "no row for c"),
        (range(3), "pass an array"),
    ],
)
def test_unknown_and_missing_names_of_levels_are_refused(data, names, message):
    with pytest.raises(ParameterError, match=message):
        design("f + (1|g)", data, contrasts={"f": CODING.set_axis(names)})


R = {"TRUE": True, "FALSE": False, "NA": np.nan}


@pytest.mark.parametrize("op", ["&", "|"])
@pytest.mark.parametrize("left", R)
@pytest.mark.parametrize("right", R)
def test_truth_tables_are_those_of_r(data, op, left, right):
    table = {  # R 4's outer(v, v, "&") and outer(v, v, "|") with v <- c(TRUE, FALSE, NA)
        "&": {"TRUE": "TRUE FALSE NA", "FALSE": "FALSE FALSE FALSE", "NA": "NA FALSE NA"},
        "|": {"TRUE": "TRUE TRUE TRUE", "FALSE": "TRUE FALSE NA", "NA": "TRUE NA NA"},
    }
    expected = table[op][left].split()[list(R).index(right)]
    first = pd.Series(np.where(data.index < 20, R[left], data["x"] > 0)).astype(float)
    second = pd.Series(np.where(data.index < 20, R[right], data["z"] > 2)).astype(float)
    d = design(f"I(p > 0.5 {op} q > 0.5) + (1|g)", data.assign(p=first, q=second))
    found = dict(zip(d.rows.index, d.rows.X[:, 1]))
    assert {found.get(row, np.nan) for row in range(20)} == {R[expected]} or (expected == "NA" and 0 not in found)
    assert len(found) == 192 - 20 * (expected == "NA")
