"""Seeded generators of the benchmark data; each takes a scale for quick runs.

``scale`` multiplies rows and levels alike, so that the shape of a design (rows per level, skewness)
stays what it is. Every generator returns a `Table` of plain columns that any peer can read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Column:
    """One column: numbers, or zero-based codes with the names of their levels."""

    values: npt.NDArray[np.generic]
    levels: tuple[str, ...] | None = None


Table = dict[str, Column]


def _scaled(count: int, scale: float, least: int = 4) -> int:
    return max(least, round(count * scale))


def _factor(codes: npt.ArrayLike, prefix: str) -> Column:
    """Return a factor of the levels that occur, renumbered without gaps."""
    _, found = np.unique(np.asarray(codes), return_inverse=True)
    found = found.ravel().astype(np.int32)
    width = len(str(int(found.max()) + 1))
    return Column(found, tuple(f"{prefix}{i:0{width}d}" for i in range(1, int(found.max()) + 2)))


def zipf_probabilities(levels: int, exponent: float) -> FloatArray:
    """Return probabilities proportional to rank^-exponent."""
    weights = np.arange(1, levels + 1, dtype=float) ** -exponent
    return weights / weights.sum()


def _response(rng: np.random.Generator, mean: FloatArray, effects: list[tuple[IntArray, int, float]]) -> FloatArray:
    """Return mean + one normal intercept per level of each (codes, levels, sd) + unit normal noise."""
    y = mean + rng.standard_normal(len(mean))
    for codes, levels, sd in effects:
        y += (sd * rng.standard_normal(levels))[codes]
    return y


def crossed(
    n: int, m1: int, m2: int, scale: float, seed: int, *, zipf: float = 0.0, covariates: int = 1, numeric: bool = False
) -> Table:
    """Two crossed factors g and h (h by Zipf's law), and standard normal covariates."""
    rng = np.random.default_rng(seed)
    n, m1, m2 = _scaled(n, scale, 40), _scaled(m1, scale), _scaled(m2, scale)
    g = rng.integers(0, m1, n, dtype=np.int32)
    h = rng.choice(m2, n, p=zipf_probabilities(m2, zipf)).astype(np.int32)
    names = ["x"] if covariates == 1 else [f"x{i + 1}" for i in range(covariates)]
    X = {name: rng.standard_normal(n) for name in names}
    mean = 1.0 + 0.5 * sum(X.values())
    y = _response(rng, np.asarray(mean), [(g, m1, 0.6), (h, m2, 0.5)])
    table = {"y": Column(y), **{name: Column(x) for name, x in X.items()}}
    if numeric:
        return {**table, "g": Column(g + 1), "h": Column(h + 1)}
    return {**table, "g": _factor(g, "g"), "h": _factor(h, "h")}


def activity_counts(rng: np.random.Generator, users: int, total: int, sigma: float, least: int, most: int) -> IntArray:
    """Return log-normal numbers of ratings per user, between bounds, that add up to about the total."""
    raw = np.exp(sigma * rng.standard_normal(users))
    low, high = 0.0, 100.0 * total
    for _ in range(200):  # the factor that gives the total after clipping, by bisection
        factor = (low + high) / 2.0
        low, high = (factor, high) if np.clip(factor * raw, least, most).sum() < total else (low, factor)
    return np.round(np.clip(high * raw, least, most)).astype(np.int32)


def ratings(n: int, users: int, items: int, scale: float, seed: int) -> Table:
    """Users with log-normal activity rate distinct items with log-normal popularity, at least 20 each."""
    rng = np.random.default_rng(seed)
    side = np.sqrt(scale)  # both sides shrink with the root, so that the share of rated pairs stays
    users, items = _scaled(users, side, 30), _scaled(items, side, 50)
    counts = activity_counts(rng, users, round(n * scale), 1.1, 20, items // 2)
    popularity = np.exp(1.9 * rng.standard_normal(items))
    u, i = [], []
    for user, count in enumerate(counts):
        # the smallest of exponential waiting times with these rates: draws without replacement
        chosen = np.argpartition(rng.standard_exponential(items) / popularity, count - 1)[:count]
        u.append(np.full(count, user, dtype=np.int32))
        i.append(chosen.astype(np.int32))
    shuffled = rng.permutation(int(counts.sum()))
    codes_u, codes_i = np.concatenate(u)[shuffled], np.concatenate(i)[shuffled]
    y = _response(rng, np.full(len(shuffled), 3.5), [(codes_u, users, 0.45), (codes_i, items, 0.55)])
    return {"y": Column(y), "u": _factor(codes_u, "u"), "i": _factor(codes_i, "i")}


def nested(n: int, inner: int, outer: int, scale: float, seed: int) -> Table:
    """A factor u with a random line in x, nested in a factor i; rows in random order."""
    rng = np.random.default_rng(seed)
    n, inner, outer = _scaled(n, scale, 80), _scaled(inner, scale, 8), _scaled(outer, scale)
    u = rng.permutation(np.arange(n) % inner).astype(np.int32)
    i = (u % outer).astype(np.int32)
    x = rng.standard_normal(n)
    intercept = rng.standard_normal(inner)
    slope = 0.3 * (0.4 * intercept + np.sqrt(1 - 0.4**2) * rng.standard_normal(inner))
    y = _response(rng, 1.0 + 0.5 * x + 0.7 * intercept[u] + slope[u] * x, [(i, outer, 0.5)])
    return {"y": Column(y), "x": Column(x), "u": _factor(u, "u"), "i": _factor(i, "i")}


def maximal(subjects: int, items: int, scale: float, seed: int) -> Table:
    """A 2×2×2 design within subjects and within items; each subject sees each item once.

    The conditions rotate over subjects and items, as in a Latin square. The covariances of the eight
    coefficients have three large dimensions and five small ones, as such data usually have.
    """
    rng = np.random.default_rng(seed)
    subjects, items = _scaled(subjects, scale, 16), _scaled(items, scale, 16)
    s, t = (x.ravel().astype(np.int32) for x in np.meshgrid(np.arange(subjects), np.arange(items), indexing="ij"))
    condition = (s + t) % 8
    a, b, c = (2.0 * ((condition >> bit) & 1) - 1.0 for bit in range(3))
    X = np.column_stack([np.ones(len(s)), a, b, c, a * b, a * c, b * c, a * b * c])
    y = X @ np.array([2.2, 0.07, -0.33, 0.10, 0.02, 0.01, -0.02, 0.03])
    for codes, m, sd in ((s, subjects, 0.30), (t, items, 0.36)):
        loadings = rng.standard_normal((8, 8)) * np.array([1.0, 0.5, 0.35, 0.1, 0.05, 0.05, 0.02, 0.02])
        loadings *= np.array([1.0, 0.3, 0.5, 0.3, 0.2, 0.2, 0.2, 0.2])[:, None]
        modes = sd * rng.standard_normal((m, 8)) @ loadings.T
        y += np.einsum("nk,nk->n", X, modes[codes])
    y += 0.67 * rng.standard_normal(len(y))
    return {
        "y": Column(y),
        **{name: Column(x) for name, x in zip("abc", (a, b, c))},
        "subj": _factor(s, "S"),
        "item": _factor(t, "I"),
    }


def replicated(n: int, scale: float, seed: int, *, pairs: int = 100_000, m1: int = 4_000, m2: int = 1_000) -> Table:
    """Rows drawn on one fixed set of level pairs, which the number of rows does not change."""
    rng = np.random.default_rng(seed)
    pairs, m1, m2 = _scaled(pairs, scale, 100), _scaled(m1, scale, 20), _scaled(m2, scale, 20)
    cells = rng.choice(m1 * m2, size=min(pairs, m1 * m2 // 2), replace=False)
    copies = max(1, round(_scaled(n, scale, 100) / len(cells)))
    cell = np.tile(cells, copies)
    g, h = (cell // m2).astype(np.int32), (cell % m2).astype(np.int32)
    x = rng.standard_normal(len(cell))
    y = _response(rng, 1.0 + 0.5 * x, [(g, m1, 0.6), (h, m2, 0.5)])
    return {"y": Column(y), "x": Column(x), "g": _factor(g, "g"), "h": _factor(h, "h")}


def dataset(name: str, columns: tuple[str, ...], thin: str | None, scale: float) -> Table:
    """Columns of a data set of the package; a scale below 1 keeps that share of the levels of ``thin``."""
    import pandas as pd

    import sparselmm as slm

    frame = slm.load_dataset(name)[list(columns)]
    if thin is not None and scale < 1.0:
        codes = frame[thin].cat.codes.to_numpy()
        keep = np.random.default_rng(1).permutation(codes.max() + 1) < _scaled(int(codes.max()) + 1, scale, 20)
        frame = frame[keep[codes]]
    table: Table = {}
    for column in columns:
        values = frame[column]
        if isinstance(values.dtype, pd.CategoricalDtype):
            values = values.cat.remove_unused_categories()
            levels = tuple(str(level) for level in values.cat.categories)
            table[column] = Column(values.cat.codes.to_numpy().astype(np.int32), levels)
        else:
            table[column] = Column(values.to_numpy(dtype=float))
    return table


Generator = Callable[[float], Table]


def insteval(scale: float) -> Table:
    """InstEval: 73,421 ratings of 1,128 lecturers in 14 departments by 2,972 students."""
    return dataset("InstEval", ("y", "service", "s", "d", "dept"), "s", scale)


def sleepstudy(scale: float) -> Table:
    """Sleepstudy: 180 reaction times of 18 subjects; always whole."""
    return dataset("sleepstudy", ("Reaction", "Days", "Subject"), None, scale)
