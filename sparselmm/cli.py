"""The ``sparselmm`` command: fit a model, compare it with R, list the data sets.

Everything heavy is imported where it is used, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["main"]

AGREE, DISAGREE, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
#: Rows up to which ``write-r-script`` puts the data into the script.
EMBEDDED_ROWS = 10_000
#: Options about text files.
READING = ("sep", "decimal", "thousands", "na", "encoding")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process when left out.

    Returns
    -------
    int
        0 success or agreement, 1 disagreement with R, 2 bad usage, data or formula.
    """
    arguments = _parser().parse_args(argv)
    from sparselmm.exceptions import FitInterrupted, SparseLMMError, SparseLMMWarning
    from sparselmm.hints.shell import for_shell, one_line

    command: Callable[[argparse.Namespace], tuple[int, str]] = arguments.command
    try:
        with warnings.catch_warnings():
            # the output shows the messages of a fit already
            warnings.simplefilter("ignore", SparseLMMWarning)
            status, text = command(arguments)
        _show(text)
        return status
    except FitInterrupted as error:
        print(f"sparselmm: {error}", file=sys.stderr)
        return INTERRUPTED
    except SparseLMMError as error:
        print(f"sparselmm: {for_shell(one_line(str(error)))}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("sparselmm: interrupted", file=sys.stderr)
        return INTERRUPTED


def _show(text: str) -> None:
    """Print the output; a reader that has seen enough (head, less) is no error."""
    try:
        print(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # what Python still flushes on exit goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Version(argparse.Action):
    """Print the version; the package is imported only then."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        import sparselmm

        print(f"sparselmm {sparselmm.__version__}")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sparselmm",
        description="Fit lme4-style linear mixed models, and compare them with R.",
        epilog="Example: sparselmm fit 'Reaction ~ Days + (Days | Subject)' --dataset sleepstudy",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    fit = commands.add_parser("fit", help="fit a model and print its summary")
    _model_arguments(fit)
    fit.add_argument("--output", choices=("text", "json"), default="text", help="default: text")
    fit.add_argument("--correlation", action="store_true", help="show the correlation of the fixed effects")
    fit.add_argument(
        "--ddf",
        choices=("satterthwaite", "kenward-roger", "residual", "normal", "none"),
        default="satterthwaite",
        help="degrees of freedom of the tests; none shows t values only; default: satterthwaite",
    )
    fit.set_defaults(command=_fit)

    compare = commands.add_parser(
        "compare-r",
        help="fit here and with R's lme4, and print both",
        description="Exit status: 0 when all estimates agree, 1 when they do not, 2 for bad input.",
    )
    _model_arguments(compare)
    compare.add_argument("--r-output", metavar="FILE.json", help="saved R output; without it R is run now")
    compare.add_argument(
        "--tolerance",
        type=_positive,
        default=1e-3,
        help="largest difference in standard errors (fixed effects), relative (standard errors and "
        "deviations) or absolute (correlations, criteria); default: 0.001",
    )
    compare.add_argument("--tight", action="store_true", help="give R's optimizer much smaller tolerances")
    compare.set_defaults(command=_compare)

    script = commands.add_parser("write-r-script", help="print the R script that makes the output for --r-output")
    _model_arguments(script)
    script.add_argument("--tight", action="store_true", help="give R's optimizer much smaller tolerances")
    script.add_argument("--data-out", metavar="FILE.csv", help="write the data there instead of into the script")
    script.add_argument("--r-output", metavar="FILE.json", help="where the script writes; default: standard output")
    script.set_defaults(command=_write_script)

    commands.add_parser("datasets", help="list the data sets of the package").set_defaults(command=_datasets)
    return parser


def _model_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "formula",
        metavar="FORMULA",
        help="for example 'y ~ x + (1 + x | group)'; in single quotes, because backticks around names run a command "
        "inside double quotes",
    )
    parser.add_argument(
        "file", metavar="FILE", nargs="?", help="data: .csv, .tsv, .txt (or .gz of these) or .parquet, with a header"
    )
    parser.add_argument("--dataset", metavar="NAME", help="a data set of the package instead of FILE")
    _reading_arguments(parser.add_argument_group("how to read a text file"))
    parser.add_argument("--ml", action="store_true", help="maximum likelihood instead of REML")
    parser.add_argument("--weights", metavar="COLUMN", help="column with prior weights")
    parser.add_argument("--offset", metavar="COLUMN", help="column added to the linear predictor")
    parser.add_argument(
        "--categorical", metavar="COLUMN,...", default="", help="columns to be read as factors though they are numbers"
    )


def _reading_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--sep",
        metavar="CHAR",
        help="what separates the columns, '\\t' for tabs; default: tab for .tsv and for .txt with tabs in its header, "
        "';' with --decimal ',', otherwise ','",
    )
    group.add_argument("--decimal", metavar="CHAR", help="the decimal mark; default: '.'")
    group.add_argument("--thousands", metavar="CHAR", help="what groups the digits of large numbers")
    group.add_argument(
        "--na", metavar="TEXT", action="append", help="a further sign of a missing value; may be given several times"
    )
    group.add_argument("--encoding", metavar="NAME", help="for example latin-1, cp1252 or utf-16; default: utf-8")


def _positive(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"must be a positive number, not {text}")
    return value


def _data(arguments: argparse.Namespace) -> pd.DataFrame:
    from sparselmm.exceptions import DataError

    if (arguments.file is None) == (arguments.dataset is None):
        raise DataError("give either a FILE or --dataset NAME")
    if arguments.dataset is not None:
        from sparselmm.datasets import load_dataset

        frame = load_dataset(arguments.dataset)
    else:
        frame = _read(Path(arguments.file), arguments)
    for name in filter(None, (part.strip() for part in arguments.categorical.split(","))):
        if name not in frame.columns:
            raise DataError(f"--categorical: the data have no column {name!r}; there are {', '.join(frame.columns)}")
        frame[name] = frame[name].astype("category")
    return frame


def _read(path: Path, arguments: argparse.Namespace) -> pd.DataFrame:
    """Return the table in a file, or say why it cannot be read and which option helps."""
    from sparselmm.exceptions import DataError

    kind = Path(path.name.lower().removesuffix(".gz")).suffix
    if kind not in (".csv", ".tsv", ".txt", ".parquet"):
        raise DataError(f"cannot tell how to read {path}: the name should end in .csv, .tsv, .txt or .parquet")
    try:
        return _read_parquet(path, arguments) if kind == ".parquet" else _read_text(path, kind, arguments)
    except UnicodeDecodeError as error:
        marked = error.object[:2] in (b"\xff\xfe", b"\xfe\xff")
        advice = "--encoding utf-16" if marked else "its encoding, for example --encoding latin-1"
        raise DataError(f"cannot read {path}: it is not in {error.encoding}; name {advice}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    except (ValueError, ImportError, LookupError, TypeError) as error:
        # parser, encoding and Arrow errors are all ValueErrors; pandas has LookupErrors and TypeErrors for its options
        raise DataError(f"cannot read {path}: {error}") from None


def _read_parquet(path: Path, arguments: argparse.Namespace) -> pd.DataFrame:
    import pandas as pd

    from sparselmm.exceptions import DataError

    given = [name for name in READING if getattr(arguments, name) is not None]
    if given:
        raise DataError(f"--{given[0]} is for text files; {path} holds its types itself")
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        return pd.read_parquet(path)
    # pandas itself makes floating-point numbers of whole ones among which some are missing
    exact = {pa.int64(): pd.Int64Dtype(), pa.uint64(): pd.UInt64Dtype()}
    frame: pd.DataFrame = parquet.read_table(path).to_pandas(types_mapper=exact.get)
    return frame


def _read_text(path: Path, kind: str, arguments: argparse.Namespace) -> pd.DataFrame:
    import pandas as pd

    from sparselmm.data.tables.foreign import with_exact_numbers

    options: dict[str, Any] = {
        "decimal": arguments.decimal or ".",
        "thousands": arguments.thousands,
        "na_values": arguments.na,
        "encoding": arguments.encoding or "utf-8",
    }
    sep = ";" if options["decimal"] == "," else ","
    if arguments.sep is not None:
        sep = arguments.sep.replace("\\t", "\t")
    elif kind == ".tsv" or (kind == ".txt" and len(pd.read_csv(path, sep="\t", nrows=0, **options).columns) > 1):
        sep = "\t"
    frame: pd.DataFrame = pd.read_csv(path, sep=sep, **options)
    return with_exact_numbers(frame, lambda names: pd.read_csv(path, sep=sep, usecols=names, dtype=str, **options))


def _fit(arguments: argparse.Namespace) -> tuple[int, str]:
    import sparselmm as slm
    from sparselmm.hints.shell import for_shell

    fit = slm.lmer(
        arguments.formula,
        _data(arguments),
        reml=not arguments.ml,
        weights=arguments.weights,
        offset=arguments.offset,
    )
    name = arguments.dataset or arguments.file
    if arguments.output == "json":
        record = {**_record(fit), "data": name}
        return AGREE, json.dumps(record, indent=2, allow_nan=False, ensure_ascii=False)
    summary = fit.summary(correlation=arguments.correlation, ddf=None if arguments.ddf == "none" else arguments.ddf)
    return AGREE, for_shell(str(replace(summary, content=replace(summary.content, data_name=name))))


def _compare(arguments: argparse.Namespace) -> tuple[int, str]:
    from sparselmm.compare_r import compare_with_r
    from sparselmm.hints.shell import for_shell

    comparison = compare_with_r(
        arguments.formula,
        _data(arguments),
        reml=not arguments.ml,
        weights=arguments.weights,
        offset=arguments.offset,
        r_output=arguments.r_output,
        tight=arguments.tight,
        tolerance=arguments.tolerance,
    )
    return AGREE if comparison.agrees else DISAGREE, for_shell(str(comparison))


def _write_script(arguments: argparse.Namespace) -> tuple[int, str]:
    from sparselmm.compare_r import ExchangeTable, RModel, write_r_script
    from sparselmm.data.formulas import parse_formula
    from sparselmm.exceptions import DataError

    parse_formula(arguments.formula)
    frame = _data(arguments)
    named = [name for name in (arguments.weights, arguments.offset) if name is not None]
    for name in named:
        if name not in frame.columns:
            raise DataError(f"the data have no column {name!r}; there are {', '.join(frame.columns)}")
    table = ExchangeTable.from_frame(frame, arguments.formula, named)
    if arguments.data_out is None and len(table.lines) - 1 > EMBEDDED_ROWS:
        raise DataError(f"{len(table.lines) - 1} rows are too many for a script; write them with --data-out FILE.csv")
    if arguments.data_out is not None:
        try:
            Path(arguments.data_out).write_text(table.text, encoding="utf-8")
        except OSError as error:
            raise DataError(f"cannot write {arguments.data_out}: {error.strerror or error}") from None
    model = RModel(arguments.formula, not arguments.ml, arguments.weights, arguments.offset, arguments.tight)
    return AGREE, write_r_script(model, table, arguments.data_out, arguments.r_output).removesuffix("\n")


def _datasets(_: argparse.Namespace) -> tuple[int, str]:
    from sparselmm.datasets import list_datasets

    sets = list_datasets()
    width = max(map(len, sets["name"]))
    rows = sets.itertuples(index=False)
    return AGREE, "\n".join(f"{row.name:<{width}}  {row.rows:>6} rows  {row.description}" for row in rows)


def _record(fit: Any) -> dict[str, Any]:
    """Return the numbers of a fit as plain values; what is not finite becomes None."""
    report = fit.optimizer_report
    status = getattr(report, "status", None)
    varcorr = fit.varcorr.to_frame()
    return {
        "software": "sparselmm",
        "version": _package_version(),
        "formula": str(fit.formula),
        "data": fit.data_name,
        "weights": fit.weights_name,
        "offset": fit.offset_name,
        "reml": bool(fit.reml),
        "criterion_name": str(fit.criterion_name),
        **{name: _finite(getattr(fit, name)) for name in ("criterion", "llf", "aic", "bic", "deviance", "sigma")},
        **{name: int(getattr(fit, name)) for name in ("nobs", "npar", "df_resid")},
        "ngroups": {str(label): int(m) for label, m in fit.ngroups.items()},
        "params": [
            {"name": str(name), "estimate": _finite(b), "std_error": _finite(se), "t_value": _finite(t)}
            for name, b, se, t in zip(fit.params.index, fit.params, fit.bse, fit.tvalues)
        ],
        "cov_params": [[_finite(v) for v in row] for row in fit.cov_params().to_numpy()],
        "dropped_columns": [str(name) for name in fit.dropped_columns],
        "varcorr": [
            {"grp": str(row.grp), "var1": _text(row.var1), "var2": _text(row.var2)}
            | {"vcov": _finite(row.vcov), "sdcor": _finite(row.sdcor)}
            for row in varcorr.itertuples(index=False)
        ],
        "theta": [{"name": str(name), "value": _finite(v)} for name, v in zip(fit.theta_names, fit.theta)],
        "is_singular": bool(fit.is_singular),
        "converged": bool(fit.converged),
        "optimizer": {
            "name": _text(getattr(report, "name", None)),
            "status": _text(getattr(status, "value", status)),
            "message": _text(getattr(report, "message", None)),
            "n_evaluations": getattr(report, "n_evaluations", None),
        },
        "messages": [{n: str(getattr(m, n)) for n in ("code", "severity", "what", "how")} for m in fit.messages],
    }


def _package_version() -> str:
    import sparselmm

    return str(sparselmm.__version__)


def _finite(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None


def _text(value: Any) -> str | None:
    return None if value is None or value != value else str(value)


if __name__ == "__main__":
    raise SystemExit(main())
