"""The plots of a fit by name: what ``fit.plot`` offers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import numpy as np
import pandas as pd

from sparselmm._typing import FloatArray
from sparselmm.data.rows import GroupedTerm
from sparselmm.exceptions import ParameterError
from sparselmm.hints.refusal import Hinted
from sparselmm.inference.predict.conditional_variance import quantile
from sparselmm.likelihood.result import RESIDUALS, FitResult
from sparselmm.linalg.rank import triangular_factor
from sparselmm.report.plots.contour import draw_contour
from sparselmm.report.plots.lines import draw_lines, fitted_lines, numeric_variable
from sparselmm.report.plots.modes import draw_caterpillar, draw_ranef_qq, draw_shrinkage, draw_shrinkage_line
from sparselmm.report.plots.residuals import draw_by_level, draw_influence, draw_leverage, draw_qq, draw_scatter

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class PlottableFit(Protocol):
    """The names that plots read from a fitted model."""

    @property
    def result(self) -> FitResult:
        """The numbers."""
        ...

    @property
    def source(self) -> Any:
        """Formula, encoding and data."""
        ...

    @property
    def theta(self) -> FloatArray:
        """Relative covariance parameters, (n_theta,)."""
        ...

    @property
    def theta_names(self) -> tuple[str, ...]:
        """Their names."""
        ...

    @property
    def criterion_name(self) -> str:
        """Name of the criterion."""
        ...

    def ranef(self, condvar: bool = ...) -> Any:
        """Return conditional modes, with covariances on request."""
        ...

    def residuals(self, kind: str = ...) -> pd.Series[float]:
        """Return residuals by row."""
        ...

    def leverage(self) -> pd.Series[float]:
        """Return hat values by row."""
        ...

    def cooks_distance(self) -> pd.Series[float]:
        """Return Cook's distances by row."""
        ...

    def influence(self, group: Any = ...) -> pd.DataFrame:
        """Return what leaving out groups does."""
        ...

    def evaluate(self, theta: Any) -> float:
        """Return the criterion at θ."""
        ...


