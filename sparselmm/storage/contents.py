"""What of a fit goes into a file, and how predictions come out of it again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._typing import FloatArray
from sparselmm.data import EncodingSpec
from sparselmm.exceptions import UnsupportedError
from sparselmm.formula.grammar import parse_expression
from sparselmm.formula.nodes import Call, Name, walk
from sparselmm.inference.predict.error_variance import PredictionErrors
from sparselmm.inference.predict.prediction import Effects
from sparselmm.likelihood.engine import Workspace
from sparselmm.likelihood.result import FitResult
from sparselmm.linalg import SOLVERS, IterativeControl, make_system
from sparselmm.linalg.blocks import BlockGram, Templates
from sparselmm.linalg.protocol import PenalizedSystem

#: What is said about the fit itself, by the names of its attributes.
FACTS = (
    "formula", "weights_name", "data_name", "reml", "sigma", "theta", "theta_names", "varcorr", "criterion", "deviance",
    "llf", "aic", "bic", "nobs", "npar", "df_resid", "converged", "dropped_columns", "messages", "r_names",
)  # fmt: skip

PLAIN = (bool, int, float, str)
LITTLE = IterativeControl(standard_error=1.0, max_probes=16, max_deflation=32)  # solutions need no log-determinant


def storable_encoding(encoding: EncodingSpec) -> EncodingSpec:
    """Return the encoding with the plain values of its context; refuse what would be code or data.

    Raises
    ------
    UnsupportedError
        When the formula uses a function or an array of the caller's.
    """
    used: set[str] = set()
    for text in _expressions(encoding):
        for node in walk(parse_expression(text)):
            if isinstance(node, Name | Call):
                used.add(node.name if isinstance(node, Name) else node.func)
    kept = {}
    for name in sorted(used & set(encoding.context)):
        value = encoding.context[name]
        if name in encoding.kinds:
            continue  # a column of that name goes first
        value = value.item() if isinstance(value, np.generic) else value
        if not isinstance(value, PLAIN):
            what = "a function" if callable(value) else f"a {type(value).__name__}"
            raise UnsupportedError(
                f"the model cannot be saved: its formula uses {name!r}, {what} given by context=; a file holds no code "
                "and no data. Compute the column before fitting, or use one of the built-in transforms"
            )
        kept[name] = value
    return replace(encoding, context=kept)


def _expressions(encoding: EncodingSpec) -> Iterator[str]:
    yield from encoding.spec.offsets
    yield from encoding.fixed.variables()
    for term in encoding.terms:
        yield from term.lhs.variables()
        yield from term.grouping.factors


def terms_tree(result: FitResult, encoding: EncodingSpec | None) -> list[dict[str, Any]]:
    """Return name, label, columns, modes and factor of each term; levels where no encoding has them."""
    factors = result.engine.parameters.reported_templates(result.par)
    return [
        {
            "name": term.name,
            "label": term.label,
            "columns": term.columns,
            "levels": term.levels if encoding is None else None,
            "modes": modes,
            "factor": T,
        }
        for term, modes, T in zip(result.layout.terms, result.term_modes, factors)
    ]


def variances_tree(joint: PredictionErrors) -> dict[str, Any]:
    """Return what prediction variances need: Z'WZ by pairs of levels that occur together, and (q, p) numbers."""
    with joint.open() as system:
        name = system.name
    return {
        "gram": joint.gram,
        "templates": joint.templates,
        "maps": joint.maps,
        "cross": joint.cross,
        "basis": joint.basis,
        "RX": joint.RX,
        "system": name,
    }


def stored_system(gram: BlockGram, templates: Templates, name: str) -> PenalizedSystem:
    """Return a system for stored cross-products, factored."""
    system = make_system(gram, name if name in SOLVERS else None, LITTLE)
    system.refactor(templates)
    return system


def joint_from_tree(tree: Mapping[str, Any]) -> PredictionErrors:
    """Return the joint covariance of a stored model."""
    workspace = Workspace(partial(stored_system, tree["gram"], tree["templates"], tree["system"]))
    parts = {name: tree[name] for name in ("gram", "templates", "maps", "cross", "basis", "RX")}
    return PredictionErrors(**parts, open=workspace.locked)


@dataclass(frozen=True)
class StoredTerm:
    """A random term of a stored model: names, levels, (m, k) modes and (k, k) relative factor."""

    name: str
    label: str
    columns: tuple[str, ...]
    levels: pd.Index
    modes: FloatArray
    factor: FloatArray


def stored_terms(tree: Mapping[str, Any]) -> tuple[StoredTerm, ...]:
    """Return the terms of a stored model."""
    encoding: EncodingSpec | None = tree["encoding"]
    found = []
    for i, term in enumerate(tree["terms"]):
        levels = term["levels"] if encoding is None else encoding.terms[i].grouping.levels
        found.append(StoredTerm(**{**term, "levels": levels}))
    return tuple(found)


def stored_effects(tree: Mapping[str, Any], terms: tuple[StoredTerm, ...]) -> Effects:
    """Return what predictions need of a stored model."""
    variances = tree["variances"]

    def joint() -> PredictionErrors:
        if variances is None:
            raise UnsupportedError(
                "this file holds point predictions only; save with include='variances' to have standard errors"
            )
        return joint_from_tree(variances)

    return Effects(tree["beta"], tree["sigma"], tuple(t.modes for t in terms), tuple(t.factor for t in terms), joint)
