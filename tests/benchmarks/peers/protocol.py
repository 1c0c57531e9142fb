"""What the runner scripts share; needs nothing but numpy and pandas, so that it runs beside any peer.

A runner is called as ``python run_PEER.py JOB.json``. The job names the data, the model and the file for the
answer; only the fits are timed, reading is not.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import platform
import resource
import sys
import time
import warnings
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

MEGA = 1e6
LEAST = 3  # runs of a call quicker than the budget


class Unsupported(Exception):
    """The peer cannot do what the job asks; the text says why."""


def read_frame(folder: Path) -> pd.DataFrame:
    """Return the table of a job; factors are categorical columns."""
    columns: dict[str, Any] = {}
    for line in (folder / "columns.tsv").read_text(encoding="utf-8").splitlines():
        name, kind, file, levels = line.split("\t")
        if kind == "float":
            columns[name] = np.fromfile(folder / file, dtype="<f8")
        elif kind == "int":
            columns[name] = np.fromfile(folder / file, dtype="<i4")
        else:
            labels = (folder / levels).read_text(encoding="utf-8").splitlines()
            codes = np.fromfile(folder / file, dtype="<i4") - 1
            columns[name] = pd.Categorical.from_codes(codes, labels)
    return pd.DataFrame(columns, copy=False)


def read_responses(folder: Path, n: int) -> Any:
    """Return the further responses, (n, m)."""
    return np.fromfile(folder / "responses.bin", dtype="<f8").reshape(-1, n).T


def toy_frame() -> pd.DataFrame:
    """Return a small data set for a first fit that is not timed and loads what is loaded late."""
    rng = np.random.default_rng(5)
    g, h = np.repeat(np.arange(12), 10), np.tile(np.arange(10), 12)
    x = rng.standard_normal(120)
    y = x + rng.standard_normal(12)[g] + rng.standard_normal(10)[h] + rng.standard_normal(120)
    factor = {
        n: pd.Categorical.from_codes(c, [f"{n}{i:02d}" for i in range(c.max() + 1)]) for n, c in (("g", g), ("h", h))
    }
    return pd.DataFrame({"y": y, "x": x, **factor})


TOY_FORMULA = "y ~ x + (1 | g) + (1 | h)"


def _status(key: str) -> float | None:
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((float(line.split()[1]) * 1024 / MEGA for line in lines if line.startswith(key)), None)


class PeakMemory:
    """The most memory, in MB, the process takes beyond what it held when this object was made."""

    def __init__(self) -> None:
        gc.collect()
        with contextlib.suppress(OSError):  # the high-water mark starts anew
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        self._before = _status("VmRSS")

    def megabytes(self) -> float | None:
        """Return the peak so far."""
        peak = _status("VmHWM")
        if peak is None or self._before is None:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
            return round(peak, 1)
        return round(peak - self._before, 1)


class Clock:
    """Times calls: elapsed seconds, and processor seconds, which another process on the machine changes less."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.cpu: list[float] = []

    def __call__(self, call: Callable[[], Any]) -> Any:
        """Return what the call returns."""
        start, cpu = time.perf_counter(), time.process_time()
        answer = call()
        self.seconds.append(time.perf_counter() - start)
        self.cpu.append(time.process_time() - cpu)
        return answer

    def times(self, *, together: bool = False) -> dict[str, list[float]]:
        """Return the times of all calls, or their sums."""
        return {k: [sum(v)] if together else v for k, v in (("seconds", self.seconds), ("cpu", self.cpu))}


def versions(*packages: str) -> dict[str, str]:
    """Return versions of Python and of packages."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in packages}}


def main(run: Callable[[dict[str, Any], pd.DataFrame], dict[str, Any]]) -> None:
    """Read the job, run it and write the answer."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    warnings.simplefilter("ignore")
    try:
        answer = run(job, read_frame(Path(job["data"])))
    except Unsupported as reason:
        answer = {"unsupported": str(reason)}
    Path(job["output"]).write_text(json.dumps(answer), encoding="utf-8")
    sys.stdout.flush()
    os._exit(0)  # thread pools of some peers hang at exit


def timed(job: dict[str, Any], call: Callable[[], Any]) -> tuple[dict[str, Any], Any]:
    """Return times and peak memory of a call, repeated within a budget in seconds, and its last answer."""
    memory, clock = PeakMemory(), Clock()
    answer = clock(call)
    peak = memory.megabytes()
    while len(clock.seconds) < job["runs"] and (
        sum(clock.seconds) + clock.seconds[-1] < job["budget"]
        or (len(clock.seconds) < LEAST and clock.seconds[0] < job["budget"])
    ):
        answer = clock(call)
    return {**clock.times(), "peak_mb": peak}, answer
