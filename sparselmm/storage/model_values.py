"""The values of a saved model that code relies on: ranges, orders, uniqueness, finite numbers.

Compiled code reads and writes where the indices of cross-products point, so these are checked as strictly
as the data layer makes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._typing import FloatArray
from sparselmm.data.encoding.encoding import EncodingSpec
from sparselmm.data.encoding.grouping import GroupingEncoding
from sparselmm.formula.grammar import parse_expression
from sparselmm.likelihood.result import VarCorr
from sparselmm.linalg.blocks import BlockGram, BlockPairs
from sparselmm.statistics.transform import FixedTransform


def check_values(model: Mapping[str, Any]) -> None:
    """Check the values of a saved model whose outline is right.

    Raises
    ------
    ValueError
        With the name of the first value that is not what it should be.
    """
    sigma, facts = model["sigma"], model["facts"]
    if not (np.isfinite(sigma) and sigma >= 0 and facts["sigma"] == sigma):
        raise ValueError("sigma is not a standard deviation, or stands there twice and differently")
    _finite(model["beta"], "beta")
    _variance_matrix(model["unscaled_cov"], "unscaled_cov")
    encoding = model["encoding"]
    if encoding is not None:
        _check_encoding(encoding)
    levels: dict[str, pd.Index] = {}
    for term in model["terms"]:
        _finite(term["modes"], f"the modes of {term['name']}")
        _finite(term["factor"], f"the factor of {term['name']}")
        if term["levels"] is not None:
            _unique(term["levels"], term["name"])
            if not levels.setdefault(term["label"], term["levels"]).equals(term["levels"]):
                raise ValueError(f"two random terms of {term['label']} have different levels")
    _check_varcorr(facts["varcorr"])
    if model["variances"] is not None:
        _check_variances(model["variances"])


def _finite(values: FloatArray, what: str) -> None:
    if not np.isfinite(values).all():
        raise ValueError(f"{what} has values that are not finite")


def _unique(levels: pd.Index, what: str) -> None:
    # not levels.is_unique, which keeps a table of the levels in memory from then on
    if len(levels.array.unique()) < len(levels):
        raise ValueError(f"{what} has a level twice")


def _variance_matrix(values: FloatArray, what: str) -> None:
    _finite(values, what)
    if (np.diag(values) < 0).any():
        raise ValueError(f"{what} has a negative variance")


def _check_varcorr(varcorr: VarCorr) -> None:
    for term in varcorr.terms:
        _variance_matrix(term.cov, f"the covariance of {term.name}")


def _check_encoding(encoding: EncodingSpec) -> None:
    spec = encoding.spec
    for text in (spec.response, *spec.offsets, *encoding.state):
        parse_expression(text)
    for matrix in (encoding.fixed, *(term.lhs for term in encoding.terms)):
        for block in (block for term in matrix.terms for block in term):
            parse_expression(block.variable)
            if block.levels is not None:
                _unique(block.levels, block.variable)
            if block.coding is not None:
                _finite(block.coding.matrix, f"the coding of {block.variable}")
    by_label: dict[str, pd.Index] = {}
    for term in encoding.terms:
        _check_grouping(term.grouping)
        if not by_label.setdefault(term.label, term.grouping.levels).equals(term.grouping.levels):
            raise ValueError(f"two random terms of {term.label} have different levels")


def _check_grouping(grouping: GroupingEncoding) -> None:
    for text in grouping.factors:
        parse_expression(text)
    for text, part in zip(reversed(grouping.factors), reversed(grouping.parts)):
        _unique(part, text)
    _unique(grouping.levels, grouping.label)
    keys, combinations = grouping.keys, prod(len(part) for part in grouping.parts)
    if keys[0] < 0 or keys[-1] >= min(combinations, 2**62) or (np.diff(keys) <= 0).any():
        raise ValueError(f"the keys of {grouping.label} are not increasing combinations of its factors")


def _check_variances(variances: Mapping[str, Any]) -> None:
    gram: BlockGram = variances["gram"]
    for (i, j), pair in gram.pairs.items():
        _check_pair(pair, gram.m[i], gram.m[j], i == j)
    for name in ("templates", "maps", "cross"):
        for values in variances[name]:
            _finite(values, name)
    _finite(variances["RX"], "RX")
    if not np.diag(variances["RX"]).all():
        raise ValueError("RX is singular")
    _check_transform(variances["basis"])


def _check_pair(pair: BlockPairs, m_row: int, m_col: int, same: bool) -> None:
    """Check the blocks of two terms: levels in range, sorted, each pair once; of one term, the lower triangle."""
    what = "the cross-products of two terms"
    _finite(pair.values, what)
    rows, cols = pair.rows, pair.cols
    if len(rows):
        if rows.min() < 0 or rows.max() >= m_row or cols.min() < 0 or cols.max() >= m_col:
            raise ValueError(f"{what} name a level that does not exist")
        if (np.diff(pair.keys(m_col)) <= 0).any():
            raise ValueError(f"{what} are not sorted by their levels")
    if same:
        if (rows < cols).any() or np.count_nonzero(rows == cols) != m_row:
            raise ValueError("the cross-products of a term with itself are not a lower triangle with its diagonal")
        if (np.diagonal(pair.values[rows == cols], axis1=1, axis2=2) < 0).any():
            raise ValueError("a sum of squares is negative")


def _check_transform(basis: FixedTransform) -> None:
    for values in (basis.centre, basis.scale, basis.b0, *(() if basis.mix is None else (basis.mix,))):
        _finite(values, "the transformation of X")
