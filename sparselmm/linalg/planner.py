"""What each solver would cost on a design, and the choice between them, from symbolic structure alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from sparselmm._typing import IntArray
from sparselmm.exceptions import PlanError
from sparselmm.linalg.blocks import BlockGram
from sparselmm.linalg.kernels import _native as native
from sparselmm.linalg.machine import (
    DENSE_RATE,
    GIGA,
    ITERATIVE_RATE,
    MEMORY_SHARE,
    OVERHEAD,
    SCATTER_RATE,
    SPARSE_GRADIENT_RATE,
    SPARSE_RATE,
    VECTOR_RATE,
    available_memory,
)

SMALL_SCHUR = 1_000
EXACT_CHOICE = 6_000
CONNECTED = 15  # cells per column of Z beyond which a sparse factor of a large design fills up entirely
MANY_CELLS = 2_000_000
NEITHER = "a sparse factor would fill up, a dense one does not fit in memory"
PATIENCE = 60.0  # seconds that an exact fit may take where an approximate one is much faster
MUCH_FASTER = 4.0
TYPICAL_ITERATIONS = 6
MANY_COLUMNS = 10_000  # of Z, from which on a symbolic analysis may take seconds
SAMPLES = (64, 16, 4)  # of so many eliminated levels one is looked at before all of them are


@dataclass(frozen=True)
class SystemCost:
    """Predicted cost of one solver.

    Attributes
    ----------
    name : str
        The solver.
    bytes : float
        Memory beyond the cross-products.
    factor_nonzeros : float
        Entries of the factor.
    flops : float
        Per factorisation.
    seconds : float
        Per evaluation of the criterion, one thread.
    gradient_seconds : float
        Per evaluation of its exact gradient, beyond the criterion.
    """

    name: str
    bytes: float
    factor_nonzeros: float
    flops: float
    seconds: float
    gradient_seconds: float

    @property
    def iteration_seconds(self) -> float:
        """Criterion and gradient, seconds."""
        return self.seconds + self.gradient_seconds


@dataclass(frozen=True)
class Plan:
    """The solver chosen for a design, what each would cost, and why.

    Attributes
    ----------
    m, k : tuple of int
        Levels and coefficients per term.
    costs : tuple of SystemCost
        One per solver that applies.
    choice : str
        The solver.
    reason : str
        Why.
    memory : float or None
        Bytes available, where the system tells.
    optimizer : str
        The optimizer that a fit will take, and why; empty where that was not asked.
    """

    m: tuple[int, ...]
    k: tuple[int, ...]
    costs: tuple[SystemCost, ...]
    choice: str
    reason: str
    memory: float | None
    optimizer: str = ""

    def __getitem__(self, name: str) -> SystemCost:
        for cost in self.costs:
            if cost.name == name:
                return cost
        raise KeyError(name)

    @property
    def chosen(self) -> SystemCost:
        """Cost of the solver chosen."""
        return self[self.choice]

    @property
    def fit_seconds(self) -> float:
        """Rough prediction for a fit, seconds."""
        return TYPICAL_ITERATIONS * self.chosen.iteration_seconds

    @property
    def fits_in_memory(self) -> bool:
        """Whether the choice fits in the memory available (unknown counts as yes)."""
        return self.memory is None or self.chosen.bytes < MEMORY_SHARE * self.memory

    def __str__(self) -> str:
        head = f"{'solver':<10}{'memory':>11}{'factor':>12}{'flops/eval':>12}{'s/eval':>10}{'s/gradient':>12}"
        lines = [
            "random effects: "
            + ", ".join(f"{m:,} levels × {k}" for m, k in zip(self.m, self.k))
            + f" (q = {sum(m * k for m, k in zip(self.m, self.k)):,})",
            head,
        ]
        lines += [
            f"{c.name:<10}{c.bytes / GIGA:>8.3g} GB{c.factor_nonzeros:>12.3g}{c.flops:>12.2g}"
            f"{c.seconds:>10.2g}{c.gradient_seconds:>12.2g}"
            for c in self.costs
        ]
        room = "" if self.memory is None else f"; {self.memory / GIGA:.3g} GB of memory available"
        lines.append(f"choice: {self.choice} ({self.reason}){room}")
        lines += [f"optimizer: {self.optimizer}"] if self.optimizer else []
        lines.append(f"a fit is expected to take about {self.fit_seconds:.2g} s on one thread")
        return "\n".join(lines)

    __repr__ = __str__


def make_plan(gram: BlockGram, first: tuple[int, ...], available: Callable[[], float | None] | None = None) -> Plan:
    """Return the plan for Z'WZ; ``first`` are the terms that can be eliminated as small blocks."""
    memory = (available or available_memory)()
    costs = [schur_cost(gram, first)] if first else []
    iterative = iterative_cost(gram, first) if first and rest_size(gram, first) else None
    if not first or not (too_connected(gram) or fills_up(gram, first, _worth(costs[0], iterative, memory))):
        costs.append(cholmod_cost(gram))
    best, reason = _best_exact(costs, memory, quick_choice(gram, first))
    if iterative is not None:
        costs.append(iterative)
        if memory is not None and best.bytes >= MEMORY_SHARE * memory:
            known = any(c.name == "cholmod" for c in costs)
            best = iterative
            reason = "an exact factor does not fit in memory" if known else NEITHER
        elif TYPICAL_ITERATIONS * best.iteration_seconds > PATIENCE:
            ratio = best.iteration_seconds / iterative.iteration_seconds
            if ratio > MUCH_FASTER:
                best, reason = iterative, f"predicted {ratio:.0f} times as fast as {best.name}, with a stated error"
    return Plan(gram.m, gram.k, tuple(costs), best.name, reason, memory)


