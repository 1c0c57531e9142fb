"""``python -m tests.benchmarks.micro PART``: what one evaluation costs, and what threads do to it.

``evaluations``: each solver against the bare LAPACK Cholesky of its dense Schur block.
``openmp``: CHOLMOD with and without the OpenMP regions that SuiteSparse 5 opens on tiny supernodes.
``weights``: other weights in a system that is there, beside an evaluation (CPU time).
``threads``: whole fits with 1, 2 and the default number of threads, alone and beside a busy process.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any
from unittest import mock

import numpy as np

from .designs import DESIGNS
from .generators import Table
from .harness import find_peers, run_design, stop_children_when_ended, thread_environment
from .tables import shown_time
from .weights import show_weights, weight_costs

FIRST_THREE = ("insteval", "crossed", "ratings")


def as_frame(table: Table) -> Any:
    """Return a table as a data frame."""
    import pandas as pd

    columns: dict[str, Any] = {}
    for name, column in table.items():
        codes, levels = column.values, column.levels
        columns[name] = codes if levels is None else pd.Categorical.from_codes(codes, list(levels))
    return pd.DataFrame(columns)


def timed(call: Callable[[], object], runs: int = 7, budget: float = 8.0) -> float:
    """Return the median time of several calls after one that does not count."""
    call()
    seconds: list[float] = []
    while not seconds or (len(seconds) < runs and sum(seconds) < budget):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return median(seconds)


def dpotrf_seconds(order: int) -> float:
    """Return the time LAPACK needs for the Cholesky factor of a dense matrix of this order."""
    from scipy.linalg import lapack

    rng = np.random.default_rng(0)
    A = np.asfortranarray(np.eye(order) + 1e-3 * rng.standard_normal((order, order)))
    A = np.asfortranarray(A + A.T)
    work = np.empty_like(A)

    def factor() -> None:
        work[:] = A
        _, info = lapack.dpotrf(work, lower=0, clean=0, overwrite_a=1)
        assert info == 0

    return max(timed(factor) - timed(lambda: np.copyto(work, A)), 1e-9)


def evaluation_costs(names: list[str], scale: float) -> list[dict[str, Any]]:
    """Return for each design and solver the time of a value, of its derivatives, and the cost of a fit."""
    import sparselmm as slm
    from sparselmm.likelihood.criterion import criterion_for
    from sparselmm.likelihood.derivatives import differentiate

    rows = []
    for name in names:
        design = DESIGNS[name]
        data = as_frame(design.make(scale))
        criterion = criterion_for(design.reml)
        for solver in ("schur", "cholmod"):
            model = slm.LinearMixedModel.from_formula(design.formula, data, solver=solver)
            start = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                fit = model.fit(reml=design.reml)
            whole = time.perf_counter() - start
            sizes = sorted((t.m * t.k for t in model.problem.rows.terms), reverse=True)
            dpotrf = dpotrf_seconds(sum(sizes[1:]))
            with model.problem.engine.locked() as pls:
                par, step = pls.parameters.par(fit.theta), iter(range(1, 10_000))

                def value(pls: Any = pls, par: Any = par, step: Iterator[int] = step) -> object:
                    return pls.solve(par * (1.0 + 1e-4 * next(step)))

                evaluate = timed(value)
                solution = pls.solve(par)

                def slope(pls: Any = pls, solution: Any = solution, criterion: Any = criterion) -> object:
                    return differentiate(pls, criterion, solution)

                derivatives = timed(slope, runs=3)
            rows.append(
                {
                    "design": name,
                    "solver": solver,
                    "schur_order": sum(sizes[1:]),
                    "dpotrf": dpotrf,
                    "evaluate": evaluate,
                    "derivatives": derivatives,
                    "fit": whole,
                    "evaluations": fit.optimizer_report.n_evaluations,
                    "gradients": fit.optimizer_report.n_gradients,
                    "equivalents": whole / evaluate,
                }
            )
    return rows


def show_evaluations(rows: list[dict[str, Any]]) -> str:
    """Return the table of `evaluation_costs`; the fit is the optimization alone, without the design."""
    lines = [
        "| design | solver | order of the Schur block | dpotrf | one evaluation | ÷ dpotrf | derivatives | fit "
        "| evaluations (with derivatives) | evaluation-equivalents |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for r in rows:
        lines.append(
            f"| {r['design']} | {r['solver']} | {r['schur_order']:,} | {shown_time(r['dpotrf'])} | "
            f"{shown_time(r['evaluate'])} | {r['evaluate'] / r['dpotrf']:.1f} | {shown_time(r['derivatives'])} | "
            f"{shown_time(r['fit'])} | {r['evaluations']} ({r['gradients']}) | {r['equivalents']:.1f} |"
        )
    return "\n".join(lines)


def openmp_costs(scale: float = 1.0) -> dict[str, float]:
    """Return the time to factor the crossed design, 12,000 columns, with and without the regions."""
    import sparselmm as slm
    from sparselmm.linalg.exact import cholmod

    design = DESIGNS["crossed"]
    model = slm.LinearMixedModel.from_formula(design.formula, as_frame(design.make(scale)), solver="cholmod")
    seconds = {}
    with model.problem.engine.locked() as pls:
        step = iter(range(1, 10_000))

        def refactor() -> None:
            pls.system.refactor(pls.parameters.templates(np.full(2, 0.5 + 1e-4 * next(step))))

        seconds["without"] = timed(refactor, runs=5)
        with mock.patch.object(cholmod, "no_nested_openmp", contextlib.nullcontext):
            seconds["with"] = timed(refactor, runs=5)
    return seconds


@contextlib.contextmanager
def busy_core(active: bool) -> Iterator[None]:
    """Keep one core busy in another process meanwhile."""
    if not active:
        yield
        return
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def thread_table(names: list[str], scale: float, repeats: int, limit: float) -> str:
    """Return fits of each design by number of threads, alone and beside a busy process."""
    programs, _ = find_peers(["sparselmm"], [])
    lines = [
        "| design | beside a busy process | 1 thread | 2 threads | default | default ÷ best |",
        "|---|---|---:|---:|---:|---:|",
    ]
    settings = ("1", "2", "default")
    labels = {f"sparselmm@{s}": programs["sparselmm"] for s in settings}
    environments = {f"sparselmm@{s}": thread_environment(s) for s in settings}
    for name in names:
        for busy in (False, True):
            with busy_core(busy):
                outcomes, _ = run_design(
                    DESIGNS[name],
                    labels,
                    scale=scale,
                    repeats=repeats,
                    environments=environments,
                    limit=limit,
                    say=lambda text: print(text, file=sys.stderr, flush=True),
                )
            times = [median(median(a["seconds"]) for a in o.answers) if o.answers else np.inf for o in outcomes]
            shown = " | ".join(shown_time(t) for t in times)
            lines.append(f"| {name} | {'yes' if busy else 'no'} | {shown} | {times[2] / min(times[:2]):.2f} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Print one of the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.micro", description=__doc__)
    parser.add_argument("part", choices=("evaluations", "openmp", "weights", "threads"))
    parser.add_argument("--designs", default=",".join(FIRST_THREE))
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--time-limit", type=float, default=300.0)
    options = parser.parse_args(arguments)
    stop_children_when_ended()
    names = options.designs.split(",")
    if options.part == "evaluations":
        print(f"threads: {os.environ.get('OPENBLAS_NUM_THREADS', 'default')}\n")
        print(show_evaluations(evaluation_costs(names, options.scale)))
    elif options.part == "weights":
        print(show_weights(weight_costs(names, options.scale, as_frame)))
    elif options.part == "openmp":
        seconds = openmp_costs()
        print(
            f"CHOLMOD, 12,000-column crossed factor: {shown_time(seconds['with'])} as SuiteSparse has it, "
            f"{shown_time(seconds['without'])} without its OpenMP regions ({seconds['with'] / seconds['without']:.1f}×)"
        )
    else:
        print(thread_table(names, options.scale, options.repeats, options.time_limit))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
