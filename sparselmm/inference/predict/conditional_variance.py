"""Conditional variances of the random effects: Cov(b | y) at the estimated parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.linalg import block_diag
from scipy.special import ndtri

from sparselmm._typing import FloatArray, IntArray
from sparselmm.exceptions import ParameterError
from sparselmm.inference.predict.error_variance import DIRECT_ROWS, InverseEntries, PredictionErrors
from sparselmm.inference.predict.solution_limit import refuse_many
from sparselmm.inference.sizes import BATCH_CELLS
from sparselmm.linalg.blocks import apply_factor

Levels = Mapping[str, Sequence[object] | None]


@dataclass(frozen=True)
class ConditionalModes:
    """The conditional modes of one grouping factor with their conditional covariances.

    The uncertainty of β and of the variance parameters is not in them, as in lme4's ``condVar``.

    Attributes
    ----------
    modes : DataFrame, (m, K)
        Conditional modes: levels × coefficients of all terms with this grouping factor.
    cov : (m, K, K) array
        Covariance of the K coefficients of each level, in the order of ``modes``.
    cov_by_term : dict of (m, k, k) arrays
        The diagonal blocks of ``cov``, by the name of the term (``Subject``, ``Subject.1``).
    cov_error : (m, K, K) array
        Monte Carlo standard errors of ``cov``; zero where it is exact.
    """

    modes: pd.DataFrame
    cov: FloatArray
    cov_by_term: dict[str, FloatArray]
    cov_error: FloatArray

    @property
    def sd(self) -> pd.DataFrame:
        """Conditional standard deviations: levels × coefficients."""
        return self._labelled(standard_deviations(self.cov))

    @property
    def sd_error(self) -> pd.DataFrame:
        """Monte Carlo standard errors of ``sd``; zero where it is exact."""
        sd, error = standard_deviations(self.cov), np.einsum("mkk->mk", self.cov_error)
        return self._labelled(np.divide(error, 2.0 * sd, out=np.zeros_like(sd), where=sd > 0))

    @property
    def exact(self) -> bool:
        """Whether the covariances are exact, not estimated by the probes of the iterative solver."""
        return not self.cov_error.any()

    def _labelled(self, values: FloatArray) -> pd.DataFrame:
        return pd.DataFrame(values, index=self.modes.index, columns=self.modes.columns)


def chosen_levels(known: Mapping[str, pd.Index], wanted: Levels | None) -> dict[str, IntArray | None]:
    """Return the positions of the levels that are wanted by label, None for all of them.

    Raises
    ------
    ParameterError
        Naming a label or levels that the model does not have.
    """
    if wanted is None:
        return dict.fromkeys(known)
    if not isinstance(wanted, Mapping):
        raise ParameterError(f"levels must map grouping labels to levels, such as {{{next(iter(known))!r}: [...]}}")
    out: dict[str, IntArray | None] = {}
    for label, names in wanted.items():
        if label not in known:
            raise ParameterError(f"there is no grouping label {label!r}; there are {', '.join(known)}")
        if names is None:
            out[label] = None
            continue
        asked = [names] if isinstance(names, str) else list(names)
        place = {name: i for i, name in enumerate(known[label])}
        absent = [name for name in asked if name not in place]
        if absent:
            raise ParameterError(f"{label} has no level {', '.join(map(repr, absent[:5]))}")
        out[label] = np.array([place[name] for name in asked], dtype=np.int64)
    return out


def standard_deviations(cov: FloatArray) -> FloatArray:
    """Return the roots of the diagonals of (m, k, k) covariances, (m, k)."""
    return np.asarray(np.sqrt(np.maximum(np.einsum("mkk->mk", cov), 0.0)))


@dataclass(frozen=True)
class LevelCovariance:
    """Conditional covariances of the levels of terms that share them.

    Attributes
    ----------
    whole : (m, K, K) array
        Of all K coefficients of each level.
    sizes : tuple of int
        Coefficients per term.
    error : (m, K, K) array
        Monte Carlo standard errors.
    """

    whole: FloatArray
    sizes: tuple[int, ...]
    error: FloatArray

    def by_term(self) -> list[FloatArray]:
        """Return the diagonal blocks of the terms, (m, k, k) each."""
        ends = np.cumsum(self.sizes)
        return [self.whole[:, end - k : end, end - k : end] for k, end in zip(self.sizes, ends)]

    def take(self, levels: IntArray) -> LevelCovariance:
        """Return those of some levels."""
        return LevelCovariance(self.whole[levels], self.sizes, self.error[levels])


Chosen = Sequence[IntArray | None]


def label_covariances(
    joint: PredictionErrors, sigma: float, groups: Sequence[Sequence[int]], chosen: Chosen | None = None
) -> list[LevelCovariance]:
    """Return for each group of terms on the same levels the joint covariances of their levels.

    Parameters
    ----------
    joint : PredictionErrors
        Of the fit.
    sigma : float
        Residual standard deviation.
    groups : sequence of sequences of int
        The terms.
    chosen : sequence of int arrays or None, optional
        Per group the levels that are wanted, None for all. For chosen levels the covariances are exact
        after an approximate fit too.
    """
    entries, wanted = InverseEntries(joint), chosen or [None] * len(groups)
    with joint.open() as system:
        drawn = system.monte_carlo
    if drawn is not None:
        return [_approximate(joint, entries, sigma, g, levels) for g, levels in zip(groups, wanted)]
    whole: list[FloatArray] | None = None
    out = []
    for group, levels in zip(groups, wanted):
        if levels is not None and len(levels) * _width(joint, group) <= DIRECT_ROWS:
            out.append(_solved(joint, entries, sigma, group, levels))
            continue
        whole = _conditional_blocks(joint, sigma) if whole is None else whole
        cov = whole[group[0]] if len(group) == 1 else _joined(joint, entries, sigma, group, whole)
        found = LevelCovariance(cov, _sizes(joint, group), np.zeros_like(cov))
        out.append(found if levels is None else found.take(levels))
    return out


def _sizes(joint: PredictionErrors, group: Sequence[int]) -> tuple[int, ...]:
    return tuple(joint.gram.k[t] for t in group)


def _width(joint: PredictionErrors, group: Sequence[int]) -> int:
    return sum(_sizes(joint, group))


def _approximate(
    joint: PredictionErrors, entries: InverseEntries, sigma: float, group: Sequence[int], levels: IntArray | None
) -> LevelCovariance:
    """Return the covariances of chosen levels by solutions, or estimates for all levels."""
    if levels is not None:
        return _solved(joint, entries, sigma, group, levels)
    with joint.open() as system:
        drawn = system.monte_carlo
        assert drawn is not None
        found = drawn.level_covariances(tuple(group), tuple(sigma * joint.factors[t] for t in group))
    if found is None:
        return _solved(joint, entries, sigma, group, np.arange(joint.gram.m[group[0]]))
    return LevelCovariance(found.blocks, _sizes(joint, group), found.errors)


def _solved(
    joint: PredictionErrors, entries: InverseEntries, sigma: float, group: Sequence[int], levels: IntArray
) -> LevelCovariance:
    """Return σ² R [M⁻¹]_ll R' of some levels by solving for their columns."""
    gram, sizes = joint.gram, _sizes(joint, group)
    columns = np.concatenate(
        [gram.offsets[t] + levels[:, None] * gram.k[t] + np.arange(gram.k[t]) for t in group], axis=1
    )
    refuse_many(columns.size, f"the conditional variances of {len(levels):,} levels", "choose fewer levels")
    R = block_diag(*(sigma * joint.factors[t] for t in group))
    blocks = entries.diagonal_blocks(columns)
    whole = _symmetric(R @ blocks @ R.T)
    return LevelCovariance(whole, sizes, np.zeros_like(whole))


