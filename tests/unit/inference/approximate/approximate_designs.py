"""Small crossed designs, fitted by an exact and by the iterative solver."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

import sparselmm as slm

FORMULAS = {
    "intercepts": "y ~ x + v + (1 | u) + (1 | i)",
    "slopes": "y ~ x + (1 + x | u) + (1 | i)",
    "split": "y ~ x + (1 + x || u) + (1 | i)",
    "three": "y ~ x + (1 | u) + (1 | i) + (1 | j)",
    "border": "y ~ x + (1 | u) + (1 | i) + (1 | g)",
    "year": "y ~ x + (1 + year | u) + (1 | i)",
}


@lru_cache
def data() -> pd.DataFrame:
    """Return 1200 rows of 70 x 68 levels."""
    rng = np.random.default_rng(11)
    n = 1200
    levels = {"u": 70, "i": 68, "j": 66, "g": 6}
    codes = {name: rng.integers(0, m, n) for name, m in levels.items()}
    out = pd.DataFrame({name: [f"{name}{c}" for c in some] for name, some in codes.items()})
    out["x"], out["year"], out["w"] = rng.standard_normal(n), 2000.0 + rng.integers(0, 10, n), rng.uniform(0.5, 2, n)
    out["v"] = rng.standard_normal(68)[codes["i"]]
    b = rng.standard_normal((70, 2)) @ np.array([[0.7, 0.2], [0.0, 0.4]])
    out["y"] = 1.0 + 0.3 * out["x"] + b[codes["u"], 0] + b[codes["u"], 1] * out["x"]
    out["y"] += sum(0.5 * rng.standard_normal(levels[name])[codes[name]] for name in ("i", "j", "g"))
    out["y"] += rng.standard_normal(n)
    return out


@lru_cache
def fitted(name: str, solver: str, reml: bool = True, weights: str | None = None) -> Any:
    """Return a fit."""
    return slm.lmer(FORMULAS[name], data(), solver=solver, reml=reml, weights=weights)


def pair(name: str, **arguments: Any) -> tuple[Any, Any]:
    """Return the exact and the approximate fit."""
    return fitted(name, "schur", **arguments), fitted(name, "iterative", **arguments)


@lru_cache
def communities() -> pd.DataFrame:
    """Return a design in 30 loosely connected parts, each of which has a large eigenvalue of its own."""
    rng = np.random.default_rng(3)
    n, users, items = 3000, 300, 240
    u = rng.integers(0, users, n)
    i = np.where(rng.random(n) < 0.9, u % 30 + 30 * rng.integers(0, items // 30, n), rng.integers(0, items, n))
    v = rng.standard_normal(items)[i]
    x = rng.standard_normal(n)
    y = 1.0 + 0.3 * x + rng.standard_normal(users)[u] + 0.8 * rng.standard_normal(items)[i] + rng.standard_normal(n)
    return pd.DataFrame({"u": u, "i": i, "x": x, "v": v, "y": y})
