"""Profiles and bootstrap of a fit, and responses drawn for designs whose data are yet to come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from sparselmm.api.estimates import Estimates
from sparselmm.covariance import make_structure
from sparselmm.covariance.parameters import ParameterMap
from sparselmm.data import Design, build_design
from sparselmm.data.formulas import parse_formula
from sparselmm.data.tables.frame import Frame, as_frame
from sparselmm.formula.nodes import Expression, Name
from sparselmm.hints.refusal import hinted
from sparselmm.inference.bootstrap.ratio_test import BootstrapLRT
from sparselmm.inference.bootstrap.ratio_test import bootstrap_lrt as _bootstrap_lrt
from sparselmm.inference.bootstrap.replicates import Bootstrap, Statistic, bootstrap
from sparselmm.inference.predict.new_rows import own_rows
from sparselmm.inference.predict.simulate import Draws, count, named_values, positive
from sparselmm.inference.predict.simulate import simulate as draw
from sparselmm.inference.profile.profile import Profile, profile


class Resampling(Estimates):
    """Mixin of `MixedModelFit`."""

    def profile(
        self,
        which: str | Sequence[str] | None = None,
        *,
        reml: bool = False,
        zeta_max: float | None = None,
        spacing: float = 0.5,
    ) -> Profile:
        """Profile the deviance: ζ of each parameter, minimized over all others.

        Parameters
        ----------
        which : str or sequence of str, optional
            Parameters by name (``"sd(Days|Subject)"``, ``"sigma"``, ``"Days"``), or the groups
            ``"theta_"`` (variance parameters) and ``"beta_"`` (fixed effects); by default all.
        reml : bool
            Profile the REML criterion in place of the ML deviance, which lme4 always takes; it has
            no fixed effects as parameters.
        zeta_max : float, optional
            How far to follow each profile; by default far enough for joint 99 % regions of two
            parameters, which covers intervals up to a level of 0.997.
        spacing : float
            Distance of the knots in ζ.

        Returns
        -------
        Profile
            ``to_frame()``, ``conf_int(level)``, and one `ParameterProfile` per parameter with its
            interpolant ``zeta_at``.

        Warns
        -----
        ConvergenceWarning
            When a profile finds a lower deviance than the fit.

        Notes
        -----
        After a fit by the iterative solver all points of a profile use the probes of the fit, so that its
        Monte Carlo error hardly enters ζ. A profile takes some 20 to 40 evaluations of the criterion per
        parameter.

        Examples
        --------
        >>> import sparselmm as slm
        >>> fit = slm.lmer("Yield ~ 1 + (1 | Batch)", slm.load_dataset("Dyestuff"))
        >>> fit.profile("sigma").conf_int().round(2).loc["sigma"].to_dict()
        {'estimate': 49.51, 'conf_low': 38.23, 'conf_high': 67.66}
        """
        return profile(self.problem, self.result, which, reml=reml, zeta_max=zeta_max, spacing=spacing)

    def bootstrap(
        self,
        n: int = 1000,
        kind: str = "parametric",
        *,
        seed: Any = None,
        n_jobs: int = 1,
        progress: bool = True,
        statistic: Statistic | None = None,
        one_step: bool = False,
    ) -> Bootstrap:
        """Refit the model to responses simulated from it.

        No replicate touches the rows: its sufficient statistics are drawn directly, and all first
        steps share one factorisation. The iterative solver has none to draw from: there a replicate
        takes a pass over the rows and two to four evaluations of the criterion (with ``one_step``, one
        solution of the system).

        Parameters
        ----------
        n : int
            Replicates.
        kind : {"parametric"}
            New random effects and new residuals.
        seed : int or SeedSequence, optional
            Every replicate has its own stream; numbers do not depend on ``n_jobs``.
        n_jobs : int
            Processes (joblib); -1 for all cores.
        progress : bool
            Report on standard error when it takes more than two seconds.
        statistic : callable, optional
            Takes a `Replicate` and returns numbers, by name or in order; by default all standard
            deviations, correlations, σ and fixed effects are kept.
        one_step : bool
            Stop each refit after one step of Fisher scoring from the fit's θ: an approximation, exact
            for balanced designs away from the boundary, at a small part of the cost.

        Returns
        -------
        Bootstrap
            ``to_frame()``, ``summary()``, ``conf_int(level, kind)``.

        Examples
        --------
        >>> import sparselmm as slm
        >>> fit = slm.lmer("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
        >>> made = fit.bootstrap(500, seed=1)
        >>> made.summary().loc["Days", "std_error"].round(1)
        np.float64(1.5)
        """
        return bootstrap(
            self.problem,
            self.result,
            n,
            kind,
            seed=seed,
            n_jobs=n_jobs,
            progress=progress,
            statistic=statistic,
            one_step=one_step,
        )


@hinted("bootstrap_lrt")
def bootstrap_lrt(
    m0: Estimates, m1: Estimates, n: int = 1000, *, seed: Any = None, n_jobs: int = 1, progress: bool = True
) -> BootstrapLRT:
    """Test a model against a larger one by the parametric bootstrap of the likelihood ratio.

    Parameters
    ----------
    m0, m1 : MixedModelFit
        Nested fits to the same rows, the smaller one first. REML fits are refitted by ML.
    n : int
        Replicates drawn from m0.
    seed, n_jobs, progress
        As for `MixedModelFit.bootstrap`.

    Returns
    -------
    BootstrapLRT
        ``statistic``, ``df``, ``p_value``, ``p_chi2``, ``replicates``.

    Raises
    ------
    ParameterError
        For fits to other rows or responses, or models that are not nested.

    Examples
    --------
    >>> import sparselmm as slm
    >>> data = slm.load_dataset("sleepstudy")
    >>> m0 = slm.lmer("Reaction ~ Days + (1 | Subject)", data)
    >>> m1 = slm.lmer("Reaction ~ Days + (Days || Subject)", data)
    >>> test = slm.bootstrap_lrt(m0, m1, 199, seed=1)
    >>> round(test.statistic, 2), test.p_value
    (42.08, 0.005)
    """
    pairs = (m0.problem, m0.result), (m1.problem, m1.result)
    return _bootstrap_lrt(*pairs, n, seed=seed, n_jobs=n_jobs, progress=progress)


STAND_IN = Expression(Name("_response_to_simulate"))


@hinted("simulate")
def simulate(
    formula: str,
    data: Any,
    *,
    theta: Any,
    beta: Any,
    sigma: float,
    seed: Any = None,
    nsim: int = 1,
    weights: str | npt.ArrayLike | None = None,
    offset: str | npt.ArrayLike | None = None,
    contrasts: Mapping[str, Any] | None = None,
    context: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Simulate responses of a model with given parameters, before there are any data.

    Parameters
    ----------
    formula : str
        As for `lmer`; the response need not be a column of the data, and may be left out (``"~ x + (1 | g)"``).
    data : table
        The design: predictors and grouping factors, one row per planned observation.
    theta : (n_theta,) array or mapping by name
        Relative covariance factor in lme4's order: the standard deviation of a random intercept over σ.
    beta : (p,) array or mapping by name
        Fixed effects.
    sigma : float
        Residual standard deviation.
    seed : None, int or numpy.random.SeedSequence
        Column i of the result depends on the seed and on i alone.
    nsim : int
        How many responses.
    weights, offset, contrasts, context
        As for `lmer`.

    Returns
    -------
    pandas.DataFrame
        One column ``sim_1``, ``sim_2``, ... per response, a row for each row of the data (NaN where a
        variable is missing).

    Raises
    ------
    ParameterError
        When theta or beta do not fit the formula; the message lists the names they need.

    Examples
    --------
    >>> import pandas as pd, sparselmm as slm
    >>> plan = pd.DataFrame({"dose": [0, 1, 2] * 4, "patient": list("aaabbbcccddd")})
    >>> sim = slm.simulate("y ~ dose + (1 | patient)", plan, theta=[0.5], beta=[10, 2], sigma=1.0, seed=7, nsim=2)
    >>> sim.shape
    (12, 2)
    """
    nsim = count(nsim)
    design = _design(formula, as_frame(data), weights, offset, contrasts, context)
    layout, observed = design.layout, design.rows
    parameters = ParameterMap(tuple(make_structure(t.structure, t.k) for t in layout.terms))
    names = [name for s, t in zip(parameters.structures, layout.terms) for name in s.theta_names(t.label, t.columns)]
    par = parameters.par(named_values(theta, names, "theta"))
    coefficients = named_values(beta, layout.columns, "beta") if layout.p or np.size(beta) else np.zeros(0)
    rows = own_rows(observed)
    mean = rows.shift + observed.X @ coefficients
    parts = tuple(part for part in rows.parts if part is not None)
    draws = Draws(mean, parts, parameters.reported_templates(par), positive(sigma, "sigma"), observed.weights)
    values = np.full((len(observed.frame_index), nsim), np.nan)
    values[observed.positions] = draw(draws, nsim, seed)
    return pd.DataFrame(values, index=observed.frame_index, columns=[f"sim_{i + 1}" for i in range(nsim)])


def _design(formula: str, frame: Frame, weights: Any, offset: Any, contrasts: Any, context: Any) -> Design:
    """Return the design, with a response made up so that the same checks can be run."""
    text = formula if not isinstance(formula, str) or not formula.lstrip().startswith("~") else f"{STAND_IN} {formula}"
    spec = replace(parse_formula(text, list(frame.names)), response=STAND_IN)
    response = pd.Series(np.random.default_rng(0).standard_normal(len(frame)), index=frame.index)
    whole = Frame(
        (*frame.names, STAND_IN), frame.index, lambda name: response if name == STAND_IN else frame.series(name)
    )
    return build_design(spec, whole, weights=weights, offset=offset, contrasts=contrasts, context=context)[1]
