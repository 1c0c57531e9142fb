"""The unfitted model with statsmodels' names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from sparselmm.api import MixedModelFit, Optimizer
from sparselmm.doors.mixedlm.arrays import translate_arrays
from sparselmm.doors.mixedlm.formulas import translate_formula
from sparselmm.doors.mixedlm.results import MixedLMResults
from sparselmm.doors.mixedlm.stated import StatedModel
from sparselmm.exceptions import DataWarning, ParameterError, UnsupportedError, warn_user
from sparselmm.hints.names import model_hint, refuse_file_name
from sparselmm.hints.refusal import hinted

_SEARCH = frozenset({"method", "maxiter", "gtol", "maxfun", "niter_sa", "start_params", "full_output", "disp"})
_OTHER_MODEL = frozenset({"free", "fe_pen", "cov_pen"})


class MixedLM(StatedModel):
    """A linear mixed model stated as for statsmodels: correlated effects per group, variance components.

    Parameters
    ----------
    endog : (n,) array
        Response.
    exog : (n, k_fe) array or DataFrame
        Fixed-effects matrix, the constant included. Row labels must be those of ``endog`` where both have any.
    groups : (n,) array
        Group of each row.
    exog_re : (n, k_re) array or DataFrame, optional
        Columns with correlated random coefficients per group. Without it and without ``exog_vc`` every
        group has a random intercept.
    exog_vc : dict or VCSpec, optional
        Variance components: for each name a dict with one matrix per group, whose columns have
        independent random coefficients with one common variance. The number of columns may differ
        between groups. statsmodels' ``VCSpec`` works too.
    missing : {"drop", "none"}
        Rows with missing values are left out, or refused.
    use_sparse : bool, optional
        Ignored with a warning: matrices are always sparse.

    Examples
    --------
    >>> import numpy as np, sparselmm as slm
    >>> data = slm.load_dataset("sleepstudy")
    >>> exog = np.column_stack([np.ones(len(data)), data["Days"]])
    >>> result = slm.MixedLM(data["Reaction"], exog, data["Subject"], exog_re=exog).fit()
    >>> result.fe_params.round(3).to_dict()
    {'const': 251.405, 'x1': 10.467}

    From arrays alone results are arrays, as in statsmodels:

    >>> plain = slm.MixedLM(data["Reaction"].to_numpy(), exog, data["Subject"], exog_re=exog).fit()
    >>> plain.fe_params.round(3)
    array([251.405,  10.467])
    """

    def __init__(
        self,
        endog: Any,
        exog: Any,
        groups: Any,
        exog_re: Any = None,
        exog_vc: Any = None,
        *,
        missing: str = "drop",
        use_sparse: bool | None = None,
    ) -> None:
        _ignore_sparse(use_sparse)
        super().__init__(translate_arrays(endog, exog, groups, exog_re, exog_vc, missing))

    @classmethod
    def from_formula(
        cls,
        formula: str,
        data: Any,
        *,
        groups: Any = None,
        re_formula: str | None = None,
        vc_formula: Mapping[str, str] | None = None,
        missing: str = "drop",
        context: Mapping[str, Any] | None = None,
        use_sparse: bool | None = None,
    ) -> MixedLM:
        """Return the model of formulas; see `mixedlm`."""
        _ignore_sparse(use_sparse)
        refuse_file_name(data)
        model = cls.__new__(cls)
        StatedModel.__init__(model, translate_formula(formula, data, groups, re_formula, vc_formula, missing, context))
        return model

    def fit(
        self, reml: bool = True, *, optimizer: str | Optimizer | None = None, verbose: int = 0, **options: Any
    ) -> MixedLMResults:
        """Fit by REML (default) or maximum likelihood.

        Parameters
        ----------
        reml : bool
            REML criterion if True, likelihood if False.
        optimizer, verbose
            As for `LinearMixedModel.fit`.
        **options
            statsmodels' options for its own search (``method``, ``maxiter``, ...) are ignored with a
            warning: they do not change what is estimated.

        Raises
        ------
        UnsupportedError
            For options that would change the model: ``free``, ``fe_pen``, ``cov_pen`` and
            ``do_cg=False``.
        """
        other = sorted(_OTHER_MODEL & {name for name, value in options.items() if value is not None})
        if options.pop("do_cg", True) is not True:
            other.append("do_cg")
        if other:
            raise UnsupportedError(
                f"{', '.join(other)} would change the model and is not supported; independent random effects "
                "are variance components, as vc_formula={'x': '0 + x'}"
            )
        unknown = sorted(set(options) - _SEARCH - _OTHER_MODEL)
        if unknown:
            raise ParameterError(f"fit() has no option {', '.join(unknown)}")
        ignored = sorted(set(options) & _SEARCH)
        if ignored:
            warn_user(f"options of statsmodels' search are ignored here: {', '.join(ignored)}", DataWarning)
        fitted = self.lmm.fit(reml, optimizer=optimizer, verbose=verbose)
        return MixedLMResults(self, fitted, self._translation)

    if not TYPE_CHECKING:  # type checkers know the names

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(model_hint(name, MixedLMResults, MixedModelFit))


@hinted("mixedlm")
def mixedlm(
    formula: str,
    data: Any,
    *,
    groups: Any = None,
    re_formula: str | None = None,
    vc_formula: Mapping[str, str] | None = None,
    missing: str = "drop",
    context: Mapping[str, Any] | None = None,
    use_sparse: bool | None = None,
) -> MixedLM:
    """Return a mixed model given by statsmodels' formulas; fit it with ``.fit()``.

    Parameters
    ----------
    formula : str
        Response and fixed part, for example ``"Weight ~ Time"``. Coefficients have patsy's order and names.
    data : table
        pandas or polars DataFrame, Arrow table or dict of columns.
    groups : str or (n,) array
        Column, or labels in the order of the rows; one group for all rows allows crossed variance components.
    re_formula : str, optional
        Correlated random coefficients per group, for example ``"1 + Time"``. By default an intercept,
        or none if there are variance components.
    vc_formula : dict, optional
        Variance components, for example ``{"classroom": "0 + C(classroom)"}``: independent effects with
        one variance for all columns of the formula, in every group anew, so labels may restart.
    missing : {"drop", "none"}
        Rows with missing values are left out, or refused.
    context : dict, optional
        Names and functions that the formulas may use besides the columns.
    use_sparse : bool, optional
        Ignored with a warning: matrices are always sparse.

    Returns
    -------
    MixedLM
        With ``fit(reml=True)``; ``lmm`` is the same model in this package's terms.

    Raises
    ------
    FormulaError, DataError, UnsupportedError
        Each names the formula, component, column or group at fault.

    Examples
    --------
    >>> import sparselmm as slm
    >>> data = slm.load_dataset("dietox")
    >>> model = slm.mixedlm("Weight ~ Time", data, groups="Litter", vc_formula={"pig": "0 + C(Pig)"}, re_formula="1")
    >>> model.lmer_formula
    'Weight ~ Time + (1 | Litter) + (1 | Litter:Pig)'
    >>> result = model.fit()
    >>> round(float(result.cov_re.loc["Litter", "Litter"]), 2), result.vcomp.round(2).tolist()
    (9.54, [31.18])
    """
    return MixedLM.from_formula(
        formula,
        data,
        groups=groups,
        re_formula=re_formula,
        vc_formula=vc_formula,
        missing=missing,
        context=context,
        use_sparse=use_sparse,
    )


def _ignore_sparse(given: bool | None) -> None:
    if given is not None:
        warn_user("use_sparse= is ignored here: matrices are always sparse", DataWarning)
