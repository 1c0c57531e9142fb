"""Running R, reading its output, and comparing it with a fit made here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sparselmm.compare_r.comparison import Comparison, pair_up
from sparselmm.compare_r.estimates import estimates_here, estimates_r, theta_from_r
from sparselmm.compare_r.exchange import ExchangeTable
from sparselmm.compare_r.script import REPETITIONS, SECONDS_TO_SPEND, RModel, r_formula, write_r_script
from sparselmm.data.tables.frame import as_pandas
from sparselmm.exceptions import DataError, ParameterError, SparseLMMError, SparseLMMWarning

__all__ = ["RError", "RNotAvailableError", "compare_with_r", "read_r_output", "run_r"]

_NEEDED = ("formula", "weights", "offset", "reml", "nobs", "criterion", "params", "varcorr", "ngroups", "theta")


class RNotAvailableError(SparseLMMError, RuntimeError):
    """There is no Rscript with lme4 on this machine."""


class RError(SparseLMMError, RuntimeError):
    """R was started and failed; the message is R's."""


def compare_with_r(
    fit_or_formula: Any,
    data: Any,
    *,
    reml: bool = True,
    weights: str | None = None,
    offset: str | None = None,
    r_output: str | Path | Mapping[str, Any] | None = None,
    tight: bool = False,
    tolerance: float = 1e-3,
    rscript: str = "Rscript",
) -> Comparison:
    """Return the estimates of one model from here and from R's lme4 side by side.

    Parameters
    ----------
    fit_or_formula : fitted model or str
        A fit is taken as it is (with its formula and method); a formula is fitted first.
    data : data frame
        The data of the fit.
    reml : bool
        REML or maximum likelihood, when a formula is given.
    weights, offset : str, optional
        Column names. With a fit, the weights are those it names.
    r_output : path or mapping, optional
        Saved output of the script of `write_r_script`; without it R is run now.
    tight : bool
        Give R's optimizer tolerances far below its defaults.
    tolerance : float
        Largest difference that counts as agreement: in standard errors for fixed effects,
        relative for standard errors and standard deviations, absolute for correlations and criteria.
    rscript : str
        The Rscript program.

    Returns
    -------
    Comparison
        Prints as a table; ``agrees`` is the verdict.

    Raises
    ------
    RNotAvailableError
        If R is needed and Rscript or lme4 is missing.
    RError
        If R fails.
    DataError
        If the saved output is of another model.
    """
    if not tolerance > 0:
        raise ParameterError(f"tolerance must be positive, not {tolerance}")
    frame = as_pandas(data)
    fit, seconds = _fitted(fit_or_formula, data, reml, weights, offset)
    if weights is None and not isinstance(fit_or_formula, str):
        weights = fit.weights_name
    for name in (weights, offset):
        if name is not None and name not in frame.columns:
            raise DataError(f"the data have no column {name!r} that could be handed to R")
    model = RModel(str(fit.formula), bool(fit.reml), weights, offset, tight)
    table = ExchangeTable.from_frame(frame, model.formula, [n for n in (weights, offset) if n is not None])
    record = run_r(model, table, rscript) if r_output is None else read_r_output(r_output)
    _check_same_model(record, model)
    return _compare(fit, record, table, seconds, tolerance)


def _fitted(
    fit_or_formula: Any, data: Any, reml: bool, weights: str | None, offset: str | None
) -> tuple[Any, float | None]:
    if not isinstance(fit_or_formula, str):
        return fit_or_formula, None
    from sparselmm.api import lmer

    def timed() -> tuple[Any, float]:
        start = time.perf_counter()
        fit = lmer(fit_or_formula, data, reml=reml, weights=weights, offset=offset)
        return fit, time.perf_counter() - start

    fit, seconds = timed()
    spent = seconds
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SparseLMMWarning)
        # quick fits are timed again: the first one of a session pays for loading
        for _ in range(REPETITIONS):
            if spent > SECONDS_TO_SPEND:
                break
            again = timed()[1]
            seconds, spent = min(seconds, again), spent + again
    return fit, seconds


