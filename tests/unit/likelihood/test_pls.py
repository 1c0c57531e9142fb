"""The solution at one θ: breakdowns, what is stored, the engine that is shared."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from sparselmm import LinearMixedModel
from sparselmm.exceptions import NumericalError, ParameterError
from sparselmm.likelihood.criterion import REML


def engine(seed=0, p=2):
    rng = np.random.default_rng(seed)
    g = np.arange(40) % 8
    X = np.column_stack([np.ones(40), rng.standard_normal((40, p - 1))]) if p else None
    y = rng.standard_normal(40) + rng.standard_normal(8)[g]
    return LinearMixedModel.from_arrays(y, X, [(g, None, "g")]).problem.engine


@pytest.mark.parametrize("p", [0, 1, 3])
def test_shapes(p):
    with engine(p=p).locked() as pls:
        s = pls.solve(np.array([0.7]))
        assert s.RX.shape == (p, p)
        assert s.gamma.shape == (p,)
        assert s.scaled.shape == (8, p + 1)
        assert pls.spherical(s).shape == (8,)
        assert s.ldRX2 == 0.0 if p == 0 else np.isfinite(s.ldRX2)
        np.testing.assert_array_equal(s.RX, np.triu(s.RX))


def test_solution_keeps_its_own_parameters():
    par = np.array([0.7])
    with engine().locked() as pls:
        s = pls.solve(par)
        par[0] = 9.0
        assert s.par[0] == 0.7


def test_an_older_solution_still_gives_its_modes():
    """The factor in memory is of another θ by then."""
    with engine().locked() as pls:
        first = pls.solve(np.array([0.7]))
        expected = pls.spherical(first)
        pls.solve(np.array([3.0]))
        np.testing.assert_array_equal(pls.spherical(first), expected)


@pytest.mark.parametrize("p", [0, 2])
def test_sign_of_a_scalar_does_not_matter(p):
    with engine(p=p).locked() as pls:
        a, b = pls.solve(np.array([0.7])), pls.solve(np.array([-0.7]))
        assert pls.value(a, REML) == pls.value(b, REML)


def test_exact_fit_of_the_response_is_named():
    """y in the span of Z and X: pwrss goes to zero with θ, and rounding takes it below."""
    g = np.arange(40) % 8
    y = np.arange(8.0)[g]
    model = LinearMixedModel.from_arrays(y, np.ones((40, 1)), [(g, None, "g")])
    with pytest.raises(NumericalError, match=r"reproduces the response|positive definite"):
        model.at([1e9])


def test_map_refuses_wrong_lengths_and_says_which():
    parameters = engine().parameters
    with pytest.raises(ParameterError, match="must have 1 values, not 2"):
        parameters.par([1.0, 2.0])
    with pytest.raises(ParameterError, match="finite"):
        parameters.par([np.nan])


class TestEngine:
    def test_is_built_once(self):
        e = engine()
        with e.locked() as a, e.locked() as b:
            assert a is b

    def test_pickles_without_its_factor(self):
        e = engine()
        with e.locked() as pls:
            value = pls.value(pls.solve(np.array([0.7])), REML)
        twin = pickle.loads(pickle.dumps(e))
        with twin.locked() as pls:
            assert pls.value(pls.solve(np.array([0.7])), REML) == value
        assert len(pickle.dumps(e)) == len(pickle.dumps(twin))

    def test_engines_of_two_responses_share_the_analysis_and_never_mix(self):
        e = engine()
        design_y = np.random.default_rng(5).standard_normal(40)
        g = np.arange(40) % 8
        model = LinearMixedModel.from_arrays(design_y, np.ones((40, 1)), [(g, None, "g")])
        other = model.problem.with_response(design_y**3)
        with other.engine.locked() as a, model.problem.engine.locked() as b:
            assert a is not b
            assert a.system is b.system
        point = np.array([0.7])

        def value(of):
            with of.locked() as pls:
                return pls.value(pls.solve(point), REML)

        first, second = value(model.problem.engine), value(other.engine)
        assert first != second
        assert (value(model.problem.engine), value(other.engine)) == (first, second)
        assert value(e) not in (first, second)
