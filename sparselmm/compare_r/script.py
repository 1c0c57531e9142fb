"""The R script that fits a model with lme4 and writes its numbers as JSON, without further R packages."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from sparselmm.compare_r.exchange import ExchangeColumn, ExchangeTable
from sparselmm.covariance import STRUCTURES
from sparselmm.data.encoding.transforms import CONSTANTS, ELEMENTWISE, FUNCTIONS
from sparselmm.exceptions import FormulaError
from sparselmm.formula.grammar import parse_expression
from sparselmm.formula.nodes import Call, walk

__all__ = ["REPETITIONS", "SECONDS_TO_SPEND", "RModel", "r_formula", "write_r_script"]

_SPELLINGS = (
    (re.compile(r"\*\*"), "^"),
    (re.compile(r"(?<![\w.])(?:np|numpy)\.(?=(?:std|var)\()"), "np_"),
    (re.compile(r"(?<![\w.])(?:np|numpy)\.(?=\w+\()"), ""),
    (re.compile(r"(?<![\w.])C\(\s*([\w.]+|`[^`]*`)\s*\)"), r"factor(\1)"),
    # R's relevel() refuses text
    (re.compile(r"(?<![\w.])relevel\(\s*([\w.]+|`[^`]*`)\s*,"), r"relevel(factor(\1),"),
    (re.compile(r"(?<![\w.])True(?!\w)"), "TRUE"),
    (re.compile(r"(?<![\w.])False(?!\w)"), "FALSE"),
)

# what R is told to call: the functions of formulas here, and nothing else that R would run
_CONTRASTS = [name for name, value in CONSTANTS.items() if callable(value)]
_OTHERS = ["Q", "offset", "np_std", "np_var"]
_CALLABLE = frozenset([*FUNCTIONS, *ELEMENTWISE, *_CONTRASTS, *STRUCTURES.in_formulas(), *_OTHERS])
_PACKAGES = frozenset(["base", "stats", "splines"])

# numpy divides by n where R divides by n - 1
_NUMPY = (
    "np_var <- function(x) mean((x - mean(x, na.rm = TRUE))^2, na.rm = TRUE)\nnp_std <- function(x) sqrt(np_var(x))"
)

# Numbers are written with 17 significant digits, what is not finite as null.
_JSON_WRITER = r"""
text <- function(x) {
  x <- gsub("\\", "\\\\", enc2utf8(as.character(x)), fixed = TRUE)
  x <- gsub("\"", "\\\"", x, fixed = TRUE)
  x <- gsub("\n", "\\n", x, fixed = TRUE)
  ifelse(is.na(x), "null", paste0("\"", x, "\""))
}
number <- function(x) ifelse(is.finite(x), sprintf("%.17g", x), "null")
list_of <- function(x) paste0("[", paste(x, collapse = ", "), "]")
object <- function(...) {
  parts <- list(...)
  paste0("{", paste0(text(names(parts)), ": ", unlist(parts), collapse = ",\n "), "}")
}
""".strip()

_EXTRACT = r"""
coefficients <- fixef(fit)
standard_errors <- sqrt(diag(as.matrix(vcov(fit))))
components <- as.data.frame(VarCorr(fit))
levels_per_group <- vapply(getME(fit, "flist"), nlevels, 1L)
theta <- getME(fit, "theta")
notes <- unique(c(unlist(fit@optinfo$conv$lme4$messages), if (fit@optinfo$conv$opt != 0) fit@optinfo$message))
result <- object(
  software = text("lme4"),
  version = text(as.character(packageVersion("lme4"))),
  r_version = text(R.version.string),
  formula = text(model_formula),
  weights = text(model_weights),
  offset = text(model_offset),
  data_sha256 = text(data_sha256),
  tight = tolower(as.character(tight)),
  reml = tolower(as.character(isREML(fit))),
  nobs = number(nobs(fit)),
  df_resid = number(df.residual(fit)),
  criterion = number(if (isREML(fit)) REMLcrit(fit) else deviance(fit)),
  llf = number(as.numeric(logLik(fit))),
  aic = number(AIC(fit)),
  bic = number(BIC(fit)),
  sigma = number(sigma(fit)),
  params = object(names = list_of(text(names(coefficients))), values = list_of(number(coefficients)),
                  bse = list_of(number(standard_errors))),
  varcorr = object(grp = list_of(text(components$grp)), var1 = list_of(text(components$var1)),
                   var2 = list_of(text(components$var2)), vcov = list_of(number(components$vcov)),
                   sdcor = list_of(number(components$sdcor))),
  ngroups = object(names = list_of(text(names(levels_per_group))), values = list_of(number(levels_per_group))),
  theta = object(names = list_of(text(names(theta))), values = list_of(number(theta))),
  is_singular = tolower(as.character(isSingular(fit))),
  messages = list_of(text(notes)),
  seconds = number(seconds)
)
""".strip()

#: Further fits for the time, made while the fits together took less than this, in both programs.
REPETITIONS, SECONDS_TO_SPEND = 3, 5

# Quick fits are timed again: the first one of a session pays for loading.
_TIMING = """
fit_once <- function() {fit}
times <- system.time(fit <- fit_once())[["elapsed"]]
while (length(times) <= {repetitions} && sum(times) <= {spend}) {{
  times <- c(times, system.time(fit_once())[["elapsed"]])
}}
seconds <- min(times)
""".strip()

_TIGHT_FIT = """
settings <- list(xtol_abs = 1e-10, xtol_rel = 0, ftol_abs = 1e-12, ftol_rel = 0, maxeval = 1e5)
control <- lmerControl(optimizer = "nloptwrap", optCtrl = settings, calc.derivs = FALSE)
fit_tightly <- function() {{
  first <- {call}
  # started again from its own end, so that an early stop shows
  again <- {call_again}
  value <- function(fit) deviance(fit, REML = isREML(fit))
  if (value(again) < value(first)) again else first
}}
""".strip()


@dataclass(frozen=True)
class RModel:
    """What R shall fit.

    Attributes
    ----------
    formula : str
        Formula in R's spelling or ours.
    reml : bool
        REML or maximum likelihood.
    weights, offset : str or None
        Column names.
    tight : bool
        Whether R's optimizer gets tolerances far below its defaults.
    """

    formula: str
    reml: bool = True
    weights: str | None = None
    offset: str | None = None
    tight: bool = False


def r_formula(formula: str) -> str:
    """Return a formula in R's spelling (``**``, ``np.log`` and ``C(f)`` are replaced).

    Examples
    --------
    >>> r_formula("y ~ I(x**2) + np.log(z) + (1 | g)")
    'y ~ I(x^2) + log(z) + (1 | g)'
    """
    for pattern, replacement in _SPELLINGS:
        formula = pattern.sub(replacement, formula)
    return formula


def write_r_script(model: RModel, table: ExchangeTable, data_path: str | None, output_path: str | None) -> str:
    """Return the text of an R script.

    Parameters
    ----------
    model : RModel
        What to fit.
    table : ExchangeTable
        The data.
    data_path : str or None
        CSV file that R reads; None puts the data into the script.
    output_path : str or None
        JSON file that R writes; None prints to standard output. A first argument given to the
        script on R's command line is used instead.

    Raises
    ------
    FormulaError
        When the formula calls something that R would run though it is no function of formulas here.
    """
    _refuse_foreign_calls(r_formula(model.formula))
    parts = [
        "# Fits one model with lme4 and writes its numbers as JSON.\n# Run: Rscript SCRIPT.R [OUTPUT.json]",
        "suppressPackageStartupMessages({\n  library(lme4)\n  library(splines)\n})",
        "# all factors get treatment contrasts, ordered ones too\n"
        'options(contrasts = c("contr.treatment", "contr.treatment"))',
        '# the levels of text in code-point order, in any locale\ninvisible(Sys.setlocale("LC_COLLATE", "C"))',
        *([_NUMPY] if "np_" in r_formula(model.formula) else []),
        _read(table, data_path),
        _fit(model),
        _JSON_WRITER,
        _identity(model, table),
        _EXTRACT,
        f"target <- c(commandArgs(trailingOnly = TRUE), {_quoted(output_path or '')})[1]\n"
        'writeLines(result, if (nzchar(target)) file(target, encoding = "UTF-8") else stdout(), useBytes = TRUE)',
    ]
    return "\n\n".join(parts) + "\n"


def _refuse_foreign_calls(formula: str) -> None:
    """Show what the formula calls outside the list of functions; a script would run it."""
    calls = [node.func for node in walk(parse_expression(formula)) if isinstance(node, Call)]
    foreign = [f"{name}()" for name in dict.fromkeys(calls) if name not in _CALLABLE]
    foreign += [f"{package}::" for package in re.findall(r"([\w.]+):::?", formula) if package not in _PACKAGES]
    # R reads a backslash in a quoted name as the start of an escape
    foreign += [name for name in re.findall(r"`[^`]*`", formula) if "\\" in name]
    if foreign:
        raise FormulaError(
            f"the formula {formula!r} holds {', '.join(foreign)}, which is not among the functions of formulas here; "
            "R would run it, so no script is written. Compute the column before, or write the call into R yourself"
        )


def _identity(model: RModel, table: ExchangeTable) -> str:
    """Return what the output repeats, so that it is not compared with another model."""
    return "\n".join(
        [
            f"model_formula <- {_quoted(r_formula(model.formula))}",
            f"model_weights <- {'NA' if model.weights is None else _quoted(model.weights)}",
            f"model_offset <- {'NA' if model.offset is None else _quoted(model.offset)}",
            f"data_sha256 <- {_quoted(table.sha256)}",
            f"tight <- {_logical(model.tight)}",
        ]
    )


def _read(table: ExchangeTable, data_path: str | None) -> str:
    if data_path is None:
        lines = ",\n".join(_quoted(line) for line in table.lines)
        source = f"text = c(\n{lines}\n)"
    else:
        source = f'file = {_quoted(data_path)}, encoding = "UTF-8"'
    call = (
        f'data <- read.csv({source}, colClasses = "character",\n'
        f"                 na.strings = {_quoted(table.missing)}, check.names = FALSE)"
    )
    return "\n".join([call, *map(_convert, table.columns)])


def _convert(column: ExchangeColumn) -> str:
    target = f"data[[{_quoted(column.name)}]]"
    if column.kind == "factor":
        levels = ", ".join(map(_quoted, column.levels))
        return f"{target} <- factor({target}, levels = c({levels}))"
    return f"{target} <- as.{column.kind}({target})"


def _fit(model: RModel) -> str:
    arguments = [r_formula(model.formula), "data = data", f"REML = {_logical(model.reml)}"]
    if model.weights is not None:
        arguments.append(f"weights = {_name(model.weights)}")
    if model.offset is not None:
        arguments.append(f"offset = {_name(model.offset)}")
    call = f"lmer({', '.join(arguments)})"
    if not model.tight:
        return _timing(call)
    tight = call[:-1] + ", control = control"
    preparation = _TIGHT_FIT.format(call=tight + ")", call_again=tight + ', start = getME(first, "theta"))')
    return preparation + "\n" + _timing("fit_tightly()")


def _timing(call: str) -> str:
    return _TIMING.format(fit=call, repetitions=REPETITIONS, spend=SECONDS_TO_SPEND)


def _name(column: str) -> str:
    return "`" + column.replace("\\", "\\\\").replace("`", "\\`") + "`"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _logical(value: bool) -> str:
    return "TRUE" if value else "FALSE"
