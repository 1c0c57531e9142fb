"""What can be profiled in a model, and the coordinates it is profiled in."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from sparselmm._typing import BoolArray, FloatArray
from sparselmm.covariance.coordinates import free_chart, pair_chart, sd_chart
from sparselmm.exceptions import ConvergenceWarning, ParameterError, SparseLMMWarning
from sparselmm.inference.profile.path import Curve
from sparselmm.inference.profile.point import HeldDeviance, Minimum
from sparselmm.inference.profile.targets import FixedEffectTarget, VarianceTarget
from sparselmm.inference.variance.sdcor import (
    SIGMA,
    Entry,
    entry_values,
    undetermined,
    variance_entries,
)
from sparselmm.likelihood.criterion import ML, Criterion
from sparselmm.likelihood.pls import PenalizedLeastSquares
from sparselmm.likelihood.problem import Problem, fit_problem
from sparselmm.likelihood.result import FitResult

LONGEST = 0.25  # longest step in the arcsine of a correlation
Kind = Literal["sd", "cor", "cov", "sigma", "beta"]


@dataclass(frozen=True)
class Parameter:
    """A parameter that can be profiled.

    Attributes
    ----------
    name : str
        As reported.
    kind : {"sd", "cor", "cov", "sigma", "beta"}
        What it is.
    index : int
        Position among the entries or the fixed effects.
    entry : Entry or None
        Of a variance parameter.
    """

    name: str
    kind: Kind
    index: int
    entry: Entry | None = None

    def value(self, c: FloatArray | float) -> FloatArray:
        """Return the parameter of the coordinate that it is profiled in (log σ, the arcsine of a correlation)."""
        c = np.asarray(c, dtype=float)
        if self.kind == "sigma":
            return np.exp(c)
        return np.sin(c) if self.kind == "cor" else c

    def coordinate(self, value: FloatArray | float) -> FloatArray:
        """Return the coordinate of a value; NaN for one that the parameter cannot have."""
        value = np.asarray(value, dtype=float)
        if self.kind == "sigma":
            return np.log(np.where(value > 0, value, np.nan))
        if self.kind == "cor":
            return np.arcsin(np.where(np.abs(value) < 1.0 + 1e-9, np.clip(value, -1.0, 1.0), np.nan))
        return value

    @property
    def bounds(self) -> tuple[float, float]:
        """Bounds of the coordinate."""
        if self.kind == "cor":
            return -np.pi / 2, np.pi / 2
        return (0.0 if self.kind == "sd" else -np.inf), np.inf


@dataclass(frozen=True)
class Optimum:
    """The minimum that profiles start from.

    Attributes
    ----------
    problem : Problem
        The model.
    result : FitResult
        Its fit by the criterion that is profiled.
    parameters : tuple of Parameter
        In the order standard deviations and correlations, σ, fixed effects.
    """

    problem: Problem
    result: FitResult
    parameters: tuple[Parameter, ...]

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The standard deviations and correlations."""
        return tuple(p.entry for p in self.parameters if p.entry is not None)

    @cached_property
    def left_open(self) -> BoolArray:
        """Whether the design leaves each of the entries open."""
        return undetermined(self.result, [(e.term, e.row, e.col) for e in self.entries])

    def values(self) -> FloatArray:
        """Return the estimates of all parameters."""
        reported = self.problem.engine.parameters.reported_templates(self.result.par)
        sdcor = entry_values(self.entries, reported, self.result.sigma)
        beta = self.result.beta if self.has_beta else np.zeros(0)
        return np.concatenate([sdcor, [self.result.sigma], beta])

    @property
    def has_beta(self) -> bool:
        """Whether fixed effects can be profiled: the REML criterion is no function of them."""
        return not self.result.criterion_type.reml


def optimum(problem: Problem, result: FitResult, criterion: Criterion) -> Optimum:
    """Return the fit by a criterion; one by another criterion is fitted again, from its θ."""
    result = _fitted_by(problem, result, criterion)
    problem = replace(problem, engine=result.engine)
    entries = variance_entries(problem.layout.terms, problem.engine.parameters.structures)
    parameters = [Parameter(e.name, "sd" if e.is_sd else "cor", x, e) for x, e in enumerate(entries)]
    parameters.append(Parameter(SIGMA, "sigma", 0))
    if not criterion.reml:
        parameters += [Parameter(name, "beta", j) for j, name in enumerate(problem.layout.columns)]
    return Optimum(problem, result, tuple(parameters))


def _fitted_by(problem: Problem, result: FitResult, criterion: Criterion) -> FitResult:
    if result.criterion_type.reml == criterion.reml and result.convergence is not None:
        return result
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SparseLMMWarning)
        return fit_problem(problem, criterion, start=result.theta)


