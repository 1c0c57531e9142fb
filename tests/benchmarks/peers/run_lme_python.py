"""lme-python (bindings of the Rust crate lme-rs) with its default settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lme_python
import pandas as pd
from protocol import TOY_FORMULA, Clock, Unsupported, main, read_responses, timed, toy_frame, versions


def described(fit: Any, reml: bool) -> dict[str, Any]:
    """Return what the table shows of a fit."""
    return {
        "criterion": float(fit.reml_criterion if reml else -2.0 * fit.log_likelihood),
        "kind": "REML" if reml else "ML",
        "evaluations": fit.iterations,
        "converged": bool(fit.converged),
        "note": str(fit.diagnostics.get("termination", "")) if isinstance(fit.diagnostics, dict) else "",
    }


def run(job: dict[str, Any], data: pd.DataFrame) -> dict[str, Any]:
    """Run the task of a job; what it counts are iterations."""
    lme_python.lmer(TOY_FORMULA, toy_frame())
    found, reml = {"versions": versions("lme-python", "numpy")}, job["reml"]
    if job["task"] == "fit":
        times, fit = timed(job, lambda: lme_python.lmer(job["formula"], data, reml=reml))
        return {**times, **described(fit, reml), **found}
    if job["task"] not in ("refit", "refits"):
        raise Unsupported(f"no runner for {job['task']}")
    prepared, Y = lme_python.prepare_lmer(job["formula"], data), read_responses(Path(job["data"]), len(data))
    clock = Clock()
    fits = [clock(lambda y=y: prepared.fit(y=y, reml=reml)) for y in Y.T]
    total = sum(described(f, reml)["criterion"] for f in fits)
    times = clock.times(together=job["task"] == "refits")
    return {**described(fits[-1], reml), **times, "criterion": total, "peak_mb": None, **found}


if __name__ == "__main__":
    main(run)
