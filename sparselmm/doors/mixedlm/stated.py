"""Views of a model that was stated in statsmodels' way, under statsmodels' names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sparselmm._typing import FloatArray
from sparselmm.api import GroupedTerm, LinearMixedModel
from sparselmm.doors.mixedlm.effects import Components, components
from sparselmm.doors.mixedlm.translation import Translation
from sparselmm.hints.refusal import Hinted


@dataclass(frozen=True, repr=False, eq=False)
class StatedModel(Hinted, hints="MixedLM"):
    """What a `MixedLM` says about itself; it is all in the translation."""

    _translation: Translation

    @property
    def lmm(self) -> LinearMixedModel:
        """The same model in the terms of this package."""
        return self._translation.lmm

    @property
    def lmer_formula(self) -> str | None:
        """The formula with which `sparselmm.lmer` fits this model to the same data; None where there is none."""
        return self._translation.lmer_formula

    @property
    def endog(self) -> FloatArray:
        """Response of the rows used, (n,)."""
        return self.lmm.problem.observed("the response").y

    @property
    def exog(self) -> FloatArray:
        """Fixed-effects matrix, (n, k_fe)."""
        return self.lmm.problem.observed("matrices").X

    @property
    def exog_re(self) -> FloatArray | None:
        """Matrix of the correlated random effects, (n, k_re); None without any."""
        re = self._translation.re
        if re is None:
            return None
        term = self.lmm.problem.observed("matrices").terms[re.term]
        return np.array(term.Z) if isinstance(term, GroupedTerm) else term.to_sparse().toarray()

    @property
    def exog_vc(self) -> Components:
        """Matrices of the variance components, by group."""
        return components(self._translation)

    @property
    def groups(self) -> Any:
        """Group of each row used, (n,) array."""
        return self._translation.group_labels.to_numpy()[self._translation.group_codes]

    @property
    def formula(self) -> str | None:
        """The formula of the fixed part as given; None for a model made from arrays."""
        return self._translation.formula

    @property
    def endog_names(self) -> str:
        """Name of the response."""
        return self._translation.endog_name

    @property
    def exog_names(self) -> list[str]:
        """Names of the fixed effects."""
        return list(self.lmm.problem.layout.columns)

    @property
    def group_labels(self) -> list[Any]:
        """The groups, in increasing order."""
        return list(self._translation.group_labels)

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return len(self._translation.group_labels)

    @property
    def nobs(self) -> int:
        """Number of rows used."""
        return self.lmm.problem.engine.crossproducts.n

    def __repr__(self) -> str:
        return f"<MixedLM: {self.lmer_formula or self.lmm.source.formula}; {self.nobs} rows, {self.n_groups} groups>"
