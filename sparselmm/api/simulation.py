"""Responses for designs whose data are yet to come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from sparselmm.covariance import make_structure
from sparselmm.covariance.parameters import ParameterMap
from sparselmm.data import Design, build_design
from sparselmm.data.formulas import parse_formula
from sparselmm.data.tables.frame import Frame, as_frame
from sparselmm.formula.nodes import Expression, Name
from sparselmm.hints.refusal import hinted
from sparselmm.inference.predict.new_rows import own_rows
from sparselmm.inference.predict.simulate import Draws, count, named_values, positive
from sparselmm.inference.predict.simulate import simulate as draw

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
