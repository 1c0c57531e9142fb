"""Simulated responses: new random effects and residuals on the rows of a design."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._typing import FloatArray
from sparselmm.exceptions import ParameterError
from sparselmm.inference.predict.error_variance import MatrixPart, Part


@dataclass(frozen=True)
class Draws:
    """What is drawn for n rows.

    Attributes
    ----------
    mean : (n,) array
        Everything that is not drawn.
    parts : tuple of TermPart or MatrixPart
        Terms whose effects are drawn, with levels numbered from 0; -1 for no level.
    factors : tuple of (k, k) arrays
        T of each of them.
    sigma : float
        Residual standard deviation.
    weights : (n,) array or None
        The residual variance of a row is σ²/w.
    """

    mean: FloatArray
    parts: tuple[Part, ...]
    factors: tuple[FloatArray, ...]
    sigma: float
    weights: FloatArray | None


def simulate(draws: Draws, nsim: int, seed: Any) -> FloatArray:
    """Return simulated responses, (n, nsim); column i depends on the seed and on i alone."""
    n = len(draws.mean)
    sd = np.full(n, draws.sigma) if draws.weights is None else draws.sigma / np.sqrt(draws.weights)
    out = np.empty((n, nsim), order="F")
    for i, child in enumerate(seed_sequence(seed).spawn(nsim)):
        rng = np.random.default_rng(child)
        y = draws.mean + 0.0
        for part, T in zip(draws.parts, draws.factors):
            y += _effect(part, draws.sigma * T, rng)
        out[:, i] = y + sd * rng.standard_normal(n)
    return out


def _effect(part: Part, factor: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Return z'b for new b, (n,)."""
    if isinstance(part, MatrixPart):
        m = part.matrix.shape[1] // len(factor)
        return np.asarray(part.matrix @ (rng.standard_normal((m, len(factor))) @ factor.T).ravel())
    m = int(part.codes.max(initial=-1)) + 1
    b = rng.standard_normal((m, len(factor))) @ factor.T
    effect = np.full(len(part.codes), np.nan)
    known = part.codes >= 0
    effect[known] = np.einsum("nk,nk->n", b[part.codes[known]], part.Z[known])
    return effect


def seed_sequence(seed: Any) -> np.random.SeedSequence:
    """Return a fresh seed sequence of None, an integer, several integers or a sequence object."""
    if isinstance(seed, np.random.SeedSequence):
        return np.random.SeedSequence(seed.entropy, spawn_key=seed.spawn_key)
    try:
        return np.random.SeedSequence(seed)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"seed must be None, a non-negative integer or a SeedSequence, not {seed!r}") from error


def count(nsim: Any) -> int:
    """Return the number of simulations asked for, at least 1."""
    if isinstance(nsim, bool) or not isinstance(nsim, int | np.integer) or nsim < 1:
        raise ParameterError(f"nsim must be a whole number of at least 1, not {nsim!r}")
    return int(nsim)


def named_values(given: Any, names: Sequence[str], what: str) -> FloatArray:
    """Return parameters given in order, as a dict or as a Series by name, (len(names),)."""
    if isinstance(given, pd.Series):
        given = given.to_dict()
    if isinstance(given, dict):
        absent, unknown = [n for n in names if n not in given], [k for k in given if k not in names]
        if absent or unknown:
            problem = f"lacks {', '.join(absent)}" if absent else f"has unknown names {', '.join(map(str, unknown))}"
            raise ParameterError(f"{what} {problem}; its names are {', '.join(names)}")
        given = [given[n] for n in names]
    try:
        values = np.atleast_1d(np.asarray(given, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise ParameterError(f"{what} must be numbers, not {given!r}") from error
    if values.shape != (len(names),) or not np.isfinite(values).all():
        raise ParameterError(f"{what} needs {len(names)} finite numbers ({', '.join(names)}), not {given!r}")
    return values


def positive(value: Any, what: str) -> float:
    """Return a positive, finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0.0 < float(value) < np.inf:
        raise ParameterError(f"{what} must be a positive number, not {value!r}")
    return float(value)