@dataclass(frozen=True, repr=False)
class Plots(Hinted, hints="plots"):
    """Plots of one fit. Each takes ``ax=`` and returns the axes it drew on (an array of them for panels).

    Attributes
    ----------
    fit : MixedModelFit
        The fit.
    """

    fit: PlottableFit

    def __repr__(self) -> str:
        return f"<plots of a fit: {', '.join(_plot_names())}>"

    def __call__(self, *args: Any, **options: Any) -> NoReturn:
        """Refuse, and say which plots there are."""
        raise TypeError(f"choose a plot, as in fit.plot.qq(); there are {', '.join(_plot_names())}")

    if not TYPE_CHECKING:  # type checkers know the names

        def __getattr__(self, name: str) -> NoReturn:
            """Refuse an unknown plot, and say which there are."""
            profile = "; profiles are drawn by slm.plot_profile(fit.profile())" if "profile" in name else ""
            raise AttributeError(f"there is no plot {name!r}; there are {', '.join(_plot_names())}{profile}")

    # --- random effects ----------------------------------------------------------------------------

    def caterpillar(
        self,
        group: str | None = None,
        column: str | None = None,
        *,
        level: float = 0.95,
        sort: bool = True,
        ax: Any = None,
    ) -> Any:
        """Draw conditional modes with normal intervals from their conditional standard deviations.

        Parameters
        ----------
        group : str, optional
            Grouping factor; by default the one with most levels.
        column : str, optional
            One random coefficient; by default all, in a panel each.
        level : float
            Coverage of the intervals. Intervals that leave out zero are coloured.
        sort : bool
            Whether levels are sorted by their mode.
        ax : Axes or sequence of Axes, optional
            One for each coefficient drawn.
        """
        label = self._label(group)
        found = self.fit.ranef(condvar=True)[label]
        modes, sd = self._columns(found.modes, column), self._columns(found.sd, column)
        return draw_caterpillar(modes.rename_axis(label), sd, quantile(level), sort, ax)

    def ranef_qq(self, group: str | None = None, column: str | None = None, *, ax: Any = None) -> Any:
        """Draw normal quantiles of the conditional modes, each over its own standard deviation.

        Modes shrink by different amounts where levels have different numbers of rows, so plain modes
        would not lie on a line even in a perfect model.
        """
        label = self._label(group)
        found = self.fit.ranef(condvar=True)[label]
        prior = np.concatenate([t.sd for t in self.fit.result.varcorr.terms if t.label == label])
        keep = [column is None or c == column for c in found.modes.columns]
        return draw_ranef_qq(self._columns(found.modes, column), prior[keep], self._columns(found.sd, column), ax)

    def shrinkage(
        self, group: str | None = None, columns: tuple[str, str] | None = None, *, ax: Axes | None = None
    ) -> Axes:
        """Draw estimates within levels (least squares on the level's own rows) and where shrinkage moves them.

        Parameters
        ----------
        group : str, optional
            Grouping factor.
        columns : pair of str, optional
            Two random coefficients of one term; by default the first two. With a single random
            coefficient modes are drawn against estimates.
        ax : Axes, optional
            Where to draw.
        """
        label = self._label(group)
        t, term = next(
            (t, x) for t, x in enumerate(self.fit.result.observed("estimates within levels").terms) if x.label == label
        )
        if not isinstance(term, GroupedTerm):
            raise ParameterError(f"{label} is given as a matrix; its levels have no rows of their own")
        within = estimates_within(self.fit.result, t)
        fixed = dict(zip(self.fit.result.layout.columns, self.fit.result.beta))
        centre = np.array([fixed.get(c, 0.0) for c in term.columns])
        modes = self.fit.result.term_modes[t] + centre
        within = within + centre
        if term.k == 1:
            rows = np.bincount(term.codes, minlength=term.m).astype(float)
            return draw_shrinkage_line(within[:, 0], modes[:, 0], rows, float(centre[0]), term.columns[0], ax)
        names = columns or (term.columns[0], term.columns[1])
        missing = [c for c in names if c not in term.columns]
        if missing:
            raise ParameterError(f"{missing[0]!r} is not a coefficient of {label}: {', '.join(term.columns)}")
        at = [term.columns.index(c) for c in names]
        return draw_shrinkage(within[:, at], modes[:, at], centre[at], names, ax)

    def fitted_lines(self, x: str | None = None, group: str | None = None, *, ax: Axes | None = None) -> Any:
        """Draw the data with the fitted line of each level along a numeric variable.

        Without ``x`` it is the numeric variable of the model, where there is only one.
        Up to 6 levels share a panel, up to 24 have one each, more are drawn as a bundle of lines.
        Other numeric variables are held at their median, other factors at their most frequent level.
        """
        label, source = self._label(group), self.fit.source
        if source.encoding is None:
            raise ParameterError("a model made from arrays has no named variables to draw lines along")
        response = self.fit.result.layout.response_name
        x = numeric_variable(source.encoding, source.table(), response) if x is None else x
        lines = fitted_lines(self.fit.result, source.encoding, source.table(), x, label)
        return draw_lines(lines, (x, response, label), ax)

    # --- residuals -----------------------------------------------------------------------------------

    def qq(self, kind: str = "standardized", *, ax: Axes | None = None) -> Axes:
        """Draw normal quantiles of residuals with a 95 % pointwise band; rows outside it are named."""
        scaled = self._used(self.fit.residuals(kind))
        if "ized" not in kind and kind != "scaled":
            scaled = scaled / float(np.nanstd(scaled))
        return draw_qq(scaled, self._row_names(), f"{kind.capitalize()} residuals", ax)

    def resid_fitted(self, by: str | None = None, kind: str = "pearson", *, ax: Axes | None = None) -> Any:
        """Draw residuals against fitted values.

        Parameters
        ----------
        by : str, optional
            Grouping factor: its levels get colours (up to 6), panels (up to 24), or a line with
            median and quartiles each (more, or with ``ax``).
        kind : str
            See ``fit.residuals``.
        ax : Axes, optional
            Where to draw.
        """
        result = self.fit.result
        values, label = self._used(self.fit.residuals(kind)), f"{kind.capitalize()} residuals"
        if by is None:
            return draw_scatter(result.linear_predictor, values, ("Fitted values", label), True, ax)
        term = next((t for t in result.observed(RESIDUALS).terms if t.label == by and isinstance(t, GroupedTerm)), None)
        if term is None:
            raise ParameterError(f"unknown grouping factor {by!r}; there are {', '.join(self._labels())}")
        levels = [str(v) for v in term.levels]
        return draw_by_level(result.linear_predictor, values, term.codes, levels, (label, by), ax)

    def scale_location(self, *, ax: Axes | None = None) -> Axes:
        """Draw roots of absolute standardized residuals against fitted values: a slope means unequal variances."""
        values = np.sqrt(np.abs(self._used(self.fit.residuals("standardized"))))
        return draw_scatter(
            self.fit.result.linear_predictor, values, ("Fitted values", "√|standardized residual|"), False, ax
        )

    def leverage(self, *, ax: Axes | None = None) -> Axes:
        """Draw standardized residuals against leverages, with lines of equal Cook's distance."""
        hat = self._used(self.fit.leverage())
        values, cook = self._used(self.fit.residuals("standardized")), self._used(self.fit.cooks_distance())
        p = max(len(self.fit.result.beta), 1)
        return draw_leverage(hat, values, p, self._row_names(), cook, ax)

    def influence(self, group: str | None = None, *, ax: Axes | None = None) -> Axes:
        """Draw Cook's distances of the levels of a grouping factor, or of the rows.

        For levels it is the change of the fixed effects when the level is left out, at fixed θ, in the
        metric of their covariance.
        """
        cook = self.fit.cooks_distance().dropna() if group is None else self.fit.influence(group)["cook"].dropna()
        return draw_influence(cook, "row" if group is None else group, ax)

    # --- the criterion ---------------------------------------------------------------------------------

    def criterion_contour(
        self, theta_i: str | int = 0, theta_j: str | int = 1, *, points: int = 21, ax: Axes | None = None
    ) -> Axes:
        """Draw the criterion over two entries of θ, the others at their estimates.

        Lines enclose 50, 80, 95 and 99 % by the χ² distribution with 2 degrees of freedom. With
        more than two entries of θ the picture is a slice and makes the parameters look too certain.

        Parameters
        ----------
        theta_i, theta_j : str or int
            Names (``fit.theta_names``) or positions.
        points : int
            Grid points per axis; the criterion is evaluated points² times.
        ax : Axes, optional
            Where to draw.
        """
        names = self.fit.theta_names
        if len(names) < 2:
            raise ParameterError(
                f"criterion_contour needs two entries of theta; this model has {len(names)}, whose profile is drawn by "
                "slm.plot_profile(fit.profile())"
            )
        i, j = (self._theta(x) for x in (theta_i, theta_j))
        if i == j:
            raise ParameterError("criterion_contour needs two different entries of theta")
        full = np.array(self.fit.theta)

        def value(pair: FloatArray) -> float:
            at = full.copy()
            at[[i, j]] = pair
            return self.fit.evaluate(at)

        diagonal = np.array([_on_diagonal(self.fit.result, position) for position in (i, j)])
        lower = np.where(diagonal, 0.0, -np.inf)
        title = f"Increase of the {self.fit.criterion_name}" + (" (others fixed)" if len(full) > 2 else "")
        return draw_contour(value, full[[i, j]], lower, (f"θ: {names[i]}", f"θ: {names[j]}", title), points, ax)

    # --- names and rows -------------------------------------------------------------------------------------------

    def _used(self, values: pd.Series[float]) -> FloatArray:
        """Return a series by row without the rows that were left out of the fit."""
        observed, found = self.fit.result.observed(RESIDUALS), np.asarray(values, dtype=float)
        return found if len(found) == observed.n else found[observed.positions]

    def _row_names(self) -> list[str]:
        return [str(i) for i in self.fit.result.observed(RESIDUALS).index]

    def _labels(self) -> list[str]:
        return list(dict.fromkeys(t.label for t in self.fit.result.layout.terms))

    def _label(self, group: str | None) -> str:
        labels = self._labels()
        if group is None:
            return labels[0]
        if group not in labels:
            raise ParameterError(f"unknown grouping factor {group!r}; there are {', '.join(labels)}")
        return group

    def _theta(self, entry: str | int) -> int:
        names = self.fit.theta_names
        if isinstance(entry, str) and entry in names:
            return names.index(entry)
        if isinstance(entry, int) and -len(names) <= entry < len(names):
            return entry % len(names)
        raise ParameterError(f"unknown entry of theta {entry!r}; there are {', '.join(names)}")

    @staticmethod
    def _columns(frame: pd.DataFrame, column: str | None) -> pd.DataFrame:
        if column is None:
            return frame
        if column not in frame:
            raise ParameterError(
                f"{column!r} is not a random coefficient; there are {', '.join(map(str, frame.columns))}"
            )
        return frame[[column]]


