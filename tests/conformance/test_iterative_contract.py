"""What a caller of the iterative system may rely on, whatever its numbers are."""

from __future__ import annotations

import numpy as np
import pytest
from iterative_cases import CASES, DESIGNS, FEW, design, iterative_system
from problems import Case, TermSpec, build

import sparselmm as slm
from sparselmm.exceptions import NumericalError, ParameterError, UnsupportedError
from sparselmm.linalg import IterativeControl, make_system
from sparselmm.linalg.iterative.system import IterativeSystem
from sparselmm.linalg.protocol import factorization_of

pytestmark = pytest.mark.filterwarnings("ignore::sparselmm.exceptions.ScaleWarning")

SOME = [
    "two crossed, weights and offset",
    "four crossed, two of them small, one with slopes",
    "slopes in both",
    "two terms on the larger factor",
    "memberships, slopes and a third factor",
    "many components",
]
KINDS = ("double", "single")


def columns(gram, r=3):
    C = np.random.default_rng(3).standard_normal((gram.q, r))
    C.flags.writeable = False
    return C


def everything(system, C):
    """Return all that the system says of its templates."""
    known = system.report()
    parts = [system.logdet(), system.solve(C), system.quadratic(C), system.quadratic(C, 1), system.standard_error]
    parts += [known.standard_error, known.quadrature, known.precision, known.values]
    for blocks in (
        system.information_sums(),
        system.information_samples(),
        system.information_blocks(),
        system.inverse_diagonal(),
    ):
        parts += list(blocks)
    return [np.array(x) for x in parts]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SOME)
def test_results_do_not_depend_on_history_and_inputs_are_left_alone(name, kind):
    made = DESIGNS[name]()
    a, b, zero = made.regular[0], made.regular[1], made.singular[0]
    for T in (*a, *b, *zero):
        T.flags.writeable = False
    system, C = iterative_system(made.gram, kind=kind), columns(made.gram)
    effort = system.adapt(a)
    first = everything(system, C)
    kept = [x.copy() for x in first]
    for other in (b, zero, a):
        system.refactor(other, effort)
        again = everything(system, C)
        assert all(np.array_equal(x, y) for x, y in zip(system.templates, other))
    for x, y, z in zip(first, kept, again, strict=True):
        np.testing.assert_array_equal(x, y, err_msg="a later evaluation changed what was returned")
        np.testing.assert_array_equal(y, z, err_msg="the result depends on what came before")
    twin = iterative_system(made.gram, kind=kind)
    twin.adapt(a)
    for x, y in zip(kept, everything(twin, C), strict=True):
        np.testing.assert_array_equal(x, y, err_msg="two systems of one seed differ")


@pytest.mark.parametrize("name", SOME)
def test_no_method_disturbs_the_system(name):
    made = DESIGNS[name]()
    system, C = iterative_system(made.gram), columns(made.gram)
    system.refactor(made.regular[0])
    before = everything(system, C)
    t, k = len(made.gram.k) - 1, made.gram.k[-1]
    for method in (
        system.report,
        system.information_blocks,
        system.inverse_diagonal,
        lambda: system.solve(columns(made.gram, 1)),
        lambda: system.quadratic(columns(made.gram, 1)),
        lambda: system.trace_products([(t, np.eye(k))]),
    ):
        method()
        for x, y in zip(before, everything(system, C), strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SOME[:3])
