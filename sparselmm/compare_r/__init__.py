"""The same model fitted here and by R's lme4, estimate by estimate."""

from sparselmm.compare_r.comparison import Comparison, ComparisonRow
from sparselmm.compare_r.exchange import ExchangeTable
from sparselmm.compare_r.run import RError, RNotAvailableError, compare_with_r, read_r_output, run_r
from sparselmm.compare_r.script import RModel, r_formula, write_r_script

__all__ = [
    "Comparison",
    "ComparisonRow",
    "ExchangeTable",
    "RError",
    "RModel",
    "RNotAvailableError",
    "compare_with_r",
    "r_formula",
    "read_r_output",
    "run_r",
    "write_r_script",
]
