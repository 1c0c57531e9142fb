"""sparselmm: every task of the suite."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from protocol import TOY_FORMULA, Clock, main, read_responses, timed, toy_frame, versions

COLD = (
    "import sparselmm as slm; data = slm.load_dataset('insteval'); "
    "fit = slm.lmer({formula!r}, data, reml={reml}); print(fit.summary()); print('criterion', repr(fit.criterion))"
)


def described(fit: Any) -> dict[str, Any]:
    """Return what the table shows of a fit."""
    report = fit.optimizer_report
    return {
        "criterion": float(fit.criterion),
        "kind": "REML" if fit.reml else "ML",
        "evaluations": report.n_evaluations,
        "gradients": getattr(report, "n_gradients", None),
        "converged": bool(fit.converged),
        "note": report.message,
    }


def fit(job: dict[str, Any], data: pd.DataFrame) -> dict[str, Any]:
    """From formula to result."""
    import sparselmm as slm

    times, model = timed(job, lambda: slm.lmer(job["formula"], data, reml=job["reml"]))
    return {**times, **described(model)}


def refit(job: dict[str, Any], data: pd.DataFrame) -> dict[str, Any]:
    """One new response at a time; the criterion is the sum over all."""
    import sparselmm as slm

    base, Y = slm.lmer(job["formula"], data, reml=job["reml"]), read_responses(Path(job["data"]), len(data))
    clock = Clock()
    fits = [clock(lambda y=y: base.refit(y)) for y in Y.T]
    total = sum(float(f.criterion) for f in fits)
    return {**described(fits[-1]), **clock.times(), "criterion": total, "peak_mb": None}


def refits(job: dict[str, Any], data: pd.DataFrame) -> dict[str, Any]:
    """All responses at once: `fit_many` where the package has it, else one refit after the other."""
    import sparselmm as slm

    Y = read_responses(Path(job["data"]), len(data))
    if hasattr(slm, "fit_many"):
        model = slm.LinearMixedModel.from_formula(job["formula"], data)
        times, frame = timed(job, lambda: slm.fit_many(model, Y))
        return {**times, "criterion": float(frame["criterion"].sum()), "kind": "REML", "note": "fit_many"}
    base = slm.lmer(job["formula"], data, reml=job["reml"])
    times, fits = timed(job, lambda: [base.refit(y) for y in Y.T])
    total = sum(float(f.criterion) for f in fits)
    return {**described(fits[-1]), **times, "criterion": total, "note": "a loop over refit"}


def cold(job: dict[str, Any], data: pd.DataFrame) -> dict[str, Any]:
    """A new interpreter that imports, fits and prints the summary."""
    code = COLD.format(formula=job["formula"], reml=job["reml"])
    times, done = timed(
        job, lambda: subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    )
    criterion = float(done.stdout.rsplit("criterion", 1)[1])
    return {**times, "cpu": None, "peak_mb": None, "criterion": criterion, "kind": "REML" if job["reml"] else "ML"}


def evaluate(job: dict[str, Any], data: pd.DataFrame) -> dict[str, Any]:
    """The criterion at points near the optimum, the cross-products being formed."""
    import sparselmm as slm

    model = slm.lmer(job["formula"], data, reml=job["reml"])
    points = iter(range(1, 10_000))
    job = {**job, "runs": 25}
    times, _ = timed(job, lambda: model.evaluate(model.theta * (1.0 + 1e-4 * next(points))))
    return {**times, **described(model), "rows": len(data)}


TASKS: dict[str, Callable[[dict[str, Any], pd.DataFrame], dict[str, Any]]] = {
    "fit": fit,
    "refit": refit,
    "refits": refits,
    "cold": cold,
    "evaluate": evaluate,
}


def run(job: dict[str, Any], data: pd.DataFrame) -> dict[str, Any]:
    """Run the task of a job."""
    import sparselmm as slm

    slm.lmer(TOY_FORMULA, toy_frame())
    found = {**versions("numpy", "scipy", "scikit-sparse"), "sparselmm": slm.__version__}
    return {**TASKS[job["task"]](job, data), "versions": found, "source": str(Path(slm.__file__).parent)}


if __name__ == "__main__":
    main(run)
