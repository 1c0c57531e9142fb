"""Small designs of every kind that profiles and bootstrap must cope with."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

import sparselmm as slm


def made_data(seed: int = 5, n: int = 120) -> pd.DataFrame:
    """Crossed factors, a covariate, a year far from zero, weights and an offset; unbalanced."""
    rng = np.random.default_rng(seed)
    g, h = rng.integers(0, 9, n), rng.integers(0, 6, n)
    x, year = rng.standard_normal(n), 2000.0 + rng.integers(0, 12, n)
    slope = 1.5 * rng.standard_normal(9)
    y = 3.0 + x + 1.2 * rng.standard_normal(9)[g] + slope[g] * x + 0.8 * rng.standard_normal(6)[h]
    frame = {"g": pd.Categorical(g), "h": pd.Categorical(h), "x": x, "year": year, "w": 0.5 + rng.random(n)}
    return pd.DataFrame({"y": y + rng.standard_normal(n), **frame, "o": rng.standard_normal(n)})


FORMULAS = {
    "intercepts": "y ~ x + (1 | g) + (1 | h)",
    "correlated": "y ~ x + (x | g) + (1 | h)",
    "independent": "y ~ x + (x || g)",
    "one factor": "y ~ x + (x | g)",
    "far column": "y ~ x + (year | g)",
    "no fixed part": "y ~ 0 + (1 | g) + (1 | h)",
    "factor slopes": "y ~ x + (0 + h | g)",
}


def made_fit(name: str, reml: bool = False, weighted: bool = False):
    """Fit one of the designs, without warnings about singular fits."""
    data = made_data()
    options = {"weights": "w", "offset": "o"} if weighted else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return slm.lmer(FORMULAS[name], data, reml=reml, **options)