def run_r(model: RModel, table: ExchangeTable, rscript: str = "Rscript") -> dict[str, Any]:
    """Return what lme4 finds for a model, run now on this machine."""
    program = shutil.which(rscript)
    if program is None:
        raise RNotAvailableError(
            f"{rscript} is not on this machine. Make the R output elsewhere with the script of "
            "`sparselmm write-r-script` and give it with --r-output FILE.json (r_output= in Python)"
        )
    with tempfile.TemporaryDirectory() as folder:
        data, output, script = (Path(folder, name) for name in ("data.csv", "output.json", "fit.R"))
        data.write_text(table.text, encoding="utf-8")
        script.write_text(write_r_script(model, table, str(data), str(output)), encoding="utf-8")
        environment = {**os.environ, "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            [program, "--vanilla", "--encoding=UTF-8", str(script)],
            capture_output=True,
            env=environment,
            check=False,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        if done.returncode != 0:
            raise _failure(done.stderr)
        return read_r_output(output)


def _failure(stderr: str) -> SparseLMMError:
    if re.search(r"there is no package called .lme4", stderr):
        return RNotAvailableError("R is on this machine, but its package lme4 is not; install.packages('lme4')")
    start = stderr.find("Error")
    return RError("R failed: " + " ".join(stderr[max(start, 0) :].split()))


def read_r_output(source: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    """Return saved R output, checked for the parts that a comparison needs."""
    if isinstance(source, Mapping):
        record, name = dict(source), "the R output"
    else:
        name = str(source)
        try:
            record = json.loads(Path(source).read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(f"cannot read {name}: {error.strerror or error}") from None
        except ValueError as error:
            raise DataError(f"{name} is not JSON: {error}") from None
    missing = [key for key in _NEEDED if key not in record] if isinstance(record, dict) else list(_NEEDED)
    if missing:
        raise DataError(f"{name} was not made by `sparselmm write-r-script`: it lacks {', '.join(missing)}")
    return record


def _check_same_model(record: Mapping[str, Any], model: RModel) -> None:
    theirs, ours = _plain(str(record["formula"])), _plain(r_formula(model.formula))
    if theirs != ours:
        raise DataError(f"the R output is of another model: {record['formula']} instead of {r_formula(model.formula)}")
    for what, ours_named in (("weights", model.weights), ("offset", model.offset)):
        if record[what] != ours_named:
            raise DataError(f"the R output has {what} {record[what]!r}, the model here {ours_named!r}")
    if bool(record["reml"]) != model.reml:
        method = "REML" if record["reml"] else "maximum likelihood"
        raise DataError(f"the R output was fitted by {method}, the model here was not")


def _plain(formula: str) -> str:
    return re.sub(r"[\s`\"']", "", formula)


def _compare(
    fit: Any, record: Mapping[str, Any], table: ExchangeTable, seconds: float | None, tolerance: float
) -> Comparison:
    theta = theta_from_r(fit, record)
    if record["criterion"] is None:
        raise DataError("R gives no finite criterion for this model (zero weights or a perfect fit?)")
    criterion_r = float(record["criterion"])
    flat = bool(fit.is_singular) and abs(fit.criterion - criterion_r) <= tolerance
    return Comparison(
        formula=str(fit.formula),
        criterion_name="REML criterion" if fit.reml else "Deviance",
        rows=pair_up(estimates_here(fit), estimates_r(fit, record), tolerance, flat),
        criterion_here=float(fit.criterion),
        criterion_r=criterion_r,
        criterion_at_r=None if theta is None else float(fit.evaluate(theta)),
        seconds_here=seconds,
        seconds_r=record.get("seconds"),
        version_here=" ".join(("sparselmm", version("sparselmm"))),
        version_r=_r_version(record),
        tolerance=tolerance,
        notes=_notes(fit, record, table),
    )


def _r_version(record: Mapping[str, Any]) -> str:
    tight = ", tight optimizer" if record.get("tight") else ""
    return f"{record.get('software', 'lme4')} {record.get('version', '?')} ({record.get('r_version', 'R')}{tight})"


def _notes(fit: Any, record: Mapping[str, Any], table: ExchangeTable) -> tuple[str, ...]:
    notes = [f"here: {message}" for message in fit.messages]
    notes += [f"R: {' '.join(str(message).split())}" for message in record.get("messages", ())]
    if record.get("data_sha256", table.sha256) != table.sha256:
        notes.append("the R output was made from data that are not exactly these")
    return tuple(notes)
