"""Fits of the huge designs: time, memory beyond the data, error, beside GPBoost where asked.

    python -m tests.benchmarks.huge_run commun --scale 1.0
    python -m tests.benchmarks.huge_run general --gpboost ~/peers/bin/python
    python -m tests.benchmarks.huge_run commun --scale 0.1 --exact schur

Data are made once and kept in a temporary folder; each program runs in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from .huge import HUGE

GIGA = 1e9
REPOSITORY = Path(__file__).parents[2]
GPBOOST = """
import json, sys, time
import gpboost, numpy as np
z = np.load(sys.argv[1])
names = json.loads(sys.argv[2])
groups = np.column_stack([z[g] for g in names])
X = np.column_stack([np.ones(len(z["y"])), z["x"]])
start = time.perf_counter()
model = gpboost.GPModel(group_data=groups, likelihood="gaussian")
model.fit(y=z["y"], X=X)
seconds = time.perf_counter() - start
value = 2.0 * float(np.squeeze(model.get_current_neg_log_likelihood()))
print(json.dumps({"program": "gpboost", "ml": seconds, "criterion": value}))
"""


def resident() -> float:
    """Return the resident memory of this process, bytes."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return float(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Peak:
    """The most memory seen while it watches, beyond that at the start."""

    def __init__(self) -> None:
        self.base = self.most = resident()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            self.most = max(self.most, resident())
            time.sleep(0.02)

    @property
    def beyond(self) -> float:
        """Gigabytes."""
        return (self.most - self.base) / GIGA


def measure(path: str, name: str, solver: str | None) -> dict[str, Any]:
    """Fit by ML and by REML, and return what happened; called in a process of its own."""
    import pandas as pd

    import sparselmm as slm

    z = np.load(path)
    data = pd.DataFrame({key: z[key] for key in z.files}, copy=False)
    toy = {"y": np.arange(12.0) ** 2, "x": np.cos(np.arange(12.0)), "g": [0, 1] * 6, "h": [0, 1, 2] * 4}
    slm.lmer("y ~ x + (1 | g) + (1 | h)", toy, solver="iterative")  # what is loaded late is loaded
    peak, start = Peak(), time.perf_counter()
    model = slm.LinearMixedModel.from_formula(HUGE[name].formula, data, solver=solver)
    front = time.perf_counter()
    ml = model.fit(reml=False)
    first = time.perf_counter()
    reml = model.fit(reml=True)
    second = time.perf_counter()
    error = ml.convergence.monte_carlo
    return {
        "program": f"sparselmm {solver or ''}".strip(),
        "rows": len(data),
        "front": front - start,
        "ml": first - start,
        "both": second - start,
        "peak": peak.beyond,
        "criterion": ml.criterion,
        "reml": reml.criterion,
        "theta": ml.theta.tolist(),
        "evaluations": ml.optimizer_report.n_evaluations,
        "se": None if error is None else error.standard_error,
        "probes": None if error is None else error.probes,
        "deflation": None if error is None else error.deflation,
    }


def run(command: list[str]) -> dict[str, Any]:
    """Run a program that prints one line of JSON at its end."""
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return {"program": command[0], "error": done.stderr.strip().splitlines()[-1:]}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main() -> None:
    """Read the command line and print one line per program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("design", choices=list(HUGE))
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--exact", help="an exact solver to run as well")
    parser.add_argument("--gpboost", help="a Python with GPBoost")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--inner", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inner:
        path, solver = options.inner
        print(json.dumps(measure(path, options.design, None if solver == "-" else solver)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "data.npz")
        np.savez(path, **{key: column.values for key, column in HUGE[options.design].make(options.scale).items()})
        inner = [sys.executable, "-m", "tests.benchmarks.huge_run", options.design, "--inner", path]
        commands = [[*inner, "iterative"]] + ([[*inner, options.exact]] if options.exact else [])
        if options.gpboost:
            groups = re.findall(r"\| (\w+)\)", HUGE[options.design].formula)
            commands.append([options.gpboost, "-c", GPBOOST, path, json.dumps(groups)])
        for _ in range(options.repeats):
            for command in commands:
                print(json.dumps(run(command)), flush=True)


if __name__ == "__main__":
    main()
