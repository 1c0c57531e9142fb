"""The parametric bootstrap without rows: draw sufficient statistics, refit, keep the estimates.

A replicate y* = o + Xβ̂ + Zb* + e*, b* ~ N(0, σ̂²ΛΛ'), e* ~ N(0, σ̂²W⁻¹), enters a fit through Z'Wy*, X'Wy*
and y*'Wy* alone, which `sufficient` draws; `refit` fits them. Replicates are made in batches whose size
depends on the model only, each from generators of its own, so numbers are the same for any ``n_jobs``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._typing import BoolArray, FloatArray, frozen
from sparselmm.exceptions import BackendError, ConvergenceWarning, ParameterError, UnsupportedError, warn_user
from sparselmm.inference.bootstrap.draw_rows import RowSampler
from sparselmm.inference.bootstrap.draw_statistics import Sampler, StatisticsSource
from sparselmm.inference.bootstrap.limits import check_kind, intervals
from sparselmm.inference.bootstrap.minque import Shared, prepare
from sparselmm.inference.bootstrap.refit import refit
from sparselmm.inference.fixed.tables import check_level
from sparselmm.inference.predict.simulate import count, seed_sequence
from sparselmm.inference.sizes import REPLICATE_CELLS, SILENT_SECONDS
from sparselmm.inference.variance.sdcor import (
    SIGMA,
    SIGMA2,
    Entry,
    check_scale,
    entry_values,
    variance_entries,
    variance_values,
)
from sparselmm.likelihood.criterion import Criterion
from sparselmm.likelihood.engine import Engine
from sparselmm.likelihood.estimates import Estimates
from sparselmm.likelihood.problem import Problem
from sparselmm.likelihood.result import FitResult
from sparselmm.linalg.threads import blas_threads

LARGEST_BATCH = 100  # replicates; more gain nothing, and progress is seen batch by batch


@dataclass(frozen=True)
class Replicate:
    """The estimates of one replicate, as a ``statistic`` sees them.

    Attributes
    ----------
    params : Series
        Fixed effects.
    variance : Series
        Standard deviations and correlations of the random effects.
    sigma, criterion : float
        Residual standard deviation; the criterion (NaN for a one-step replicate).
    theta : (n_theta,) array
        Relative covariance parameters.
    """

    params: pd.Series[float]
    variance: pd.Series[float]
    sigma: float
    criterion: float
    theta: FloatArray


Statistic = Callable[[Replicate], Any]


@dataclass(frozen=True)
class Bootstrap:
    """Replicates of the estimates, as `MixedModelFit.bootstrap` returns them.

    Attributes
    ----------
    names : tuple of str
        The r parameters: standard deviations and correlations, σ, fixed effects; or the values of a
        ``statistic``.
    estimate : (r,) array
        Those of the fit.
    values : (n, r) array
        Those of the replicates; NaN for a correlation with a coefficient that does not vary.
    criterion : (n,) array
        Criteria of the replicates, NaN for one-step replicates.
    singular, converged : (n,) bool arrays
        Whether a replicate is singular; whether its refit settled.
    one_step : bool
        Whether the replicates are one-step approximations.
    reml : bool
        Criterion of the refits.
    entries : tuple of Entry
        The variance parameters among the names.
    """

    names: tuple[str, ...]
    estimate: FloatArray
    values: FloatArray = field(repr=False)
    criterion: FloatArray = field(repr=False)
    singular: BoolArray = field(repr=False)
    converged: BoolArray = field(repr=False)
    one_step: bool
    reml: bool
    entries: tuple[Entry, ...] = field(repr=False, default=())

    @property
    def n(self) -> int:
        """Number of replicates."""
        return len(self.values)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per replicate: the parameters, ``criterion``, ``singular``, ``converged``."""
        frame = pd.DataFrame(self.values, columns=list(self.names))
        return frame.assign(criterion=self.criterion, singular=self.singular, converged=self.converged)

    def summary(self) -> pd.DataFrame:
        """Return estimate, bootstrap mean, bias and standard error of each parameter."""
        used = [x[np.isfinite(x)] for x in self.values.T]
        mean = np.array([x.mean() if len(x) else np.nan for x in used])
        error = np.array([x.std(ddof=1) if len(x) > 1 else np.nan for x in used])
        columns = {"estimate": self.estimate, "mean": mean, "bias": mean - self.estimate, "std_error": error}
        return pd.DataFrame(columns, index=pd.Index(self.names, dtype=object))

    def conf_int(self, level: float = 0.95, kind: str = "percentile", scale: str = "sdcor") -> pd.DataFrame:
        """Return bootstrap intervals.

        Parameters
        ----------
        level : float
            Confidence level.
        kind : {"percentile", "basic", "normal"}
            Quantiles of the replicates; twice the estimate less them; estimate less bias, plus and
            minus normal quantiles times the bootstrap standard error (Davison and Hinkley 1997,
            sections 5.2-5.3).
        scale : {"sdcor", "varcov"}
            Standard deviations and correlations, or variances and covariances.

        Returns
        -------
        DataFrame
            Index: parameters; columns ``estimate``, ``conf_low``, ``conf_high``. Limits outside the
            parameter space are moved to its bound.
        """
        check_level(level)
        check_kind(kind)
        names, estimate, values = self.names, self.estimate, self.values
        if check_scale(scale) == "varcov":
            if not self.entries:
                raise ParameterError("the values of a statistic have one scale only")
            k = len(self.entries)
            names = (*(e.variance_name for e in self.entries), SIGMA2, *names[k + 1 :])
            estimate = _squared(self.entries, estimate)
            values = _squared(self.entries, values)
        low, high = self._bounds(scale)
        limits = intervals(estimate, values, float(level), kind)
        limits = np.clip(limits, low[:, None], high[:, None])
        return pd.DataFrame(
            {"estimate": estimate, "conf_low": limits[:, 0], "conf_high": limits[:, 1]},
            index=pd.Index(names, dtype=object),
        )

    def _bounds(self, scale: str) -> tuple[FloatArray, FloatArray]:
        low, high = np.full(len(self.names), -np.inf), np.full(len(self.names), np.inf)
        for x, e in enumerate(self.entries):
            if e.is_sd:
                low[x] = 0.0
            elif scale == "sdcor":
                low[x], high[x] = -1.0, 1.0
        if self.entries:
            low[len(self.entries)] = 0.0
        return low, high

    def __repr__(self) -> str:
        kind = "one-step approximations" if self.one_step else "refits"
        return (
            f"<Bootstrap of {self.n} {kind} by {'REML' if self.reml else 'ML'}; {int(self.singular.sum())} singular, "
            f"{int((~self.converged).sum())} not converged>"
        )


