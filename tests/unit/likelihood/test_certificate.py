"""The convergence certificate: no false alarm, no false proof, no dependence on units, directions named."""

from __future__ import annotations

import warnings
from functools import cache

import numpy as np
import pytest
import reference_helpers as rh
from scipy.optimize import minimize_scalar

from sparselmm import LinearMixedModel, lmer
from sparselmm.covariance import make_structure
from sparselmm.exceptions import ConvergenceWarning, SingularFitWarning
from sparselmm.likelihood.certificate import TOLERANCE, certify, leave_boundary, singular_directions
from sparselmm.likelihood.criterion import criterion_for
from sparselmm.likelihood.derivatives import Curvature
from sparselmm.likelihood.search import CriterionAt
from sparselmm.likelihood.starting import column_scales
from sparselmm.optimize import Nlopt

FILE = "lme4.json.gz"
MODELS = list(rh.reference_models())


def certificate_at(model, theta, reml=True):
    """Return the certificate of any point, as a search that ended there would get it."""
    engine, criterion = model.problem.engine, criterion_for(reml)
    with engine.locked() as pls:
        par = engine.parameters.canonical(engine.parameters.par(theta))
        curvature = Curvature(pls, criterion, pls.solve(par))
        names = tuple(t.name for t in model.problem.rows.terms)
        scales = column_scales(pls.crossproducts.gram)
        typical = CriterionAt(pls, criterion).typical(par)
        return certify(curvature, engine.parameters.structures, names, scales, typical)


@pytest.mark.parametrize("name", MODELS)
def test_no_false_alarm(name):
    """At our optimum and at R's, every reference model is certified."""
    record, fit = rh.read_records(FILE)[name], rh.fitted(FILE, name)
    certificate = fit.convergence
    assert certificate.certified, certificate
    assert certificate.remaining < certificate.tolerance
    assert bool(certificate.singular) == fit.is_singular == record["isSingular"]
    assert str(certificate).startswith("certified")
    model = rh.built(FILE, name)
    theirs = certificate_at(model, rh.theta_from_r(record, record["theta"], model.theta_names), record["REML"])
    assert theirs.certified, theirs


@pytest.mark.parametrize("name", [m for m in MODELS if rh.read_records(FILE)[m]["data"] != "InstEval"])
def test_a_point_away_from_the_optimum_is_refused_where_it_is_worse(name):
    """At lme4's start: refused, and the decrease predicted is that which the optimum shows, within its order."""
    record, model, fit = rh.read_records(FILE)[name], rh.built(FILE, name), rh.fitted(FILE, name)
    theta = rh.theta_from_r(record, record["criterion_at"][1]["theta"], model.theta_names)
    there = model.at(theta, record["REML"])
    assert there.convergence is None  # nothing was searched, so nothing is certified
    assert not there.converged
    certificate = certificate_at(model, theta, record["REML"])
    assert not certificate.certified
    assert str(certificate).startswith("NOT certified")
    missing = there.criterion - fit.criterion
    # a second-order model within a trust radius of the size of the parameters: 0.24 to 1.86 of it in these models
    assert 0.2 * missing < certificate.remaining < 2 * missing


@pytest.mark.parametrize("share", [0.9, 0.99, 1.003])
@pytest.mark.parametrize("name", ["ss_slope_reml", "pen_ml", "oxb_slope_reml", "diet_dbl_reml"])
def test_decrease_predicted_near_the_optimum_is_the_true_one(name, share):
    fit = rh.fitted(FILE, name)
    certificate = certificate_at(fit, share * fit.theta, fit.reml)
    missing = fit.evaluate(share * fit.theta) - fit.criterion
    # what the quadratic model leaves out is of the order of the distance: 8 % at 0.9, 1.5 % at 0.99, 0.8 % at 1.003
    assert certificate.remaining == pytest.approx(missing, rel=0.01 + 0.8 * abs(1 - share))
    assert certificate.certified == (certificate.remaining < TOLERANCE)


