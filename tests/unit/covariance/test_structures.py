"""Every registered covariance structure: maps between parameters, templates and reported entries."""

from __future__ import annotations

import numpy as np
import pytest

from sparselmm.covariance import STRUCTURES, Centred, Unstructured, make_structure
from sparselmm.covariance.base import lower_factor, triangular
from sparselmm.exceptions import UnsupportedError

SIZES = (1, 2, 3, 5)
EVERY = [pytest.param(key, k, id=f"{key}-{k}") for key in STRUCTURES for k in SIZES]


def centred(k):
    return Centred(k, 0, (0.0, *(10.0 * j - 3.0 for j in range(1, k))))


def all_structures():
    for key in STRUCTURES:
        for k in SIZES:
            yield pytest.param(make_structure(key, k), id=f"{key}-{k}")
    for k in (2, 3):
        yield pytest.param(centred(k), id=f"centred-{k}")


ALL = list(all_structures())


def symmetric(k):
    A = np.random.default_rng(8).normal(size=(k, k))
    return A + A.T


def random_par(structure, seed=0):
    return np.random.default_rng(seed).normal(0, 1, structure.n_par)


@pytest.mark.parametrize("structure", ALL)
class TestEveryStructure:
    def test_sizes(self, structure):
        par, rows = random_par(structure), np.arange(1.0, structure.k + 1)
        assert structure.template(par).shape == (structure.k, structure.k)
        assert structure.domega(par).shape == (structure.n_par, structure.k, structure.k)
        assert structure.dtheta(par).shape == (structure.n_theta, structure.n_par)
        assert structure.theta(par).shape == (structure.n_theta,)
        vectors = (
            structure.start(),
            structure.lower(),
            structure.upper(),
            *structure.box(),
            structure.typical(par, rows),
        )
        assert all(x.shape == (structure.n_par,) for x in vectors)
        names = structure.theta_names("g", tuple(f"c{j}" for j in range(structure.k)))
        assert len(names) == len(set(names)) == structure.n_theta
        assert all(name.split(".")[0] == "g" for name in names)

    def test_templates_are_lower_triangular(self, structure):
        T = structure.template(random_par(structure, 1))
        np.testing.assert_array_equal(T, np.tril(T))

    def test_derivatives_of_omega_are_its_differences(self, structure):
        par, h = random_par(structure, 1), 1e-4
        S = symmetric(structure.k)

        def omega(x):
            T = structure.template(x)
            return T @ T.T

        steps = h * np.eye(structure.n_par)
        first = [(omega(par + d) - omega(par - d)) / (2 * h) for d in steps]
        # Ω is of order one and smooth on the scale of one: errors of order h² = 1e-8
        np.testing.assert_allclose(structure.domega(par), first, atol=1e-7)
        second = [np.tensordot(structure.domega(par + d) - structure.domega(par - d), S) / (2 * h) for d in steps]
        np.testing.assert_allclose(structure.curvature(par, S), second, atol=1e-6)

    def test_derivatives_of_theta_are_its_differences(self, structure):
        par, h = structure.canonical(random_par(structure, 1)), 1e-5
        steps = h * np.eye(structure.n_par)
        theta = [(structure.theta(par + d) - structure.theta(par - d)) / (2 * h) for d in steps]
        # entries up to 17² with curvature of that order: 17⁴ h²
        np.testing.assert_allclose(structure.dtheta(par), np.array(theta).T, rtol=1e-5, atol=1e-5)

    def test_many_points_are_treated_as_each_of_them(self, structure):
        rng = np.random.default_rng(5)
        par, S = rng.normal(size=(4, 3, structure.n_par)), symmetric(structure.k) * rng.normal(size=(4, 3, 1, 1))
        rows = rng.uniform(1, 2, (4, 3, structure.k))
        for f, more in (
            (structure.template, ()),
            (structure.domega, ()),
            (structure.curvature, (S,)),
            (structure.typical, (rows,)),
        ):
            for at in np.ndindex(4, 3):
                np.testing.assert_array_equal(f(par, *more)[at], f(par[at], *(x[at] for x in more)))

    def test_directions_of_a_linear_family_span_it_at_every_point(self, structure):
        basis = structure.directions(structure.start())
        assert structure.is_linear and len(basis) == structure.n_par
        np.testing.assert_array_equal(structure.directions(random_par(structure)), basis)
        T = structure.template(random_par(structure, 2))
        weights = np.linalg.lstsq(basis.reshape(len(basis), -1).T, (T @ T.T).ravel())[0]
        np.testing.assert_allclose(np.tensordot(weights, basis, 1), T @ T.T, atol=1e-12)  # rounding

    def test_free_entries_are_those_that_vary(self, structure):
        """Standard deviations first, correlations by columns; a parameter named is the entry itself."""
        entries = structure.entries()
        assert list(entries) == sorted(entries, key=lambda e: (e.row != e.col, e.col, e.row))
        par = structure.canonical(random_par(structure))
        T = structure.template(par)
        omega = T @ T.T
        assert {(e.row, e.col) for e in entries if e.row != e.col} == {
            (i, j) for i in range(structure.k) for j in range(i) if omega[i, j] != 0
        }
        for e in entries:
            if e.parameter is not None:
                assert par[e.parameter] == pytest.approx(np.sqrt(omega[e.row, e.row]), rel=1e-14)

    def test_start_is_the_identity_within_bounds(self, structure):
        np.testing.assert_array_equal(structure.template(structure.start()), np.eye(structure.k))
        assert np.all(structure.start() >= structure.lower())

    def test_bounds_are_zero_or_infinite_and_zero_exactly_on_the_diagonal(self, structure):
        for low, unit in zip(structure.lower(), np.eye(structure.n_par)):
            assert low == (0.0 if np.any(np.diag(structure.template(unit))) else -np.inf)

    def test_theta_and_par_are_inverse_for_canonical_parameters(self, structure):
        par = structure.canonical(random_par(structure))
        # a change of coordinates by numbers up to 17 and back, in double precision
        np.testing.assert_allclose(structure.par(structure.theta(par)), par, rtol=1e-11, atol=1e-11)

    @pytest.mark.parametrize("zeroed", [None, 0, -1, "all"])
    def test_canonical_keeps_the_covariance_and_has_no_negative_diagonal(self, structure, zeroed):
        for seed in range(5):
            par = random_par(structure, seed)
            if zeroed is not None:
                diagonal = np.flatnonzero(structure.lower() == 0)
                par[diagonal if zeroed == "all" else diagonal[zeroed]] = 0.0
            out = structure.canonical(par)
            T, C = structure.template(par), structure.template(out)
            np.testing.assert_allclose(C @ C.T, T @ T.T, atol=1e-12)  # rounding of order-1 entries
            assert np.all(np.diag(C) >= 0)
            np.testing.assert_allclose(structure.canonical(out), out, atol=1e-12)  # as above

    def test_canonical_template_has_nothing_below_a_zero_pivot(self, structure):
        par = random_par(structure)
        diagonal = np.flatnonzero(structure.lower() == 0)
        par[diagonal] = 0.0
        C = structure.template(structure.canonical(par))
        for j in range(structure.k):
            if C[j, j] == 0:
                np.testing.assert_array_equal(C[:, j], 0)

    def test_reported_coordinates_agree_with_each_other(self, structure):
        par = structure.canonical(random_par(structure))
        T, R = structure.template(par), structure.reported_template(par)
        C = structure.reported_modes(np.eye(structure.k)).T
        # entries up to (1 + 17)² times rounding
        np.testing.assert_allclose(R @ R.T, C @ T @ T.T @ C.T, rtol=1e-12, atol=1e-11)
        np.testing.assert_array_equal(R, np.tril(R))
        assert np.all(np.diag(R) >= 0)
        modes = np.random.default_rng(3).standard_normal((6, structure.k))
        np.testing.assert_allclose(structure.reported_modes(modes), modes @ C.T, rtol=1e-12, atol=1e-12)

    def test_nearest_reproduces_a_covariance_of_the_structure(self, structure):
        T = structure.template(structure.canonical(random_par(structure)))
        back = structure.template(structure.nearest(T @ T.T))
        np.testing.assert_allclose(back @ back.T, T @ T.T, atol=1e-12)  # rounding of order-1 entries

    def test_nearest_accepts_zero(self, structure):
        np.testing.assert_array_equal(structure.nearest(np.zeros((structure.k, structure.k))), 0)

    def test_inputs_are_left_alone_and_outputs_are_new(self, structure):
        par = random_par(structure)
        par.flags.writeable = False
        kept = par.copy()
        for f in (structure.template, structure.theta, structure.par, structure.canonical, structure.reported_template):
            out = f(par)
            assert not np.shares_memory(out, par)
            out[...] = 9.0
        np.testing.assert_array_equal(par, kept)
        structure.start()[...] = 7.0
        for out in (structure.domega(par), structure.directions(par), structure.curvature(par, np.eye(structure.k))):
            out[...] = 7.0
        np.testing.assert_array_equal(structure.template(structure.start()), np.eye(structure.k))


