"""Identifiers beyond 2^53 are told apart in every door: the groups are those of Python's own comparison."""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm.cli import main
from sparselmm.data import build_design
from sparselmm.data.formulas import parse_formula
from sparselmm.data.tables.columns import exact_index, to_grouping
from sparselmm.data.tables.foreign import as_series
from sparselmm.data.tables.matching import positions
from sparselmm.exceptions import DataError, DataWarning

pl = pytest.importorskip("polars")
pa = pytest.importorskip("pyarrow")

BIG = 2**53 + 1
RNG = np.random.default_rng(0)
G = RNG.integers(0, 8, 60)
Y = RNG.standard_normal(8)[G] * 2 + RNG.standard_normal(60)


def ids(start: int = BIG) -> list[int]:
    return [start + int(g) for g in G]


def gaps(values: list[Any]) -> list[Any]:
    return [None if i in (7, 30) else value for i, value in enumerate(values)]


def dictionary(values: list[Any], kind: Any) -> Any:
    levels = sorted({v for v in values if v is not None})
    index = pa.array([None if v is None else levels.index(v) for v in values], pa.int8())
    return pa.chunked_array(
        [pa.DictionaryArray.from_arrays(index[k : k + 30], pa.array(levels, kind)) for k in (0, 30)]
    )


def category(values: list[Any], kind: str) -> pd.Categorical:
    return pd.Categorical(pd.array(values, dtype=kind))


#: A column in some door's type by a list of ids; ``None`` where missing.
COLUMNS: dict[str, Callable[[list[Any]], Any]] = {
    "int64 and NA": lambda v: pd.array(v, dtype="Int64"),
    "uint64 and NA": lambda v: pd.array(v, dtype="UInt64"),
    "objects": lambda v: pd.Series(v, dtype=object),
    "objects and NaN": lambda v: pd.Series([np.nan if x is None else x for x in v], dtype=object),
    "numpy's in objects": lambda v: pd.Series([None if x is None else np.uint64(x) for x in v], dtype=object),
    "list": list,
    "tuple": tuple,
    "decimals": lambda v: pd.Series([None if x is None else Decimal(x) for x in v], dtype=object),
    "decimals of cents": lambda v: pd.Series([None if x is None else Decimal(x).scaleb(-2) for x in v], dtype=object),
    "category": lambda v: category(v, "Int64"),
    "category of uint64": lambda v: category(v, "UInt64"),
    "category of objects": lambda v: pd.Categorical(v, sorted({x for x in v if x is not None})),
    "category of Arrow": lambda v: category(v, "int64[pyarrow]"),
    "polars": lambda v: pl.Series(v, dtype=pl.Int64),
    "polars uint64": lambda v: pl.Series(v, dtype=pl.UInt64),
    "polars int128": lambda v: pl.Series(v, dtype=pl.Int128),
    "polars decimal": lambda v: pl.Series(v, dtype=pl.Decimal(38, 0)),
    "arrow": lambda v: pa.array(v, pa.int64()),
    "arrow uint64": lambda v: pa.chunked_array([pa.array(v[:20], pa.uint64()), pa.array(v[20:], pa.uint64())]),
    "arrow decimal": lambda v: pa.array([None if x is None else Decimal(x) for x in v], pa.decimal128(30, 0)),
    "arrow dictionary": lambda v: dictionary(v, pa.int64()),
    "arrow in pandas": lambda v: pd.array(v, dtype="int64[pyarrow]"),
    "arrow uint64 in pandas": lambda v: pd.array(v, dtype="uint64[pyarrow]"),
}  # fmt: skip
COMPLETE: dict[str, Callable[[list[Any]], Any]] = {
    "int64": lambda v: np.array(v, dtype=np.int64),
    "big-endian": lambda v: np.array(v, dtype=">i8"),
    "big-endian uint64": lambda v: pd.Series(np.array(v, dtype=">u8")),
    "sparse": lambda v: pd.arrays.SparseArray(v, dtype=pd.SparseDtype("int64")),
    "index": lambda v: pd.Index(v),
}


