"""What would have more columns than rows, or not fit in memory, is refused before it is made."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm.data.encoding import sizes
from sparselmm.exceptions import DesignError, FormulaError, PlanError

N = 200
RNG = np.random.default_rng(0)
DATA = pd.DataFrame({f"x{i}": RNG.normal(size=N) for i in range(25)})
DATA["x"], DATA["y"], DATA["g"], DATA["f"] = DATA["x0"], RNG.normal(size=N), np.arange(N) % 7, np.arange(N) % 20
PRODUCT = " * ".join(f"x{i}" for i in range(25))


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("cut(x, 1e9)", "1,000,000,000 intervals of 200 values"),
        *((f"{call}", "1,000,000,000 columns, but 200 rows") for call in (
            "bs(x, df=1e9)", "bs(x, 1e9)", "bs(x, df=5, degree=1e9)", "ns(x, df=1e9)", "poly(x, 1e9)", "cr(x, df=1e9)",
            "cc(x, df=1e9)", "cs(x, 1e9)")),
        ("poly(x, degree=201)", "201 columns, but 200 rows"),
        ("poly(f, 20)", "degree 20 needs more than 20 distinct values; there are 20"),
        ("interaction(x0, x1, x2, x3, x4, x5)", "interaction.. would have 8,000,000 combinations or more"),
        (" * ".join(f"x{i}" for i in range(10)), "1,024 columns of numbers for 200 rows"),
        (f"({PRODUCT.replace('*', '+')}) ^ 2", "326 columns of numbers for 200 rows"),
    ],
)  # fmt: skip
def test_more_columns_than_rows(formula, message):
    start = time.process_time()
    with pytest.raises(slm.exceptions.DataError, match=message):
        slm.lmer(f"y ~ {formula} + (1 | g)", DATA)
    assert time.process_time() - start < 5


@pytest.mark.parametrize("formula", [f"y ~ {PRODUCT} + (1 | g)", f"y ~ x + ({PRODUCT} | g)",
                                     f"y ~ ({PRODUCT.replace('*', '+')}) ^ 25 + (1 | g)"])  # fmt: skip
def test_products_of_many_variables(formula):
    with pytest.raises(FormulaError, match="more than 50,000 terms"):
        slm.lmer(formula, DATA)


def test_powers_end_where_all_products_are_there():
    fit = slm.lmer("y ~ (x0 + x1) ^ 1000000000 + (1 | g)", DATA)
    assert list(fit.params.index) == ["Intercept", "x0", "x1", "x0:x1"]
    with pytest.raises(FormulaError, match=r"c\(1, 2, 3, \.\.\., 1e\+09\)"):
        slm.lmer("y ~ I(x > 1:1000000000) + (1 | g)", DATA)


@pytest.mark.parametrize(
    ("formula", "where"),
    [("y ~ id + (1 | g)", "the fixed part"), ("y ~ x + C(id, contr.sum) + (1 | g)", "the fixed part"),
     ("y ~ x:id + (1 | g)", "the fixed part"), ("y ~ x + (id | g)", r"the random term \(id \| g\)")],
)  # fmt: skip
def test_a_factor_with_very_many_levels(formula, where):
    n, m = 400_000, 150_000
    codes = np.arange(n) % m
    data = pd.DataFrame(
        {"y": np.zeros(n), "x": 1.0, "id": pd.Categorical.from_codes(codes, [f"t{i}" for i in range(m)])}
    )
    data["g"] = np.arange(n) % 50
    with pytest.raises(DesignError, match=rf"id.* in {where} has 150,000 levels, .* GB are available.*\(1 \| "):
        slm.lmer(formula, data)


def test_what_fits_is_let_through(monkeypatch):
    data = pd.DataFrame({"y": RNG.normal(size=600), "id": np.arange(600) % 100, "g": np.arange(600) % 7})
    assert slm.lmer("y ~ factor(id) + (1 | g)", data).params.shape == (100,)
    monkeypatch.setattr(sizes, "LITTLE", 0.0)
    monkeypatch.setattr(sizes, "available_memory", lambda: 1e5)
    with pytest.raises(DesignError, match=r"factor\(id\) in the fixed part has 100 levels"):
        slm.lmer("y ~ factor(id) + (1 | g)", data)
    with pytest.raises(DesignError, match="leave out interactions"):
        slm.lmer("y ~ x0 * x1 * x2 * x3 * x4 * x5 * x6 + (1 | g)", DATA)
    monkeypatch.setattr(sizes, "available_memory", lambda: None)
    assert slm.lmer("y ~ factor(id) + (1 | g)", data).params.shape == (100,)


@pytest.mark.parametrize("name", ["CholmodOutOfMemoryError", "CholmodTooLargeError"])
def test_cholmods_lack_of_memory_is_ours(monkeypatch, name):
    import sksparse.cholmod as module

    class Full:
        def __getattr__(self, name_of_method: str):
            def call(*arguments: object, **options: object) -> None:
                raise getattr(module, name)("out of memory")

            return call

    monkeypatch.setattr(module, "analyze", lambda *a, **k: Full())
    problem = slm.LinearMixedModel.from_formula("y ~ x + (1 | g) + (1 | f)", DATA, solver="cholmod")
    with pytest.raises(PlanError, match="solver='iterative'"):
        problem.fit()
    assert issubclass(PlanError, MemoryError)
