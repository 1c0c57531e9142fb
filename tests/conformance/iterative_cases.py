"""Small designs for the iterative solver, large enough that it must draw probes."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from problems import Case, TermSpec, build, singular_thetas, thetas

from sparselmm import LinearMixedModel
from sparselmm.linalg import IterativeControl, make_system
from sparselmm.linalg.iterative import system as iterative
from sparselmm.statistics.crossproducts import CrossProducts

T = TermSpec
PROBES = 64  # standard errors from 16 have heavier tails; tests/benchmarks/honesty.py looks at those
FEW = IterativeControl(probes=PROBES, deflation=6, max_deflation=6)

CASES = (
    Case("two crossed", (T(60), T(40)), n=300),
    Case("two crossed, weights and offset", (T(60), T(40)), n=300, weighted=True, shifted=True),
    Case("many rows per pair", (T(50), T(30)), n=3000),
    Case("three crossed", (T(60), T(40), T(30)), n=300),
    Case("three crossed, one of them small", (T(60), T(40), T(5)), n=300),
    Case("four crossed, two of them small, one with slopes", (T(60), T(40), T(6), T(4, 3)), n=400, weighted=True),
    Case("slopes in the larger factor", (T(50, 2), T(45)), n=300),
    Case("slopes in the smaller factor", (T(80), T(30, 2)), n=300, weighted=True),
    Case("slopes in both", (T(40, 2), T(25, 3)), n=300),
    Case("slopes in both and a third factor", (T(40, 2), T(30), T(25, 2)), n=400),
    Case("double bar in the larger factor", (T(50, 2, "diag"), T(40)), n=300),
    Case("double bar in the smaller factor", (T(80), T(25, 2, "diag")), n=300),
    Case("homogeneous diagonal", (T(50, 2, "homdiag"), T(20, 2, "homdiag")), n=300),
    Case("two terms on the larger factor", (T(50, 2), T(50, kind="same"), T(40)), n=300, z="no constant"),
    Case("two terms on the smaller factor", (T(70), T(70, kind="same"), T(80, 2)), n=400, z="no constant"),
    Case("nested within crossed", (T(60), T(12, kind="nested"), T(40)), n=300),
    Case("memberships in the rest", (T(30, kind="membership"), T(80)), n=300),
    Case("memberships with slopes in the rest", (T(20, 2, kind="membership"), T(60)), n=300, weighted=True),
    Case("memberships, slopes and a third factor", (T(20, kind="membership"), T(40, 2), T(30)), n=300),
    Case("levels of one row", (T(150, kind="single"), T(40)), n=200),
    Case("columns of Z on other scales", (T(40, 2), T(40)), n=300, z="no constant"),
)


@dataclass(frozen=True)
class Design:
    """A model, its cross-products and templates to look at; the first of the singular ones are all 0."""

    name: str
    model: LinearMixedModel
    gram: object
    regular: tuple
    singular: tuple


@cache
def design(case: Case) -> Design:
    problem = build(case)
    model = problem.fitted_model()
    terms = model.problem.rows.terms
    gram = CrossProducts.from_rows(model.problem.rows, centres=(None,) * len(terms)).gram
    at = thetas(problem, 2)
    points = [*at, 0.01 * at[0], 10.0 * at[0], 100.0 * at[0]]
    return Design(
        case.name,
        model,
        gram,
        tuple(tuple(problem.templates(x)) for x in points),
        tuple(tuple(problem.templates(x)) for x in singular_thetas(problem)[:6]),
    )


def scattered(components: int, seed: int = 0, levels: tuple[int, int] = (4, 3), rows: int = 12) -> Design:
    """Return two factors that fall into components without common levels; some have one row only."""
    rng = np.random.default_rng(seed)
    a, b = [], []
    for c in range(components):
        n = 1 if c % 4 == 3 else rows
        a.append(c * levels[0] + rng.integers(0, levels[0], n))
        b.append(c * levels[1] + rng.integers(0, levels[1], n))
    a, b = np.concatenate(a), np.concatenate(b)
    x = rng.standard_normal(len(a))
    y = (
        x
        + rng.standard_normal(a.max() + 1)[a]
        + 0.7 * rng.standard_normal(b.max() + 1)[b]
        + rng.standard_normal(len(a))
    )
    model = LinearMixedModel.from_arrays(y, np.column_stack([np.ones(len(y)), x]), [(a, None), (b, None)])
    pairs = [(1.0, 0.5), (0.1, 0.1), (0.01, 3.0), (10.0, 10.0), (100.0, 0.1), (100.0, 100.0), (0.0, 0.0), (0.0, 1.0)]
    points = tuple(tuple(np.array([[t]]) for t in pair) for pair in pairs)
    return Design("scattered", model, model.problem.engine.crossproducts.gram, points[:-2], points[-2:])


DESIGNS = {
    **{case.name: partial(design, case) for case in CASES},
    "many components": cache(lambda: scattered(30)),
    "two components": cache(lambda: scattered(2, levels=(25, 20), rows=90)),
}
"""Designs by name, built when called."""


def exact_system(gram):
    """Return the exact system that can take the design."""
    blocks = [gram.pairs[t, t].is_block_diagonal for t in range(len(gram.m))]
    return make_system(gram, "schur" if any(blocks) else "cholmod")


@contextmanager
def precision(kind):
    """Work on probes in single precision where asked, however small the design."""
    before = iterative.SINGLE_CELLS
    iterative.SINGLE_CELLS = 0 if kind == "single" else 10**12
    try:
        yield
    finally:
        iterative.SINGLE_CELLS = before


def iterative_system(gram, control=FEW, kind="double"):
    """Return the iterative system in the precision asked for."""
    with precision(kind):
        return iterative.IterativeSystem(gram, control)
