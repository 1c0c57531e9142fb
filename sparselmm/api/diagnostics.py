"""Diagnostics of a fit: residuals, leverages, influence, the design doctor, plots."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from sparselmm._typing import BoolArray, IntArray
from sparselmm.api.estimates import Estimates
from sparselmm.data import build_design
from sparselmm.data.formulas import parse_formula
from sparselmm.data.rows import GroupedTerm
from sparselmm.data.tables.columns import Factor, list_some, to_grouping
from sparselmm.data.tables.foreign import as_series
from sparselmm.data.tables.frame import as_frame
from sparselmm.exceptions import (
    DataWarning,
    DesignError,
    Message,
    ParameterError,
    SparseLMMWarning,
    warn_user,
)
from sparselmm.hints.names import refuse_file_name
from sparselmm.hints.refusal import hinted
from sparselmm.inference.diagnose.audit import Audit, audit, forecast
from sparselmm.inference.diagnose.doctor import Diagnosis, diagnose_design, diagnose_result
from sparselmm.inference.frames import by_row, pad_rows
from sparselmm.inference.leave_out.influence import coefficients_lost, group_influence
from sparselmm.inference.leave_out.leverage import CaseDeletion, RowGeometry, delete_cases, row_geometry
from sparselmm.inference.leave_out.residuals import cook_of_cases, residuals_of
from sparselmm.linalg.audit.report import AuditCost

if TYPE_CHECKING:
    from sparselmm.report.plots import Plots


FEW = 5  # names and groups that a warning lists


class Diagnostics(Estimates):
    """Mixin of `MixedModelFit`."""

    def residuals(self, kind: str = "response") -> pd.Series[float]:
        """Return residuals by row; under ``na_action="exclude"`` padded with NaN.

        Parameters
        ----------
        kind : str
            With e = y - offset - Xβ - Zb, w the prior weights, h the leverages and V = W⁻¹ + ZΛΛ'Z':

            - ``"response"`` (also ``"conditional"``, ``"working"``): e, lme4's ``resid(m)``.
            - ``"pearson"`` (also ``"deviance"``): √w e, lme4's ``type = "pearson"``.
            - ``"scaled"``: √w e/σ, lme4's ``scaled = TRUE``; R's summary prints their quantiles.
            - ``"standardized"``: √w e/(σ √(1-h)). The variance of e is σ²(1-h)/w exactly, so these have
              variance 1 given θ; lme4's ``rstudent``.
            - ``"studentized"``: √w e/(σ₍ᵢ₎ √(1-h)) with the σ of the fit without the row, at fixed θ.
            - ``"marginal"``: y - offset - Xβ.
            - ``"marginal_standardized"``: the same over its standard deviation
              σ √(V_ii - x_i'(X'V⁻¹X)⁻¹x_i).

        Examples
        --------
        >>> import sparselmm as slm
        >>> fit = slm.lmer("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
        >>> round(float(fit.residuals("scaled").abs().max()), 4)
        5.1793
        """
        return by_row(self.result, residuals_of(self.result, kind), f"residuals_{kind}")

    def leverage(self) -> pd.Series[float]:
        """Return the diagonal of the hat matrix by row, lme4's ``hatvalues``.

        The hat matrix maps y to the conditional fitted values at fixed θ. Its trace counts the
        effective parameters of the conditional fit.

        Raises
        ------
        UnsupportedError
            After a fit by the iterative solver to more than 5,000 rows on more than 5,000 random effects.

        Examples
        --------
        >>> import sparselmm as slm
        >>> fit = slm.lmer("Yield ~ 1 + (1 | Batch)", slm.load_dataset("dyestuff"))
        >>> round(float(fit.leverage().sum()), 4)
        4.9126
        """
        return by_row(self.result, self._geometry().hat, "leverage")

    def cooks_distance(self) -> pd.Series[float]:
        """Return Cook's distance by row as lme4 defines it: (r/(1-h))² h/(σ² p), r the Pearson residual.

        It measures how far the conditional fitted values move when the row is left out, at fixed θ.
        For the distance in the metric of Cov(β), and for whole groups, see `influence`.
        """
        r = self.result
        values = cook_of_cases(residuals_of(r, "pearson"), self._geometry().hat, r.sigma, r.p)
        return by_row(r, values, "cooks_distance")

    def dfbetas(self) -> pd.DataFrame:
        """Return for each row the change of each coefficient without it, over its standard error without it.

        Exact at fixed θ, (n, p). Signs as in lme4's ``dfbetas(influence(m))``: estimate without the
        row less the estimate with it.
        """
        found = self._cases()
        return self._row_frame(found.change / found.se)

    def influence(self, group: str | npt.ArrayLike | None = None, *, theta: bool = False) -> pd.DataFrame:
        """Return what leaving out each group (or each row) does to the estimates, without refitting.

        Parameters
        ----------
        group : str or (n,) array, optional
            Grouping factor of the model, another column of the data, or one label per row used; by
            default every row is a group of its own.
        theta : bool
            Whether to add what a refit would find, by one Newton step in θ from exact derivatives.

        Returns
        -------
        DataFrame
            Indexed by level, with two-level columns: ``rows``; ``cook``, change' Cov(β)⁻¹ change / p
            (lme4 multiplies it by (m - p)/m for m groups); ``change`` of each coefficient and of
            ``sigma``, estimates without the group less estimates with it, exact at fixed θ;
            ``dfbetas``, the same over the standard errors without the group; with ``theta``, the
            ``one_step`` changes of coefficients, ``sigma`` and the entries of θ. NaN where a
            coefficient cannot be estimated without the group.

        Raises
        ------
        UnsupportedError
            After a fit by the iterative solver, when the groups touch more than 5,000 random effects; an
            array with None for most rows asks for a few groups.

        Examples
        --------
        >>> import sparselmm as slm
        >>> fit = slm.lmer("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
        >>> fit.influence("Subject")["cook"].nlargest(2).round(3).to_dict()
        {'309': 0.149, '335': 0.129}
        """
        r = self.result
        if group is None:
            if theta:
                raise ParameterError("theta=True needs a group; a single row hardly moves θ")
            cases = self._cases()
            parts = {("cook", ""): cases.cook[:, None], ("change", None): cases.change,
                     ("change", "sigma"): (cases.sigma - r.sigma)[:, None],
                     ("dfbetas", None): cases.change / cases.se}  # fmt: skip
            return pd.DataFrame(
                np.hstack(list(parts.values())), index=r.observed("influences").index, columns=self._columns(parts)
            )
        codes, levels = self._group(group)
        found = group_influence(r, codes, len(levels), theta=theta)
        self._say_what_needs_a_group(codes, levels, found.estimable)
        parts = {("cook", ""): found.cook[:, None], ("change", None): found.change,
                 ("change", "sigma"): found.change_sigma[:, None], ("dfbetas", None): found.dfbetas}  # fmt: skip
        if found.step_theta is not None and found.step_beta is not None and found.step_sigma is not None:
            parts[("one_step", None)] = found.step_beta
            parts[("one_step", "sigma")] = found.step_sigma[:, None]
            parts[("one_step", "theta")] = found.step_theta
        frame = pd.DataFrame(np.hstack(list(parts.values())), index=levels, columns=self._columns(parts))
        frame.insert(0, ("rows", ""), found.n_rows)
        return frame

    def _say_what_needs_a_group(self, codes: IntArray, levels: pd.Index, estimable: BoolArray) -> None:
        """Warn of groups without which some coefficient cannot be estimated, with its name."""
        X, lost = self.result.observed("influences").X, np.flatnonzero(~estimable)
        facts = []
        for g in lost[:FEW]:
            names = [self.result.layout.columns[j] for j in coefficients_lost(X, codes, int(g))]
            what = f"cannot estimate {list_some(names, FEW)}" if names else "leaves too few rows"
            facts.append(f"without {levels[g]} the model {what}")
        if facts:
            more = f" and {len(lost) - FEW} more like this" if len(lost) > FEW else ""
            text = "; ".join(facts)
            warn_user(f"Rows of NaN in the influences: {text}{more}.", DataWarning)

    def diagnose(self) -> Diagnosis:
        """Return what the design doctor finds, design and fit together; it prints as sentences.

        Examples
        --------
        >>> import sparselmm as slm
        >>> fit = slm.lmer("diameter ~ 1 + (1 | plate) + (1 | sample)", slm.load_dataset("penicillin"))
        >>> fit.diagnose().healthy
        True
        """
        return diagnose_result(self.result, self.source.formula)

    def audit(self, progress: bool = True) -> Audit:
        """Compare the criterion of a fit by the iterative solver with the exact one at the same θ.

        The exact value takes one dense Cholesky factorisation of what is left when the largest grouping
        factor is eliminated, in packed form; the matrix is formed panel by panel.

        Parameters
        ----------
        progress : bool
            Whether to say on standard error what a long factorisation will take and how far it is.

        Returns
        -------
        Audit
            ``exact``, ``error``, ``ratio`` (the error in standard errors) and more.

        Raises
        ------
        PlanError
            When the memory is not there; the text has the forecast of `audit_cost`.
        ParameterError
            For a fit by an exact solver.

        Examples
        --------
        >>> import sparselmm as slm
        >>> data = slm.load_dataset("penicillin")
        >>> fit = slm.lmer("diameter ~ 1 + (1 | plate) + (1 | sample)", data, solver="iterative")
        >>> abs(fit.audit().error) < 0.01
        True
        """
        return audit(self.result, progress)

    def audit_cost(self) -> AuditCost:
        """Return the memory, operations and time that `audit` takes; it prints as a sentence."""
        return forecast(self.result.engine)

    @property
    def plot(self) -> Plots:
        """Plots of the fit (needs matplotlib): ``fit.plot.caterpillar("Subject")`` and others."""
        from sparselmm.report.plots import Plots

        return Plots(self)  # type: ignore[arg-type]

    def _geometry(self) -> RowGeometry:
        return row_geometry(self.result.observed("leverages"), self.result.engine, self.result.par)

    def _cases(self) -> CaseDeletion:
        r = self.result
        return delete_cases(self._geometry(), residuals_of(r, "response"), r.pwrss, r.df)

    def _row_frame(self, values: npt.NDArray[np.float64]) -> pd.DataFrame:
        observed, layout = self.result.observed("influences"), self.result.layout
        exclude = layout.na_action == "exclude"
        index = observed.frame_index if exclude else observed.index
        return pd.DataFrame(
            pad_rows(observed, values) if exclude else values, index=index, columns=list(layout.columns)
        )

    def _columns(self, parts: Mapping[tuple[str, str | None], Any]) -> pd.MultiIndex:
        names: list[tuple[str, str]] = []
        for first, second in parts:
            if second is None:
                names += [(first, c) for c in self.result.layout.columns]
            elif second == "theta":
                names += [(first, name) for name in self.problem.theta_names]
            else:
                names.append((first, second))
        return pd.MultiIndex.from_tuples(names)

    def _group(self, group: str | npt.ArrayLike) -> tuple[IntArray, pd.Index]:
        """Return the code of each row used and the levels of a grouping."""
        observed = self.result.observed("influences")
        if isinstance(group, str):
            for term in observed.terms:
                if isinstance(term, GroupedTerm) and term.label == group:
                    return term.codes, term.levels.rename(group)
            factor = self._factor(group).take(observed.positions).drop_unused()
            return self._checked(factor.codes, factor.levels.rename(group))
        values = as_series(group, "group").reset_index(drop=True)
        if len(values) == len(observed.frame_index) and len(values) != observed.n:
            values = values.iloc[observed.positions]
        if len(values) != observed.n:
            raise ParameterError(f"group has {len(values)} labels; it needs one for each of the {observed.n} rows used")
        factor = to_grouping(values, "group").drop_unused()
        return self._checked(factor.codes.astype(np.int64), factor.levels.rename("group"))

    @staticmethod
    def _checked(codes: IntArray, levels: pd.Index) -> tuple[IntArray, pd.Index]:
        if len(levels) < 2:
            raise ParameterError("influence needs at least two groups")
        return codes, levels

    def _factor(self, name: str) -> Factor:
        frame = as_frame(self.source.table())
        if name not in frame:
            labels = ", ".join(dict.fromkeys(t.label for t in self.result.layout.terms))
            raise ParameterError(
                f"{name!r} is neither a grouping factor ({labels}) nor a column; {frame.suggestion(name)}"
            )
        return frame.grouping(name)


@hinted("diagnose")
def diagnose(
    formula: str,
    data: Any,
    *,
    weights: str | npt.ArrayLike | None = None,
    offset: str | npt.ArrayLike | None = None,
    contrasts: Mapping[str, Any] | None = None,
    na_action: str = "omit",
    context: Mapping[str, Any] | None = None,
) -> Diagnosis:
    """Return what a design can and cannot tell, before anything is fitted.

    Parameters
    ----------
    formula : str
        As for `lmer`.
    data : table
        As for `lmer`.
    weights, offset, contrasts, na_action, context
        As for `lmer`.

    Returns
    -------
    Diagnosis
        Prints as plain sentences; ``findings`` and ``to_frame()`` hold code, severity, what and how.

    Examples
    --------
    >>> import sparselmm as slm
    >>> data = slm.load_dataset("pastes")
    >>> slm.diagnose("strength ~ 1 + (1 | batch) + (1 | sample)", data).codes
    ('nested',)
    """
    refuse_file_name(data)
    spec = parse_formula(formula, list(as_frame(data).names))
    arguments: dict[str, Any] = {
        "weights": weights,
        "offset": offset,
        "contrasts": contrasts,
        "na_action": na_action,
        "context": context,
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SparseLMMWarning)
            _, design = build_design(spec, data, **arguments)
    except DesignError as error:
        return Diagnosis(formula, (Message("not_estimable", "warning", f"The model cannot be fitted: {error}."),), ())
    return diagnose_design(design, formula)
