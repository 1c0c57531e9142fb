"""The solution at one θ: breakdowns, what is stored, the engine that is shared."""

from __future__ import annotations

import os
import pickle
import select
import signal
import threading
import warnings

import numpy as np
import pytest

from sparselmm import LinearMixedModel
from sparselmm.exceptions import NumericalError, ParameterError
from sparselmm.likelihood.criterion import REML
from sparselmm.linalg import SYSTEMS
from sparselmm.linalg.threads import blas_threads


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
            assert a.system is b.system

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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are a matter of POSIX")
class TestForks:
    """A child that was forked while another thread evaluates has neither its lock nor its half-made factor."""

    @staticmethod
    def answer_of_child(question, seconds=60.0):
        """Return what a forked child answers, a number, or None if it does not within the time."""
        out, inlet = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # forks beside threads: that is the point
            child = os.fork()
        if child == 0:
            try:
                os.write(inlet, repr(float(question())).encode())
            finally:
                os._exit(0)
        os.close(inlet)
        ready, _, _ = select.select([out], [], [], seconds)
        text = os.read(out, 100).decode() if ready else ""
        os.close(out)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return float(text) if text else None

    @staticmethod
    def while_held(hold, act):
        """Return what ``act`` finds while another thread is inside the context manager."""
        inside, done = threading.Event(), threading.Event()

        def work():
            with hold:
                inside.set()
                done.wait(120.0)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            assert inside.wait(60.0)
            return act()
        finally:
            done.set()
            thread.join()

    @pytest.mark.parametrize("solver", [*SYSTEMS, "iterative"])
    def test_a_child_evaluates_while_another_thread_of_its_parent_does(self, solver):
        rng = np.random.default_rng(0)
        groups = [(rng.permutation(np.arange(400) % m), None, f"g{m}") for m in (120, 90)]
        model = LinearMixedModel.from_arrays(rng.standard_normal(400), np.ones((400, 1)), groups, solver=solver)
        fit = model.at([0.5, 0.7])

        def evaluate():
            return fit.evaluate(fit.theta * 1.1)

        expected = evaluate()

        def half_factored():
            with fit.problem.engine.locked() as pls:
                pls.system.templates = ()  # as inside a factorisation
            return self.answer_of_child(evaluate)

        with fit.problem.engine.locked() as pls:
            parent = pls.system
        found = self.while_held(fit.problem.engine.locked(), lambda: self.answer_of_child(evaluate))
        assert found == expected
        assert half_factored() == expected
        with fit.problem.engine.locked() as pls:
            assert pls.system is parent  # the parent keeps what it has
        assert evaluate() == expected

    def test_a_child_sets_its_threads_while_another_thread_of_its_parent_does(self):
        model = engine()

        def fit():
            with blas_threads(0.0), model.locked() as pls:
                return pls.value(pls.solve(np.array([0.7])), REML)

        assert self.while_held(blas_threads(0.0), lambda: self.answer_of_child(fit)) == fit()
