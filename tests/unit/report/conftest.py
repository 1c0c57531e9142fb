"""A stand-in for a fitted model: the public names that a summary reads, with R's sleepstudy numbers."""

from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from sparselmm.exceptions import Message


@dataclass(frozen=True)
class FakeTerm:
    name: str
    columns: tuple
    sd: np.ndarray
    corr: np.ndarray


@dataclass(frozen=True)
class FakeFit:
    params: pd.Series
    bse: pd.Series
    terms: tuple
    sigma: float
    correlation: np.ndarray
    reml: bool = True
    criterion: float = 1743.6282719599653
    llf: float = -871.8141359799827
    aic: float = 1755.62827
    bic: float = 1774.78599
    df_resid: int = 174
    nobs: int = 180
    ngroups: dict = field(default_factory=lambda: {"Subject": 18})
    scaled: tuple = (-3.95357, -0.46340, 0.02312, 0.46340, 5.17926)
    dropped_columns: tuple = ()
    messages: tuple = ()
    optimizer_report: object = field(
        default_factory=lambda: SimpleNamespace(
            name="bobyqa", status="converged", message="bobyqa: converged", n_evaluations=57
        )
    )
    formula: str = "Reaction ~ Days + (Days | Subject)"
    weights_name: str | None = None
    offset_name: str | None = None
    data_name: str | None = "sleepstudy"

    @property
    def tvalues(self):
        return self.params / self.bse

    @property
    def varcorr(self):
        return SimpleNamespace(terms=self.terms)

    @property
    def resid_pearson(self):
        return np.array(self.scaled) * self.sigma

    def cov_params(self):
        sd = self.bse.to_numpy()
        return pd.DataFrame(self.correlation * np.outer(sd, sd), self.params.index, self.params.index)

    def but(self, **changes):
        return replace(self, **changes)

    def scale_by(self, factor):
        terms = tuple(replace(t, sd=t.sd * factor) for t in self.terms)
        return self.but(params=self.params * factor, bse=self.bse * factor, terms=terms, sigma=self.sigma * factor)

    def without_fixed(self):
        empty = self.params.iloc[:0]
        return self.but(params=empty, bse=empty, correlation=np.zeros((0, 0)), formula="Reaction ~ 0 + (1 | Subject)")


@pytest.fixture
def fit():
    names = ["Intercept", "Days"]
    return FakeFit(
        params=pd.Series([251.4051, 10.46729], names),
        bse=pd.Series([6.824597, 1.545790], names),
        terms=(
            FakeTerm(
                "Subject",
                ("Intercept", "Days"),
                np.array([24.740658, 5.922138]),
                np.array([[1.0, 0.06555124], [0.06555124, 1.0]]),
            ),
        ),
        sigma=25.59182,
        correlation=np.array([[1.0, -0.1375], [-0.1375, 1.0]]),
    )


@pytest.fixture
def awkward(fit):
    """Every kind of special character, a singular term, weights, messages and dropped columns."""
    names = ["Intercept", "f[T.a_b & <c>]", "x|y", "`odd #1` $^2$"]
    return fit.but(
        params=pd.Series([1.5e-7, -2.25, 3.0e5, 0.0], names),
        bse=pd.Series([2e-8, 1.0, 1.0e5, 0.5], names),
        correlation=np.eye(4),
        terms=(
            FakeTerm("g<1>", ("Intercept", "x_1", "x_2"), np.array([0.0, 2.0, 3.0]), _singular_corr()),
            FakeTerm("b:a.1", ("Intercept",), np.array([1e-9]), np.eye(1)),
        ),
        ngroups={"g<1>": 12, "b:a": 7},
        formula="log(y) ~ `odd #1` + x_1 + f * x + (1 + x_1 + x_2 | g) + (1 | a/b) + I(x**2) + {z} + \\n + 50% & ~",
        weights_name="w_<i>",
        data_name='it\'s_"mine"',
        dropped_columns=("f[T.z]:x", "x_9"),
        messages=(
            Message("singular", "warning", "The fit is singular: Intercept of g<1> has variance 0.", "See a|b_c."),
            Message("na_rows", "info", "3 rows dropped."),
        ),
    )


def _singular_corr():
    corr = np.array([[1.0, np.nan, np.nan], [np.nan, 1.0, -0.5], [np.nan, -0.5, 1.0]])
    return corr


@pytest.fixture
def tests_table(fit):
    table = pd.DataFrame(
        {
            "estimate": fit.params,
            "std_error": fit.bse,
            "df": [17.0, 17.0],
            "statistic": fit.tvalues,
            "p_value": [1.17e-17, 3.264e-06],
        }
    )
    table.attrs["method"] = "Satterthwaite"
    return table