def ml_result(problem: Problem, result: FitResult) -> FitResult:
    """Return a fit by maximum likelihood as it is, another one fitted again."""
    return _fitted_by(problem, result, ML)


def covariance_of(parameter: Parameter) -> Parameter:
    """Return the covariance in place of a correlation."""
    assert parameter.entry is not None
    return Parameter(parameter.entry.variance_name, "cov", parameter.index, parameter.entry)


def chosen(found: Optimum, which: str | Sequence[str] | None) -> list[Parameter]:
    """Return the parameters of names, or of the groups ``"theta_"`` (all but fixed effects) and ``"beta_"``."""
    if which is None:
        return list(found.parameters)
    names = [which] if isinstance(which, str) else list(which)
    out: list[Parameter] = []
    for name in names:
        group = {"theta_": lambda p: p.kind != "beta", "beta_": lambda p: p.kind == "beta"}.get(str(name))
        some = [p for p in found.parameters if (group(p) if group else p.name == name)]
        if not some:
            _unknown(found, str(name))
        out += [p for p in some if p not in out]
    return out


def _unknown(found: Optimum, name: str) -> None:
    known = ", ".join(p.name for p in found.parameters)
    if not found.has_beta and (name == "beta_" or name in found.problem.layout.columns):
        raise ParameterError(
            f"the REML criterion is no function of the fixed effects, so {name!r} has no REML profile; use reml=False"
        )
    raise ParameterError(f"unknown parameter {name!r}; there are {known}, and the groups 'theta_' and 'beta_'")


def is_undetermined(found: Optimum, parameter: Parameter) -> bool:
    """Return whether the optimum says nothing about a correlation, because a coefficient does not vary."""
    return parameter.kind == "cor" and bool(np.isnan(found.values()[parameter.index]))


def is_flat(found: Optimum, parameter: Parameter) -> bool:
    """Return whether the design leaves a parameter open, with a warning that its profile is flat."""
    if parameter.entry is None or not found.left_open[parameter.index]:
        return False
    warnings.warn(
        f"The profile of {parameter.name} is flat: the design does not tell it from variances of another term "
        "(see fit.messages). It has no limits.",
        ConvergenceWarning,
        stacklevel=2,
    )
    return True


@contextmanager
def opened(found: Optimum, parameter: Parameter) -> Iterator[Curve]:
    """Yield the curve of a parameter, with the solver held for this thread."""
    with found.problem.engine.locked() as pls:
        yield _curve(found, parameter, pls)


def _curve(found: Optimum, parameter: Parameter, pls: PenalizedLeastSquares) -> Curve:
    structures, result = pls.parameters.structures, found.result
    charts = [free_chart(s) for s in structures]
    parts = list(pls.parameters.split(result.par))
    tau, c = 1.0 / result.sigma, -np.log(1.0 / result.sigma)
    target: VarianceTarget | FixedEffectTarget = VarianceTarget(fixes_sigma=parameter.kind == "sigma")
    if parameter.kind == "beta":
        basis = pls.crossproducts.basis
        target = FixedEffectTarget(basis.matrix[parameter.index], basis.b0)
        c = float(result.beta[parameter.index])
    elif parameter.entry is not None:
        e = parameter.entry
        t, s = e.term, structures[e.term]
        free = next(f for f in s.entries() if (f.row, f.col) == (e.row, e.col))
        covariance = parameter.kind == "cov"
        charts[t] = sd_chart(s, parts[t], free) if e.is_sd else pair_chart(s, parts[t], free, covariance)
        parts[t], c = charts[t].start(parts[t], tau)
    z = np.concatenate([*parts, [] if parameter.kind == "sigma" else [tau]])
    low, high = parameter.bounds
    deviance = HeldDeviance(pls, result.criterion_type, tuple(charts), target)
    deviance.calibrate(z, float(np.clip(c, low, high)))
    longest = LONGEST if parameter.kind == "cor" else np.inf
    return Curve(deviance, z, float(np.clip(c, low, high)), low, high, result.criterion, longest)


def all_values(found: Optimum, curve: Curve, at: Minimum) -> FloatArray:
    """Return all parameters at a minimum, in the order of the optimum's."""
    deviance = curve.deviance
    full = deviance.full(at.z, at.c)
    structures = found.problem.engine.parameters.structures
    reported = tuple(s.reported_modes(jet.T.T).T for s, jet in zip(structures, deviance.map.jets(full)))
    sigma = 1.0 / full[-2]
    basis = deviance.pls.crossproducts.basis
    beta = basis.coefficients(at.gamma) if found.has_beta else np.zeros(0)
    return np.concatenate([entry_values(found.entries, reported, sigma), [sigma], beta])
