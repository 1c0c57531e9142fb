"""The numbers of a fit here and of saved R output, under keys that make them comparable."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sparselmm._typing import FloatArray
from sparselmm.compare_r.comparison import Estimate
from sparselmm.compare_r.terms import Term, match, r_terms

__all__ = ["estimates_here", "estimates_r", "theta_from_r"]

_LEVEL = re.compile(r"\[(?:[A-Z]\.)?(.+?)\](?=[:.]|$)")
_INTERCEPT = re.compile(r"\(Intercept\)|(?<!\w)Intercept(?!\w)")
_STATISTICS = (("criterion", "criterion"), ("logLik", "llf"), ("AIC", "aic"), ("BIC", "bic"))


def estimates_here(fit: Any) -> list[Estimate]:
    """Return the numbers of a fit of ours."""
    names = [str(name) for name in fit.params.index]
    r_names = _r_names(fit)
    keys = [_key(r_names.get(name, _r_spelling(name))) for name in names]
    beta, se = np.asarray(fit.params, dtype=float), np.asarray(fit.bse, dtype=float)
    frame = fit.varcorr.to_frame()
    components = [
        _component(str(grp), str(grp), _present(var1, var2), r_names, float(sdcor))
        for grp, var1, var2, sdcor in zip(frame["grp"], frame["var1"], frame["var2"], frame["sdcor"])
    ]
    statistics = [(name, float(getattr(fit, attribute))) for name, attribute in _STATISTICS]
    counts = {"nobs": fit.nobs, "df.resid": fit.df_resid, "fixed effects": len(names)}
    return _assemble(names, keys, beta, se, components, statistics, counts, fit.ngroups)


def estimates_r(fit: Any, record: Mapping[str, Any]) -> list[Estimate]:
    """Return the numbers of saved R output; its random terms under the names of those of the fit that they match."""
    params, varcorr, ngroups = record["params"], record["varcorr"], record["ngroups"]
    names = [str(name) for name in params["names"]]
    ours = {theirs.name: name for name, theirs in match(our_terms(fit), r_terms(record, _key)).items()}
    known = {**{str(grp): f"{grp} of R" for grp in varcorr["grp"]}, "Residual": "Residual", **ours}
    components = [
        _component(known[str(grp)], grp, _present(var1, var2), {}, _float(sdcor))
        for grp, var1, var2, sdcor in zip(varcorr["grp"], varcorr["var1"], varcorr["var2"], varcorr["sdcor"])
    ]
    statistics = [(name, _float(record[attribute])) for name, attribute in _STATISTICS]
    counts = {"nobs": record["nobs"], "df.resid": record["df_resid"], "fixed effects": len(names)}
    groups = dict(zip(ngroups["names"], ngroups["values"]))
    return _assemble(
        names,
        list(map(_key, names)),
        _array(params["values"]),
        _array(params["bse"]),
        components,
        statistics,
        counts,
        groups,
    )


def our_terms(fit: Any) -> list[Term]:
    """Return the terms of a fit of ours, in our order."""
    r_names = _r_names(fit)
    return [
        Term(
            str(term.name),
            _key(str(term.label)),
            tuple(_key(r_names.get(str(c), _r_spelling(str(c)))) for c in term.columns),
            tuple(map(float, term.sd)),
        )
        for term in fit.varcorr.terms
    ]


def theta_from_r(fit: Any, record: Mapping[str, Any]) -> FloatArray | None:
    """Return R's theta in the order used here, or None where the terms cannot be matched."""
    pairs = match(our_terms(fit), r_terms(record, _key))
    theta: list[float] = []
    for term in our_terms(fit):
        other = pairs.get(term.name)
        if other is None or term.columns != other.columns:
            return None
        theta += other.theta
    complete = len(theta) == len(fit.theta) == len(record["theta"]["values"])
    return np.array(theta) if complete and np.all(np.isfinite(theta)) else None


def _r_names(fit: Any) -> Mapping[str, str]:
    return getattr(fit, "r_names", None) or {}


def _assemble(
    names: Sequence[str],
    keys: Sequence[str],
    beta: FloatArray,
    se: FloatArray,
    components: Sequence[Estimate],
    statistics: Sequence[tuple[str, float]],
    counts: Mapping[str, Any],
    ngroups: Mapping[str, int],
) -> list[Estimate]:
    out = [Estimate("fixed effect", n, k, float(b), float(s)) for n, k, b, s in zip(names, keys, beta, se)]
    out += [Estimate("std. error", n, k, float(s), float(s)) for n, k, s in zip(names, keys, se)]
    out += components
    out += [Estimate("fit statistic", name, name, value) for name, value in statistics]
    out += [Estimate("count", name, name, float(value), 0.0) for name, value in counts.items()]
    out += [Estimate("count", f"levels of {g}", f"levels of {_key(str(g))}", float(m), 0.0) for g, m in ngroups.items()]
    return out


def _component(label: str, shown: str, columns: Sequence[str], r_names: Mapping[str, str], value: float) -> Estimate:
    # the two sides of a correlation may come in either order
    parts = sorted(_key(r_names.get(column, _r_spelling(column))) for column in columns)
    key, name = " | ".join([_key(label), *parts]), " ".join([shown, *columns])
    if len(parts) == 2:
        return Estimate("random corr", name, key, value)
    return Estimate("random sd", name, key, value, abs(value))


def _present(*names: Any) -> list[str]:
    return [str(name) for name in names if name is not None and name == name]


def _r_spelling(name: str) -> str:
    """Return a coefficient name as R writes it: ``f[T.b]`` becomes ``fb``."""
    return _INTERCEPT.sub("(Intercept)", _LEVEL.sub(r"\1", name))


def _key(name: str) -> str:
    text = re.sub(r"[\s`]", "", name).replace("**", "^").replace("True", "TRUE").replace("False", "FALSE")
    text = re.sub(r"(?<![\w.])(?:np[._]|numpy\.)", "", text)
    return re.sub(r"(?<![\w.])C\(", "factor(", text)


def _array(values: Sequence[float | None]) -> FloatArray:
    return np.array([_float(v) for v in values], dtype=np.float64)


def _float(value: float | None) -> float:
    return math.nan if value is None else float(value)
