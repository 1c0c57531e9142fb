"""Seeded generators of designs too large to factor, and of some that lie near that border.

As in `generators`, ``scale`` multiplies rows and levels alike. Levels are plain int32 numbers from 1 on;
`as_frame` makes them categories where asked. Rows are in random order, the slowest case for any reader.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from .generators import Column, FloatArray, IntArray, Table, _scaled, zipf_probabilities

USERS, ITEMS = 162_000, 59_000
COMMUNITIES, PARTS = 10, 4  # tenths of the catalogue, each of four fortieths
THETA_USER, THETA_ITEM = 0.45, 0.55
ROUNDS = 10
_DRAWS = 2_000_000  # per batch, which bounds the memory for what is drawn


def popularity(rng: np.random.Generator, items: int, shift: float, exponent: float) -> FloatArray:
    """Return probabilities proportional to (rank + shift)^-exponent, in random order, (items,)."""
    weights = (np.arange(items) + shift) ** -exponent
    return rng.permutation(weights / weights.sum())


def user_counts(rng: np.random.Generator, users: int, most: int) -> IntArray:
    """Return rows per user, 20 and a log-normal part: median 71, mean 166, (users,)."""
    counts = 20.0 + 51.0 * np.exp(1.45 * rng.standard_normal(users))
    return np.minimum(counts, most).astype(np.int32)


def _windows(
    rng: np.random.Generator, part: IntArray, edges: FloatArray, own: tuple[float, float]
) -> tuple[FloatArray, FloatArray]:
    """Return per draw the stretch of the cumulated popularity it comes from: a tenth, a fortieth, or all."""
    kind = rng.random(len(part), dtype=np.float32)
    community = part // PARTS * PARTS
    tenth, fortieth = kind < own[0], (kind >= own[0]) & (kind < own[0] + own[1])
    low = np.where(tenth, edges[community], np.where(fortieth, edges[part], 0.0))
    high = np.where(tenth, edges[community + PARTS], np.where(fortieth, edges[part + 1], 1.0))
    return low, high


def _batches(counts: IntArray) -> Iterator[slice]:
    """Yield runs of users with about `_DRAWS` rows together."""
    batch = np.cumsum(counts, dtype=np.int64) // _DRAWS
    starts = np.flatnonzero(np.diff(batch, prepend=-1))
    for first, last in zip(starts, np.append(starts[1:], len(counts))):
        yield slice(int(first), int(last))


def _distinct_pairs(
    rng: np.random.Generator, counts: IntArray, part: IntArray, cumulated: FloatArray, own: tuple[float, float]
) -> tuple[IntArray, IntArray]:
    """Return users, by place in counts, and items: each pair once, sorted, about counts[u] of user u.

    What is drawn twice is drawn again some times; users who know all of their part keep a few rows less.
    """
    items = len(cumulated)
    edges = np.append(0.0, cumulated)[np.arange(COMMUNITIES * PARTS + 1) * items // (COMMUNITIES * PARTS)]
    keys, missing = np.zeros(0, dtype=np.int64), counts
    for _ in range(ROUNDS):
        user = np.repeat(np.arange(len(counts)), missing)
        low, high = _windows(rng, part[user], edges, own)
        item = np.searchsorted(cumulated, low + (high - low) * rng.random(len(user)), side="right")
        keys = np.sort(np.concatenate([keys, user * items + np.minimum(item, items - 1)]))
        keys = keys[np.append(True, keys[1:] != keys[:-1])]
        missing = counts - np.bincount(keys // items, minlength=len(counts))
    return (keys // items).astype(np.int32), (keys % items).astype(np.int32)


def catalogue(users: int, items: int, scale: float, seed: int, *, own: tuple[float, float]) -> Table:
    """Users rate items of a catalogue, each at most once; about 25 million rows at full scale.

    Items differ in popularity by a power law. ``own`` are the shares of the draws in the user's own
    tenth and own fortieth of the catalogue; the rest follow popularity alone.
    """
    rng = np.random.default_rng(seed)
    users, items = _scaled(users, scale, 60), _scaled(items, scale, 200)
    counts = user_counts(rng, users, max(20, items // 2))
    cumulated = np.cumsum(popularity(rng, items, 0.0045 * items, 1.95))
    cumulated /= cumulated[-1]
    part = rng.integers(0, COMMUNITIES * PARTS, users, dtype=np.int32)
    found = []
    for batch in _batches(counts):
        user, item = _distinct_pairs(rng, counts[batch], part[batch], cumulated, own)
        found.append((user + np.int32(batch.start), item))
    user, item = (np.concatenate(x) for x in zip(*found))
    del found
    order = rng.permutation(len(user)).astype(np.int32)
    user, item = (
        rng.permutation(users).astype(np.int32)[user[order]],
        rng.permutation(items).astype(np.int32)[item[order]],
    )
    del order
    return _with_intercepts(rng, {"user": user, "item": item}, (THETA_USER, THETA_ITEM))


def _with_intercepts(
    rng: np.random.Generator, factors: dict[str, IntArray], theta: tuple[float, ...], sigma: float = 0.9
) -> Table:
    """Return y = 3.5 + 0.2 x + one normal intercept per level and factor + noise, x standard normal."""
    n = len(next(iter(factors.values())))
    x = rng.standard_normal(n)
    y = sigma * rng.standard_normal(n)
    y += 3.5
    y += 0.2 * x
    for codes, ratio in zip(factors.values(), theta):
        y += (sigma * ratio * rng.standard_normal(int(codes.max()) + 1))[codes]
    return {"y": Column(y), "x": Column(x), **{name: Column(codes + np.int32(1)) for name, codes in factors.items()}}


def slopes(n: int, users: int, items: int, scale: float, seed: int) -> Table:
    """Users with a random line in x, crossed with items of Zipf popularity."""
    rng = np.random.default_rng(seed)
    n, users, items = _scaled(n, scale, 400), _scaled(users, scale, 40), _scaled(items, scale, 20)
    user = rng.integers(0, users, n, dtype=np.int32)
    item = rng.choice(items, n, p=zipf_probabilities(items, 0.8)).astype(np.int32)
    table = _with_intercepts(rng, {"user": user, "item": item}, (0.6, 0.5))
    slope = 0.25 * rng.standard_normal(users)
    return {**table, "y": Column(table["y"].values + slope[user] * table["x"].values)}


def mobility(workers: int, firms: int, scale: float, seed: int, *, years: int = 6, movers: float = 0.3) -> Table:
    """Workers in log-normal firms for some years; a share of them changes once, to any other firm by size."""
    rng = np.random.default_rng(seed)
    workers, firms = _scaled(workers, scale, 60), _scaled(firms, scale, 8)
    size = np.exp(1.2 * rng.standard_normal(firms))
    first, second = (rng.choice(firms, workers, p=size / size.sum()) for _ in range(2))
    moved = np.where(rng.random(workers) < movers, rng.integers(1, years, workers), years)
    worker, year = (x.ravel() for x in np.meshgrid(np.arange(workers), np.arange(years), indexing="ij"))
    firm = np.where(year < moved[worker], first[worker], second[worker])
    order = rng.permutation(len(worker))
    factors = {"worker": worker[order].astype(np.int32), "firm": firm[order].astype(np.int32)}
    return _with_intercepts(rng, factors, (1.2, 0.7))


def general(n: int, m1: int, m2: int, scale: float, seed: int) -> Table:
    """Two crossed factors g and h, both uniform: few rows per level and no structure to exploit."""
    rng = np.random.default_rng(seed)
    n, m1, m2 = _scaled(n, scale, 200), _scaled(m1, scale, 20), _scaled(m2, scale, 10)
    g, h = rng.integers(0, m1, n, dtype=np.int32), rng.integers(0, m2, n, dtype=np.int32)
    return _with_intercepts(rng, {"g": g, "h": h}, (0.6, 0.5))


@dataclass(frozen=True)
class HugeDesign:
    """One design: its formula, and the data for a scale."""

    name: str
    formula: str
    make: Callable[[float], Table]


RATINGS = "y ~ x + (1 | user) + (1 | item)"

_HUGE = (
    HugeDesign("commun", RATINGS, partial(catalogue, USERS, ITEMS, seed=201, own=(0.6, 0.2))),
    HugeDesign("indep", RATINGS, partial(catalogue, USERS, ITEMS, seed=202, own=(0.0, 0.0))),
    HugeDesign("slopes", "y ~ x + (1 + x | user) + (1 | item)", partial(slopes, 5_000_000, 100_000, 20_000, seed=203)),
    HugeDesign("mobility", "y ~ x + (1 | worker) + (1 | firm)", partial(mobility, 60_000, 4_000, seed=204)),
    HugeDesign("general", "y ~ x + (1 | g) + (1 | h)", partial(general, 1_000_000, 100_000, 30_000, seed=205)),
)

HUGE: dict[str, HugeDesign] = {design.name: design for design in _HUGE}


def as_frame(table: Table, *, categories: bool = False) -> Any:
    """Return the table as a pandas DataFrame that shares its memory; integers as categories where asked."""
    import pandas as pd

    frame = pd.DataFrame({name: column.values for name, column in table.items()}, copy=False)
    if categories:
        for name in frame.columns[frame.dtypes == np.int32]:
            frame[name] = frame[name].astype("category")
    return frame