def tables(values: list[Any], column: Any) -> list[Any]:
    """Every table that can hold a column."""
    if isinstance(column, pl.Series):
        return [pl.DataFrame({"y": Y, "id": column}), pl.LazyFrame({"y": Y, "id": column}), {"y": Y, "id": column}]
    if isinstance(column, pa.Array | pa.ChunkedArray):
        return [pa.table({"y": Y, "id": column}), {"y": Y, "id": column}]
    if isinstance(column, list | tuple):
        return [{"y": list(Y), "id": column}]
    return [pd.DataFrame({"y": Y, "id": column}), {"y": Y, "id": column}]


def grouped(values: list[Any]) -> tuple[list[Any], list[int]]:
    """Python's own grouping."""
    levels = sorted({v for v in values if v is not None})
    return levels, [-1 if v is None else levels.index(v) for v in values]


CASES = [(name, make, missing) for missing in (False, True) for name, make in COLUMNS.items()]
CASES += [(name, make, False) for name, make in COMPLETE.items()]


@pytest.mark.parametrize(("name", "make", "missing"), CASES, ids=[f"{c[0]}{' with gaps' * c[2]}" for c in CASES])
def test_groups_are_pythons_own(name, make, missing):
    values = gaps(ids()) if missing else ids()
    levels, codes = grouped(values)
    used = np.array(codes)[np.array(codes) >= 0]
    for table in tables(values, make(values)):
        for formula in ("y ~ 1 + (1 | id)", "y ~ 1 + (1 | factor(id))", "y ~ 1 + (1 | interaction(id))"):
            design = build_design(parse_formula(formula), table)[1]
            np.testing.assert_array_equal(design.rows.terms[0].codes, used, err_msg=formula)
            scale = 100 if "cents" in name else 1
            if "interaction" not in formula and not (scale == 100 and "factor" in formula):
                assert [int(Decimal(level) * scale) for level in design.rows.terms[0].levels.tolist()] == levels


@pytest.mark.parametrize("name", ["int64 and NA", "objects", "polars", "arrow", "decimals", "category"])
@pytest.mark.parametrize(
    "fixed", ["factor(id)", "as.character(id)", "C(id)", "interaction(id)", "relevel(id, '{last}')"]
)
def test_fixed_factors(name, fixed):
    levels, codes = grouped(ids())
    formula = f"y ~ {fixed.format(last=levels[-1])} + (1 | h)"
    table = {"y": Y, "id": COLUMNS[name](ids()), "h": np.arange(60) % 5}
    design = build_design(parse_formula(formula), table)[1]
    base = len(levels) - 1 if "relevel" in fixed else 0
    dummies = np.eye(len(levels))[codes]
    expected = np.delete(dummies, base, axis=1)
    assert design.rows.X.shape == (60, 8)
    np.testing.assert_array_equal(design.rows.X[:, 1:], expected)


def test_interactions_and_nesting():
    table = pd.DataFrame({"y": Y, "x": np.arange(60.0), "id": pd.array(ids(), "Int64"), "a": np.arange(60) % 2})
    spec = parse_formula("y ~ factor(id):x + (1 | a/id) + (0 + factor(id) | a)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        design = build_design(spec, table)[1]
    pairs = sorted(set(zip(ids(), table["a"])))
    nested = next(t for t in design.rows.terms if ":" in t.label)
    assert list(nested.levels) == [f"{i}:{a}" for i, a in pairs]
    np.testing.assert_array_equal(nested.codes, [pairs.index(pair) for pair in zip(ids(), table["a"])])
    assert design.layout.p == 1 + 8
    assert next(t for t in design.rows.terms if t.label == "a" and t.k > 1).k == 8


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (f"id == {BIG}", lambda v: v == BIG),
        (f"{BIG} != id", lambda v: v != BIG),
        (f"id > {BIG}", lambda v: v > BIG),
        (f"{BIG + 3} >= id", lambda v: v <= BIG + 3),
        (f"id %in% c({BIG}, {BIG + 2})", lambda v: v in (BIG, BIG + 2)),
        ("id == other", lambda v: v == BIG),
    ],
)
def test_conditions(condition, expected):
    table = pd.DataFrame({"y": Y, "id": ids(), "h": np.arange(60) % 5, "other": BIG})
    design = build_design(parse_formula(f"y ~ I({condition}) + (1 | h)"), table)[1]
    np.testing.assert_array_equal(design.rows.X[:, 1], [float(expected(v)) for v in ids()])


