"""The parametric-bootstrap likelihood-ratio test of nested models.

Responses are drawn from the smaller model. Both models need their sufficient statistics, so these are
drawn jointly, for the terms and columns of both designs together (`sufficient` takes singular designs).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._typing import BoolArray, FloatArray, IntArray, frozen
from sparselmm.data.rows import DesignTerm, GroupedTerm, Rows
from sparselmm.inference.bootstrap.draw_rows import RowSampler
from sparselmm.inference.bootstrap.draw_statistics import ResponseSums, Sampler, StatisticsSource
from sparselmm.inference.bootstrap.minque import Shared, first_steps, prepare
from sparselmm.inference.bootstrap.refit import refit
from sparselmm.inference.bootstrap.replicates import batch_size, run_batches
from sparselmm.inference.compare.lrt import Candidate, check_nested, check_same_data
from sparselmm.inference.compare.montecarlo import Tail, difference_error, undecided, undecided_level
from sparselmm.inference.distributions import chi2_tail
from sparselmm.inference.predict.simulate import count, seed_sequence
from sparselmm.inference.profile.curves import ml_result
from sparselmm.likelihood.criterion import ML
from sparselmm.likelihood.engine import Engine, Workspace
from sparselmm.likelihood.problem import Problem
from sparselmm.likelihood.result import FitResult
from sparselmm.linalg import make_system
from sparselmm.linalg.blocks import Templates
from sparselmm.linalg.threads import blas_threads
from sparselmm.statistics.crossproducts import CrossProducts
from sparselmm.statistics.transform import FixedTransform

PILOT = 25  # responses from which the larger model's first expansion point is found


JOINT = "bootstrap tests of nested models"


@dataclass(frozen=True)
class BootstrapLRT:
    """Result of a parametric-bootstrap likelihood-ratio test.

    Attributes
    ----------
    statistic : float
        Observed difference of the ML deviances.
    df : int
        Difference of the numbers of parameters.
    p_value : float
        (1 + number of replicates at least as large) / (1 + n) (Davison and Hinkley 1997, eq. 4.11).
    p_chi2 : float
        The naive χ² p-value.
    replicates : (n,) array
        Statistics of the replicates.
    converged : (n,) bool array
        Whether both refits settled.
    error : float or None
        Monte Carlo standard error of the statistic, after fits by the iterative solver.
    """

    statistic: float
    df: int
    p_value: float
    p_chi2: float
    replicates: FloatArray = field(repr=False)
    converged: BoolArray = field(repr=False)
    error: float | None = None

    def to_frame(self) -> pd.DataFrame:
        """Return the test as one row."""
        row = {
            "statistic": self.statistic,
            "df": self.df,
            "p_chi2": self.p_chi2,
            "p_value": self.p_value,
            "n": len(self.replicates),
        }
        return pd.DataFrame([row])


@dataclass(frozen=True)
class Side:
    """One of the two models: where its statistics are in the joint ones.

    Attributes
    ----------
    engine : Engine
        Its solver.
    shared : Shared
        Its first step.
    rows : (q,) int array
        Its columns of Z in the joint Z.
    columns : (p,) int array
        Its columns of X in the joint X.
    """

    engine: Engine
    shared: Shared
    rows: IntArray
    columns: IntArray

    def part(self, y: ResponseSums) -> ResponseSums:
        """Return the statistics of this model."""
        return ResponseSums(y.ZtWy[self.rows], y.XtWy[self.columns], y.yWy)


@dataclass(frozen=True)
class Joint:
    """Both models; without rows where the systems have factors.

    Attributes
    ----------
    engine : Engine
        The solver that the sampler needs.
    sampler : StatisticsSource
        Draws statistics of both designs together.
    templates : tuple of (k, k) arrays
        Those of the smaller model, zero for terms that it does not have.
    sigma : float
        Its residual standard deviation.
    small, large : Side
        The models.
    """

    engine: Engine
    sampler: StatisticsSource
    templates: Templates
    sigma: float
    small: Side
    large: Side

    def draw(self, seeds: Sequence[np.random.SeedSequence]) -> ResponseSums:
        """Return joint statistics under the smaller model."""
        rngs = [np.random.default_rng(seed) for seed in seeds]
        with self.engine.locked() as pls:
            return self.sampler.draw(pls.system, self.templates, self.sigma, rngs)

    def run(self, seeds: Sequence[np.random.SeedSequence]) -> tuple[FloatArray, BoolArray]:
        """Return statistics of one batch and whether the refits settled."""
        with blas_threads(0.0):
            y = self.draw(seeds)
            found = []
            for side in (self.small, self.large):
                with side.engine.locked() as pls:
                    found.append(refit(pls, ML, side.shared, side.part(y)))
        small, large = found
        return np.maximum(small.criterion - large.criterion, 0.0), small.converged & large.converged


def same_term(a: DesignTerm, b: DesignTerm) -> bool:
    """Return whether two terms have the same columns of Z."""
    if not (isinstance(a, GroupedTerm) and isinstance(b, GroupedTerm)):
        return a is b
    same = a.m == b.m and a.Z.shape == b.Z.shape
    return same and np.array_equal(a.codes, b.codes) and np.array_equal(a.Z, b.Z)


def joint_rows(problems: Sequence[Problem]) -> tuple[Rows, CrossProducts, list[IntArray], list[IntArray]]:
    """Return two designs together, their cross-products, and where the columns of Z and X of each are."""
    terms: list[DesignTerm] = []
    centres: list[Any] = []
    positions: list[list[int]] = []
    for problem in problems:
        own = []
        for term, centre in zip(problem.observed(JOINT).terms, problem.engine.crossproducts.centres):
            found = [i for i, t in enumerate(terms) if i not in own and same_term(t, term) and centres[i] == centre]
            if not found:
                found = [len(terms)]
                terms.append(term)
                centres.append(centre)
            own.append(found[0])
        positions.append(own)
    X = np.hstack([pr.engine.crossproducts.basis.apply(pr.observed(JOINT).X) for pr in problems])
    first = problems[0].observed(JOINT)
    observed = replace(first, y=np.zeros(first.n), offset=None, X=X, terms=tuple(terms))
    p = X.shape[1]
    basis = FixedTransform(-1, np.zeros(p), np.ones(p), np.zeros(p))
    xp = CrossProducts.from_rows(observed, basis, tuple(centres))
    at = xp.gram.offsets
    rows = [np.concatenate([np.arange(at[i], at[i + 1]) for i in own]) for own in positions]
    edges = np.cumsum([0, *(pr.layout.p for pr in problems)])
    columns = [np.arange(edges[i], edges[i + 1]) for i in range(len(problems))]
    return observed, xp, rows, columns


def _joint(problems: Sequence[Problem], results: Sequence[FitResult], pilot: np.random.SeedSequence) -> Joint:
    observed, xp, rows, columns = joint_rows(problems)
    small, large = (
        Side(problem.engine, _shared(problem, result.par), rows[i], columns[i])
        for i, (problem, result) in enumerate(zip(problems, results))
    )
    templates = [np.zeros((k, k)) for k in xp.gram.k]
    for T, start in zip(small.shared.templates, _term_starts(problems[0], rows[0])):
        templates[int(np.searchsorted(xp.gram.offsets, start))] = T
    engine, sampler = _source(problems, observed, xp)
    joint = Joint(engine, sampler, tuple(templates), results[0].sigma, small, large)
    # the data may lie far from the smaller model: expand the larger one where its fits to draws are
    y = large.part(joint.draw(pilot.spawn(PILOT)))
    with problems[1].engine.locked() as pls:
        par = first_steps(pls, large.shared, y, interior=True).par.mean(axis=0)
    return replace(joint, large=replace(large, shared=_shared(problems[1], par)))


def _source(problems: Sequence[Problem], observed: Rows, xp: CrossProducts) -> tuple[Engine, StatisticsSource]:
    """Return what draws the joint statistics: from a factor of both designs together, else from rows."""
    engine = Engine(xp, problems[0].engine.parameters, Workspace(partial(make_system, xp.gram)))
    for each in (*(problem.engine for problem in problems), engine):
        with each.locked() as pls:
            if pls.system.factorization is None:
                return problems[0].engine, RowSampler.of(observed, xp)
    with engine.locked() as pls:
        return engine, Sampler.of(pls.system, xp.ZtWXy[:, :-1], xp.XytWXy[:-1, :-1], xp.n)


def _shared(problem: Problem, par: FloatArray) -> Shared:
    with problem.engine.locked() as pls:
        return prepare(pls, ML, par)


def _term_starts(problem: Problem, rows: IntArray) -> IntArray:
    """Return the joint column at which each term of a model starts."""
    return np.asarray(rows[problem.engine.crossproducts.gram.offsets[:-1]])


def bootstrap_lrt(
    small: tuple[Problem, FitResult],
    large: tuple[Problem, FitResult],
    n: int = 1000,
    *,
    seed: Any = None,
    n_jobs: int = 1,
    progress: bool = True,
    names: tuple[str, str] = ("m0", "m1"),
) -> BootstrapLRT:
    """Return the test of two nested models; see `sparselmm.bootstrap_lrt`."""
    for problem, _ in (small, large):
        problem.observed(JOINT)
    results = [ml_result(problem, result) for problem, result in (small, large)]
    problems = [replace(pair[0], engine=result.engine) for pair, result in zip((small, large), results)]
    candidates = [Candidate(name, result) for name, result in zip(names, results)]
    check_same_data(candidates)
    check_nested(*candidates)
    n, root = count(n), seed_sequence(seed)
    pilot, draws = root.spawn(2)
    with blas_threads(0.0):
        joint = _joint(problems, results, pilot)
    size = batch_size(joint.sampler.gram.q)
    parts = run_batches(joint.run, draws.spawn(n), size, n_jobs, progress)
    replicates = np.concatenate([part[0] for part in parts])
    statistic = max(0.0, results[0].criterion - results[1].criterion)
    df = candidates[1].npar - candidates[0].npar

    def share(value: float, df: int) -> float:
        return (1.0 + int(np.sum(replicates >= value - 1e-9))) / (1.0 + n)

    test = BootstrapLRT(
        statistic,
        df,
        share(statistic, df),
        chi2_tail(statistic, df),
        frozen(replicates),
        frozen(np.concatenate([part[1] for part in parts])),
        difference_error(*results),
    )
    if test.error is not None:
        _refuse_if_open(test, share)
    return test


def _refuse_if_open(test: BootstrapLRT, share: Tail) -> None:
    """Raise where the Monte Carlo error of the statistic leaves a p-value open."""
    assert test.error is not None
    for name, tail in (("p_value", share), ("p_chi2", chi2_tail)):
        level = undecided_level(test.statistic, test.error, test.df, tail)
        if level is not None:
            found = f"statistic {test.statistic:.5g} with standard error {test.error:.2g}, {name} near {level}"
            raise undecided([found], test.to_frame().drop(columns=name))