def _on_diagonal(result: FitResult, position: int) -> bool:
    """Whether an entry of θ is on the diagonal of its template, where it cannot be negative."""
    bounds = np.concatenate([s.lower() for s in result.engine.parameters.structures])
    return bool(len(bounds) == len(result.theta) and np.isfinite(bounds[position]))


def _plot_names() -> list[str]:
    return [name for name in dir(Plots) if not name.startswith("_") and name != "fit"]


def estimates_within(result: FitResult, t: int) -> FloatArray:
    """Return least-squares estimates of term t's coefficients from each level's own rows, (m, k).

    They are deviations from the fixed effects; NaN where the rows of a level cannot determine them.
    """
    observed = result.observed("estimates within levels")
    term = observed.terms[t]
    assert isinstance(term, GroupedTerm)
    root = observed.scaled(np.ones(observed.n))
    own = np.einsum("nk,nk->n", term.Z, result.term_modes[t][term.codes])
    target = (result.residuals + own) * root
    rows = np.argsort(term.codes, kind="stable")
    bounds = np.searchsorted(term.codes[rows], np.arange(term.m + 1))
    rooted = term.Z * root[:, None]
    out = np.full((term.m, term.k), np.nan)
    for level in range(term.m):
        here = rows[bounds[level] : bounds[level + 1]]
        if len(here) < term.k:
            continue
        R = triangular_factor(np.column_stack([rooted[here], target[here]]))
        pivots = np.abs(np.diag(R[: term.k, : term.k]))
        if pivots.min() > 1e-8 * pivots.max():
            out[level] = np.linalg.solve(R[: term.k, : term.k], R[: term.k, term.k])
    return out


__all__ = ["Plots", "PlottableFit", "estimates_within"]