def test_the_criterion_of_the_first_report():
    data = pd.DataFrame({"y": Y, "id": pd.Series(BIG + G, dtype="Int64")})
    fit = slm.lmer("y ~ 1 + (1 | id)", data)
    assert fit.ngroups == {"id": 8}
    assert fit.criterion == pytest.approx(193.52, abs=0.005)
    assert fit.criterion == pytest.approx(slm.lmer("y ~ 1 + (1 | id)", data.assign(id=G)).criterion, abs=1e-8)


@pytest.mark.parametrize("start", [BIG, 2**63 + 1, 2**64 + 1, 2**70 + 1, -(2**60)])
def test_beyond_int64(start):
    values = ids(start)
    levels, codes = grouped(values)
    columns = [pd.Series(values, dtype=object), values, gaps(values)]
    if start > 0:
        columns += [pl.Series(values, dtype=pl.Int128), pa.array(map(Decimal, values), pa.decimal128(38, 0))]
    if 0 < start < 2**64:
        columns += [np.array(values, np.uint64), pd.array(gaps(values), "UInt64"), pl.Series(values, dtype=pl.UInt64)]
    for column in columns:
        factor = to_grouping(as_series(column, "id"), "id").drop_unused()
        assert factor.levels.tolist() == levels
        known = factor.codes >= 0
        np.testing.assert_array_equal(factor.codes[known], np.array(codes)[known])


def test_predictions_saved_models_and_new_types(tmp_path):
    data = pd.DataFrame({"y": Y, "id": pd.array(ids(), "Int64"), "x": np.arange(60.0)})
    fit = slm.lmer("y ~ x + (1 | id)", data)
    plain = slm.lmer("y ~ x + (1 | id)", data.assign(id=G)).predict(data.assign(id=G))
    fit.save(tmp_path / "m.slmm")
    loaded = slm.load(tmp_path / "m.slmm")
    for name, make in {**COLUMNS, **COMPLETE}.items():
        if "cents" in name:
            continue
        new = {"x": np.arange(60.0), "id": make(ids())}
        for model in (fit, loaded):
            np.testing.assert_allclose(model.predict(new), plain, atol=1e-9, err_msg=name)
    # a neighbour that was not there is not one that was
    for stranger in (
        np.array([BIG - 1]),
        np.array([float(BIG - 1)]),
        [Decimal(BIG - 1)],
        np.array([BIG - 1], np.uint64),
    ):
        with pytest.raises(DataError, match=str(BIG - 1)):
            fit.predict({"x": [0.0], "id": stranger})


@pytest.mark.parametrize("start", [2**63 + 1, 2**70 + 1])
def test_saved_models_beyond_int64(tmp_path, start):
    data = pd.DataFrame({"y": Y, "id": pd.Series(ids(start), dtype=object), "h": np.arange(60) % 5})
    fit = slm.lmer("y ~ factor(id) + (1 | h)", data)
    fit.save(tmp_path / "m.slmm")
    np.testing.assert_array_equal(slm.load(tmp_path / "m.slmm").predict(data), fit.predict(data))
    random = slm.lmer("y ~ 1 + (1 | id)", data)
    random.save(tmp_path / "r.slmm")
    np.testing.assert_array_equal(slm.load(tmp_path / "r.slmm").predict(data), random.predict(data))


@pytest.mark.parametrize(
    "name", ["int64 and NA", "objects", "list", "polars", "polars int128", "arrow", "arrow uint64"]
)
def test_arrays_and_the_statsmodels_door(name):
    column, X = COLUMNS[name](ids()), np.ones((60, 1))
    expected = slm.lmer("y ~ 1 + (1 | g)", pd.DataFrame({"y": Y, "g": G})).criterion
    design = slm.LinearMixedModel.from_arrays(Y, X, [(column, None)])
    assert design.fit().criterion == pytest.approx(expected, abs=1e-8)
    with_gaps = slm.LinearMixedModel.from_arrays(Y, X, [(COLUMNS[name](gaps(ids())), None)]).fit()
    assert with_gaps.ngroups == {"g0": 8}
    assert with_gaps.nobs == 58
    table = pd.DataFrame({"y": Y})
    assert len(slm.MixedLM(Y, X, column).fit().random_effects) == 8
    assert len(slm.mixedlm("y ~ 1", table, groups=column).fit().random_effects) == 8
    assert len(slm.MixedLM(Y, X, COLUMNS[name](gaps(ids())), missing="drop").fit().random_effects) == 8


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("start", [BIG, 2**63 + 1, 2**70 + 1])
def test_command_line(tmp_path, capsys, missing, start):
    values = gaps(ids(start)) if missing else ids(start)
    lines = [f"{y},{'' if v is None else v}" for y, v in zip(Y, values)]
    (tmp_path / "d.csv").write_text("y,id\n" + "\n".join(lines) + "\n")
    assert main(["fit", "y ~ 1 + (1 | id)", str(tmp_path / "d.csv"), "--output", "json"]) == 0
    assert '"id": 8' in capsys.readouterr().out


