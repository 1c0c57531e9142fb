"""A fit under statsmodels' names: views of a `MixedModelFit`, with no numbers of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pandas as pd

from sparselmm._typing import FloatArray
from sparselmm.api import MixedModelFit
from sparselmm.doors.mixedlm.effects import GroupEffects, group_effects, product_by_name
from sparselmm.doors.mixedlm.hypotheses import HypothesisTests
from sparselmm.doors.mixedlm.summary import Labels, MixedLMSummary, summarize
from sparselmm.exceptions import ParameterError
from sparselmm.hints.names import result_hint

VTYPES = ("re", "vc")
REACHES = (3.0, 6.0, 12.0, 24.0, 48.0)  # how far profiles are followed, in units of zeta, until they reach


@dataclass(frozen=True, repr=False)
class MixedLMResults(HypothesisTests):
    """A fitted `MixedLM`; nothing in it changes.

    Attributes
    ----------
    model : MixedLM
        The model.
    lmm : MixedModelFit
        The fit with everything this package offers: tests with degrees of freedom, prediction, plots.
    translation : Translation
        Where the parts of the model are.
    """

    # --- random effects and rows -----------------------------------------------------------------

    @cached_property
    def _effects(self) -> GroupEffects:
        return group_effects(self.translation)

    @cached_property
    def random_effects(self) -> dict[Any, pd.Series[float]]:
        """Predicted random effects of each group: correlated ones first, then the components by name."""
        return self._effects.split(np.concatenate([modes.ravel() for modes in self.lmm.result.term_modes]))

    @cached_property
    def random_effects_cov(self) -> dict[Any, pd.DataFrame]:
        """Covariance of `random_effects` given the data, by group; the parameters count as known."""
        return self._effects.covariances(self.lmm)

    @property
    def fittedvalues(self) -> Any:
        """Fitted values with the predicted random effects, by row."""
        return self._as_given(self.lmm.fittedvalues)

    @property
    def resid(self) -> Any:
        """Response minus `fittedvalues`, by row."""
        return self._as_given(self.lmm.resid)

    def predict(self, exog: Any = None, transform: bool = True) -> Any:
        """Return the fixed part of the mean, as statsmodels: for new rows, or those of the fit.

        Parameters
        ----------
        exog : table or (n, k_fe) array, optional
            New data for a model made by formula, a matrix for one made from arrays; columns of a
            DataFrame go by their names. For predictions with random effects use ``lmm.predict``.
        transform : bool
            False where ``exog`` is the matrix although the model was made by formula.
        """
        if exog is None:
            observed = self.lmm.problem.observed("fitted values")
            return self._as_given(pd.Series(observed.X @ self.lmm.params.to_numpy(), index=observed.index))
        if self.lmm.source.encoding is None or not transform:
            return product_by_name(exog, self.lmm.params)
        predicted = self.lmm.predict(exog, re_form="~0")
        return pd.Series(predicted.to_numpy(), index=predicted.index)

    def profile_re(
        self,
        re_ix: int | str,
        vtype: str,
        num_low: int = 5,
        dist_low: float = 1.0,
        num_high: int = 5,
        dist_high: float = 1.0,
    ) -> FloatArray:
        """Return the profile log-likelihood of a variance.

        Parameters
        ----------
        re_ix : int or str
            Position among the correlated random effects, or name of a variance component.
        vtype : {"re", "vc"}
            Which of these.
        num_low, num_high : int
            Number of points below and above the estimate.
        dist_low, dist_high : float
            How far below and above, in units of the variance.

        Returns
        -------
        (num_low + num_high + 1, 2) array
            Variances and log-likelihoods maximized over all other parameters. The variance itself is
            held, where statsmodels holds its ratio to the residual variance. ``lmm.profile`` has
            all parameters and intervals.

        Raises
        ------
        ParameterError
            When there is no such variance, or ``dist_low`` would make it negative.
        """
        term, column = self._variance(re_ix, vtype)
        estimate = float(self.lmm.varcorr.terms[term].cov[column, column])
        if dist_low >= estimate:
            raise ParameterError(f"dist_low = {dist_low} would make the variance {estimate:.4g} negative or zero")
        low = np.linspace(estimate - dist_low, estimate, num_low + 1)
        values = np.concatenate([low, np.linspace(estimate, estimate + dist_high, num_high + 1)[1:]])
        of = self.lmm.varcorr.terms[term]
        name = f"sd({of.columns[column]}|{of.name})"
        for reach in REACHES:
            zeta = self._zeta(name, values, reach)
            if not np.isnan(zeta).any():
                return np.column_stack([values, self.llf - 0.5 * zeta**2])
        raise ParameterError(f"the profile does not reach {values[-1]:.4g}; take a smaller dist_high or dist_low")

    def _zeta(self, name: str, variances: FloatArray, reach: float) -> FloatArray:
        (profile,) = self.lmm.profile(name, reml=self.reml, zeta_max=reach).profiles
        return profile.zeta_at(np.sqrt(variances))

    def _variance(self, re_ix: int | str, vtype: str) -> tuple[int, int]:
        """Return the term and the column of a variance."""
        t = self.translation
        if vtype not in VTYPES:
            raise ParameterError(f"vtype must be one of {', '.join(VTYPES)}, not {vtype!r}")
        if vtype == "vc" and re_ix in t.vc_names:
            return t.vcs[t.vc_names.index(str(re_ix))].term, 0
        if vtype == "re" and t.re is not None and isinstance(re_ix, int) and 0 <= re_ix < self.k_re:
            return t.re.term, re_ix
        known = ", ".join(map(repr, t.vc_names)) if vtype == "vc" else f"0 to {self.k_re - 1}"
        raise ParameterError(f"there is no {vtype} variance {re_ix!r}; there are {known or 'none'}")

    # --- report ------------------------------------------------------------------------------------

    def summary(
        self,
        yname: str | None = None,
        xname_fe: Sequence[str] | None = None,
        xname_re: Sequence[str] | None = None,
        title: str | None = None,
        alpha: float = 0.05,
    ) -> MixedLMSummary:
        """Return the summary in statsmodels' layout; ``lmm.summary()`` is the one in lme4's.

        Parameters
        ----------
        yname, title : str, optional
            Name of the response; heading.
        xname_fe, xname_re : sequence of str, optional
            Names of the fixed effects, and of the entries of `cov_re`.
        alpha : float
            One minus the coverage of the intervals.
        """
        return summarize(self, alpha, Labels(yname, xname_fe, xname_re, title))

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    if not TYPE_CHECKING:  # type checkers know the names

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(result_hint(name, MixedModelFit))

    def __repr__(self) -> str:
        return f"<MixedLMResults by {self.method}: {self.nobs} rows; log-likelihood {self.llf:.4f}>"
