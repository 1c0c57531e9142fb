"""What other weights cost on a system that is there: cross-products, update, and an evaluation with them."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count
from statistics import median
from typing import Any

import numpy as np

from .designs import DESIGNS
from .tables import shown_time


def cpu_seconds(call: Callable[[], object], runs: int = 11) -> float:
    """Return the median CPU time of several calls after one that does not count."""
    call()
    seconds = []
    for _ in range(runs):
        start = time.process_time()
        call()
        seconds.append(time.process_time() - start)
    return median(seconds)


def weight_costs(names: list[str], scale: float, frame: Callable[[Any], Any]) -> list[dict[str, Any]]:
    """Return for each design and exact solver the CPU seconds of an evaluation and of one after a change of weights.

    ``cross_products`` is the pass over the rows, ``update`` takes the numbers in, ``factorization`` is `refactor`.
    """
    import sparselmm as slm

    rows = []
    for name in names:
        data = frame(DESIGNS[name].make(scale))
        for solver in ("schur", "cholmod"):
            model = slm.LinearMixedModel.from_formula(DESIGNS[name].formula, data, solver=solver)
            rows.append({"design": name, "solver": solver, **_costs(model)})
    return rows


def _costs(model: Any) -> dict[str, float]:
    from sparselmm.statistics.weighted import RowPositions

    design, engine = model.problem.rows, model.problem.engine
    start = time.process_time()
    positions = RowPositions.of(design, engine.crossproducts)
    found = {"positions": time.process_time() - start}
    rng, step = np.random.default_rng(0), count()
    sets = [(rng.gamma(2.0, 0.5, design.n) + 0.05, design.y + rng.standard_normal(design.n)) for _ in range(3)]
    par = np.full(engine.parameters.n_par, 0.5)

    def moved() -> Any:
        return par * (1.0 + 1e-4 * next(step))

    def other() -> Any:
        return positions.crossproducts(*sets[next(step) % 3])

    def changed() -> object:
        with engine.with_response(other()).locked() as pls:
            return pls.solve(par)

    grams = [other().gram for _ in range(3)]
    with engine.locked() as pls:
        found["evaluation"] = cpu_seconds(lambda: pls.solve(moved()))
        found["factorization"] = cpu_seconds(lambda: pls.system.refactor(engine.parameters.templates(moved())))
        found["update"] = cpu_seconds(lambda: pls.system.update(grams[next(step) % 3]))
    found["cross_products"] = cpu_seconds(other)
    found["changed"] = cpu_seconds(changed)
    found["ratio"] = (found["changed"] - found["evaluation"]) / found["factorization"]
    return found


def show_weights(rows: list[dict[str, Any]]) -> str:
    """Return the table of `weight_costs`."""
    parts = ("evaluation", "factorization", "positions", "cross_products", "update", "changed")
    lines = [
        "| design | solver | one evaluation | of that factorisation | positions of the rows, once | cross-products "
        "| update | other weights and an evaluation | beyond an evaluation ÷ factorisation |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for r in rows:
        times = " | ".join(shown_time(r[part]) for part in parts)
        lines.append(f"| {r['design']} | {r['solver']} | {times} | {r['ratio']:.2f} |")
    return "\n".join(lines)