def test_threads_do_not_change_anything(name, kind):
    made = DESIGNS[name]()
    found = []
    try:
        for threads in (1, 2, 3):
            slm.set_threads(threads)
            system = iterative_system(made.gram, kind=kind)
            system.adapt(made.regular[0])
            found.append(everything(system, columns(made.gram)))
    finally:
        slm.set_threads(None)
    for other in found[1:]:
        for x, y in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("control", "reached"),
    [
        (IterativeControl(), True),
        (IterativeControl(deflation=4, max_deflation=8, standard_error=0.02), True),
        (IterativeControl(deflation=4, max_deflation=8, standard_error=1e-4), False),
        (IterativeControl(deflation=4, max_deflation=30, probes=16, max_probes=16, standard_error=1e-6), False),
        (IterativeControl(deflation=2, max_deflation=4, probes=5, max_probes=70, standard_error=1e-6), False),
    ],
    ids=["default", "aim within reach", "aim out of reach", "no more probes", "odd numbers"],
)
def test_what_adapt_leaves_is_what_refactor_finds(control, reached, kind):
    made = DESIGNS["two crossed"]()
    for grow in (False, True):
        system, C = iterative_system(made.gram, control, kind), columns(made.gram)
        effort = system.adapt(made.regular[0], grow=grow)
        adapted = everything(system, C)
        assert system.holds(made.regular[0], effort) and not system.holds(made.regular[1], effort)
        system.refactor(made.regular[0], effort)
        for x, y in zip(adapted, everything(system, C), strict=True):
            np.testing.assert_array_equal(x, y)
    known = system.report()
    assert known.probes <= -(-control.max_probes // 16) * 16
    assert known.deflation <= control.max_deflation
    assert known.reached == reached == (known.standard_error <= control.standard_error)
    assert reached or known.probes >= control.max_probes
    assert system.aim == control.standard_error == known.target


def test_more_probes_keep_those_there_are():
    made = DESIGNS["two crossed"]()
    few = iterative_system(made.gram, IterativeControl(probes=16, deflation=4, max_deflation=4))
    many = iterative_system(made.gram, IterativeControl(probes=64, deflation=4, max_deflation=4))
    for system in (few, many):
        system.adapt(made.regular[4], grow=False)
    assert few.report().deflation == many.report().deflation
    np.testing.assert_array_equal(few.samples, many.samples[:16])
    other = iterative_system(made.gram, IterativeControl(probes=16, deflation=4, max_deflation=4, seed=1))
    other.adapt(made.regular[4], grow=False)
    assert not np.any(few.samples == other.samples)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_said_of_the_error(kind):
    made = DESIGNS["slopes in both"]()
    system = iterative_system(made.gram, kind=kind)
    system.adapt(made.regular[0], grow=False)
    system.quadratic(columns(made.gram))
    known = system.report()
    assert known.probes == FEW.probes == len(known.values)
    assert known.values.mean() == pytest.approx(system.logdet(), rel=1e-12)
    assert known.standard_error == system.standard_error
    plain = known.values.std(ddof=1) / 8.0  # shrunk a little towards a bound of the variance
    assert 0.95 * plain < known.standard_error < 1.5 * plain
    assert 0.0 < known.quadrature <= 1e-3 * known.standard_error
    assert 0.0 < known.solve <= 1e-15
    assert (known.precision != 0.0) == (kind == "single")
    assert abs(known.precision) <= 1e-3 * known.standard_error
    assert f"{FEW.probes} probes" in str(known)


@pytest.mark.parametrize("bad", [np.nan, 1e200])
@pytest.mark.parametrize("name", ["two crossed", "three crossed, one of them small", "slopes in both"])
def test_failure_leaves_no_templates(name, bad):
    made = DESIGNS[name]()
    for t in range(len(made.gram.k)):
        system = iterative_system(made.gram)
        effort = system.adapt(made.regular[0], grow=False)
        value = system.logdet()
        templates = tuple(T * bad if s == t else T for s, T in enumerate(made.regular[0]))
        with np.errstate(all="ignore"), pytest.raises(NumericalError):
            system.refactor(templates, effort)
        assert system.templates == ()
        assert not system.holds(templates, effort)
        with np.errstate(all="ignore"), pytest.raises(NumericalError):
            iterative_system(made.gram).adapt(templates)
        system.refactor(made.regular[0], effort)
        assert system.logdet() == value


def test_zero_theta_is_exact():
    for name in SOME:
        made = DESIGNS[name]()
        system = iterative_system(made.gram)
        system.refactor(made.singular[0])
        assert system.logdet() == system.standard_error == 0.0
        for found, t in zip(system.information_blocks(), range(len(made.gram.k))):
            np.testing.assert_allclose(found, made.gram.diagonal(t), rtol=1e-12, atol=1e-12)


def test_requests_that_need_a_factor_are_refused():
    system = iterative_system(design(CASES[0]).gram)
    assert make_system(system.gram, "iterative").name == system.name == "iterative"
    assert system.factorization is None
    assert system.monte_carlo is not None
    with pytest.raises(UnsupportedError, match="a factor of M, which the iterative solver does not make"):
        factorization_of(system, "this needs a factor of M")


@pytest.mark.parametrize(
    "terms",
    [
        (TermSpec(9),),
        (TermSpec(9, 2), TermSpec(9, kind="same")),
        (TermSpec(9, kind="membership"),),
        (TermSpec(9, kind="membership"), TermSpec(8, kind="membership")),
    ],
    ids=["one factor", "terms on one factor", "memberships", "two memberships"],
)
def test_designs_that_are_not_crossed_are_refused(terms):
    model = build(Case("small", terms, z="no constant")).fitted_model()
    with pytest.raises(ParameterError, match="crossed"):
        IterativeSystem(model.problem.engine.crossproducts.gram)


@pytest.mark.parametrize(
    "options",
    [
        {"standard_error": 0.0},
        {"standard_error": float("nan")},
        {"probes": 1},
        {"probes": 2.5},
        {"probes": True},
        {"deflation": 0},
        {"probes": 32, "max_probes": 16},
        {"deflation": 64, "max_deflation": 32},
        {"seed": -1},
        {"seed": 1.0},
    ],
)
def test_control_refuses_nonsense(options):
    with pytest.raises(ParameterError):
        IterativeControl(**options)