def test_theta_is_the_lower_triangle_by_columns():
    T = Unstructured(3).template(np.arange(1.0, 7.0))
    np.testing.assert_array_equal(T, [[1, 0, 0], [2, 4, 0], [3, 5, 6]])


def test_names_are_those_of_lme4():
    columns = ("(Intercept)", "x", "z")
    assert make_structure("us", 3).theta_names("g", columns) == (
        "g.(Intercept)",
        "g.x.(Intercept)",
        "g.z.(Intercept)",
        "g.x",
        "g.z.x",
        "g.z",
    )
    assert make_structure("diag", 3).theta_names("g", columns) == ("g.(Intercept)", "g.x", "g.z")
    assert make_structure("homdiag", 3).theta_names("g", columns) == ("g",)


def test_unknown_structure_names_those_there_are():
    with pytest.raises(UnsupportedError) as caught:
        make_structure("ar1", 2)
    assert "ar1" in str(caught.value)
    assert all(key in str(caught.value) for key in STRUCTURES)


@pytest.mark.parametrize("rank", [0, 1, 2, 3])
def test_lower_factor_of_semidefinite_matrices(rank):
    rng = np.random.default_rng(rank)
    A = rng.standard_normal((3, rank))
    T = lower_factor(A @ A.T)
    np.testing.assert_allclose(T @ T.T, A @ A.T, atol=1e-7)  # a pivot lost below 1e-14 of the largest: its root
    np.testing.assert_array_equal(T, np.tril(T))
    assert np.count_nonzero(np.diag(T)) == rank