def _best_exact(costs: list[SystemCost], memory: float | None, quick: str | None) -> tuple[SystemCost, str]:
    """Return the best exact solver and why."""
    fitting = [c for c in costs if memory is None or c.bytes < MEMORY_SHARE * memory] or costs
    best = min(fitting, key=lambda c: (c.name != quick, c.iteration_seconds))
    others = [c for c in costs if c is not best]
    if len(fitting) < len(costs) and best in fitting:
        return best, "the only exact one that fits in memory"
    if not others:
        return best, "a sparse factor would fill up" if best.name == "schur" else "no block-diagonal cross-product"
    ratio = others[0].iteration_seconds / best.iteration_seconds
    return best, f"predicted {ratio:.1f} times as fast as {others[0].name}" if ratio > 1.0 else "small dense rest"


def _worth(schur: SystemCost, iterative: SystemCost | None, memory: float | None) -> float:
    """Return the seconds per iteration from which on a sparse factor is not chosen, whatever they are exactly."""
    limit = np.inf if memory is not None and schur.bytes >= MEMORY_SHARE * memory else schur.iteration_seconds
    if iterative is not None:
        limit = min(limit, max(PATIENCE / TYPICAL_ITERATIONS, MUCH_FASTER * iterative.iteration_seconds))
    return float(limit)


def fills_up(gram: BlockGram, first: tuple[int, ...], seconds: float) -> bool:
    """Return whether a sparse factor is seen to take so many seconds per iteration without an analysis of the whole.

    That of a part of the eliminated levels takes less, and where the factor fills up so does the analysis: a few
    levels tell in a hundredth of its time. Where it does not, it costs little and so do its parts.
    """
    for step in SAMPLES if gram.q > MANY_COLUMNS else ():
        keep = np.ones(gram.q, dtype=bool)
        for t in first:
            levels = np.arange(gram.m[t]) % step == 0
            keep[gram.offsets[t] : gram.offsets[t + 1]] = np.repeat(levels, gram.k[t])
        if cholmod_cost(gram, keep).iteration_seconds > seconds:
            return True
    return False


def too_connected(gram: BlockGram) -> bool:
    """Return whether a sparse factor is sure to fill up, so that its symbolic analysis is not worth its time."""
    cells = sum(len(pair.rows) for pair in gram.pairs.values())
    return cells > MANY_CELLS and cells > CONNECTED * gram.q


def quick_choice(gram: BlockGram, first: tuple[int, ...]) -> str | None:
    """Return the solver where the answer needs no symbolic factorisation, else None."""
    if not first:
        return "cholmod"
    q2 = rest_size(gram, first)
    if q2 <= SMALL_SCHUR:
        return "schur"
    memory = available_memory()
    if memory is not None and 32.0 * float(q2) ** 2 > MEMORY_SHARE * memory:
        return None
    if q2 <= EXACT_CHOICE and level_work(gram, first) > 0.3 * float(q2) ** 2:
        return "schur"
    return None


def refuse_if_too_large(plan: Plan) -> None:
    """Raise an error with the plan where the chosen solver does not fit in memory."""
    if not plan.fits_in_memory:
        assert plan.memory is not None
        raise PlanError(
            f"the factorisation needs {plan.chosen.bytes / GIGA:.3g} GB, {plan.memory / GIGA:.3g} GB are available:\n"
            f"{plan}"
        )


def rest_size(gram: BlockGram, first: tuple[int, ...]) -> int:
    """Return the columns of Z that are not eliminated, q2."""
    return int(sum(gram.sizes[t] for t in range(len(gram.m)) if t not in first))


