"""Writing a fit to a file."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import numpy as np

from sparselmm.data.source import ModelSource
from sparselmm.exceptions import ParameterError
from sparselmm.inference.predict.error_variance import PredictionErrors
from sparselmm.likelihood.result import FitResult
from sparselmm.storage.contents import FACTS, storable_encoding, terms_tree, variances_tree
from sparselmm.storage.format import write_tree

INCLUDE = (None, "variances")


class Saveable(Protocol):
    """A fit, as far as saving needs it; it has the attributes named by `FACTS` too."""

    @property
    def result(self) -> FitResult:
        """The numbers."""
        ...

    @property
    def source(self) -> ModelSource:
        """Formula and encoding."""
        ...


def save_fit(
    fit: Saveable, path: str | os.PathLike[str], include: str | None, errors: Callable[[], PredictionErrors]
) -> None:
    """Write a fit to a file; see `MixedModelFit.save`. ``errors`` makes what standard errors of predictions need."""
    if include not in INCLUDE:
        raise ParameterError(f"include must be None or 'variances', not {include!r}")
    if not Path(path).parent.is_dir():
        raise ParameterError(f"there is no folder {str(Path(path).parent)!r} to save in")
    result, encoding = fit.result, fit.source.encoding
    encoding = None if encoding is None else storable_encoding(encoding)
    facts = {name: getattr(fit, name) for name in FACTS}
    facts["pearson"] = np.zeros(0)
    if result.rows is not None:
        facts["pearson"] = np.quantile(result.rows.scaled(result.residuals), (0.0, 0.25, 0.5, 0.75, 1.0))
    facts["convergence"] = None if result.convergence is None else str(result.convergence).strip().splitlines()[0]
    facts["optimizer"] = result.report.message
    tree = {
        "facts": facts,
        "encoding": encoding,
        "columns": result.layout.columns,
        "beta": result.beta,
        "unscaled_cov": result.unscaled_cov,
        "sigma": result.sigma,
        "offset_name": fit.source.offset_name,
        "terms": terms_tree(result, encoding),
        "variances": variances_tree(errors()) if include == "variances" else None,
    }
    write_tree(path, tree, version("sparselmm"))