@pytest.mark.parametrize("exponent", [-200, -12, 0, 12, 150])
def test_lower_factor_does_not_depend_on_the_scale(exponent):
    A = np.array([[4.0, 2.0], [2.0, 3.0]])
    c = 2.0**exponent
    np.testing.assert_array_equal(lower_factor(A * c * c), lower_factor(A) * c)


def test_triangular_factor_of_any_square_matrix():
    A = np.random.default_rng(0).standard_normal((4, 4))
    T = triangular(A)
    np.testing.assert_allclose(T @ T.T, A @ A.T, rtol=1e-12, atol=1e-13)  # orthogonal transformations
    np.testing.assert_array_equal(T, np.tril(T))
    assert np.all(np.diag(T) >= 0)


def test_centred_coordinates_by_hand():
    """Z = [1, x], Z_c = [1, x - 10]: b0 + b1 x = (b0 + 10 b1) + b1 (x - 10)."""
    s = Centred(2, 0, (0.0, 10.0))
    np.testing.assert_array_equal(s.reported_modes(np.array([[5.0, 2.0]])), [[5.0 - 20.0, 2.0]])
    R = s.reported_template(np.array([1.0, 0.0, 1.0]))
    np.testing.assert_allclose(R @ R.T, [[101.0, -10.0], [-10.0, 1.0]], rtol=1e-13)


def test_centred_structure_pickles_and_compares():
    import copy
    import pickle

    s = centred(3)
    assert pickle.loads(pickle.dumps(s)) == s == copy.deepcopy(s)
    par = random_par(s)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(s)).theta(par), s.theta(par))
    with pytest.raises(AttributeError):
        _ = s.no_such_thing
