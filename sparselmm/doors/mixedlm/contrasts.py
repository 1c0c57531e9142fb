"""Tables of tests with statsmodels' names beside the columns: ``pvalue``, ``tvalue``, ``fvalue``, ``conf_int()``."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import t as student

from sparselmm._typing import FloatArray
from sparselmm.exceptions import ParameterError


class TestTable(pd.DataFrame):
    """What tests of both kinds have under statsmodels' names; what is taken from the table is a plain data frame."""

    __test__ = False  # no test for pytest

    def _numbers(self, column: str) -> FloatArray:
        return np.asarray(self[column], dtype=np.float64)

    @property
    def c_names(self) -> list[str]:
        """Names of the hypotheses."""
        return [str(name) for name in self.index]


class TTests(TestTable):
    """Tests one by one, a row each.

    Examples
    --------
    >>> table = TTests({"estimate": [2.0], "std_error": [1.0], "df": [np.inf], "statistic": [2.0], "p_value": [0.0455]})
    >>> table.tvalue, table.conf_int().round(2)
    (array([2.]), array([[0.04, 3.96]]))
    """

    @property
    def effect(self) -> FloatArray:
        """Estimates of the combinations, (r,)."""
        return self._numbers("estimate")

    @property
    def sd(self) -> FloatArray:
        """Their standard errors, (r,)."""
        return self._numbers("std_error")

    @property
    def tvalue(self) -> FloatArray:
        """Estimates less the hypothesis, over the standard errors, (r,)."""
        return self._numbers("statistic")

    @property
    def statistic(self) -> FloatArray:
        """The same as `tvalue`."""
        return self.tvalue

    @property
    def pvalue(self) -> FloatArray:
        """Two-sided p-values, (r,)."""
        return self._numbers("p_value")

    @property
    def distribution(self) -> str:
        """``"norm"`` or ``"t"``."""
        return "norm" if np.isinf(self._numbers("df")).all() else "t"

    @property
    def df_denom(self) -> float | FloatArray:
        """Degrees of freedom: one number where all tests have the same."""
        df = self._numbers("df")
        return float(df[0]) if len(df) and (df == df[0]).all() else df

    def conf_int(self, alpha: float = 0.05) -> FloatArray:
        """Return the intervals of the estimates that cover 1 - alpha, (r, 2)."""
        if not 0.0 < alpha < 1.0:
            raise ParameterError(f"alpha must be between 0 and 1, not {alpha!r}")
        half = -student.ppf(alpha / 2.0, self._numbers("df")) * self.sd
        return np.column_stack([self.effect - half, self.effect + half])

    def summary_frame(self, alpha: float = 0.05) -> pd.DataFrame:
        """Return the table with statsmodels' columns."""
        letter, interval = ("z" if self.distribution == "norm" else "t"), self.conf_int(alpha)
        columns = [self.effect, self.sd, self.tvalue, self.pvalue, *interval.T]
        names = ["coef", "std err", letter, f"P>|{letter}|", "Conf. Int. Low", "Conf. Int. Upp."]
        return pd.DataFrame(dict(zip(names, columns)), index=self.c_names)

    def summary(self, alpha: float = 0.05) -> pd.DataFrame:
        """Return the same, rounded as it is printed there."""
        return self.summary_frame(alpha).round(3)


class JointTest(TestTable):
    """One joint test in one row: F, or χ² where the table has no ``den_df``."""

    @property
    def effect(self) -> None:
        """None, as there."""
        return

    @property
    def distribution(self) -> str:
        """``"F"`` or ``"chi2"``."""
        return "F" if "den_df" in self.columns else "chi2"

    @property
    def statistic(self) -> float:
        """The statistic."""
        return float(self._numbers("statistic")[0])

    @property
    def fvalue(self) -> float:
        """The statistic of an F test."""
        if self.distribution == "chi2":
            raise AttributeError("a χ² test has no fvalue; write statistic, or use_f=True for the F test")
        return self.statistic

    @property
    def pvalue(self) -> float:
        """The p-value."""
        return float(self._numbers("p_value")[0])

    @property
    def df_num(self) -> float:
        """Number of independent hypotheses."""
        return float(self._numbers("num_df" if self.distribution == "F" else "df")[0])

    @property
    def df_denom(self) -> float:
        """Degrees of freedom of the denominator; of a χ² test its own, as there."""
        return float(self._numbers("den_df" if self.distribution == "F" else "df")[0])

    def summary_frame(self, alpha: float = 0.05) -> pd.DataFrame:
        """Return the table; ``alpha`` is accepted as there, without effect."""
        return pd.DataFrame(self)

    def summary(self) -> str:
        """Return one line as there."""
        if self.distribution == "chi2":
            return (
                f"<Wald test (chi2): statistic={self.statistic}, p-value={self.pvalue}, df_denom={self.df_denom:.6g}>"
            )
        return f"<F test: F={self.statistic}, p={self.pvalue}, df_denom={self.df_denom:.6g}, df_num={self.df_num:.3g}>"
