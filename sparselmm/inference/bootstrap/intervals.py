"""Parametric-bootstrap intervals of a fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from sparselmm.exceptions import ParameterError
from sparselmm.inference.bootstrap.replicates import bootstrap
from sparselmm.inference.profile.intervals import Fitted


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
