"""statsmodels MixedLM: one grouping factor natively, crossed ones as variance components of a single group."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import statsmodels.formula.api as smf
from protocol import Unsupported, main, timed, versions

MAX_CELLS = 4e8  # the variance components of a single group are dense matrices of n × levels


def run(job: dict[str, Any], data: pd.DataFrame) -> dict[str, Any]:
    """Run a fit where the model can be stated and its dense matrices fit in memory."""
    groups = job["groups"]
    if job["task"] != "fit" or not groups:
        raise Unsupported("the model cannot be stated in statsmodels")
    fixed = f"{job['fixed'][0]} ~ {' + '.join(['1', *job['fixed'][1:]])}"
    if len(groups) == 1:
        name, slopes = groups[0]
        arguments = {"groups": name, "re_formula": "~ " + " + ".join(["1", *slopes])}
    else:
        cells = len(data) * float(sum(data[name].nunique() for name, _ in groups))
        if any(slopes for _, slopes in groups) or cells > MAX_CELLS:
            raise Unsupported(f"dense matrices of {8e-9 * cells:.0f} GB would be needed")
        components = {name: f"0 + C({name})" for name, _ in groups}
        arguments = {"groups": np.ones(len(data)), "re_formula": "0", "vc_formula": components}
    times, fit = timed(job, lambda: smf.mixedlm(fixed, data, **arguments).fit(reml=job["reml"]))
    return {
        **times,
        "criterion": -2.0 * float(fit.llf),
        "kind": "REML" if job["reml"] else "ML",
        "evaluations": None,
        "converged": bool(fit.converged),
        "note": "",
        "versions": versions("statsmodels", "numpy", "scipy"),
    }


if __name__ == "__main__":
    main(run)
