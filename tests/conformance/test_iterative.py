"""The iterative system against an exact one: values, solutions, derivatives and what is said of their errors."""

from __future__ import annotations

import numpy as np
import pytest
from iterative_cases import DESIGNS, FEW, exact_system, iterative_system, precision

from sparselmm.linalg import IterativeControl
from sparselmm.linalg.iterative import system as iterative

pytestmark = pytest.mark.filterwarnings("ignore::sparselmm.exceptions.ScaleWarning")

WITHIN = 5.0  # standard errors; those of 64 probes are known well
ALL = IterativeControl(probes=16, deflation=160, max_deflation=160, standard_error=1e-9)  # no room for probes
ROUNDING = {"double": 1e-9, "single": 1e-5, "second order": 1e-9}  # of sums that the probes have a part in
CASES = [pytest.param(make, "double", id=f"{name}-double") for name, make in DESIGNS.items()]
CASES += [pytest.param(DESIGNS[name], "single", id=f"{name}-single") for name in [*DESIGNS][::2]]
# an aim out of reach makes the solver find the sum of squares of S exactly
CASES += [pytest.param(make, "second order", id=f"{name}-second order") for name, make in DESIGNS.items()]
UNREACHED = IterativeControl(probes=64, max_probes=64, deflation=6, max_deflation=6, standard_error=1e-7)


def near(found, expected, drawn, rounding):
    """Check a (k, k) sum over levels against its own standard error, from what each probe said of it."""
    error = drawn.std(axis=0, ddof=1) / np.sqrt(len(drawn)) if len(drawn) else 0.0
    room = WITHIN * error + rounding * max(np.abs(expected).max(), 1e-300)
    assert np.all(np.abs(found - expected) <= room), (found - expected, error)


@pytest.mark.parametrize(("make", "kind"), CASES)
def test_against_exact(make, kind):
    design = make()
    grow = kind == "second order"
    exact = exact_system(design.gram)
    system = iterative_system(design.gram, UNREACHED if grow else FEW, "single" if kind == "single" else "double")
    C = np.random.default_rng(3).standard_normal((design.gram.q, 3))
    for templates in design.regular + design.singular if kind == "double" else design.regular[::2]:
        exact.refactor(templates)
        system.adapt(templates, grow=grow)
        error, known = system.logdet() - exact.logdet(), system.report()
        assert abs(error) <= WITHIN * known.standard_error + 2.0 * abs(known.precision) + 1e-9
        near_solution = {"rtol": 0.0, "atol": 1e-9 * np.abs(C).max()}  # residuals of 1e-10 times the condition
        np.testing.assert_allclose(system.solve(C), exact.solve(C), **near_solution)
        for width in (None, 1):
            expected = exact.quadratic(C, width)
            np.testing.assert_allclose(system.quadratic(C, width), expected, rtol=1e-9, atol=1e-9 * expected.max())
        sums, blocks, samples = system.information_sums(), system.information_blocks(), system.information_samples()
        for found, expected, drawn in zip(sums, exact.information_sums(), samples, strict=True):
            # a border with θ = 100 has J - J(..)J of order 1 / θ²: 1e-12 of J
            near(found, expected, drawn, 10.0 * ROUNDING[kind] if len(drawn) else 1e-7)
        for found, total in zip(blocks, sums, strict=True):
            np.testing.assert_allclose(
                found.sum(axis=0), total, rtol=0.1 * ROUNDING[kind], atol=1e-9 * np.abs(total).max()
            )


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in DESIGNS.items()])
def test_levels_are_found_to_monte_carlo_accuracy(make):
    design = make()
    exact, system = exact_system(design.gram), iterative_system(design.gram)
    for templates in (design.regular[0], design.singular[0], design.singular[-1]):
        exact.refactor(templates)
        system.adapt(templates, grow=False)
        # a level's value has the error of a single entry of (I - S)⁻¹, found by 64 probes
        for found, expected in zip(system.inverse_diagonal(), exact.inverse_diagonal(), strict=True):
            np.testing.assert_allclose(found, expected, atol=0.02)
        for found, expected in zip(system.information_blocks(), exact.information_blocks(), strict=True):
            np.testing.assert_allclose(found, expected, atol=0.05 * np.abs(expected).max())


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in DESIGNS.items()])
def test_all_directions_deflated(make):
    """Without a part for the probes everything is exact, and the bracket of the quadrature holds the truth."""
    design = make()
    exact, system = exact_system(design.gram), iterative_system(design.gram, ALL)
    for templates in (design.regular[0], design.regular[-1], design.singular[-1]):
        exact.refactor(templates)
        system.adapt(templates, grow=False)
        known, truth = system.report(), exact.logdet()
        assert known.standard_error <= 1e-9
        # Gauss quadrature from above, Gauss-Radau from below; log(1 - λ) rounds where λ is nearly 1
        rounding = 1e-6 + 5.0 * known.standard_error
        assert -rounding <= system.logdet() - truth <= known.quadrature + rounding
        assert known.precision == 0.0
        for found, expected in zip(system.information_blocks(), exact.information_blocks(), strict=True):
            np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


def directions_of(gram, rng):
    """Return one symmetric change of Ω for each term."""
    out = []
    for t, k in enumerate(gram.k):
        B = rng.standard_normal((k, k))
        out.append((t, B + B.T))
    return out


@pytest.mark.parametrize("name", DESIGNS)
def test_trace_products(name):
    design = DESIGNS[name]()
    exact = exact_system(design.gram)
    directions = directions_of(design.gram, np.random.default_rng(3))
    # by differences with an error of 2e-6; the rest is Monte Carlo, also where a term at 0 leaves nothing to deflate
    points = [(ALL, design.regular[0], 1e-3), (FEW, design.regular[0], 5e-3)]
    if name in [*DESIGNS][::3]:
        points += [(FEW, design.singular[0], 5e-3), (ALL, design.singular[-1], 3e-2)]
    for control, templates, room in points:
        exact.refactor(templates)
        system = iterative_system(design.gram, control)
        system.adapt(templates, grow=False)
        expected = exact.trace_products(directions)
        size = np.sqrt(np.diag(expected))
        found = system.trace_products(directions)
        assert np.all(np.abs(found - expected) <= room * np.outer(size, size)), (found - expected) / np.outer(
            size, size
        )
        for x, y in zip(system.templates, templates, strict=True):
            np.testing.assert_array_equal(x, y, err_msg="trace_products left the system elsewhere")


@pytest.mark.parametrize("scale", [10.0, 30.0, 100.0])
@pytest.mark.parametrize("name", ["many rows per pair", "two crossed", "slopes in both", "three crossed"])
def test_single_precision_at_large_theta(name, scale):
    """Where S has eigenvalues next to 1, directions in double keep what probes in single would lose."""
    design = DESIGNS[name]()
    exact, control = exact_system(design.gram), IterativeControl(probes=64)
    templates = tuple(scale * T for T in design.regular[0])
    exact.refactor(templates)
    values = []
    for kind in ("double", "single"):
        with precision(kind):
            system = iterative.IterativeSystem(design.gram, control)
        system.adapt(templates)
        values.append(system.logdet())
        error = abs(values[-1] - exact.logdet())
        known = system.report()
        assert error <= WITHIN * known.standard_error + 2.0 * abs(known.precision) + 1e-9
    assert abs(known.precision) <= 1e-3 * control.standard_error
    assert values[0] == pytest.approx(values[1], abs=10.0 * abs(known.precision) + 1e-8)