def test_parquet_on_the_command_line(tmp_path, capsys):
    from pyarrow import parquet

    parquet.write_table(pa.table({"y": Y, "id": pa.array(gaps(ids()), pa.int64())}), tmp_path / "d.parquet")
    assert main(["fit", "y ~ 1 + (1 | id)", str(tmp_path / "d.parquet"), "--output", "json"]) == 0
    assert '"id": 8' in capsys.readouterr().out


def test_influence_subset_and_means():
    data = pl.DataFrame({"y": Y, "id": pl.Series(gaps(ids())), "h": np.arange(60) % 5})
    fit = slm.lmer("y ~ factor(id) + (1 | h)", data)
    assert len(fit.influence(group="id")) == len(fit.influence(group=data["id"])) == 8
    assert fit.update(subset=np.arange(60) > 5).params.shape == (8,)
    small = slm.lmer("y ~ factor(id) + (1 | h)", data.with_columns(id=data["id"] - BIG))
    means, expected = fit.emmeans("id").means, small.emmeans("id").means
    assert means["id"].tolist() == sorted(set(ids()))
    np.testing.assert_allclose(means.drop(columns="id"), expected.drop(columns="id"))


def test_booleans_are_two_levels():
    truth = [bool(g % 2) for g in G]
    for column in (truth, pd.array(truth, "boolean"), pd.Series(truth, dtype=object), pl.Series(truth), pa.array(truth),
                   pd.Categorical(truth), pd.Categorical(truth, [True, False]), gaps(truth), pl.Series(gaps(truth)),
                   pa.array(gaps(truth)), pd.array(gaps(truth), "boolean[pyarrow]")):  # fmt: skip
        factor = to_grouping(as_series(column, "t"), "t")
        seen = [None if c < 0 else bool(factor.levels[c]) for c in factor.codes]
        assert seen == (truth if None not in seen else gaps(truth))
    # categories in another order are no truth values to calculate with
    table = pd.DataFrame({"y": Y, "t": pd.Categorical(truth, [True, False]), "h": np.arange(60) % 5})
    design = build_design(parse_formula("y ~ t + (1 | h)"), table)[1]
    assert design.layout.columns == ("Intercept", "t[T.False]")
    np.testing.assert_array_equal(design.rows.X[:, 1], [float(not t) for t in truth])


