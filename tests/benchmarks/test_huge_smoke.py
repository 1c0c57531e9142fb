"""The generators of huge designs keep what they promise; tiny sizes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from .harness import fixed_columns
from .huge import HUGE, as_frame, catalogue

TINY = 0.004


@pytest.mark.parametrize("name", HUGE)
def test_generators_are_seeded_and_complete(name: str) -> None:
    design = HUGE[name]
    table, again = design.make(TINY), design.make(TINY)
    assert set(fixed_columns(design.formula)) <= set(table)
    assert len({len(column.values) for column in table.values()}) == 1
    for column, values in table.items():
        np.testing.assert_array_equal(values.values, again[column].values)
    assert sum(values.values.dtype == np.int32 for values in table.values()) == 2


@pytest.mark.parametrize("name", ["commun", "indep"])
def test_catalogue(name: str) -> None:
    table = HUGE[name].make(0.02)
    user, item = table["user"].values, table["item"].values
    assert len(np.unique(user.astype(np.int64) * 100_000 + item)) == len(user)
    per_user, per_item = np.bincount(user)[1:], np.bincount(item)
    assert len(per_user) == 3240
    assert 45 <= np.median(per_user) <= 75
    assert per_item.max() > 30 * np.median(per_item[per_item > 0])


def test_communities_show() -> None:
    def largest(own: tuple[float, float]) -> float:
        table = catalogue(20_000, 8_000, 0.05, 1, own=own)
        N = np.zeros((table["user"].values.max(), table["item"].values.max()))
        N[table["user"].values - 1, table["item"].values - 1] = 1.0
        N = N[:, N.sum(axis=0) > 0]
        normed = N / np.sqrt(np.outer(N.sum(axis=1), N.sum(axis=0)))
        return float(np.linalg.svd(normed, compute_uv=False)[1])

    assert largest((0.6, 0.2)) > largest((0.0, 0.0)) + 0.1


def test_movers() -> None:
    table = HUGE["mobility"].make(0.05)
    pairs = pd.DataFrame({"worker": table["worker"].values, "firm": table["firm"].values})
    assert pairs.groupby("worker")["firm"].nunique().gt(1).mean() == pytest.approx(0.3, abs=0.03)


def test_frame() -> None:
    table = HUGE["general"].make(TINY)
    assert as_frame(table)["g"].dtype == np.int32
    assert isinstance(as_frame(table, categories=True)["h"].dtype, pd.CategoricalDtype)
