"""Who may work with a solver: one thread at a time, with the cross-products and the effort of one fit."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import RLock
from weakref import WeakSet

from sparselmm.covariance.parameters import ParameterMap
from sparselmm.likelihood.pls import PenalizedLeastSquares
from sparselmm.linalg.iterative.control import Effort
from sparselmm.linalg.protocol import PenalizedSystem
from sparselmm.statistics.crossproducts import CrossProducts


class Workspace:
    """A system that is made on first use, and the lock that gives it to one thread at a time.

    Copies in other processes, and the child of a fork, make both anew: a lock that another thread held would stay
    closed there for ever, and the system may be half factored.

    Parameters
    ----------
    make : callable
        Returns the system.
    """

    def __init__(self, make: Callable[[], PenalizedSystem]) -> None:
        self._make = make
        self.renew()

    def renew(self) -> None:
        """Give up lock and system, whoever holds them."""
        self._lock = RLock()
        self._system: PenalizedSystem | None = None
        _workspaces.add(self)

    @contextmanager
    def locked(self) -> Iterator[PenalizedSystem]:
        """Yield the system to one thread at a time."""
        with self._lock:
            if self._system is None:
                self._system = self._make()
            yield self._system

    def __getstate__(self) -> dict[str, object]:
        return {"_make": self._make}

    def __setstate__(self, state: dict[str, Callable[[], PenalizedSystem]]) -> None:
        self._make = state["_make"]
        self.renew()


_workspaces: WeakSet[Workspace] = WeakSet()


def _renew_all() -> None:
    for workspace in list(_workspaces):
        workspace.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)


@dataclass(frozen=True, eq=False)
class Engine:
    """What evaluates the criterion of one fit; engines of one random part share their workspace.

    Attributes
    ----------
    crossproducts : CrossProducts
        Of the fit.
    parameters : ParameterMap
        From free parameters to templates.
    workspace : Workspace
        A solver for the Z'WZ of the cross-products.
    effort : Effort or None
        What an evaluation does where values have a Monte Carlo error; None before it was chosen, and with a factor.
    """

    crossproducts: CrossProducts
    parameters: ParameterMap
    workspace: Workspace
    effort: Effort | None = None

    @contextmanager
    def locked(self) -> Iterator[PenalizedLeastSquares]:
        """Yield the least-squares problem to one thread at a time."""
        with self.workspace.locked() as system:
            yield PenalizedLeastSquares(self.crossproducts, self.parameters, system, self.effort)

    def with_response(self, crossproducts: CrossProducts) -> Engine:
        """Return an engine for another response, fixed effects or weights that shares the workspace and the effort.

        Z'WZ must have one pattern.
        """
        return replace(self, crossproducts=crossproducts)

    def with_effort(self, effort: Effort | None) -> Engine:
        """Return an engine of the same model whose evaluations have another effort."""
        return self if effort is self.effort else replace(self, effort=effort)

    def __deepcopy__(self, memo: dict[int, object]) -> Engine:
        return self
