"""One process per fit: finds the peers, starts their runners, keeps threads and time limits equal."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .designs import BenchmarkDesign
from .exchange import write_table

RUNNERS = Path(__file__).resolve().parent / "peers"
THREAD_VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "POLARS_MAX_THREADS",
)
RUNS_INSIDE = 25
BUDGET = 3.0


@dataclass(frozen=True)
class Peer:
    """A program to compare: its runner script, and what must be importable for it."""

    name: str
    runner: str
    distribution: str

    @property
    def is_r(self) -> bool:
        """Whether Rscript runs it."""
        return self.runner.endswith(".R")


PEERS: dict[str, Peer] = {
    p.name: p
    for p in (
        Peer("sparselmm", "run_sparselmm.py", "sparselmm"),
        Peer("lme4", "run_lme4.R", "lme4"),
        Peer("mixedlm", "run_mixedlm.py", "mixedlm"),
        Peer("lme-python", "run_lme_python.py", "lme-python"),
        Peer("gpboost", "run_gpboost.py", "gpboost"),
        Peer("statsmodels", "run_statsmodels.py", "statsmodels"),
    )
}


@dataclass
class Outcome:
    """What one peer did on one design, over all processes."""

    peer: str
    answers: list[dict[str, Any]] = field(default_factory=list)
    problem: str = ""


def thread_environment(threads: str, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment with one number of threads for every library, or with none set."""
    environment = {k: v for k, v in (os.environ if base is None else base).items() if k not in THREAD_VARIABLES}
    if threads != "default":
        environment |= dict.fromkeys(THREAD_VARIABLES, str(int(threads)))
    return environment


def find_peers(names: list[str], interpreters: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the program for each peer that is installed, and for the others why they are missing."""
    found, missing = {}, {}
    for name in names:
        if name not in PEERS:
            raise SystemExit(f"no peer {name!r}; there are {', '.join(PEERS)}")
        program = _rscript() if PEERS[name].is_r else _interpreter(PEERS[name].distribution, interpreters)
        if program is None:
            where = "Rscript with lme4" if PEERS[name].is_r else PEERS[name].distribution
            missing[name] = f"{where} is not installed"
        else:
            found[name] = program
    return found, missing


def _rscript() -> str | None:
    program = shutil.which("Rscript")
    if program is None:
        return None
    done = subprocess.run([program, "-e", "library(lme4)"], capture_output=True, check=False)
    return program if done.returncode == 0 else None


def _interpreter(distribution: str, interpreters: list[str]) -> str | None:
    code = f"from importlib.metadata import version; version({distribution!r})"
    for program in dict.fromkeys([sys.executable, *interpreters]):
        if subprocess.run([program, "-c", code], capture_output=True, check=False).returncode == 0:
            return program
    return None


def fixed_columns(formula: str) -> list[str]:
    """Return the response and the plain columns of the fixed part."""
    response, right = formula.split("~")
    names = re.findall(r"[A-Za-z_]\w*", right.split("(")[0])
    return [response.strip(), *dict.fromkeys(names)]


@contextmanager
def design_data(design: BenchmarkDesign, scale: float) -> Iterator[tuple[Path, int]]:
    """Write the data of a design to a temporary folder; yield it and the number of rows."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        table = design.make(scale)
        responses = design.responses(table) if design.responses else None
        write_table(table, Path(name), responses)
        yield Path(name), len(next(iter(table.values())).values)


def run_once(
    design: BenchmarkDesign, peer: Peer, program: str, data: Path, environment: Mapping[str, str], limit: float
) -> dict[str, Any]:
    """Run one process and return its answer, or ``{"problem": ...}``."""
    with tempfile.TemporaryDirectory(prefix="benchmark-job-") as folder:
        output = Path(folder, "answer.json")
        runner = str(RUNNERS / peer.runner)
        if peer.is_r:
            flags = ["true" if design.reml else "false", design.task, str(RUNS_INSIDE), str(BUDGET), str(output)]
            command = [program, "--vanilla", runner, str(data), design.formula, *flags]
        else:
            job = {
                "data": str(data),
                "formula": design.formula,
                "fixed": fixed_columns(design.formula),
                "groups": [[name, list(slopes)] for name, slopes in design.groups],
                "reml": design.reml,
                "task": design.task,
                "runs": RUNS_INSIDE,
                "budget": BUDGET,
                "output": str(output),
            }
            Path(folder, "job.json").write_text(json.dumps(job), encoding="utf-8")
            command = [program, runner, str(Path(folder, "job.json"))]
        problem = _limited(command, environment, limit)
        if problem:
            return {"problem": problem}
        answer: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
        return {"problem": answer["unsupported"]} if "unsupported" in answer else answer


def _limited(command: list[str], environment: Mapping[str, str], limit: float) -> str:
    """Run a command in a process group of its own; return what went wrong, or an empty text."""
    process = subprocess.Popen(
        command,
        env=dict(environment),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        _, stderr = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        _stop(process)
        return f"not finished after {limit:g} s"
    except BaseException:
        _stop(process)
        raise
    if process.returncode == 0:
        return ""
    if process.returncode < 0:
        return f"ended by signal {-process.returncode} (out of memory?)"
    lines = [line.strip() for line in stderr.strip().splitlines() if line.strip()]
    return "failed: " + (lines[-1][:300] if lines else f"exit status {process.returncode}")


def stop_children_when_ended() -> None:
    """Make a request to end the suite an exception, so that the running process is stopped and files are removed."""

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)


def _stop(process: subprocess.Popen[str]) -> None:
    """End a process and its children."""
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.communicate()


def run_design(
    design: BenchmarkDesign,
    programs: Mapping[str, str],
    *,
    scale: float,
    repeats: int,
    environments: Mapping[str, Mapping[str, str]],
    limit: float,
    say: Callable[[str], None],
) -> tuple[list[Outcome], int]:
    """Run all peers of a design in turn, as often as asked; a peer that failed is not started again.

    ``environments`` maps the name under which an outcome is listed to an environment, and
    ``programs`` has the same keys; ``name@something`` is the peer ``name``.
    """
    outcomes = [Outcome(label) for label in programs if label.split("@")[0] in design.peers]
    with design_data(design, scale) as (data, rows):
        for _ in range(repeats):
            for outcome in outcomes:
                if outcome.problem:
                    continue
                peer = PEERS[outcome.peer.split("@")[0]]
                answer = run_once(design, peer, programs[outcome.peer], data, environments[outcome.peer], limit)
                if "problem" in answer:
                    outcome.problem = str(answer["problem"])
                    say(f"{design.name}: {outcome.peer}: {outcome.problem}")
                else:
                    outcome.answers.append(answer)
                    say(f"{design.name}: {outcome.peer}: {min(answer['seconds']):.4g} s")
    return outcomes, rows
