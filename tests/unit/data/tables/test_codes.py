"""Work on long vectors of codes in pieces gives what one piece gives."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sparselmm.data import build_design
from sparselmm.data.formulas import parse_formula
from sparselmm.data.row_selection import UsedRows
from sparselmm.data.rows import is_ones_column, ones_column
from sparselmm.data.tables import codes
from sparselmm.data.tables.codes import chunks, code_type, compress, levels_present, looked_up
from sparselmm.data.tables.columns import factor_from_integers


@pytest.fixture(autouse=True)
def short_pieces(monkeypatch):
    monkeypatch.setattr(codes, "CHUNK_ROWS", 7)


def test_chunks_cover_all_rows():
    assert [r for part in chunks(20) for r in range(20)[part]] == list(range(20))
    assert list(chunks(0)) == []


def test_type_of_codes():
    assert code_type(2**31 - 1) is np.int32
    assert code_type(2**31) is np.int64


@pytest.mark.parametrize("size", [30, 10**9])
@pytest.mark.parametrize("low", [0, -5, 1000])
def test_compress(size, low):
    values = np.random.default_rng(1).integers(0, 30, 50) + low
    values[0] = low + size - 1
    found, distinct = compress(values, size, low)
    expected, inverse = np.unique(values, return_inverse=True)
    np.testing.assert_array_equal(distinct + low, expected)
    np.testing.assert_array_equal(found, inverse)
    assert found.dtype == np.int32


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64", "uint64"])
def test_integers_at_the_ends_of_their_type(dtype):
    info = np.iinfo(dtype)
    for ends in ([info.min, info.min + 1, info.min], [info.max, info.max - 2, info.max], [info.min, info.max]):
        values = np.array(ends * 4, dtype=dtype)
        factor = factor_from_integers(values)
        np.testing.assert_array_equal(factor.levels.to_numpy()[factor.codes].astype(dtype), values)
        assert factor.levels.is_monotonic_increasing


def test_lookup_and_presence_know_missing_codes():
    found = np.array([0, 2, -1, 2, 0, 0, 2, -1, 2, 0], dtype=np.int32)
    np.testing.assert_array_equal(looked_up(np.array([5, 6, 7, -9]), found)[:3], [5, 7, -9])
    np.testing.assert_array_equal(levels_present(found, 3), [True, False, True])


def test_used_rows():
    values = np.arange(5.0)
    everything, some = UsedRows(5), UsedRows(5, values > 1)
    assert (len(everything), len(some)) == (5, 3)
    assert everything.take(values) is values
    np.testing.assert_array_equal(some.take(values), [2, 3, 4])


def test_a_column_of_ones_is_known():
    assert is_ones_column(ones_column(9))
    assert not is_ones_column(np.ones((9, 1)))
    assert not is_ones_column(np.broadcast_to(np.float64(2.0), (9, 1)))
    with pytest.raises(ValueError, match="read-only"):
        ones_column(9)[0] = 2.0


def table(n=30):
    rng = np.random.default_rng(4)
    return pd.DataFrame({"y": rng.standard_normal(n), "g": pd.Categorical.from_codes(np.arange(n) % 5, list("abcde"))})


def test_rows_of_complete_data_take_no_memory_but_are_there():
    design = build_design(parse_formula("y ~ 1 + (1 | g)"), table())[1]
    assert design.rows.mask is None
    np.testing.assert_array_equal(design.rows.positions, np.arange(30))
    data = table()
    data.loc[[3, 4], "y"] = np.nan
    design = build_design(parse_formula("y ~ 1 + (1 | g)"), data)[1]
    np.testing.assert_array_equal(design.rows.positions, np.delete(np.arange(30), [3, 4]))
    assert design.rows.index.equals(data.index.delete([3, 4]))


def test_codes_are_independent_of_a_categorical_of_the_caller():
    levels = [str(i) for i in range(40_000)]  # so many that pandas keeps int32 codes, too
    g = pd.Categorical.from_codes(np.arange(80_000) % 40_000, levels)
    data = pd.DataFrame({"y": np.random.default_rng(4).standard_normal(80_000), "g": g})
    assert data["g"].cat.codes.dtype == np.int32
    codes = build_design(parse_formula("y ~ 1 + (1 | g)"), data)[1].rows.terms[0].codes
    data.loc[0, "g"] = levels[-1]
    assert codes[0] == 0
    assert not np.may_share_memory(codes, data["g"].cat.codes.to_numpy())