@pytest.mark.parametrize("name", ["ss_slope_reml", "diet_full_ml", "va_vec_ml", "car_vec_reml", "pen_reml"])
def test_a_fit_stopped_early_is_caught(name):
    model, best = rh.built(FILE, name), rh.fitted(FILE, name)
    with pytest.warns(ConvergenceWarning, match="not at an optimum"):
        fit = model.fit(best.reml, start=np.ones(len(best.theta)), optimizer=Nlopt(max_evaluations=6))
    assert fit.criterion > best.criterion + TOLERANCE
    assert not fit.converged
    assert not fit.convergence.certified
    assert fit.optimizer_report.name == "bobyqa"
    assert any(m.code == "not_converged" and m.severity == "warning" for m in fit.messages)


def slopes_data(seed=0, groups=12, rows=8):
    """y = 1 + x + a_g + b_g x + e with correlated a, b."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(groups), rows)
    x = rng.standard_normal(groups * rows)
    a, b = rng.standard_normal((2, groups))
    y = 1 + x + a[g] + (0.5 * a + 0.5 * b)[g] * x + rng.standard_normal(len(g))
    return g, x, y


def slopes_model(g, x, y, structure="us"):
    X = np.column_stack([np.ones(len(g)), x])
    term = {"groups": g, "Z": X, "name": "g", "columns": ["one", "x"], "structure": structure}
    return LinearMixedModel.from_arrays(y, X, [term])


@pytest.mark.filterwarnings("ignore::sparselmm.exceptions.ScaleWarning")
@pytest.mark.parametrize("theta", [(0.9, 0.3, 0.6), (0.0, 0.0, 0.8), (0.0, 0.0, 0.0), (1.0, 0.5, 0.0)])
@pytest.mark.parametrize("scale_y", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("scale_x", [1e-6, 1.0, 1e6])
def test_units_do_not_matter(theta, scale_y, scale_x):
    """Multiplying the response or a column leaves the decrease as it is, at regular and singular points."""
    g, x, y = slopes_data()
    plain = certificate_at(slopes_model(g, x, y), theta)
    scaled = certificate_at(slopes_model(g, scale_x * x, scale_y * y), np.array(theta) / [1.0, scale_x, scale_x])
    assert plain.remaining > 1e-3  # there is something to compare
    # scales are no powers of two: rounding of the data, 1e-16 of sums that cancel to 1e-2 of their size, solved once
    assert scaled.remaining == pytest.approx(plain.remaining, rel=1e-9)
    for a, b in zip(plain.terms, scaled.terms, strict=True):
        assert b.smallest_eigenvalue == pytest.approx(a.smallest_eigenvalue, rel=1e-9)
        assert b.decrease == pytest.approx(a.decrease, rel=1e-9)
        assert b.stationarity == pytest.approx(a.stationarity, rel=1e-9)


@cache
def rank_one(seed):
    """(x | g) with 8 groups of 5 rows and one true direction of variance; its best point with T₁₁ = 0; the optimum."""
    rng = np.random.default_rng([seed, 21])
    g = np.repeat(np.arange(8), 5)
    x = rng.standard_normal(40)
    u = rng.standard_normal(8)
    y = 1 + x + u[g] * (rng.choice([0.5, 1.0]) + rng.choice([0.3, 1.0, -0.7]) * x) + rng.standard_normal(40)
    model = slopes_model(g, x, y)
    evaluate = model.at([0.0, 0.0, 1.0]).evaluate
    found = minimize_scalar(lambda t: evaluate([0.0, 0.0, t]), bounds=(0.0, 5.0), options={"xatol": 1e-10})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        return model, np.array([0.0, 0.0, found.x]), found.fun, model.fit().criterion


STEPS = np.geomspace(1e-3, 30, 20)


@pytest.mark.parametrize("seed", range(60))
def test_false_points_with_a_zero_first_column_are_refused(seed):
    """The gradient vanishes at T₁₁ = T₂₁ = 0 by symmetry; only S >= 0 tells the false points from the true ones."""
    model, point, value, best = rank_one(seed)
    certificate = certificate_at(model, point)
    np.testing.assert_allclose(certificate.gradient[:2], 0, atol=1e-8)  # exactly zero but for rounding
    (structure,) = model.problem.engine.parameters.structures
    if value > best + 1e-4:  # the oracle: something better exists
        assert not certificate.certified
        direction = certificate.terms[0].direction
        lower = [model.at(structure.nearest(_omega(point) + h * direction)).criterion for h in (1e-3, 1e-2, 1e-1)]
        assert min(lower) < value, "the direction named is one of descent"
        gain = value - min(model.at(structure.nearest(_omega(point) + h * direction)).criterion for h in STEPS)
        # quadratic in Ω with averaged curvature, while the criterion bends like a logarithm: the order is right
        assert gain / 5 < certificate.boundary_decrease < 30 * gain
        assert certificate.boundary_decrease > certificate.tolerance
        assert leave_boundary((structure,), (structure.template(point),), certificate.terms)[0] > 0
    elif value < best + 1e-7:
        assert certificate.certified


def _omega(theta):
    T = np.array([[theta[0], 0.0], [theta[1], theta[2]]])
    return T @ T.T


def test_simulations_contain_false_points():
    false = sum(value > best + 1e-4 for _, _, value, best in map(rank_one, range(60)))
    assert false > 30


@pytest.mark.parametrize("structure", ["diag", "homdiag"])
def test_other_structures_leave_zero_only_along_their_own_directions(structure):
    g, x, y = slopes_data()
    model = slopes_model(g, x, y, structure)
    theta = np.zeros(len(model.theta_names))
    certificate = certificate_at(model, theta)
    assert not certificate.certified
    direction = certificate.terms[0].direction
    assert direction[0, 1] == direction[1, 0] == 0.0
    flat = np.tile([1.0, -1.0], 48)
    rng = np.random.default_rng(5)
    basis = np.column_stack([np.ones(8), flat[:8]]) / np.sqrt(8)
    noise = rng.standard_normal((12, 8))
    noise -= noise @ basis @ basis.T  # no group differs from another in its coefficients: zero is the optimum
    certificate = certificate_at(slopes_model(g, flat, noise.ravel(), structure), theta)
    assert certificate.certified
    assert certificate.terms[0].smallest_eigenvalue > 0


def fitted_singular(u, structure="us"):
    """Fit (1 + x | g) to coefficients u, (groups, 2), with rows that reproduce them up to exact noise."""
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(len(u)), 10)
    x = np.tile(np.arange(10.0) - 4.5, len(u))
    e = rng.standard_normal((len(u), 10))
    basis = np.linalg.qr(np.column_stack([np.ones(10), x[:10]]))[0]
    e -= (e @ basis) @ basis.T  # noise that moves no group's coefficients: their variance is that of u less sampling
    y = u[g, 0] + u[g, 1] * x + 0.3 * e.ravel()
    with pytest.warns(SingularFitWarning) as caught:
        fit = slopes_model(g, x, y, structure).fit()
    return fit, str(caught[0].message)


def test_perfectly_correlated_slopes_name_their_combination():
    a = np.random.default_rng(1).standard_normal(14)
    fit, text = fitted_singular(np.column_stack([a, 0.5 * a]))
    (direction,) = fit.convergence.singular
    assert fit.converged
    assert direction.term == "g"
    assert direction.columns == ("one", "x")
    # x varies as half of the intercept: x - 0.5 one has no variance, or one - 2x with largest weight 1
    np.testing.assert_allclose(direction.weights / direction.weights[1], [-0.5, 1.0], rtol=1e-3)  # θ good to 1e-4
    assert np.abs(direction.weights).max() == 1.0
    assert "1 dimension" in direction.simpler
    assert direction.combination in text
    names = [part for part in direction.combination.replace("·", " ").split() if part in ("one", "x")]
    assert names == ["one", "x"]


def test_one_coefficient_without_variance_is_named_alone():
    a = np.random.default_rng(2).standard_normal(14)
    fit, text = fitted_singular(np.column_stack([a - a.mean(), np.full(14, 0.7)]), structure="diag")
    (direction,) = fit.convergence.singular
    np.testing.assert_array_equal(direction.weights, [0.0, 1.0])
    assert direction.combination == "x"
    assert direction.simpler == "the model without x in the term g"
    assert "x of g has zero variance" in text


def test_a_whole_term_without_variance_is_named():
    fit, text = fitted_singular(np.tile([1.0, 0.7], (14, 1)))
    assert len(fit.convergence.singular) == 2
    assert {d.simpler for d in fit.convergence.singular} == {"the model without the term g"}
    assert "the model without the term g" in text
    assert fit.converged


@pytest.mark.parametrize(("pivot", "expected"), [(0.0, True), (5e-5, True), (5e-4, False)])
def test_singular_means_a_pivot_below_lme4s_tolerance(pivot, expected):
    """lme4 calls a fit singular below 1e-4; here in units of the columns of Z."""
    for scale in (np.ones(2), np.array([1.0, 1e4])):
        T = np.diag([1.0, pivot]) / scale[:, None]
        assert make_structure("us", 2).is_singular(T, scale) == expected
        assert bool(singular_directions(("g",), (("one", "x"),), (T,), [scale], [np.eye(2)])) == expected


def test_directions_of_a_template_of_rank_two():
    T = np.array([[1.0, 0.0, 0.0], [0.5, 0.0, 0.0], [0.2, 0.3, 0.4]])
    columns = ("one", "x", "z")
    (found,) = singular_directions(("g",), (columns,), (T,), [np.ones(3)], [np.eye(3)])
    np.testing.assert_allclose(found.weights, [-0.5, 1.0, 0.0], atol=1e-12)
    assert found.combination == "- 0.5·one + x"
    assert found.simpler == "a term g whose 3 coefficients vary in 2 dimensions only (correlations of ±1)"
    assert singular_directions(("g",), (columns,), (np.eye(3),), [np.ones(3)], [np.eye(3)]) == ()


@pytest.mark.parametrize("unit", [1e-4, 1e4])
def test_direction_named_does_not_depend_on_units(unit):
    """With x in other units the same direction is named, its weight multiplied: both coefficients are part of it."""
    T = np.array([[1.0, 0.0], [0.5 / unit, 0.0]])
    (found,) = singular_directions(("g",), (("one", "x"),), (T,), [np.array([1.0, unit])], [np.eye(2)])
    assert np.all(found.weights != 0)
    assert found.simpler.endswith("(correlations of ±1)")


@pytest.mark.parametrize("year", [0.0, 2e3, 2e4, 2e6])
def test_direction_named_and_singularity_do_not_depend_on_the_origin(year):
    """A covariate far from zero is centred inside: the same combination is meant, in the user's coefficients."""
    rng = np.random.default_rng(0)
    g, x = np.repeat(np.arange(10), 8), np.tile(np.arange(8.0), 10)
    y = rng.normal(size=10)[g] + 0.3 * x + rng.normal(size=80)
    with pytest.warns(SingularFitWarning):
        fit = lmer("y ~ t + (t | g)", {"y": y, "t": year + x, "g": g})
    (found,) = fit.convergence.singular
    T = fit.varcorr.terms[0].cov
    # the combination has no variance, though both coefficients do
    w = found.weights / np.abs(found.weights).max()
    assert np.all(w != 0) and np.all(np.diag(T) > 0)
    spread = np.outer(np.sqrt(np.diag(T)), np.sqrt(np.diag(T))) * np.outer(w, w)
    assert abs(w @ T @ w) < 1e-8 * np.abs(spread).max()
    assert found.simpler.endswith("(correlations of ±1)")
    assert found.combination.endswith("Intercept + t")
    y = y + rng.normal(size=10)[g] * x
    regular = lmer("y ~ t + (t | g)", {"y": y, "t": year + x, "g": g})
    assert not regular.is_singular and regular.convergence.singular == ()