def cells_per_level(gram: BlockGram, first: tuple[int, ...]) -> np.ndarray:
    """Return for each eliminated level the columns of the rest that occur with it, (m,)."""
    out = np.zeros(gram.m[first[0]])
    for j in range(len(gram.m)):
        if j not in first:
            pair = gram.pairs[max(first[0], j), min(first[0], j)]
            levels = pair.rows if first[0] > j else pair.cols
            out += gram.k[j] * np.bincount(levels, minlength=len(out))
    return out


def level_work(gram: BlockGram, first: tuple[int, ...]) -> float:
    """Return the updates of the Schur complement, Σ_l (cells of level l)²."""
    return float((cells_per_level(gram, first) ** 2).sum())


def schur_cost(gram: BlockGram, first: tuple[int, ...]) -> SystemCost:
    """Return the cost of eliminating ``first`` and factoring the dense rest."""
    q2 = float(rest_size(gram, first))
    K = sum(gram.k[t] for t in first)
    m = gram.m[first[0]]
    cells = cells_per_level(gram, first)
    work = K * float((cells**2).sum()) / 2.0
    dense = q2**3 / 3.0
    flops = dense + 2.0 * work + 3.0 * m * K**3
    seconds = dense / DENSE_RATE + work / SCATTER_RATE + 5.0 * m * K**3 / SPARSE_RATE + OVERHEAD
    gradient = 2.0 * dense / DENSE_RATE + work / SCATTER_RATE + 2.0 * OVERHEAD
    stored = 4.0 * 8.0 * q2**2 + 40.0 * K * float(cells.sum()) + 24.0 * m * K**2
    return SystemCost("schur", stored, q2**2 / 2.0 + K * float(cells.sum()), flops, seconds, gradient)


def iterative_cost(gram: BlockGram, first: tuple[int, ...]) -> SystemCost:
    """Return the cost of the iterative solver with the effort it starts with."""
    cells = float(sum(len(p.rows) * gram.k[i] * gram.k[j] for (i, j), p in gram.pairs.items() if i != j))
    # products of all cells with so many columns: deflation and solutions in double precision, probes in single
    value, gradient = 5.0 * 2 * 32 + 6.0 * 16 + 36.0, 2.0 * 2 * 32 + 2.0 * 16 + 48.0
    vectors = 8.0 * 100.0 * gram.q
    column = cells / ITERATIVE_RATE + gram.q / VECTOR_RATE * (1.0 if cells > MANY_CELLS else 2.0)
    return SystemCost(
        "iterative",
        16.0 * cells + vectors,
        0.0,
        4.0 * cells * value,
        value * column + 100 * OVERHEAD,
        gradient * column + 100 * OVERHEAD,
    )


def column_counts(lower: sp.csr_array) -> IntArray:
    """Return the entries per column of the Cholesky factor, (q,), for the pattern of a lower triangle, (q, q)."""
    counts = np.empty(lower.shape[0], dtype=np.int64)
    native.column_counts(lower.indptr.astype(np.int64), lower.indices.astype(np.int64), counts)
    return counts


def cholmod_cost(gram: BlockGram, keep: np.ndarray | None = None) -> SystemCost:
    """Return the cost of factoring M in sparse form, or its rows and columns ``keep``, (q,), from column counts."""
    rows, cols = (np.concatenate(x) for x in zip(*(gram.element_indices(i, j) for i, j in gram.pairs)))
    size = gram.q
    if keep is not None:
        size, place = int(keep.sum()), np.cumsum(keep) - 1
        kept = keep[rows] & keep[cols]
        rows, cols = place[rows[kept]], place[cols[kept]]
    pattern = sp.coo_array((np.ones(len(rows), dtype=np.int8), (rows, cols)), shape=(size, size)).tocsc()
    order = _fill_reducing(pattern)
    place = np.empty(size, dtype=np.int64)
    place[order] = np.arange(size)
    r, c = place[rows], place[cols]
    ones = np.ones(len(r), dtype=np.int8)
    lower = sp.coo_array((ones, (np.maximum(r, c), np.minimum(r, c))), shape=(size, size)).tocsr()
    counts = column_counts(lower).astype(float)
    nonzeros, flops = float(counts.sum()), float((counts**2).sum())
    seconds = flops / SPARSE_RATE + nonzeros / 1e8 + OVERHEAD
    gradient = flops / SPARSE_GRADIENT_RATE + nonzeros / 1e8 + 2.0 * OVERHEAD
    return SystemCost("cholmod", 20.0 * nonzeros + 40.0 * len(rows), nonzeros, flops, seconds, gradient)


def _fill_reducing(pattern: sp.csc_array) -> np.ndarray:
    """Return CHOLMOD's order of the columns where it is there, else terms by decreasing size."""
    from sparselmm.exceptions import BackendError
    from sparselmm.linalg.exact.cholmod import fill_reducing_order

    try:
        return fill_reducing_order(pattern)
    except BackendError:
        return np.arange(pattern.shape[0])
