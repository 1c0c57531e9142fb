"""Other weights and another response in the pattern that is there: as if the model were built anew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from iterative_cases import CASES as ITERATED
from iterative_cases import FEW, iterative_system
from problems import CASES, Case, TermSpec, build, singular_thetas, thetas

from sparselmm.likelihood.criterion import ML, REML
from sparselmm.likelihood.engine import Engine, Workspace
from sparselmm.linalg import SYSTEMS
from sparselmm.linalg.blocks import BlockGram
from sparselmm.linalg.products import CrossBlock
from sparselmm.statistics.crossproducts import CrossProducts
from sparselmm.statistics.weighted import RowPositions

pytestmark = pytest.mark.filterwarnings("ignore::sparselmm.exceptions.ScaleWarning")

EXACT = [
    pytest.param(case, solver, id=f"{case.name}-{solver}")
    for case in CASES
    for solver in SYSTEMS
    if solver != "schur" or case.grouped
]
LARGE = Case("three crossed, large enough for compiled loops", (TermSpec(90), TermSpec(70), TermSpec(50, 2)), n=4000)
CROSSED = Case("two crossed, a full table", (TermSpec(40), TermSpec(30)), n=2500)


def other(design, seed):
    """Return other weights, over four decades, and another response."""
    rng = np.random.default_rng(seed)
    y = design.y + rng.standard_normal(design.n) * design.y.std()
    return 10.0 ** rng.uniform(-2.0, 2.0, design.n), y


def rows_of(case):
    """Return the problem, its design, the cross-products and the positions of its rows."""
    problem = build(case)
    design = problem.fitted_model().problem.rows
    known = CrossProducts.from_rows(design)
    return problem, design, known, RowPositions.of(design, known)


def anew(design, known, weights, y):
    """Return the cross-products of other weights and another response from nothing but the rows."""
    return CrossProducts.from_rows(replace(design, weights=weights, y=y), centres=known.centres)


def near(found, expected, slack=1.0):
    np.testing.assert_allclose(
        found, expected, rtol=1e-13 * slack, atol=1e-13 * slack * np.abs(expected).max(initial=0)
    )


@pytest.mark.parametrize("case", [*CASES, *ITERATED, LARGE, CROSSED], ids=lambda case: case.name)
def test_positions_give_the_cross_products_of_other_weights(case):
    _, design, known, positions = rows_of(case)
    for seed in range(2):
        weights, y = other(design, seed)
        gram, expected = positions.reweight(weights), anew(design, known, weights, y)
        for key, pair in expected.gram.pairs.items():
            assert gram.pairs[key].same_places(pair)
            assert gram.pairs[key].rows is known.gram.pairs[key].rows
            near(gram.pairs[key].values, pair.values)
        found = positions.crossproducts(weights, y)
        assert found.sum_log_weights == pytest.approx(expected.sum_log_weights, rel=1e-14)
        assert (found.n, found.p, found.centres) == (expected.n, expected.p, expected.centres)
    assert known.gram.pairs[0, 0].values is not gram.pairs[0, 0].values


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_products_with_the_rows(case):
    _, design, _, positions = rows_of(case)
    rng = np.random.default_rng(1)
    Z = np.hstack([term.to_sparse().toarray() for term in positions.rows.terms])
    r, b = rng.standard_normal((design.n, 2)), rng.standard_normal((Z.shape[1], 3))
    near(positions.Zt(r), Z.T @ r)
    near(positions.Zb(b), Z @ b)


@pytest.mark.parametrize(("case", "solver"), EXACT)
@pytest.mark.parametrize("criterion", [ML, REML], ids=["ML", "REML"])
def test_an_updated_system_evaluates_as_one_built_anew(case, solver, criterion):
    problem, design, known, positions = rows_of(case)
    parameters = problem.fitted_model().problem.engine.parameters
    engine = Engine(known, parameters, Workspace(lambda: SYSTEMS[solver](known.gram)))
    points = [parameters.par(x) for x in [*thetas(problem, 2), *singular_thetas(problem)]]
    if case.name == "p close to n":
        points = points[:2]
    with engine.locked() as pls:
        before = pls.value(pls.solve(points[0]), criterion)
    for seed in range(2):
        xp = positions.crossproducts(*other(design, seed))
        fresh = anew(design, known, *other(design, seed))
        twin = Engine(fresh, parameters, Workspace(lambda gram=fresh.gram: SYSTEMS[solver](gram)))
        for par in points:
            with engine.with_response(xp).locked() as pls, twin.locked() as expected:
                value, wanted = pls.value(pls.solve(par), criterion), expected.value(expected.solve(par), criterion)
            # the shift b0 comes from normal equations here and from a QR factorisation there
            assert value == pytest.approx(wanted, rel=1e-13 * case.slack, abs=1e-12 * case.slack)
    with engine.locked() as pls:  # and back
        assert pls.value(pls.solve(points[0]), criterion) == before


def everything(system, templates):
    """Return what a system with a factor says at some templates."""
    system.refactor(templates)
    C = np.random.default_rng(3).standard_normal((system.gram.q, 3))
    L, P = system.factorization.factor()
    B = [np.eye(k) + 0.1 for k in system.gram.k]
    parts = [system.logdet(), system.solve(C), system.quadratic(C), L.toarray(), P, system.gram.dot(C)]
    parts += [system.trace_products([(t, x) for t, x in enumerate(B)])]
    parts += system.information_sums(), system.information_blocks(), system.inverse_diagonal()
    parts += [system.factorization.covariance_pairs().values()]
    return [np.array(x) for part in parts for x in (part if isinstance(part, tuple | type({}.values())) else [part])]


@pytest.mark.parametrize(
    ("case", "solver"), [*EXACT, *(pytest.param(c, s, id=f"{c.name}-{s}") for c in (LARGE, CROSSED) for s in SYSTEMS)]
)
def test_an_updated_system_is_that_of_its_numbers_to_the_last_bit(case, solver):
    problem, design, known, positions = rows_of(case)
    system = SYSTEMS[solver](known.gram)
    # Λ = 0 first and last: what was kept of other numbers at these templates must not be taken for theirs
    zero = singular_thetas(problem)[0]
    points = [tuple(problem.templates(x)) for x in [zero, thetas(problem, 1)[0], *singular_thetas(problem)[1:3], zero]]
    first = [everything(system, T) for T in points]
    gram = positions.reweight(other(design, 0)[0])
    system.update(gram)
    assert system.gram is gram
    assert system.templates == ()
    assert not system.holds(points[-1])
    fresh = SYSTEMS[solver](gram)
    for T in points:
        for x, y in zip(everything(system, T), everything(fresh, T), strict=True):
            np.testing.assert_array_equal(x, y)
    system.update(known.gram)
    for T, kept in zip(points, first, strict=True):
        for x, y in zip(everything(system, T), kept, strict=True):
            np.testing.assert_array_equal(x, y, err_msg="the way back is not the way there")


def estimates(system, templates, effort=None):
    """Return what the iterative system says at some templates."""
    effort = effort or system.adapt(templates, grow=False)
    system.refactor(templates, effort)
    C = np.random.default_rng(3).standard_normal((system.gram.q, 3))
    parts = [[system.logdet(), system.solve(C), system.quadratic(C), system.standard_error, system.gram.dot(C)]]
    parts += [system.information_sums(), system.information_blocks(), system.information_samples()]
    return effort, [np.array(x) for part in parts for x in part]


@pytest.mark.parametrize("kind", ["double", "single"])
@pytest.mark.parametrize("case", ITERATED, ids=lambda case: case.name)
def test_an_updated_iterative_system_is_that_of_its_numbers(case, kind):
    problem, design, known, positions = rows_of(case)
    system = iterative_system(known.gram, FEW, kind)
    T = tuple(problem.templates(thetas(problem, 1)[0]))
    own, before = estimates(system, T)
    gram = positions.reweight(other(design, 0)[0])
    system.update(gram)
    assert not system.holds(T, own)
    _, found = estimates(system, T)
    for x, y in zip(found, estimates(iterative_system(gram, FEW, kind), T)[1], strict=True):
        np.testing.assert_array_equal(x, y)
    system.update(known.gram)
    for x, y in zip(estimates(system, T, own)[1], before, strict=True):
        np.testing.assert_array_equal(x, y)


def test_large_blocks_are_not_sorted_again(monkeypatch):
    monkeypatch.setattr("sparselmm.linalg.blocks.MANY_CELLS", 10)
    problem, design, known, positions = rows_of(ITERATED[0])
    known.gram.components  # noqa: B018 - is found of the pattern
    system = iterative_system(known.gram)
    T = tuple(problem.templates(thetas(problem, 1)[0]))
    estimates(system, T)
    fresh = iterative_system(positions.reweight(other(design, 0)[0]))
    monkeypatch.setattr(CrossBlock, "__init__", lambda *_, **__: pytest.fail("the pattern was analysed again"))
    monkeypatch.setattr("sparselmm.linalg.blocks._labels_by_joining", lambda *_: pytest.fail("so were the components"))
    gram = positions.reweight(other(design, 0)[0])
    system.update(gram)
    assert system.layout.to_first[0].block is gram.cross(1, 0)
    for x, y in zip(estimates(system, T)[1], estimates(fresh, T)[1], strict=True):
        np.testing.assert_array_equal(x, y)
    for x, y in zip(gram.components, known.gram.components, strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("solver", [*SYSTEMS, "iterative"])
def test_another_pattern_is_an_error_and_nothing_changes(solver):
    problem, _, known, _ = rows_of(ITERATED[0])
    gram = known.gram
    system = iterative_system(gram) if solver == "iterative" else SYSTEMS[solver](gram)
    T = tuple(problem.templates(thetas(problem, 1)[0]))
    system.refactor(T)
    value = system.logdet()
    pair = gram.pairs[1, 0]
    moved = replace(pair, cols=np.where(np.arange(len(pair.cols)) == 3, (pair.cols + 1) % gram.m[0], pair.cols))
    fewer = replace(pair, rows=pair.rows[1:], cols=pair.cols[1:], values=pair.values[1:])
    others = [BlockGram(gram.m, gram.k, {**gram.pairs, (1, 0): x}) for x in (moved, fewer)]
    others += [rows_of(ITERATED[2])[2].gram, rows_of(ITERATED[3])[2].gram]
    for wrong in others:
        with pytest.raises(ValueError, match="another one"):
            system.update(wrong)
        assert system.gram is gram
        assert system.logdet() == value


def test_rows_outside_the_pattern_are_an_error():
    _, design, known, _ = rows_of(ITERATED[0])
    pair = known.gram.pairs[1, 0]
    fewer = replace(pair, rows=pair.rows[1:], cols=pair.cols[1:], values=pair.values[1:])
    part = replace(known, gram=BlockGram(known.gram.m, known.gram.k, {**known.gram.pairs, (1, 0): fewer}))
    with pytest.raises(ValueError, match="not in the pattern"):
        RowPositions.of(design, part)
    with pytest.raises(ValueError, match="do not fit"):
        known.gram.with_values({key: x.values[:-1] for key, x in known.gram.pairs.items()})
