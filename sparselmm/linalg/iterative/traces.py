"""Second-order traces of Z'V⁻¹Z from differences of its diagonal blocks with the same probes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from sparselmm._typing import FloatArray
from sparselmm.linalg.blocks import BlockGram, Templates
from sparselmm.linalg.iterative.control import Effort

STEP = 1e-3


class Differentiable(Protocol):
    """A system whose information can be found at other templates."""

    gram: BlockGram
    templates: Templates

    def refactor(self, templates: Templates, effort: Effort | None = None) -> None:
        """Move to other templates."""
        ...

    def information_sums(self) -> tuple[FloatArray, ...]:
        """Return Σ_l of the diagonal blocks of Z'V⁻¹Z."""
        ...


def traces_by_differences(
    system: Differentiable, effort: Effort | None, directions: Sequence[tuple[int, FloatArray]]
) -> FloatArray:
    """Return tr(Z'V⁻¹Z B_i Z'V⁻¹Z B_j), (n, n), for directions (term, (k, k) change of its Ω).

    As d(Z'V⁻¹Z) = -Z'V⁻¹Z B Z'V⁻¹Z along B, each trace is the change of a sum of diagonal blocks. The
    changes are taken along positive semidefinite rank-one directions, forwards with two steps, so Ω may
    be singular; the error is of third order in the step.
    """
    templates = system.templates
    here = system.information_sums()
    slopes: dict[tuple[int, int, int], list[FloatArray]] = {}
    try:
        for t in sorted({t for t, _ in directions}):
            for i in range(len(templates[t])):
                for j in range(i + 1):
                    slopes[t, i, j] = _slope(system, templates, effort, here, t, i, j)
    finally:
        system.refactor(templates, effort)
    out = np.zeros((len(directions), len(directions)))
    for x, (t, B) in enumerate(directions):
        change = _combined(slopes, t, B)
        for y, (s, C) in enumerate(directions):
            out[x, y] = -float(np.sum(change[s] * C))
    return np.asarray((out + out.T) / 2.0)


def _slope(
    system: Differentiable,
    templates: Templates,
    effort: Effort | None,
    here: tuple[FloatArray, ...],
    t: int,
    i: int,
    j: int,
) -> list[FloatArray]:
    """Return the derivative of all sums along vv', v = scaled e_i + e_j (i ≠ j) or e_i."""
    v, size = _direction(system, here, t, i, j)
    found = []
    for step in (size, 2.0 * size):
        T = _root_near(templates[t], templates[t] @ templates[t].T + step * np.outer(v, v))
        system.refactor(tuple(T if s == t else x for s, x in enumerate(templates)), effort)
        found.append(system.information_sums())
    return [(4.0 * a - b - 3.0 * c) / (2.0 * size) for a, b, c in zip(found[0], found[1], here)]


def _direction(
    system: Differentiable, here: tuple[FloatArray, ...], t: int, i: int, j: int
) -> tuple[FloatArray, float]:
    k = system.gram.k[t]
    v = np.zeros(k)
    v[i] = 1.0
    v[j] = 1.0
    # the information is m/(Ω + its smallest noticeable size): a step small beside that
    scale = system.gram.m[t] * float(v @ v) / max(float(v @ here[t] @ v), 1e-300)
    return v, STEP * scale


def _combined(slopes: dict[tuple[int, int, int], list[FloatArray]], t: int, B: FloatArray) -> list[FloatArray]:
    """Return the derivative along B = Σ B_ii e_ie_i' + Σ_{i>j} B_ij (e_ie_j' + e_je_i')."""
    k = len(B)
    total: list[FloatArray] | None = None
    for i in range(k):
        # (e_i + e_j)(e_i + e_j)' brings e_ie_i' and e_je_j' with it
        weight = B[i, i] - sum(B[i, j] for j in range(k) if j != i)
        parts = [(weight, slopes[t, i, i])] + [(B[i, j], slopes[t, i, j]) for j in range(i)]
        for w, part in parts:
            scaled = [w * x for x in part]
            total = scaled if total is None else [a + b for a, b in zip(total, scaled)]
    assert total is not None
    return total


def _root_near(T: FloatArray, omega: FloatArray) -> FloatArray:
    """Return the root R of Ω = R R', regular or not, that is closest to T.

    Another root turns the levels' coordinates, in which directions and probes would mean something else.
    """
    w, U = np.linalg.eigh(omega)
    root = U * np.sqrt(np.maximum(w, 0.0))
    left, _, right = np.linalg.svd(root.T @ T)
    return np.asarray(root @ left @ right)
