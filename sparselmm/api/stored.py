"""The model that comes back from a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pandas as pd

from sparselmm._typing import FloatArray
from sparselmm.api.fit import MixedModelFit
from sparselmm.api.prediction import Predictor
from sparselmm.data import EncodingSpec
from sparselmm.exceptions import Message, ParameterError
from sparselmm.hints.names import loaded_hint
from sparselmm.inference.predict.new_rows import EncodedRows
from sparselmm.inference.predict.prediction import Effects
from sparselmm.likelihood.result import VarCorr
from sparselmm.report import Summary, summarize
from sparselmm.storage.contents import FACTS, StoredTerm, stored_effects, stored_terms
from sparselmm.storage.format import read_tree
from sparselmm.storage.model_outline import check_outline
from sparselmm.storage.model_values import check_values


def load(path: str | os.PathLike[str]) -> FittedModel:
    """Read a model written by `MixedModelFit.save`.

    Parameters
    ----------
    path : str or path
        The file.

    Returns
    -------
    FittedModel
        It predicts, and shows the estimates and the summary; it holds no data, so it cannot be refitted.

    Raises
    ------
    DataError
        When the file is absent, damaged, no such file, or in a newer format; or when what it holds is not a model.

    Examples
    --------
    >>> import sparselmm as slm
    >>> fit = slm.lmer("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    >>> fit.save("sleep.slmm", include="variances")
    >>> model = slm.load("sleep.slmm")
    >>> model.predict({"Days": [3], "Subject": ["308"]}, se=True).round(2)
         mean    se  conf_low  conf_high
    0  312.66  8.12    296.75     328.57
    """
    return _fitted(read_tree(path, check_outline, check_values))


def _fitted(tree: Mapping[str, Any]) -> FittedModel:
    terms = stored_terms(tree)
    return FittedModel(tree, terms, stored_effects(tree, terms), **{name: tree["facts"][name] for name in FACTS})


@dataclass(frozen=True, repr=False)
class FittedModel(Predictor):
    """A fitted model read from a file: estimates and predictions, no data.

    Its attributes have the names and meanings of those of `MixedModelFit`.
    """

    tree: Mapping[str, Any] = field(repr=False)
    terms: tuple[StoredTerm, ...] = field(repr=False)
    effects: Effects = field(repr=False)
    formula: str
    weights_name: str | None
    data_name: str | None
    reml: bool
    sigma: float
    theta: FloatArray
    theta_names: tuple[str, ...]
    varcorr: VarCorr
    criterion: float
    deviance: float
    llf: float
    aic: float
    bic: float
    nobs: int
    npar: int
    df_resid: int
    converged: bool
    dropped_columns: tuple[str, ...]
    messages: tuple[Message, ...]
    r_names: dict[str, str]

    def __reduce__(self) -> tuple[Any, tuple[Mapping[str, Any]]]:
        return _fitted, (dict(self.tree),)

    def _effects(self) -> Effects:
        return self.effects

    def _encoding(self) -> EncodingSpec | None:
        encoding: EncodingSpec | None = self.tree["encoding"]
        return encoding

    def _given_names(self) -> tuple[str | None, str | None]:
        return self.weights_name, self.tree["offset_name"]

    def _own_rows(self) -> tuple[EncodedRows, FloatArray | None]:
        raise ParameterError("a loaded model holds no data: give the rows to predict for as newdata")

    @property
    def offset_name(self) -> str | None:
        """Column given by ``offset=``, ``"(array)"`` for an array, None without one."""
        name: str | None = self.tree["offset_name"]
        return name

    def _series(self, values: FloatArray, name: str) -> pd.Series[float]:
        return pd.Series(values, index=pd.Index(self.tree["columns"], dtype=object), name=name)

    @property
    def params(self) -> pd.Series[float]:
        """Fixed effects β, (p,)."""
        return self._series(np.array(self.effects.beta), "estimate")

    @property
    def bse(self) -> pd.Series[float]:
        """Standard errors of the fixed effects, (p,)."""
        return self._series(self.sigma * np.sqrt(np.diag(self.tree["unscaled_cov"])), "std_error")

    @property
    def tvalues(self) -> pd.Series[float]:
        """Estimates over standard errors, (p,)."""
        return (self.params / self.bse).rename("t")

    def cov_params(self) -> pd.DataFrame:
        """Return the covariance matrix of the fixed effects, (p, p)."""
        names = list(self.tree["columns"])
        return pd.DataFrame(self.sigma**2 * self.tree["unscaled_cov"], index=names, columns=names)

    def ranef(self) -> dict[str, pd.DataFrame]:
        """Return the conditional modes per grouping label: levels × coefficients."""
        frames: dict[str, list[pd.DataFrame]] = {}
        for t in self.terms:
            frame = pd.DataFrame(t.modes, index=t.levels.rename(t.label), columns=list(t.columns))
            frames.setdefault(t.label, []).append(frame)
        return {label: parts[0] if len(parts) == 1 else pd.concat(parts, axis=1) for label, parts in frames.items()}

    @property
    def ngroups(self) -> dict[str, int]:
        """Number of levels per grouping label."""
        return {t.label: len(t.levels) for t in self.terms}

    @property
    def convergence(self) -> str | None:
        """The first line of the certificate of the fit."""
        text: str | None = self.tree["facts"]["convergence"]
        return text

    @property
    def optimizer_report(self) -> Any:
        """What the optimizer said when the model was fitted."""
        return SimpleNamespace(name="", status="", message=self.tree["facts"]["optimizer"], n_evaluations=1)

    @property
    def resid_pearson(self) -> FloatArray:
        """Minimum, quartiles and maximum of the Pearson residuals of the fit, (5,); empty after `without_rows`."""
        return np.array(self.tree["facts"]["pearson"])

    def summary(self, correlation: bool = False, digits: int = 4) -> Summary:
        """Return the summary of the fit, without tests of the fixed effects."""
        return summarize(self, correlation=correlation, digits=digits)

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    def __repr__(self) -> str:
        kind = "REML" if self.reml else "ML"
        groups = ", ".join(f"{label}: {m}" for label, m in self.ngroups.items())
        return f"<FittedModel by {kind}: {self.formula}; {self.nobs} rows, {groups}; without data>"

    if not TYPE_CHECKING:  # type checkers know the names

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(loaded_hint(name, FittedModel, MixedModelFit))
