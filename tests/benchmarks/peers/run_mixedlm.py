"""mixedlm with its default settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mixedlm
import pandas as pd
from protocol import TOY_FORMULA, Clock, Unsupported, main, read_responses, timed, toy_frame, versions


def described(fit: Any, reml: bool) -> dict[str, Any]:
    """Return what the table shows of a fit."""
    value = fit.REMLcrit if reml else fit.deviance
    return {
        "criterion": float(value() if callable(value) else value),
        "kind": "REML" if reml else "ML",
        "evaluations": getattr(fit, "function_evals", None),
        "converged": bool(fit.converged),
        "note": str(getattr(fit, "message", "")),
    }


def run(job: dict[str, Any], data: pd.DataFrame) -> dict[str, Any]:
    """Run the task of a job."""
    mixedlm.lmer(TOY_FORMULA, toy_frame())
    found, reml = {"versions": versions("mixedlm", "numpy")}, job["reml"]
    if job["task"] == "fit":
        times, fit = timed(job, lambda: mixedlm.lmer(job["formula"], data, REML=reml))
        return {**times, **described(fit, reml), **found}
    if job["task"] not in ("refit", "refits"):
        raise Unsupported(f"no runner for {job['task']}")
    base, Y = mixedlm.lmer(job["formula"], data, REML=reml), read_responses(Path(job["data"]), len(data))
    clock = Clock()
    fits = [clock(lambda y=y: base.refit(newresp=y)) for y in Y.T]
    total = sum(described(f, reml)["criterion"] for f in fits)
    times = clock.times(together=job["task"] == "refits")
    return {**described(fits[-1], reml), **times, "criterion": total, "peak_mb": None, **found}


if __name__ == "__main__":
    main(run)
