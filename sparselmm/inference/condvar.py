"""Conditional variances of the random effects: Cov(b | y) at the estimated parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtri

from sparselmm._typing import FloatArray
from sparselmm.inference.joint import InverseEntries, JointCovariance


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
    """

    modes: pd.DataFrame
    cov: FloatArray
    cov_by_term: dict[str, FloatArray]

    @property
    def sd(self) -> pd.DataFrame:
        """Conditional standard deviations: levels × coefficients."""
        return pd.DataFrame(standard_deviations(self.cov), index=self.modes.index, columns=self.modes.columns)


def standard_deviations(cov: FloatArray) -> FloatArray:
    """Return the roots of the diagonals of (m, k, k) covariances, (m, k)."""
    return np.asarray(np.sqrt(np.maximum(np.einsum("mkk->mk", cov), 0.0)))


def conditional_blocks(joint: JointCovariance, sigma: float) -> tuple[FloatArray, ...]:
    """Return σ² R [M⁻¹]_ll R' for all levels of each term, (m, k, k) each."""
    with joint.open() as system:
        diagonal = system.inverse_diagonal()
    return tuple(_symmetric(sigma**2 * (R @ D @ R.T)) for R, D in zip(joint.factors, diagonal))


def label_covariances(
    joint: JointCovariance, sigma: float, groups: Sequence[Sequence[int]]
) -> list[tuple[FloatArray, list[FloatArray]]]:
    """Return for each group of terms on the same levels the joint (m, K, K) covariances, and those by term."""
    by_term = conditional_blocks(joint, sigma)
    entries = InverseEntries(joint)
    out = []
    for group in groups:
        whole = by_term[group[0]] if len(group) == 1 else _joined(joint, entries, sigma, group, by_term)
        out.append((whole, [by_term[t] for t in group]))
    return out


def _joined(
    joint: JointCovariance, entries: InverseEntries, sigma: float, group: Sequence[int], by_term: Sequence[FloatArray]
) -> FloatArray:
    sizes = [joint.gram.k[t] for t in group]
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
