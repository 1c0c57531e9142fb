"""Random small designs on which a search can end at the wrong optimum: few levels, uneven weights, zero variances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

MOST_THETA = 16
LEVELS = (3, 12)
TEXT_COLUMNS = ("a", "b", "c", "d", "f", "h")
# right sides of a random term, with the number of its columns by the levels of f (h has two) and of its entries of θ
VECTORS = {
    "1": lambda f: (1, 1),
    "0 + x1": lambda f: (1, 1),
    "x1": lambda f: (2, 3),
    "x1 + x2": lambda f: (3, 6),
    "0 + f": lambda f: (f, f * (f + 1) // 2),
    "f": lambda f: (f, f * (f + 1) // 2),
    "f + x1": lambda f: (f + 1, (f + 1) * (f + 2) // 2),
    "h": lambda f: (2, 3),
    "x1:h": lambda f: (3, 6),
    "x1*h": lambda f: (4, 10),
    "f:h": lambda f: (2 * f + 1, (2 * f + 1) * (f + 1)),
}
INDEPENDENT = {
    "x1": lambda f: (2, 2),
    "x1*x2": lambda f: (4, 4),
    "x1 + x2": lambda f: (3, 3),
    "x1:x2": lambda f: (2, 2),
    "x1 + x1:x2": lambda f: (3, 3),
}
FIXED = ("x1 + f", "x1", "1", "0 + x1", "x1*f", "f + h", "x1 + x2")
MOST_FIXED = 8  # columns of the longest of these


@dataclass(frozen=True)
class SmallDesign:
    """One model with its data.

    Attributes
    ----------
    name : str
        Its id, from the seed.
    formula : str
        In lme4's language, as in ours.
    data : DataFrame
        Text columns, x1, x2, w and y.
    reml : bool
        Whether the criterion is REML.
    weighted : bool
        Whether column w holds weights.
    """

    name: str
    formula: str
    data: pd.DataFrame
    reml: bool
    weighted: bool


def small_design(seed: int) -> SmallDesign:
    """Return the design of a seed: random terms, levels, weights and variances, every other one by REML."""
    rng = np.random.default_rng([20260, seed])
    n = int(rng.choice([30, 40, 60, 100]))
    room = n - MOST_FIXED if rng.random() < 0.97 else 3 * n  # of random effects; the rest may have more than rows
    f_levels = int(rng.integers(2, 5))
    data = {"f": _codes(rng, n, f_levels), "h": _codes(rng, n, 2)}
    x1, x2 = _covariate(rng, n), _covariate(rng, n)
    terms, y = [], rng.standard_normal(n)
    theta = 0
    for group in "abcd"[: rng.integers(1, 5)]:
        chosen = _term(rng, f_levels, MOST_THETA - theta, room // LEVELS[0])
        if chosen is None:
            break
        right, bar, k, n_theta = chosen
        most = min(LEVELS[1], room // k, (n - 1) // k)
        data[group] = codes = _codes(rng, n, int(rng.integers(LEVELS[0], most + 1)))
        terms.append(f"({right} {bar} {group})")
        theta, room = theta + n_theta, room - k * (codes.max() + 1)
        y = y + _effects(rng, codes, [np.ones(n), x1 / np.abs(x1).max(), data["f"] - 1.0])
    weighted = bool(rng.random() < 0.7)
    w = 10.0 ** rng.uniform(-3.0, 3.0, n)
    if weighted and rng.random() < 0.5:
        y = y + rng.standard_normal(n) / np.sqrt(w)
    frame = pd.DataFrame({name: [f"{name}{code:03d}" for code in codes] for name, codes in data.items()})
    frame = frame.assign(x1=x1, x2=x2, w=w, y=y)
    formula = f"y ~ {rng.choice(FIXED)} + {' + '.join(terms)}"
    return SmallDesign(f"small_{seed}", formula, frame, seed % 2 == 0, weighted)


def _codes(rng: np.random.Generator, n: int, levels: int) -> np.ndarray:
    """Return codes of n rows, uneven, in which every level occurs."""
    shares = rng.dirichlet(np.full(levels, 3.0))
    return rng.permutation(np.concatenate([np.arange(levels), rng.choice(levels, n - levels, p=shares)]))


def _covariate(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return values near zero, far from it, in few steps, or large."""
    x = rng.standard_normal(n)
    return [x, x + 5.0, rng.integers(0, 5, n).astype(float), 1000.0 * np.exp(x)][rng.integers(4)]


def _term(
    rng: np.random.Generator, f_levels: int, most_theta: int, most_columns: int
) -> tuple[str, str, int, int] | None:
    """Return right side, bar, number of columns and of θ of a random term with at most so many."""
    choices = [(r, "|", *size(f_levels)) for r, size in VECTORS.items()]
    choices += [(r, "||", *size(f_levels)) for r, size in INDEPENDENT.items()]
    fitting = [c for c in choices if c[3] <= most_theta and c[2] <= most_columns]
    return fitting[rng.integers(len(fitting))] if fitting else None


def _effects(rng: np.random.Generator, codes: np.ndarray, columns: list[np.ndarray]) -> np.ndarray:
    """Return effects of a group; each column's variance is zero in four of ten cases."""
    m = codes.max() + 1
    out = np.zeros(len(codes))
    for column in columns:
        sd = 0.0 if rng.random() < 0.4 else float(rng.exponential(1.0))
        out += sd * rng.standard_normal(m)[codes] * column
    return out
