"""The kind of data that the cases of the grammar are described on."""

from __future__ import annotations

import numpy as np
import pandas as pd


def make_data(n: int = 192) -> pd.DataFrame:
    """The kind of data the grammar's cases are described on: g 12 levels, h 8, f 3, f2 2."""
    rng = np.random.default_rng(1)
    i = np.arange(n)
    x = rng.normal(size=n)
    data = pd.DataFrame(
        {
            "y": 1 + 0.5 * x + rng.normal(size=12)[i // 16] + rng.normal(size=n),
            "x": x,
            "z": rng.uniform(0.2, 4, n),
            "g": pd.Categorical([f"g{1 + k:02d}" for k in i // 16]),
            "h": pd.Categorical([f"h{1 + k}" for k in (i % 16) // 2]),
            "f": pd.Categorical(rng.choice(["a", "b", "c"], n)),
            "f2": rng.choice(["u", "v"], n),
            "s": i % 7,
            "num": (i % 5) / 2,
            "chr": [f"c{k}" for k in i % 6],
            "lg": i % 3 == 0,
            "xna": np.where(i == 3, np.nan, x),
            "gna": [None if k in (5, 9) else f"q{k % 4}" for k in i],
            "one": "only",
            "obs": i,
            "w": rng.uniform(0.5, 2, n),
        }
    )
    data["gu"] = data["g"].cat.add_categories(["unused"])
    data["wna"] = data["w"].where(i % 24 != 0)
    data["wzero"] = data["w"].where(i % 12 != 0, 0.0)
    return data
