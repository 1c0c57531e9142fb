"""The data of the comparison with R's emmeans, from seeds: `test_emmeans` and `emmeans.R` (by way of CSV) use them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd


def nested():
    """Return five strains in three genotypes, measured in eight boxes."""
    rng = np.random.default_rng(387)
    geno = {"a": "g1", "b": "g1", "c": "g2", "d": "g3", "e": "g3"}
    rows = [(s, geno[s], r) for s in "abcde" for r in range(8)] * 2
    data = pd.DataFrame(rows, columns=["strain", "geno", "box"])
    means = data.strain.map(dict(zip("abcde", [0, 0.4, 1, 2, 2.6])))
    data["y"] = rng.normal(size=80) + means + rng.normal(size=8)[data.box]
    return data


def outside():
    """Return a control outside a factorial of two factors with unequal counts."""
    rng = np.random.default_rng(12)
    cells = [("ctl", "none", "none"), *(("trt", c, s) for c in ("c1", "c2", "c3") for s in ("s1", "s2"))]
    data = pd.DataFrame([cells[i] for i in rng.integers(0, 7, 150)], columns=["group", "cat", "sub"])
    data["block"] = np.arange(150) % 10
    effect = data["cat"].map({"none": 0, "c1": 1, "c2": 2, "c3": 4}) + data["sub"].map({"none": 0, "s1": 0, "s2": 1.5})
    data["y"] = effect + rng.normal(size=150) + rng.normal(size=10)[data.block]
    return data


def crossed():
    """Return unbalanced factors that interact with each other and with a covariate; a positive response, weights."""
    rng = np.random.default_rng(5)
    n = 160
    data = pd.DataFrame(
        {
            "f": rng.choice(["lo", "mid", "hi", "top"], n, p=[0.4, 0.3, 0.2, 0.1]),
            "h": rng.choice(["u", "v"], n, p=[0.7, 0.3]),
            "x": rng.normal(2, 1, n),
            "w": rng.integers(1, 4, n),
            "g": np.arange(n) % 12,
        }
    )
    slope = data.f.map({"lo": 0.1, "mid": 0.2, "hi": 0.3, "top": 0.1})
    eta = 1 + slope * data.x + 0.3 * (data.h == "v") + 0.3 * rng.normal(size=12)[data.g] + 0.2 * rng.normal(size=n)
    data["y"] = np.exp(eta)
    return data


SETS = {"nested": nested, "outside": outside, "crossed": crossed}

if __name__ == "__main__":
    for name, make in SETS.items():
        make().to_csv(Path(sys.argv[1]) / f"{name}.csv", index=False)
