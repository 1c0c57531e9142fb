"""Errors, warnings and machine-readable messages of the package.

Every failure that a user can cause raises a subclass of `SparseLMMError` whose
text names the offending term, column, rows or levels. Facts about a fit that do
not stop it are `Message` objects on the result; those of severity ``"warning"``
or ``"note"`` also reach people through the `SparseLMMWarning` classes.
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from typing import ClassVar, Literal


def more_about(topic: str) -> str:
    """Return the sentence that leads to the documentation of a topic."""
    return f'More: slm.explain("{topic}")'


class SparseLMMError(Exception):
    """Base class of all errors raised on purpose by the package.

    Where the documentation has more to say than the text, the traceback ends with a line that leads to it;
    `sparselmm.explain` prints it.
    """

    _has_more: ClassVar[bool] = False

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        if self._has_more:
            self.add_note(more_about(type(self).__name__))


class FormulaError(SparseLMMError, ValueError):
    """The formula cannot be read, or asks for something that does not exist."""

    _has_more = True


class UnsupportedError(SparseLMMError, NotImplementedError):
    """A recognised request that this version does not support."""

    _has_more = True


class DataError(SparseLMMError, ValueError):
    """The data do not fit the formula (missing column, wrong type, bad rows)."""


class RowsNeededError(DataError):
    """The question needs the rows of the data, and the fit has none any more; the text says what to pass."""


class DesignError(DataError):
    """The data can be read, but the model they imply cannot be estimated."""

    _has_more = True


class ParameterError(SparseLMMError, ValueError):
    """An argument other than the formula or the data is invalid."""


class BackendError(SparseLMMError, RuntimeError):
    """A linear-algebra backend is missing or failed."""


class NumericalError(BackendError):
    """A factorisation broke down at the parameters named in the message."""

    _has_more = True


class UndecidedError(NumericalError):
    """The Monte Carlo error of an approximate solver leaves open how a test comes out.

    Attributes
    ----------
    table : DataFrame or None
        All tests that were asked for, without the p-values that are open.
    """

    def __init__(self, text: str, table: object = None) -> None:
        super().__init__(text)
        self.table = table


class PlanError(BackendError, MemoryError):
    """The factorisation that a model needs does not fit in memory; the message holds the plan."""

    _has_more = True


class FitInterrupted(SparseLMMError, KeyboardInterrupt):
    """The user interrupted a fit; the best point so far is kept.

    Attributes
    ----------
    best_theta : (n_theta,) array or None
        Relative covariance parameters with the lowest criterion seen; None before the first evaluation.
    best_criterion : float
        The criterion there.
    n_evaluations : int
        Criterion evaluations made.
    """

    def __init__(self, best_theta: object, best_criterion: float, n_evaluations: int) -> None:
        self.best_theta = best_theta
        self.best_criterion = best_criterion
        self.n_evaluations = n_evaluations
        if best_theta is None:
            super().__init__("the fit was interrupted before its first evaluation was complete")
            return
        value = f" with criterion {best_criterion:.6f}" if best_criterion < float("inf") else ""
        super().__init__(
            f"the fit was interrupted after {n_evaluations} evaluations; the best point so far is theta = {best_theta}"
            f"{value} (pass it as start= to go on from there)"
        )

    def __reduce__(self) -> tuple[type, tuple[object, float, int]]:
        return type(self), (self.best_theta, self.best_criterion, self.n_evaluations)


class SparseLMMWarning(UserWarning):
    """Base class of all warnings of the package.

    Attributes
    ----------
    topic : str or None
        What `sparselmm.explain` knows about it; the text of the warning ends with a line that says so.
    """

    topic: ClassVar[str | None] = None


class ConvergenceWarning(SparseLMMWarning):
    """The optimizer may not have reached the optimum."""

    topic = "not_converged"


class SingularFitWarning(SparseLMMWarning):
    """An estimated covariance matrix is singular (boundary of the parameter space)."""

    topic = "singular"


class RankDeficiencyWarning(SparseLMMWarning):
    """Columns of the fixed-effects matrix were dropped because they depend on others."""

    topic = "rank_deficient"


class ScaleWarning(SparseLMMWarning):
    """Columns of the fixed-effects matrix are on very different scales."""

    topic = "scale"


class DataWarning(SparseLMMWarning):
    """Something about the data that the user should know (rows dropped, levels merged)."""


@dataclass(frozen=True)
class Message:
    """One fact about a fit, for people and programs.

    Attributes
    ----------
    code : str
        Stable identifier, for example ``"singular"`` or ``"rank_deficient"``.
    severity : {"info", "note", "warning"}
        ``"warning"`` and ``"note"`` are also issued through `warnings`.
    what : str
        What happened, naming terms, columns, rows or levels.
    how : str
        What the user can do about it.
    """

    code: str
    severity: Literal["info", "note", "warning"]
    what: str
    how: str = ""

    def __str__(self) -> str:
        return self.what if not self.how else f"{self.what} {self.how}"


def warn_user(what: str | Message, category: type[SparseLMMWarning]) -> None:
    """Issue a warning that points at the line outside the package that led to it."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] == "sparselmm":
        level, frame = level + 1, frame.f_back
    topic = what.code if isinstance(what, Message) else category.topic
    more = "" if topic is None else f" {more_about(topic)}"
    warnings.warn(f"{what}{more}", category, stacklevel=level)
