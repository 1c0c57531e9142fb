"""Every kind of table gives the same design."""

from __future__ import annotations

import datetime
import warnings
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from data_cases import make_data

import sparselmm as slm
from sparselmm.data import build_design
from sparselmm.data.formulas import parse_formula
from sparselmm.data.tables.columns import Factor, to_column, to_grouping
from sparselmm.data.tables.frame import as_frame
from sparselmm.exceptions import DataError

COLUMNS = ["y", "x", "xna", "g", "f", "chr", "lg", "s", "gna"]
FORMULA = "y ~ x*f + xna + lg + (x|g) + (1|s) + (1|gna) + (1|chr)"


def frame() -> pd.DataFrame:
    return make_data()[COLUMNS]


def polars():
    pl = pytest.importorskip("polars")
    d = frame()
    return pl.DataFrame({
        "y": d["y"].to_numpy(), "x": d["x"].to_numpy(),
        "xna": pl.Series([None if np.isnan(v) else v for v in d["xna"]]),
        "g": pl.Series(d["g"].astype(str).tolist(), dtype=pl.Enum(list(d["g"].cat.categories))),
        "f": pl.Series(d["f"].astype(str).tolist(), dtype=pl.Categorical), "chr": d["chr"].tolist(),
        "lg": d["lg"].tolist(), "s": d["s"].to_numpy(), "gna": [v if isinstance(v, str) else None for v in d["gna"]],
    }).with_columns(pl.col("f").cast(pl.String).cast(pl.Enum(["a", "b", "c"])))  # fmt: skip


def arrow():
    pa = pytest.importorskip("pyarrow")
    return pa.Table.from_pandas(frame(), preserve_index=False)


SOURCES = {
    "pandas": frame,
    "strings": lambda: frame().assign(f=lambda d: d["f"].astype(str), g=lambda d: d["g"].astype(str)),
    "objects": lambda: frame().astype(
        {"f": object, "g": object, "chr": object, "lg": object, "x": object, "s": object}
    ),
    "nullable": lambda: frame().convert_dtypes(),
    "dict": lambda: {name: list(column) for name, column in frame().items()},
    "dict of arrays": lambda: {name: column.to_numpy() for name, column in frame().items()},
    "int8": lambda: frame().astype({"s": "int8"}),
    "uint64": lambda: frame().astype({"s": "uint64"}),
    "float32": lambda: frame().assign(s=lambda d: d["s"].astype("float32")),
    "polars": polars,
    "polars lazy": lambda: polars().lazy(),
    "arrow": arrow,
    "arrow batch": lambda: arrow().combine_chunks().to_batches()[0],
    "arrow types": lambda: arrow().to_pandas(types_mapper=pd.ArrowDtype),
}


@pytest.mark.parametrize("source", SOURCES)
def test_all_sources_agree(source):
    if source == "arrow types":
        pytest.importorskip("pyarrow")
    spec = parse_formula(FORMULA)
    _, expected = build_design(spec, frame())
    encoding, d = build_design(spec, SOURCES[source]())
    assert d.layout.columns == expected.layout.columns
    np.testing.assert_array_equal(d.rows.X, expected.rows.X)
    np.testing.assert_array_equal(d.rows.positions, expected.rows.positions)
    for a, b in zip(d.rows.terms, expected.rows.terms):
        assert (a.name, list(map(str, a.levels))) == (b.name, list(map(str, b.levels)))
        np.testing.assert_array_equal(a.codes, b.codes)
        np.testing.assert_array_equal(a.Z, b.Z)
    # what was learned on one kind of table applies to another
    np.testing.assert_array_equal(encoding.apply_fixed(frame())[d.rows.positions], d.rows.X)


@pytest.mark.parametrize(
    "values",
    [
        pd.Series([1, 2, None], dtype="Int64"),
        pd.Series([1.0, 2.0, np.nan]),
        pd.Series([1, 2, None], dtype=object),
        pd.Series([Decimal(1), Decimal(2), None]),
        pd.Series([1, 2.0, pd.NA], dtype=object),
    ],
)
def test_numbers_of_any_type(values):
    np.testing.assert_array_equal(to_column(values, "x"), [1.0, 2.0, np.nan])


@pytest.mark.parametrize(
    "values",
    [
        pd.Series([True, False, None], dtype="boolean"),
        pd.Series([True, False, None], dtype=object),
        pd.Series([True, False, np.nan], dtype=object),
    ],
)
def test_truth_values_are_a_factor_false_true(values):
    column = to_column(values, "x")
    assert isinstance(column, Factor)
    assert list(column.levels) == [False, True]
    assert list(column.codes) == [1, 0, -1]


