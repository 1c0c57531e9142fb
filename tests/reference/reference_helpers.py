"""Saved R results, their data, and the comparison of a fit with one of them.

A record is a dict as `lme4.json.gz` describes it (README.md). Names are compared after
`plain`, which removes the differences between formulaic's and R's spelling, so that
terms are matched by name and never by their position.
"""

from __future__ import annotations

import gzip
import json
import re
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

HERE = Path(__file__).resolve().parent
Record = dict[str, Any]

# Relative error of the criterion at one theta: rounding in sums of n terms, on both sides.
RTOL_CRITERION = 1e-10
# Slack of the optimum: R's own best values repeat to about 1e-9.
ATOL_OPTIMUM, RTOL_OPTIMUM = 1e-7, 1e-10
# At R's theta everything is a closed formula; R prints 15 digits.
RTOL_SAME_THETA = 1e-7
# At the optimum: the criterion is flat there, a change of 1e-9 moves theta by up to about 1e-5.
RTOL_VARIANCE, BETA_IN_SE = 1e-4, 1e-5


@lru_cache
def read_records(name: str) -> dict[str, Record]:
    """Records of a saved R output (``.json`` or ``.json.gz``) by id."""
    path = HERE / name
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return json.loads(text)["models"]


def reference_models() -> Iterator[str]:
    """Ids of the 76 models of lme4.json.gz."""
    yield from read_records("lme4.json.gz")


def typed_frame(path: Path, columns: dict[str, Any]) -> pd.DataFrame:
    """Read a csv file: factors as categoricals with the given levels, the rest as float."""
    text = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=["NA"])
    frame = {}
    for name, column in columns.items():
        if column["type"] == "factor":
            frame[name] = pd.Categorical(text[name], categories=column["levels"])
        else:
            frame[name] = text[name].astype(float)
    return pd.DataFrame(frame)


@lru_cache
def reference_frame(name: str) -> pd.DataFrame:
    """Data set of a model: one of the package's, or a fixture of this folder.

    Two columns made from the row number serve as weights and offset (`w5`, `o7`).
    """
    from sparselmm.datasets import load_dataset

    fixtures = json.loads((HERE / "fixtures.json").read_text())
    if name in fixtures:
        frame = typed_frame(HERE / fixtures[name]["file"], fixtures[name]["columns"])
    elif name == "extra_models":
        frame = pd.read_csv(HERE / "extra_models.csv")
        for factor in ("a", "b", "c", "u", "v"):
            frame[factor] = frame[factor].astype("category")
    else:
        frame = load_dataset(name)
    i = np.arange(len(frame))
    return frame.assign(w5=1 + (i % 5) / 4, o7=(i % 7) / 7)


def load_reference_data(model: str) -> pd.DataFrame:
    """Data of one of the 76 models, with the types it was fitted with."""
    return reference_frame(read_records("lme4.json.gz")[model]["data"])


def plain(name: str) -> str:
    """Coefficient or theta name without the differences in spelling: ``f[T.b]`` and ``fb`` agree."""
    name = name.replace("(Intercept)", "Intercept").replace("**", "^").replace("`", "")
    name = re.sub(r"\[(?:[TS]\.)?\.?([^\]]*)\]", r"\1", re.sub(r"\s", "", name))
    return name.casefold()


def named(record: Record, key: str) -> dict[str, float]:
    """Named vector of a record; R writes an empty one as an empty list."""
    return record[key] or {}


