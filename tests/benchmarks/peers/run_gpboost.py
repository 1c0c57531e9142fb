"""GPBoost: grouped intercepts by maximum likelihood (it has no REML), default optimizer."""

from __future__ import annotations

import os
from typing import Any

import gpboost
import numpy as np
import pandas as pd
from protocol import Unsupported, main, timed, toy_frame, versions


def codes(data: pd.DataFrame, names: list[str]) -> Any:
    """Return integer group codes, (n, terms)."""
    columns = [data[n].cat.codes if isinstance(data[n].dtype, pd.CategoricalDtype) else data[n] for n in names]
    return np.column_stack([np.asarray(c) for c in columns])


def fixed_matrix(data: pd.DataFrame, names: list[str]) -> Any:
    """Return an intercept, numeric columns as they are and treatment contrasts of factors."""
    parts = [np.ones((len(data), 1))]
    for name in names:
        column = data[name]
        if isinstance(column.dtype, pd.CategoricalDtype):
            parts.append(pd.get_dummies(column, drop_first=True).to_numpy(dtype=float))
        else:
            parts.append(column.to_numpy(dtype=float)[:, None])
    return np.hstack(parts)


def fitted(y: Any, X: Any, groups: Any) -> Any:
    """Return a fitted model."""
    threads = int(os.environ.get("OMP_NUM_THREADS", "0")) or None
    model = gpboost.GPModel(group_data=groups, likelihood="gaussian", num_parallel_threads=threads)
    model.fit(y=y, X=X)
    return model


def run(job: dict[str, Any], data: pd.DataFrame) -> dict[str, Any]:
    """Run a fit; the design must have random intercepts only."""
    if job["task"] != "fit" or not job["groups"] or any(slopes for _, slopes in job["groups"]):
        raise Unsupported("GPBoost is run for random intercepts only")
    toy = toy_frame()
    fitted(toy["y"].to_numpy(), fixed_matrix(toy, ["x"]), codes(toy, ["g", "h"]))
    response, names = job["fixed"][0], job["fixed"][1:]
    groups = [name for name, _ in job["groups"]]

    def call() -> Any:
        y = data[response].to_numpy(dtype=float)
        return fitted(y, fixed_matrix(data, names), codes(data, groups))

    times, model = timed(job, call)
    return {
        **times,
        "criterion": 2.0 * float(np.squeeze(model.get_current_neg_log_likelihood())),
        "kind": "ML",
        "evaluations": int(model._get_num_optim_iter()),
        "converged": True,
        "note": "iterations, not evaluations",
        "versions": versions("gpboost", "numpy"),
    }


if __name__ == "__main__":
    main(run)