@pytest.mark.parametrize(
    "values",
    [
        pd.Series(["b", "a", None]),
        pd.Series(["b", "a", None], dtype=object),
        pd.Series(["b", "a", None], dtype="string"),
        pd.Series(pd.Categorical(["b", "a", None])),
    ],
)
def test_text_of_any_type(values):
    column = to_column(values, "x")
    assert list(column.levels) == ["a", "b"]
    assert list(column.codes) == [1, 0, -1]


@pytest.mark.parametrize(
    "values",
    [
        pd.Series([datetime.date(2020, 1, 2), datetime.date(2020, 1, 1)]),
        pd.Series(pd.to_datetime(["2020-01-02", "2020-01-01"])),
        pd.Series(pd.to_datetime(["2020-01-02", "2020-01-01"]).tz_localize("UTC")),
        pd.Series(pd.period_range("2020", periods=2, freq="M")[::-1]),
    ],
)
def test_dates_are_refused_as_predictors(values):
    with pytest.raises(DataError, match="dates or times"):
        to_column(values, "when")


def test_dates_may_group():
    factor = to_grouping(pd.Series(pd.to_datetime(["2020-01-02", "2020-01-01", None])), "when")
    assert list(factor.codes) == [1, 0, -1]


@pytest.mark.parametrize(
    ("dtype", "spread"),
    [("int8", 1), ("uint8", 1), *((dtype, spread) for dtype in ("int64", "uint64", "int32") for spread in (1, 10**6))],
)
def test_integer_groups_are_sorted_for_narrow_and_wide_ranges(dtype, spread):
    values = np.array([3, 1, 3, 0]).astype(dtype) * spread
    factor = to_grouping(pd.Series(values), "g")
    assert list(factor.levels) == [0, spread, 3 * spread]
    assert list(factor.codes) == [2, 1, 2, 0]


def test_extreme_integers():
    big = np.iinfo(np.int64)
    factor = to_grouping(pd.Series([big.max, big.min, big.max - 1]), "g")
    assert list(factor.codes) == [2, 0, 1]
    wide = np.array([2**64 - 1, 2**64 - 3], dtype=np.uint64)
    assert list(to_grouping(pd.Series(wide), "g").levels) == [2**64 - 3, 2**64 - 1]


def test_columns_that_are_not_used_are_not_looked_at():
    odd = frame().assign(junk=[object()] * 192, when=pd.Timestamp("2020"))
    build_design(parse_formula(FORMULA), odd)


def test_columns_with_names_that_are_not_text():
    d = pd.DataFrame({0: [1.0, 2.0], "a": [1, 2]})
    assert as_frame(d).names == ("0", "a")
    assert list(as_frame(d).column("0")) == [1.0, 2.0]


def test_polars_types_without_use():
    pl = pytest.importorskip("polars")
    d = pl.DataFrame(
        {"y": [1.0, 2.0], "x": [[1], [2]], "t": [datetime.date(2020, 1, 1)] * 2, "d": [Decimal("1.5")] * 2}
    )
    table = as_frame(d)
    with pytest.raises(DataError, match="polars type"):
        table.column("x")
    with pytest.raises(DataError, match="dates"):
        table.column("t")
    assert list(table.column("d")) == [1.5, 1.5]
    with pytest.raises(DataError, match="is not"):
        as_frame(d.get_column("y"))


def test_arrow_types_without_use():
    pa = pytest.importorskip("pyarrow")
    d = pa.table({"x": [[1], [2]], "d": pa.array([Decimal("1.5"), None]), "n": pa.array([None, None])})
    table = as_frame(d)
    with pytest.raises(DataError, match="Arrow type"):
        table.column("x")
    np.testing.assert_array_equal(table.column("d"), [1.5, np.nan])
    assert np.isnan(table.column("n")).all()
    with pytest.raises(DataError, match="is not"):
        as_frame(d.column("d"))


def test_a_lazy_frame_is_read_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = slm.lmer("y ~ x + (1 | g)", polars().lazy())
    assert fit.params["x"] == pytest.approx(slm.lmer("y ~ x + (1 | g)", frame()).params["x"])
    dotted = polars().select("y", "x", "g").lazy()
    assert slm.LinearMixedModel.from_formula("y ~ . - g + (1 | g)", dotted).fit().params.index[1] == "x"