def _squared(entries: Sequence[Entry], values: FloatArray) -> FloatArray:
    """Return variances and covariances for standard deviations and correlations."""
    k = len(entries)
    return np.concatenate(
        [variance_values(entries, values[..., :k]), values[..., k : k + 1] ** 2, values[..., k + 1 :]], axis=-1
    )


@dataclass(frozen=True)
class Plan:
    """What a batch of replicates needs, for other processes too; without rows where the system has a factor."""

    engine: Engine
    criterion: Criterion
    sampler: StatisticsSource
    shared: Shared
    sigma: float
    one_step: bool

    def run(self, seeds: Sequence[np.random.SeedSequence]) -> Estimates:
        """Return the refits of one batch."""
        rngs = [np.random.default_rng(seed) for seed in seeds]
        with self.engine.locked() as pls, blas_threads(0.0):
            y = self.sampler.draw(pls.system, self.shared.templates, self.sigma, rngs)
            return refit(pls, self.criterion, self.shared, y, self.one_step)


def make_plan(problem: Problem, result: FitResult, one_step: bool) -> Plan:
    """Prepare the draws and the first step."""
    xp = problem.engine.crossproducts
    p = xp.p
    with problem.engine.locked() as pls, blas_threads(0.0):
        shared = prepare(pls, result.criterion_type, result.par)
        sampler: StatisticsSource
        if pls.system.factorization is not None:
            sampler = Sampler.of(pls.system, xp.ZtWXy[:, :p], xp.XytWXy[:p, :p], xp.n)
        else:
            sampler = RowSampler.of(problem.observed("draws for a system without a factor"), xp)
    return Plan(problem.engine, result.criterion_type, sampler, shared, result.sigma, one_step)


def bootstrap(
    problem: Problem,
    result: FitResult,
    n: int = 1000,
    kind: str = "parametric",
    *,
    seed: Any = None,
    n_jobs: int = 1,
    progress: bool = True,
    statistic: Statistic | None = None,
    one_step: bool = False,
) -> Bootstrap:
    """Return replicates of the estimates; see `MixedModelFit.bootstrap`."""
    if kind != "parametric":
        raise UnsupportedError(f"bootstrap kind {kind!r} is not available; there is 'parametric'")
    n, children = count(n), seed_sequence(seed)
    plan = make_plan(problem, result, one_step)
    size = batch_size(problem.engine.crossproducts.gram.q)
    found = Estimates.joined(run_batches(plan.run, children.spawn(n), size, n_jobs, progress))
    entries = variance_entries(problem.layout.terms, problem.engine.parameters.structures)
    return _table(problem, result, found, entries, statistic, one_step)


