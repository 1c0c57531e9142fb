"""Data frames with the columns of R's broom.mixed: ``tidy``, ``glance`` and ``augment``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._typing import FloatArray
from sparselmm.data.source import ModelSource
from sparselmm.data.tables.frame import as_frame
from sparselmm.exceptions import ParameterError, UnsupportedError
from sparselmm.formula.grammar import parse_expression
from sparselmm.formula.nodes import Name, names
from sparselmm.formula.spec import ModelSpec
from sparselmm.inference.frames import pad_rows
from sparselmm.inference.leave_out.leverage import row_geometry
from sparselmm.inference.leave_out.residuals import cook_of_cases
from sparselmm.likelihood.result import FitResult

EFFECTS = ("fixed", "ran_pars", "ran_vals")
AUGMENTED = "augmented data"


def check_effects(effects: str | Sequence[str]) -> tuple[str, ...]:
    """Return the effects asked for."""
    listed = (effects,) if isinstance(effects, str) else tuple(effects)
    unknown = [e for e in listed if e not in EFFECTS]
    if unknown or not listed:
        raise ParameterError(f"effects must be some of {', '.join(EFFECTS)}, not {effects!r}")
    return listed


def tidy_fixed(table: pd.DataFrame) -> pd.DataFrame:
    """Return a coefficient table as broom.mixed has it."""
    names = {"std_error": "std.error", "p_value": "p.value", "conf_low": "conf.low", "conf_high": "conf.high"}
    out = table.rename(columns=names)
    out.insert(0, "term", list(map(str, out.index)))
    out.insert(0, "group", None)
    out.insert(0, "effect", "fixed")
    return out.reset_index(drop=True)


def tidy_variances(result: FitResult) -> pd.DataFrame:
    """Return standard deviations and correlations; terms are ``sd__x`` and ``cor__x.z`` as in broom.mixed."""
    frame = result.varcorr.to_frame()
    terms = []
    for var1, var2 in zip(frame["var1"], frame["var2"]):
        if not isinstance(var1, str):
            terms.append("sd__Observation")
        else:
            terms.append(f"cor__{var1}.{var2}" if isinstance(var2, str) else f"sd__{var1}")
    return pd.DataFrame(
        {"effect": "ran_pars", "group": frame["grp"], "term": terms, "estimate": frame["sdcor"].astype(float)}
    )


def tidy_modes_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of conditional modes (``ranef_table``) as broom.mixed has it."""
    names = {"grp": "group", "std_dev": "std.error", "conf_low": "conf.low", "conf_high": "conf.high"}
    out = table.rename(columns=names)
    out.insert(0, "effect", "ran_vals")
    return out[["effect", "group", "level", "term", "estimate", "std.error", "conf.low", "conf.high"]]


def glance_row(result: FitResult, npar: int) -> pd.DataFrame:
    """Return one row: nobs, sigma, logLik, AIC, BIC, REMLcrit or deviance, df.residual."""
    n, criterion = result.n, result.criterion
    name = "REMLcrit" if result.criterion_type.reml else "deviance"
    return pd.DataFrame(
        {
            "nobs": [n],
            "sigma": [result.sigma],
            "logLik": [-0.5 * criterion],
            "AIC": [criterion + 2.0 * npar],
            "BIC": [criterion + npar * float(np.log(n))],
            name: [criterion],
            "df.residual": [n - npar],
        }
    )


def augment_rows(result: FitResult, source: ModelSource) -> pd.DataFrame:
    """Return the rows used with .fitted, .resid, .hat, .cooksd, .fixed, .mu, .offset and weights columns.

    Under ``na_action="exclude"`` all rows of the data, with NaN where a row was left out of the fit.
    The response of a refit replaces the column of the formula's; that of log(y) is added, and y left out.
    After an approximate fit to many rows .hat and .cooksd are left out; ``attrs["notes"]`` says so.
    """
    observed = result.observed(AUGMENTED)
    frame = as_frame(source.data) if source.data is not None else None
    exclude = result.layout.na_action == "exclude"
    rows = np.arange(len(observed.frame_index)) if exclude else observed.positions
    columns = {} if frame is None else {name: s.iloc[rows].array for name, s in frame.readable().items()}
    if source.response is not None and source.spec is not None:
        columns = _with_response(columns, source.spec, source.response[rows])
    numbers, notes = _augmented(result)
    padded = {name: pad_rows(observed, values) if exclude else values for name, values in numbers.items()}
    out = pd.DataFrame({**columns, **padded}, index=observed.frame_index if exclude else observed.index)
    if notes:
        out.attrs["notes"] = notes
    return out


def _with_response(columns: dict[str, Any], spec: ModelSpec, y: FloatArray) -> dict[str, Any]:
    """Return the columns with the response y of a refit, in the place of the formula's."""
    node = parse_expression(spec.response)
    name = node.name if isinstance(node, Name) else spec.response
    made_of = [column for column in columns if column in names(node)]
    replaced = {name if column in made_of[:1] else column: values for column, values in columns.items()}
    return {column: y if column == name else v for column, v in replaced.items() if column not in made_of[1:]}


def _augmented(result: FitResult) -> tuple[dict[str, FloatArray], list[str]]:
    """Return the columns of the rows used, (n,) each, and remarks."""
    observed, n = result.observed(AUGMENTED), result.n
    w = np.ones(n) if observed.weights is None else observed.weights
    offset = np.zeros(n) if observed.offset is None else observed.offset
    mu, resid = result.linear_predictor, result.residuals
    out, notes = {".fitted": mu, ".resid": resid}, []
    try:
        hat = row_geometry(observed, result.engine, result.par).hat
        out |= {".hat": hat, ".cooksd": cook_of_cases(np.sqrt(w) * resid, hat, result.sigma, result.p)}
    except UnsupportedError as error:
        notes.append(f"without .hat and .cooksd: {error}")
    fixed = (observed.X @ result.beta if result.p else np.zeros(n)) + offset
    out |= {".fixed": fixed, ".mu": mu, ".offset": offset, ".sqrtXwt": np.ones(n), ".sqrtrwt": np.sqrt(w)}
    return out | {".weights": w, ".wtres": np.sqrt(w) * resid}, notes
