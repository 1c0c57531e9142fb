"""Tests of linear hypotheses as statsmodels defines them: normal, χ², and F with n - p degrees of freedom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sparselmm.api import by_name
from sparselmm.doors.mixedlm.contrasts import JointTest, TTests
from sparselmm.doors.mixedlm.estimates import MixedLMEstimates
from sparselmm.exceptions import ParameterError


class HypothesisTests(MixedLMEstimates):
    """Part of `MixedLMResults`.

    A hypothesis is a text, a matrix R (rows for Rβ = 0), a Series or DataFrame labelled by parameters, or a
    tuple (R, q) for Rβ = q. Columns for the variances may be there and must be zero. The results are data
    frames that have statsmodels' names too: ``pvalue``, ``tvalue``, ``fvalue``, ``conf_int()``.
    """

    def t_test(self, r_matrix: Any, *, use_t: bool | None = None, ddf: str | None = None) -> TTests:
        """Test linear combinations of fixed effects one by one, by default by the normal distribution.

        Parameters
        ----------
        r_matrix : str, array, DataFrame or tuple
            The hypothesis.
        use_t : bool, optional
            True for the t distribution with n - p degrees of freedom.
        ddf : str, optional
            Degrees of freedom as in `MixedModelFit.t_test`, in place of ``use_t``.
        """
        return TTests(self.lmm.t_test(*self._hypothesis(r_matrix), ddf=_method(use_t, ddf, "normal")))

    def wald_test(
        self, r_matrix: Any, *, use_f: bool | None = None, scalar: bool = True, ddf: str | None = None
    ) -> JointTest:
        """Test linear combinations of fixed effects jointly, by default by χ².

        Parameters
        ----------
        r_matrix : str, array, DataFrame or tuple
            The hypothesis.
        use_f : bool, optional
            True for F with n - p degrees of freedom, as `f_test`.
        scalar : bool
            Accepted as in statsmodels, without effect: the columns of the result hold numbers.
        ddf : str, optional
            Degrees of freedom of an F test as in `MixedModelFit.f_test`, in place of ``use_f``.
        """
        method = _method(use_f, ddf, "normal")
        if method == "normal":
            return JointTest(self.lmm.wald_test(*self._hypothesis(r_matrix)))
        return JointTest(self.lmm.f_test(*self._hypothesis(r_matrix), ddf=method))

    def f_test(self, r_matrix: Any, *, ddf: str = "residual") -> JointTest:
        """Test linear combinations of fixed effects jointly by F, by default with n - p degrees of freedom.

        With few groups that is too many: ``ddf="satterthwaite"`` and ``"kenward-roger"`` count the groups.

        Parameters
        ----------
        r_matrix : str, array, DataFrame or tuple
            The hypothesis.
        ddf : str
            Degrees of freedom as in `MixedModelFit.f_test`.
        """
        return JointTest(self.lmm.f_test(*self._hypothesis(r_matrix), ddf=ddf))

    def _hypothesis(self, given: Any) -> tuple[Any, Any]:
        """Return a matrix (or the text) and the right-hand sides, without the columns of the variances."""
        rhs = None
        if isinstance(given, tuple) and len(given) == 2 and np.ndim(given[0]) == 2:
            given, rhs = given
        if isinstance(given, str) or (isinstance(given, Sequence) and all(isinstance(g, str) for g in given)):
            return given, rhs
        given = by_name(given, self.param_names, {name: name for name in self.param_names})
        try:
            matrix = np.atleast_2d(np.asarray(given, dtype=float))
        except (TypeError, ValueError) as error:
            raise ParameterError(f"a hypothesis is a text or a matrix of numbers: {error}") from error
        p = self.k_fe
        if matrix.shape[1] == len(self.param_names) > p:
            if np.any(matrix[:, p:]):
                raise ParameterError("only fixed effects can be tested here; for a variance use profile_re or ranova")
            matrix = matrix[:, :p]
        return matrix, rhs


def _method(switch: bool | None, ddf: str | None, otherwise: str) -> str:
    """Return degrees of freedom from statsmodels' switch or ours."""
    if ddf is not None:
        return ddf
    return "residual" if switch else otherwise