def batch_size(q: int) -> int:
    """Return the replicates per batch for q columns of Z."""
    return int(np.clip(REPLICATE_CELLS // max(q, 1), 1, LARGEST_BATCH))


def run_batches(
    run: Callable[[Sequence[np.random.SeedSequence]], Any],
    seeds: Sequence[np.random.SeedSequence],
    size: int,
    n_jobs: int,
    progress: bool,
) -> list[Any]:
    """Return the results of all batches in order, made in ``n_jobs`` processes."""
    if isinstance(n_jobs, bool) or not isinstance(n_jobs, int | np.integer) or n_jobs == 0:
        raise ParameterError(f"n_jobs must be a whole number other than 0, not {n_jobs!r}")
    batches = [seeds[i : i + size] for i in range(0, len(seeds), size)]
    if n_jobs == 1 or len(batches) == 1:
        return list(_shown((run(batch) for batch in batches), len(batches), progress))
    try:
        from joblib import Parallel, delayed
    except ImportError as error:
        raise BackendError(f"n_jobs other than 1 needs joblib ({error}): pip install joblib") from error
    made = Parallel(n_jobs=n_jobs, return_as="generator")(delayed(run)(batch) for batch in batches)
    return list(_shown(made, len(batches), progress))


def _shown(results: Iterator[Any], total: int, progress: bool) -> Iterator[Any]:
    """Pass results on, reporting on standard error once it takes long."""
    started, shown = time.monotonic(), False
    for done, one in enumerate(results, 1):
        elapsed = time.monotonic() - started
        if progress and elapsed > SILENT_SECONDS:
            shown = True
            sys.stderr.write(f"\rbootstrap: batch {done} of {total}, {elapsed:.0f} s")
            sys.stderr.flush()
        yield one
    if shown:
        sys.stderr.write("\n")


def _table(
    problem: Problem,
    result: FitResult,
    found: Estimates,
    entries: tuple[Entry, ...],
    statistic: Statistic | None,
    one_step: bool,
) -> Bootstrap:
    """Return the replicates on the reported scales, or a statistic of each."""
    parameters, columns = problem.engine.parameters, problem.layout.columns
    refused = np.isnan(found.sigma)
    if refused.any():
        lost = f"{int(refused.sum())} of {len(refused)} replicates could not be evaluated in double precision"
        warn_user(f"{lost}; they are NaN and left out of intervals", ConvergenceWarning)
    sdcor = _reported(problem, entries, np.where(refused[:, None], result.par, found.par), found.sigma)
    sdcor[refused] = np.nan
    beta = result.beta + found.coefficients @ problem.engine.crossproducts.basis.matrix.T
    own = _reported(problem, entries, result.par[None], np.array([result.sigma]))[0]
    names: tuple[str, ...] = (*(e.name for e in entries), SIGMA, *columns)
    estimate = np.concatenate([own, [result.sigma], result.beta])
    values = np.concatenate([sdcor, found.sigma[:, None], beta], axis=1)
    if statistic is not None:
        keys = [e.name for e in entries]

        def make(row: FloatArray, criterion: float, par: FloatArray) -> Replicate:
            k = len(keys)
            params = pd.Series(row[k + 1 :], index=list(columns))
            theta = frozen(parameters.theta(par))
            return Replicate(params, pd.Series(row[:k], index=keys), float(row[k]), float(criterion), theta)

        first = _named(statistic(make(estimate, result.criterion, result.par)))
        nothing = dict.fromkeys(first, np.nan)
        each = zip(refused, values, found.criterion, found.par)
        rows = [nothing if lost else _named(statistic(make(*r))) for lost, *r in each]
        names, entries = tuple(first), ()
        estimate = np.array(list(first.values()))
        values = np.array([[row[name] for name in names] for row in rows])
    return Bootstrap(
        names,
        frozen(estimate),
        frozen(values),
        frozen(found.criterion),
        frozen(found.singular),
        frozen(found.converged),
        one_step,
        result.criterion_type.reml,
        entries,
    )


def _reported(problem: Problem, entries: tuple[Entry, ...], par: FloatArray, sigma: FloatArray) -> FloatArray:
    """Return standard deviations and correlations, (n, k), of parameters (n, n_par)."""
    each = [problem.engine.parameters.reported_templates(x) for x in par]
    return entry_values(entries, tuple(np.array(T) for T in zip(*each)), sigma)


def _named(values: Any) -> dict[str, float]:
    """Return the values of a statistic by name."""
    if isinstance(values, pd.Series):
        values = values.to_dict()
    if isinstance(values, dict):
        return {str(k): float(v) for k, v in values.items()}
    flat = np.atleast_1d(np.asarray(values, dtype=float)).ravel()
    return {f"t{i + 1}": float(v) for i, v in enumerate(flat)}