def quietly(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Call with the package's warnings switched off (many reference models are singular)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **kwargs)


def build_model(record: Record, data: pd.DataFrame) -> Any:
    """Unfitted model of a record, through the public API."""
    import sparselmm as slm

    contrasts = {name: kind.removeprefix("contr.") for name, kind in (record.get("contrasts") or {}).items()}
    return quietly(
        slm.LinearMixedModel.from_formula,
        record["formula"],
        data,
        weights=record["weights"],
        offset=record["offset"],
        contrasts=contrasts or None,
    )


def theta_from_r(record: Record, theta: list[float], names: list[str] | tuple[str, ...]) -> np.ndarray:
    """R's theta in the order of our names."""
    values = {plain(n): v for n, v in zip(record["theta_names"], theta, strict=True)}
    ours = [plain(n) for n in names]
    assert sorted(ours) == sorted(values), f"theta names: ours {list(names)}, R's {record['theta_names']}"
    return np.array([values[n] for n in ours])


def flat_varcorr(record: Record) -> dict[tuple[str, str, str], float]:
    """Variances and covariances of a record by (group, coefficient, coefficient)."""
    out = {}
    saved = record["varcorr"]
    if isinstance(saved, list):
        for block in saved:
            for i, row in enumerate(block["terms"]):
                for j, col in enumerate(block["terms"][: i + 1]):
                    out[(block["group"], *sorted((plain(row), plain(col))))] = block["cov"][i][j]
        return out
    labels = {t["group"] for t in record["terms"]}
    for grp, var1, var2, vcov in zip(saved["grp"], saved["var1"], saved["var2"], saved["vcov"], strict=True):
        if grp != "Residual":
            label = grp if grp in labels else re.sub(r"\.\d+$", "", grp)
            out[(label, *sorted((plain(var1), plain(var2 or var1))))] = vcov
    return out


def our_varcorr(fit: Any, labels: set[str]) -> dict[tuple[str, str, str], float]:
    """Variances and covariances of a fit by (group, coefficient, coefficient)."""
    out = {}
    for row in fit.varcorr.to_frame().itertuples():
        if row.grp != "Residual":
            label = row.grp if row.grp in labels else re.sub(r"\.\d+$", "", row.grp)
            second = row.var2 if isinstance(row.var2, str) else row.var1
            out[(label, *sorted((plain(row.var1), plain(second))))] = row.vcov
    return out


def lower(ours: float, theirs: float) -> str:
    """Which of two criteria is lower, for failure messages."""
    which = "ours is lower" if ours < theirs else "R's is lower"
    return f"ours {ours:.10f}, R {theirs:.10f}: {which} by {abs(ours - theirs):.3e}"


def close(what: str, ours: Any, theirs: Any, atol: Any, note: str = "") -> None:
    """Assert elementwise closeness and say what differs, where and by how much."""
    a, b = np.atleast_1d(np.asarray(ours, float)), np.atleast_1d(np.asarray(theirs, float))
    assert a.shape == b.shape, f"{what}: shape {a.shape} against R's {b.shape}. {note}"
    gap = np.abs(a - b)
    excess = np.where(np.isnan(gap), np.inf, gap) - atol
    if np.any(excess > 0):
        worst = tuple(map(int, np.unravel_index(int(np.argmax(excess)), a.shape)))
        limit = np.broadcast_to(atol, a.shape)[worst]
        raise AssertionError(
            f"{what}, entry {worst}: ours {a[worst]:.12g}, R {b[worst]:.12g}, apart {gap[worst]:.3e} "
            f"(allowed {limit:.1e}); {int((excess > 0).sum())} of {a.size} differ. {note}"
        )


def check_sizes(fit: Any, record: Record) -> None:
    """Counts, names and dropped columns."""
    assert fit.nobs == record["nobs"]
    assert len(fit.params) == record["p"]
    assert fit.npar == record["npar"] == record["p"] + record["n_theta"] + 1
    assert fit.df_resid == record["df_residual"]
    assert len(fit.theta) == record["n_theta"]
    if not record.get("contrasts"):
        assert [plain(n) for n in fit.params.index] == [plain(n) for n in named(record, "beta")]
        assert [plain(n) for n in fit.dropped_columns] == [plain(n) for n in record["dropped_columns"]]
    rows = [str(i + 1) for i in fit.fittedvalues.index[:10]]
    assert rows == [str(r) for r in record["row_names10"]]


def check_fixed_theta(model: Any, record: Record) -> None:
    """The criterion where no optimizer is involved."""
    for at in record["criterion_at"]:
        theta = theta_from_r(record, at["theta"], model.theta_names)
        fit = quietly(model.at, theta, reml=record["REML"])
        close(f"criterion at theta {at['theta']}", fit.criterion, at["value"], RTOL_CRITERION * abs(at["value"]),
              lower(fit.criterion, at["value"]))  # fmt: skip


def check_modes(fit: Any, record: Record, rtol: float) -> None:
    """Conditional modes: the first levels and the sums of squares of every group."""
    modes = fit.ranef()
    assert sorted(modes) == sorted(r["group"] for r in record["ranef"])
    for block in record["ranef"]:
        frame = modes[block["group"]].rename(columns=plain)
        assert len(frame) == block["n_levels"]
        frame = frame[[plain(t) for t in block["terms"]]]
        sumsq = np.array(block["sumsq"], float)
        scale = np.sqrt(sumsq.max() / len(frame)) + record["sigma"] * 1e-3
        first = frame.set_axis(frame.index.astype(str)).loc[[str(v) for v in block["levels"]]]
        close(f"ranef {block['group']}", first.to_numpy(), np.array(block["values"], float).reshape(first.shape),
              rtol * scale)  # fmt: skip
        close(f"ranef sums of squares {block['group']}", (frame**2).sum().to_numpy(), sumsq,
              2 * rtol * scale**2 * len(frame))  # fmt: skip


def check_rows(fit: Any, record: Record, data: pd.DataFrame, rtol: float) -> None:
    """Fitted values and residuals of the first rows, and their sums of squares."""
    sigma = record["sigma"]
    weights = 1.0 if record["weights"] is None else data.loc[fit.resid.index, record["weights"]].to_numpy()
    pearson = np.sqrt(weights) * fit.resid.to_numpy()
    close("fitted values", fit.fittedvalues.iloc[:10], record["fitted10"], rtol * sigma)
    close("residuals", fit.resid.iloc[:10], record["resid10"], rtol * sigma)
    close("Pearson residuals", pearson[:10], record["resid_pearson10"], rtol * sigma * np.sqrt(np.max(weights)))
    close("scaled residuals", pearson[:10] / fit.sigma, record["resid_scaled10"], 10 * rtol)
    for what, values in (("fitted", fit.fittedvalues), ("resid", fit.resid)):
        saved = record[f"{what}_sumsq"]
        close(f"{what} sum of squares", np.sum(values**2), saved, 2 * rtol * (saved + sigma * np.sqrt(saved)))


def check_same_theta(model: Any, record: Record, data: pd.DataFrame) -> None:
    """Everything that follows from theta, evaluated at R's own optimum."""
    fit = quietly(model.at, theta_from_r(record, record["theta"], model.theta_names), reml=record["REML"])
    rtol, value = RTOL_SAME_THETA, record["criterion"]
    close("criterion at R's optimum", fit.criterion, value, RTOL_CRITERION * abs(value), lower(fit.criterion, value))
    check_sizes(fit, record)
    se = np.array(list(named(record, "se").values()), float)
    close("beta at R's theta", fit.params, list(named(record, "beta").values()), rtol * se)
    close("standard errors at R's theta", fit.bse, se, rtol * se)
    close("sigma at R's theta", fit.sigma, record["sigma"], rtol * record["sigma"])
    for name, ours, scale in (("logLik", fit.llf, 0.5), ("AIC", fit.aic, 1.0), ("BIC", fit.bic, 1.0)):
        close(f"{name} at R's theta", ours, record[name], 2 * scale * RTOL_CRITERION * abs(value))
    check_variances(fit, record, rtol, "at R's theta")
    check_modes(fit, record, rtol)
    check_rows(fit, record, data, rtol)
    assert bool(fit.is_singular) == record["isSingular"], f"is_singular: ours {fit.is_singular}, R's the other"


def check_variances(fit: Any, record: Record, rtol: float, note: str) -> None:
    """Variances relative to themselves, covariances relative to the standard deviations."""
    theirs = flat_varcorr(record)
    ours = our_varcorr(fit, {key[0] for key in theirs})
    assert sorted(ours) == sorted(theirs), f"variance parameters: ours {sorted(ours)}, R's {sorted(theirs)}"
    for (group, c1, c2), value in theirs.items():
        scale = np.sqrt(theirs[group, c1, c1] * theirs[group, c2, c2])
        close(f"(co)variance {group} {c1} {c2} {note}", ours[group, c1, c2], value, rtol * scale + 1e-15)


def check_optimum(fit: Any, record: Record) -> None:
    """The minimum reached, never above R's."""
    allowed = max(ATOL_OPTIMUM, RTOL_OPTIMUM * abs(record["criterion"]))
    excess = fit.criterion - record["criterion"]
    assert excess <= allowed, f"optimum above R's: {lower(fit.criterion, record['criterion'])}"
    assert fit.converged, f"not converged: {fit.optimizer_report}"


def check_estimates(fit: Any, record: Record) -> None:
    """Estimates at our optimum where the optimum determines them (not singular)."""
    note = lower(fit.criterion, record["criterion"])
    se = np.array(list(named(record, "se").values()), float)
    close("beta", fit.params, list(named(record, "beta").values()), BETA_IN_SE * se, note)
    close("standard errors", fit.bse, se, RTOL_VARIANCE * se, note)
    close("sigma", fit.sigma, record["sigma"], RTOL_VARIANCE * record["sigma"], note)
    check_variances(fit, record, RTOL_VARIANCE, note)
    check_modes(fit, record, RTOL_VARIANCE)


def check_singular_estimates(fit: Any, record: Record) -> None:
    """Estimates at a singular optimum: theta is not unique, the covariances nearly so."""
    note = lower(fit.criterion, record["criterion"])
    se = np.array(list(named(record, "se").values()), float)
    close("beta", fit.params, list(named(record, "beta").values()), 1e-4 * se, note)
    theirs = flat_varcorr(record)
    ours = our_varcorr(fit, {key[0] for key in theirs})
    largest = max(record["sigma"] ** 2, *theirs.values())
    close("variance parameters", [ours[k] for k in theirs], list(theirs.values()), 1e-4 * largest, note)


@lru_cache
def built(file: str, model: str) -> Any:
    """Unfitted model of a record whose data are a data set (made once per session)."""
    record = read_records(file)[model]
    return build_model(record, reference_frame(record["data"]))


@lru_cache
def fitted(file: str, model: str) -> Any:
    """Fit of such a model by the record's criterion (made once per session)."""
    return quietly(built(file, model).fit, reml=read_records(file)[model]["REML"])
