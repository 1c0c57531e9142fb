"""Bootstrap intervals from arrays of replicates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import ndtri

from sparselmm._typing import FloatArray
from sparselmm.exceptions import ParameterError

if TYPE_CHECKING:
    from sparselmm.inference.profile.intervals import Fitted

KINDS = ("percentile", "basic", "normal")


def check_kind(kind: str) -> str:
    """Return the kind, or say which there are."""
    if kind not in KINDS:
        raise ParameterError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
    return kind


def intervals(estimate: FloatArray, values: FloatArray, level: float, kind: str) -> FloatArray:
    """Return limits, (r, 2), from replicates (n, r); those that are NaN are left out.

    Quantiles are those of order (n + 1)α, interpolated (Davison and Hinkley 1997, section 5.2.1).

    Examples
    --------
    >>> import numpy as np
    >>> intervals(np.array([5.0]), np.arange(1.0, 100.0)[:, None], 0.9, "percentile").round(6).tolist()
    [[5.0, 95.0]]
    """
    tail = (1.0 - level) / 2.0
    out = np.full((len(estimate), 2), np.nan)
    for j, column in enumerate(values.T):
        x = column[np.isfinite(column)]
        if len(x) < 2:
            continue
        if kind == "normal":
            half = float(ndtri(1.0 - tail)) * x.std(ddof=1)
            centre = 2.0 * estimate[j] - x.mean()
            out[j] = centre - half, centre + half
            continue
        low, high = np.quantile(x, [tail, 1.0 - tail], method="weibull")
        out[j] = (low, high) if kind == "percentile" else (2.0 * estimate[j] - high, 2.0 * estimate[j] - low)
    return out


def boot_conf_int(
    fit: Fitted,
    level: float = 0.95,
    which: str | Sequence[str] | None = None,
    *,
    n: int = 1000,
    kind: str = "percentile",
    scale: str = "sdcor",
    **options: Any,
) -> pd.DataFrame:
    """Return parametric-bootstrap intervals.

    Parameters
    ----------
    fit : MixedModelFit
        The fit.
    level : float
        Confidence level.
    which : str or sequence of str, optional
        Parameters to report, with the groups ``"theta_"`` and ``"beta_"`` as for `profile_conf_int`.
    n : int
        Replicates.
    kind, scale
        As for `Bootstrap.conf_int`.
    **options
        ``seed``, ``n_jobs``, ``progress``, ``one_step``, as for `MixedModelFit.bootstrap`.

    Returns
    -------
    DataFrame
        Index: parameters; columns ``estimate``, ``conf_low``, ``conf_high``.

    Examples
    --------
    >>> import sparselmm as slm
    >>> from sparselmm.inference.bootstrap.intervals import boot_conf_int
    >>> fit = slm.lmer("Yield ~ 1 + (1 | Batch)", slm.load_dataset("Dyestuff"))
    >>> boot_conf_int(fit, n=200, seed=1).columns.tolist()
    ['estimate', 'conf_low', 'conf_high']
    """
    from sparselmm.inference.bootstrap.replicates import bootstrap

    made = bootstrap(fit.problem, fit.result, n, **options)
    frame = made.conf_int(level, kind, scale)
    if which is None:
        return frame
    n_beta = len(fit.result.beta)
    groups = {"theta_": list(frame.index[: len(frame) - n_beta]), "beta_": list(frame.index[len(frame) - n_beta :])}
    wanted: list[str] = []
    for name in [which] if isinstance(which, str) else which:
        names = groups.get(name, [name])
        if any(x not in frame.index for x in names):
            raise ParameterError(f"unknown parameter {name!r}; there are {', '.join(frame.index)}")
        wanted += [x for x in names if x not in wanted]
    return frame.loc[wanted]
