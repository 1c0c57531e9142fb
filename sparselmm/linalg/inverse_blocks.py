"""Blocks of M⁻¹ and of Z'V⁻¹Z from each other and from solves, and when a template is too singular for the first."""

from __future__ import annotations

import numpy as np

from sparselmm._typing import FloatArray
from sparselmm.linalg.blocks import BlockGram, Templates, apply_factor, apply_transposed
from sparselmm.linalg.protocol import PenalizedSystem

NEARLY_SINGULAR = 1e-3  # of a template, on the scale of its columns: I - M⁻¹ then has lost six digits
BATCH_CELLS = 4_000_000  # of dense right-hand sides that are solved for at once


def relative_diagonal(gram: BlockGram, t: int, template: FloatArray) -> float:
    """Return the smallest diagonal entry of a template, times the scale of its column of Λ'Z'WZΛ."""
    squares = np.einsum("mkk->k", gram.diagonal(t)) / max(gram.m[t], 1)
    return float(np.min(np.abs(np.diag(template)) * np.sqrt(squares)))


def information_from_inverse(inverse: FloatArray, template: FloatArray, levels: int = 1) -> FloatArray:
    """Return blocks of Z'V⁻¹Z from those of M⁻¹: Λ'Z'V⁻¹ZΛ = I - M⁻¹; T must be regular.

    ``levels`` is the number of levels that each block sums.
    """
    Tinv = np.linalg.inv(template)
    out: FloatArray = Tinv.T @ (levels * np.eye(len(template)) - inverse) @ Tinv
    return out


def information_by_columns(system: PenalizedSystem, t: int, templates: Templates) -> FloatArray:
    """Return the (m, k, k) diagonal blocks of Z_t'V⁻¹Z_t by solves with the columns of Z'WZ, in batches."""
    gram, k = system.gram, system.gram.k[t]
    out = np.empty((gram.m[t], k, k))
    for levels, places, columns in gram.column_batches(t, BATCH_CELLS):
        solved = apply_factor(system.solve(apply_transposed(columns, templates, gram)), templates, gram)
        R = columns - gram.dot(solved)
        rows = gram.offsets[t] + levels[:, None] * k + np.arange(k)
        out[levels] = R[rows[:, :, None], (places[:, None] * k + np.arange(k))[:, None, :]]
    return out


def grouped_products(left: FloatArray, right: FloatArray, width: int | None) -> FloatArray:
    """Return left_g'right_g for each group of ``width`` columns (all of them if None), (groups, width, width)."""
    if width is None or width == left.shape[1]:
        return np.asarray(left.T @ right)[None]
    if width == 1:
        return np.asarray(np.einsum("qg,qg->g", left, right))[:, None, None]
    shape = (len(left), left.shape[1] // width, width)
    return np.asarray(np.einsum("qga,qgb->gab", left.reshape(shape), right.reshape(shape), optimize=True))
