"""Solvers of the penalized system and their registry."""

from __future__ import annotations

from collections.abc import Callable

from sparselmm.exceptions import ParameterError
from sparselmm.linalg.blocks import BlockGram
from sparselmm.linalg.exact.cholmod import CholmodSystem
from sparselmm.linalg.exact.elimination import eliminable_terms
from sparselmm.linalg.exact.schur import SchurSystem
from sparselmm.linalg.iterative.control import IterativeControl
from sparselmm.linalg.planner import Plan, make_plan, quick_choice, refuse_if_too_large, rest_size
from sparselmm.linalg.protocol import PenalizedSystem


def _iterative(gram: BlockGram, control: IterativeControl | None) -> PenalizedSystem:
    from sparselmm.linalg.iterative.system import IterativeSystem

    return IterativeSystem(gram, control)


SYSTEMS: dict[str, Callable[[BlockGram], PenalizedSystem]] = {
    CholmodSystem.name: CholmodSystem,
    SchurSystem.name: SchurSystem,
}
"""The exact ones."""
SOLVERS = (*SYSTEMS, "iterative")


def plan_system(gram: BlockGram) -> Plan:
    """Return what each solver would cost for Z'WZ, and the choice."""
    return make_plan(gram, eliminable_terms(gram))


def choose_system(gram: BlockGram) -> str:
    """Return the name of the system expected to be fastest; a design too large for memory is refused."""
    quick = quick_choice(gram, eliminable_terms(gram))
    if quick is not None:
        return quick
    plan = plan_system(gram)
    refuse_if_too_large(plan)
    return plan.choice


def has_iterative(gram: BlockGram) -> bool:
    """Return whether the iterative solver applies: there is more than what is eliminated exactly."""
    first = eliminable_terms(gram)
    return bool(first) and rest_size(gram, first) > 0


def make_system(gram: BlockGram, name: str | None = None, control: IterativeControl | None = None) -> PenalizedSystem:
    """Return the named system for Z'WZ, or the one `choose_system` picks; ``control`` is for the iterative one."""
    name = name or choose_system(gram)
    if name == "iterative":
        return _iterative(gram, control)
    if name not in SYSTEMS:
        raise ParameterError(f"unknown solver {name!r}; there are {', '.join(SOLVERS)}")
    return SYSTEMS[name](gram)


__all__ = [
    "SOLVERS",
    "SYSTEMS",
    "BlockGram",
    "CholmodSystem",
    "IterativeControl",
    "PenalizedSystem",
    "Plan",
    "SchurSystem",
    "choose_system",
    "has_iterative",
    "make_system",
    "plan_system",
]