def _conditional_blocks(joint: PredictionErrors, sigma: float) -> list[FloatArray]:
    """Return σ² R [M⁻¹]_ll R' for all levels of each term, (m, k, k) each."""
    with joint.open() as system:
        diagonal = system.inverse_diagonal()
    return [_symmetric(sigma**2 * (R @ D @ R.T)) for R, D in zip(joint.factors, diagonal)]


def _joined(
    joint: PredictionErrors, entries: InverseEntries, sigma: float, group: Sequence[int], by_term: Sequence[FloatArray]
) -> FloatArray:
    sizes = _sizes(joint, group)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    out = np.empty((joint.gram.m[group[0]], starts[-1], starts[-1]))
    for x, t in enumerate(group):
        a = slice(starts[x], starts[x + 1])
        out[:, a, a] = by_term[t]
        for y, s in enumerate(group[:x]):
            b = slice(starts[y], starts[y + 1])
            block = sigma**2 * (joint.maps[t] @ entries.equal_levels(t, s) @ joint.maps[s].T)
            out[:, a, b], out[:, b, a] = block, block.transpose(0, 2, 1)
    return out


def _symmetric(blocks: FloatArray) -> FloatArray:
    return (blocks + blocks.transpose(0, 2, 1)) / 2.0


def quantile(level: float) -> float:
    """Return the standard normal quantile that leaves ``level`` between its negative and itself."""
    return float(ndtri(0.5 + level / 2.0))


def tidy_modes(modes: dict[str, ConditionalModes], level: float) -> pd.DataFrame:
    """Return one row per level and coefficient: grp, term, level, estimate, std_dev, conf_low, conf_high."""
    z, parts = quantile(level), []
    for label, found in modes.items():
        m, K = found.modes.shape
        estimate, sd = found.modes.to_numpy().T.ravel(), standard_deviations(found.cov).T.ravel()
        parts.append(
            pd.DataFrame(
                {
                    "grp": label,
                    "term": np.repeat(np.asarray(found.modes.columns, dtype=object), m),
                    "level": np.tile(np.asarray(found.modes.index, dtype=object), K),
                    "estimate": estimate,
                    "std_dev": sd,
                    "conf_low": estimate - z * sd,
                    "conf_high": estimate + z * sd,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def covariances_of_sets(errors: PredictionErrors, sigma: float, sets: Sequence[IntArray]) -> list[FloatArray]:
    """Return Cov(b | y), (s, s), of sets of s random effects each, given by their positions among all q.

    Effects of different sets must be independent given y, so that one right-hand side can serve one effect of each:
    column j of σ² R M⁻¹ R'E, E the unit vectors of the j-th effects of all sets added up, holds all their covariances.
    """
    size = max(map(len, sets), default=0)
    blocks = [np.empty((len(at), len(at))) for at in sets]
    step = max(1, BATCH_CELLS // max(errors.gram.q, 1))
    for first in range(0, size, step):
        last = min(first + step, size)
        E = np.zeros((errors.gram.q, last - first))
        for at in sets:
            E[at[first:last], np.arange(len(at[first:last]))] = 1.0
        columns = _times_variance(errors, E)
        for at, block in zip(sets, blocks):
            block[:, first:last] = columns[at, : max(len(at) - first, 0)]
    return [sigma**2 * (V + V.T) / 2.0 for V in blocks]


def _times_variance(errors: PredictionErrors, E: FloatArray) -> FloatArray:
    """Return R M⁻¹ R'E, (q, j)."""
    E = apply_factor(E, tuple(R.T for R in errors.factors), errors.gram)
    with errors.open() as system:
        return apply_factor(system.solve(E), errors.factors, errors.gram)
