"""What is said of a name of R or statsmodels, and of a value that means something else there."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from sparselmm.exceptions import DataError, ParameterError, SparseLMMWarning, warn_user
from sparselmm.hints.table import FIT_ADVICE, FIT_NAMES, MODEL_NAMES, PACKAGE_NAMES, R_OPTIMIZERS, RESULT_NAMES

_INTERVAL_BELOW = 0.5  # coverage that nobody asks for


def fit_hint(name: str) -> str:
    """Return the text of the error for an unknown attribute of a fit."""
    text = f"a fit has no attribute {name!r}"
    if name in FIT_ADVICE:
        return f"{text}; {FIT_ADVICE[name]}"
    known = FIT_NAMES.get(name)
    return f"{text}; it is called {known} here" if known else text


def loaded_hint(name: str, loaded: type, fit: type) -> str:
    """Return the text of the error for an unknown attribute of a loaded model, given its class and that of a fit.

    >>> class Fit:
    ...     anova = None
    >>> loaded_hint("anova", object, Fit)
    "a loaded model has no attribute 'anova', which needs the whole fit; keep that by pickle.dump(fit, file)"
    """
    text = f"a loaded model has no attribute {name!r}"
    known = FIT_NAMES.get(name, name).removesuffix("()")
    if name.startswith("_") or not hasattr(fit, known):
        return text
    if known != name and hasattr(loaded, known):
        return f"{text}; it is called {FIT_NAMES[name]} here"
    return f"{text}, which needs the whole fit; keep that by pickle.dump(fit, file)"


def result_hint(name: str, fit: type) -> str:
    """Return the text of the error for an unknown attribute of statsmodels' kind of result, given the class of a fit.

    >>> class Fit:
    ...     icc = None
    >>> result_hint("icc", Fit)
    "MixedLMResults has no attribute 'icc'; there is lmm.icc"
    """
    text = f"MixedLMResults has no attribute {name!r}"
    if name in RESULT_NAMES:
        return f"{text}; there is {RESULT_NAMES[name]}"
    return f"{text}; there is lmm.{name}" if not name.startswith("_") and hasattr(fit, name) else text


def model_hint(name: str, result: type, fit: type) -> str:
    """Return the text of the error for an unknown attribute of statsmodels' kind of model.

    >>> class Result:
    ...     summary = None
    >>> model_hint("summary", Result, Result)
    "MixedLM has no attribute 'summary', which belongs to the fit: write model.fit().summary"
    """
    text = f"MixedLM has no attribute {name!r}"
    if name in MODEL_NAMES:
        return f"{text}; {MODEL_NAMES[name]}"
    known = not name.startswith("_") and (hasattr(result, name) or hasattr(fit, name))
    return f"{text}, which belongs to the fit: write model.fit().{name}" if known else text


def package_hint(name: str, fit: Callable[[], type]) -> str:
    """Return the text of the error for an unknown name of the package; ``fit`` returns the class of a fit if need be.

    >>> package_hint("fixef", lambda: object)
    "module 'sparselmm' has no attribute 'fixef': ask the fit, fit.params"
    """
    text = f"module 'sparselmm' has no attribute {name!r}"
    if name in PACKAGE_NAMES:
        return f"{text}: {PACKAGE_NAMES[name]}"
    own = not name.startswith("_") and hasattr(fit(), name)
    if name in FIT_ADVICE:
        return f"{text}: {FIT_ADVICE[name]}"
    if name not in FIT_NAMES and not own:
        return text
    known = FIT_NAMES.get(name, f"{name}()" if callable(getattr(fit(), name, None)) else name)
    return f"{text}: ask the fit, fit.{known}"


def refuse_file_name(data: Any) -> None:
    """Refuse the name of a file in place of a table, and say how to read one."""
    if isinstance(data, str | os.PathLike) and "~" not in str(data):
        reader = "read_parquet" if str(data).endswith(".parquet") else "read_csv"
        raise DataError(f"the data must be a table, not the name of one: read it first, pandas.{reader}({str(data)!r})")


def check_choice(optimizer: Any = None, control: Any = None) -> None:
    """Refuse the name of an optimizer where another one, or none, is meant."""
    if isinstance(control, str):
        raise ParameterError(f"control= holds the effort of the iterative solver; write optimizer={control!r}")
    if isinstance(optimizer, str) and optimizer in R_OPTIMIZERS:
        raise ParameterError(f"R's optimizer {optimizer!r} is called {R_OPTIMIZERS[optimizer]!r} here")


def check_interval(level: float) -> None:
    """Warn when a level looks like statsmodels' ``alpha``."""
    if isinstance(level, float) and 0.0 < level < _INTERVAL_BELOW:
        text = f"these intervals cover {100 * level:g} %; for {100 * (1 - level):g} % pass level={1 - level:g}"
        warn_user(text, SparseLMMWarning)