def test_floating_point_identifiers_are_told():
    merged = np.array(ids(), dtype=np.float64)
    with pytest.warns(DataWarning, match="column id holds floating-point numbers beyond 9007199254740992"):
        build_design(parse_formula("y ~ 1 + (1 | id)"), {"y": Y, "id": merged})
    with pytest.warns(DataWarning, match="Read the column as text"):
        build_design(parse_formula("y ~ factor(id + 0) + (1 | h)"), {"y": Y, "id": merged, "h": np.arange(60) % 5})
    with pytest.warns(DataWarning, match="beyond 16777216"):
        build_design(parse_formula("y ~ 1 + (1 | id)"), {"y": Y, "id": (2.0**24 + 2 * G).astype(np.float32)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build_design(parse_formula("y ~ 1 + (1 | id)"), {"y": Y, "id": 2.0**40 + G})


def test_mixed_numbers_of_python():
    values = [1.5, BIG, BIG + 1, 2, 2.0, None] * 10
    factor = to_grouping(as_series(values, "id"), "id")
    assert factor.levels.tolist() == [1.5, 2, BIG, BIG + 1]
    assert factor.codes.tolist() == [0, 2, 3, 1, 1, -1] * 10
    with pytest.raises(DataError, match="cannot be read as numbers"):
        build_design(parse_formula("y ~ id + (1 | h)"), {"y": Y, "id": [10**400] * 60, "h": np.arange(60) % 5})


def test_exact_index_keeps_the_plainest_type():
    assert exact_index([1, 2]).dtype == np.int64
    assert exact_index([1, 2**63]).dtype == np.uint64
    assert exact_index([-1, 2**63]).tolist() == [-1, 2**63]
    assert exact_index([Decimal("0.1"), Decimal("0.2")]).tolist() == [0.1, 0.2]
    close = [Decimal("0.1"), Decimal("0.10000000000000000000001")]
    assert exact_index(close).tolist() == close


def test_dates_are_groups():
    days = [datetime.date(2020, 1, 1) + datetime.timedelta(int(g)) for g in G]
    times = pd.DatetimeIndex(days)
    columns = [days, pd.Series(days, dtype=object), times, pl.Series(days), pa.array(days), times.as_unit("ms"),
               pd.array(days, dtype="date32[pyarrow]"), pd.Categorical(days), times.to_pydatetime()]  # fmt: skip
    data = pd.DataFrame({"y": Y, "day": days, "h": np.arange(60) % 5})
    fit, fixed = slm.lmer("y ~ 1 + (1 | day)", data), slm.lmer("y ~ factor(day) + (1 | h)", data)
    assert fit.criterion == pytest.approx(slm.lmer("y ~ 1 + (1 | day)", data.assign(day=G)).criterion, abs=1e-8)
    for column in [*columns, [str(day) for day in days]]:
        new = {"day": column, "h": np.arange(60) % 5}
        np.testing.assert_allclose(fit.predict(new), fit.predict(data))
        if not isinstance(column, list) or not isinstance(column[0], str):
            np.testing.assert_allclose(fixed.predict(new), fixed.predict(data))
            assert build_design(parse_formula("y ~ 1 + (1 | day)"), {"y": Y, **new})[1].rows.terms[0].m == 8


def test_dates_survive_a_file(tmp_path):
    days = [datetime.date(2020, 1, 1) + datetime.timedelta(int(g)) for g in G]
    data = pd.DataFrame({"y": Y, "day": days})
    fit = slm.lmer("y ~ 1 + (1 | day)", data)
    fit.save(tmp_path / "m.slmm")
    np.testing.assert_array_equal(slm.load(tmp_path / "m.slmm").predict(data), fit.predict(data))


def test_random_identifiers_against_python():
    rng = np.random.default_rng(5)
    for _ in range(60):
        start = int(2 ** rng.uniform(0, 62))
        n, spread = int(rng.integers(2, 50)), int(2 ** rng.uniform(1, 40))
        values: list[Any] = [int(start + int(v)) for v in rng.integers(0, spread, n)]
        values = [None if rng.random() < 0.1 else v for v in values]
        if all(v is None for v in values):
            continue
        levels, codes = grouped(values)
        for name, make in COLUMNS.items():
            if "dictionary" in name:
                continue
            factor = to_grouping(as_series(make(values), "id"), "id").drop_unused()
            np.testing.assert_array_equal(factor.codes, codes, err_msg=name)
            if "cents" not in name:
                assert [int(level) for level in factor.levels] == levels, name


def test_levels_are_matched_exactly_across_types():
    known = pd.Index([1, BIG, BIG + 1])
    for new in (pd.Index([BIG + 1, BIG, 1]), pd.Index(np.array([BIG + 1, BIG, 1], np.uint64)),
                pd.Index([Decimal(BIG + 1), Decimal(BIG), Decimal(1)]), pd.Index([BIG + 1, BIG, 1], dtype=object),
                pd.Index([str(BIG + 1), str(BIG), "1"])):  # fmt: skip
        assert positions(known, new).tolist() == [2, 1, 0]
    assert positions(known, pd.Index([float(BIG - 1), 1.0])).tolist() == [-1, 0]
    assert positions(pd.Index([False, True]), pd.Index([1, 0])).tolist() == [1, 0]
    assert positions(pd.Index([False, True]), pd.Index(["TRUE", "False"])).tolist() == [1, 0]
