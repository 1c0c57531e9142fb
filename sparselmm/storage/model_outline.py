"""The outline of a saved model: every field with its type, and the sizes that must agree.

It is checked before any array is read, so what is read is what the model needs.
"""

from __future__ import annotations

from math import prod
from typing import Any

from sparselmm.data.encoding.rules import RULES
from sparselmm.linalg import SOLVERS
from sparselmm.storage.schema import (
    Check,
    array,
    either,
    equal,
    flag,
    index,
    list_of,
    number,
    one_of,
    optional,
    record,
    scalar,
    shaped,
    size,
    table,
    table_of,
    text,
    tuple_of,
    whole,
)

texts = tuple_of(text)
vector, matrix, blocks = array("f8", 1), array("f8", 2), array("f8", 3)
levels_of_pairs = array("i4 i8", 1)
_MORE_KNOTS = 16  # beyond one per column: boundaries, and those of columns left out

MESSAGE = record("Message", {"code": text, "severity": one_of("info", "note", "warning"), "what": text, "how": text})
TERM_COVARIANCE = record("TermCovariance", {"name": text, "label": text, "columns": texts, "cov": matrix})
VAR_CORR = record("VarCorr", {"terms": tuple_of(TERM_COVARIANCE), "sigma": number})
RANDOM_TERM = record("RandomTerm", {"lhs": text, "grouping": texts, "structure": text, "label": text, "source": text})
MODEL_SPEC = record(
    "ModelSpec",
    {
        "response": text,
        "fixed": text,
        "random": tuple_of(RANDOM_TERM),
        "offsets": texts,
        "source": text,
        "rules": one_of(*RULES),
        "spellings": tuple_of(tuple_of(text, 2)),
    },
)
CODING = record("Coding", {"matrix": matrix, "names": texts, "r_names": texts})
BLOCK = record(
    "Block",
    {
        "variable": text,
        "suffixes": texts,
        "r_suffixes": texts,
        "levels": optional(index),
        "coding": optional(CODING),
        "title": text,
    },
)
MATRIX = record("MatrixEncoding", {"intercept": flag, "terms": tuple_of(tuple_of(BLOCK)), "columns": texts})
GROUPING = record(
    "GroupingEncoding",
    {"factors": texts, "label": text, "parts": tuple_of(index), "keys": array("i8", 1), "levels": index},
)
TERM = record("TermEncoding", {"name": text, "structure": text, "grouping": GROUPING, "lhs": MATRIX, "source": text})
numbers = either(vector, list_of(number))
REMEMBERED: dict[str, Check] = {
    "names of the columns": optional(texts),
    "alpha": table_of(whole, number),
    "norms2": table_of(whole, number),
    "lower_bound": number,
    "upper_bound": number,
    "knots": numbers,
    "boundary": tuple_of(number, 2),
    "constraints": optional(either(text, matrix, numbers)),
    "cyclic": flag,
    "ddof": whole,
    "center": optional(number),
    "scale": optional(number),
    "breaks": vector,
    "value": number,
    "levels": either(list_of(scalar), index),
}
"""What transforms remember."""


def _remembered(value: Any, where: str) -> None:
    table({name: piece for name, piece in REMEMBERED.items() if name in value})(value, where)


ENCODING = record(
    "EncodingSpec",
    {
        "spec": MODEL_SPEC,
        "fixed": MATRIX,
        "kept": tuple_of(whole),
        "terms": tuple_of(TERM),
        "kinds": table_of(text, one_of("numeric", "factor", "text")),
        "state": table_of(text, _remembered),
        "context": table_of(text, scalar),
        "na_action": text,
    },
)
PAIRS = record("BlockPairs", {"rows": levels_of_pairs, "cols": levels_of_pairs, "values": blocks})
GRAM = record("BlockGram", {"m": tuple_of(size), "k": tuple_of(size), "pairs": table_of(tuple_of(whole, 2), PAIRS)})
TRANSFORM = record(
    "Basis", {"position": whole, "centre": vector, "scale": vector, "b0": vector, "mix": optional(matrix)}
)
VARIANCES = table(
    {
        "gram": GRAM,
        "templates": tuple_of(matrix),
        "maps": tuple_of(matrix),
        "cross": tuple_of(matrix),
        "basis": TRANSFORM,
        "RX": matrix,
        "system": one_of(*SOLVERS),
    }
)
FACTS = table(
    {
        "formula": text,
        "weights_name": optional(text),
        "data_name": optional(text),
        "reml": flag,
        "sigma": number,
        "theta": vector,
        "theta_names": texts,
        "varcorr": VAR_CORR,
        **dict.fromkeys(("criterion", "deviance", "llf", "aic", "bic"), number),
        **dict.fromkeys(("nobs", "npar", "df_resid"), whole),
        "converged": flag,
        "dropped_columns": texts,
        "messages": tuple_of(MESSAGE),
        "r_names": table_of(text, text),
        "pearson": vector,
        "convergence": optional(text),
        "optimizer": text,
    }
)
MODEL = table(
    {
        "facts": FACTS,
        "encoding": optional(ENCODING),
        "columns": texts,
        "beta": vector,
        "unscaled_cov": matrix,
        "sigma": number,
        "offset_name": optional(text),
        "terms": list_of(
            table(
                {
                    "name": text,
                    "label": text,
                    "columns": texts,
                    "levels": optional(index),
                    "modes": matrix,
                    "factor": matrix,
                }
            )
        ),
        "variances": optional(VARIANCES),
    }
)


def check_outline(model: Any) -> None:
    """Check the outline of a saved model.

    Raises
    ------
    ValueError
        With the place of the first value that is not what it should be.
    """
    MODEL(model, "the model")
    p, facts = len(model["columns"]), model["facts"]
    shaped(model["beta"], (p,), "beta")
    shaped(model["unscaled_cov"], (p, p), "unscaled_cov")
    shaped(facts["theta"], (len(facts["theta_names"]),), "theta")
    if facts["pearson"].shape not in ((5,), (0,)):  # none of a fit without rows
        raise ValueError("pearson are not five quantiles")
    encoding, terms = model["encoding"], model["terms"]
    if encoding is not None:
        _check_encoding(encoding, p)
        equal(len(encoding.terms), len(terms), "the random terms and their encodings")
    sizes = [_term_size(term, None if encoding is None else encoding.terms[i]) for i, term in enumerate(terms)]
    for cov in facts["varcorr"].terms:
        shaped(cov.cov, (len(cov.columns),) * 2, "a covariance")
    if model["variances"] is not None:
        _check_variances(model["variances"], sizes, p)


def _term_size(term: Any, encoding: Any) -> tuple[int, int]:
    """Return m and k of a random term."""
    where = f"the random term {term['name']}"
    if (term["levels"] is None) == (encoding is None):
        raise ValueError(f"{where} has its levels twice or not at all")
    m, k = len(term["levels"] if encoding is None else encoding.grouping.levels), len(term["columns"])
    if not m or not k:
        raise ValueError(f"{where} has no levels or no coefficients")
    if encoding is not None:
        equal(len(encoding.lhs.columns), k, f"the columns of {where}")
    shaped(term["modes"], (m, k), f"{where}: modes")
    shaped(term["factor"], (k, k), f"{where}: factor")
    return m, k


def _check_encoding(encoding: Any, p: int) -> None:
    _check_matrix(encoding.fixed, "the fixed effects")
    kept, columns = encoding.kept, len(encoding.fixed.columns)
    if len(kept) != p or list(kept) != sorted(set(kept)) or (p and not (kept[0] >= 0 and kept[-1] < columns)):
        raise ValueError("kept does not name columns of the fixed effects in their order")
    for term in encoding.terms:
        _check_matrix(term.lhs, f"the random term {term.name}")
        columns += len(term.lhs.columns)
        grouping = term.grouping
        if not grouping.factors or not all(len(part) for part in grouping.parts):
            raise ValueError(f"the random term {term.name} has no grouping factor or no levels")
        if not 1 <= len(grouping.parts) <= len(grouping.factors):  # leading factors may be one part
            raise ValueError(f"the factors of {term.name} do not agree with their levels")
        shaped(grouping.keys, (len(grouping.levels),), f"the keys of {term.name}")
    for key, state in encoding.state.items():
        knots = state.get("knots", [])
        if (len(knots) if isinstance(knots, list) else knots.shape[0]) > columns + _MORE_KNOTS:
            raise ValueError(f"{key} has more knots than columns")


def _check_matrix(encoding: Any, where: str) -> None:
    count = int(encoding.intercept)
    for term in encoding.terms:
        if not term:
            raise ValueError(f"a term of {where} has no variables")
        count += prod(len(block.suffixes) for block in term)
        for block in term:
            _check_block(block)
    equal(count, len(encoding.columns), f"the columns and terms of {where}")


def _check_block(block: Any) -> None:
    c, coding = len(block.suffixes), block.coding
    equal(len(block.r_suffixes), c, f"the names of {block.variable}")
    equal(block.levels is None, coding is None, f"the levels and coding of {block.variable}")
    if coding is not None:
        shaped(coding.matrix, (len(block.levels), c), f"the coding of {block.variable}")
        equal((len(coding.names), len(coding.r_names)), (c, c), f"the names of the coding of {block.variable}")


def _check_variances(variances: Any, sizes: list[tuple[int, int]], p: int) -> None:
    gram = variances["gram"]
    equal(list(zip(gram.m, gram.k)), sizes, "the sizes of the random terms and of their cross-products")
    equal((len(gram.m), len(gram.k)), (len(sizes),) * 2, "the terms and their cross-products")
    equal(set(gram.pairs), {(i, j) for i in range(len(sizes)) for j in range(i + 1)}, "the pairs of terms")
    for (i, j), pair in gram.pairs.items():
        nb = pair.rows.shape[0]
        shaped(pair.cols, (nb,), "cols")
        shaped(pair.values, (nb, gram.k[i], gram.k[j]), "the cross-products of two terms")
    for name in ("templates", "maps", "cross"):
        equal(len(variances[name]), len(sizes), f"the terms and their {name}")
    for (m, k), T, C, E in zip(sizes, variances["templates"], variances["maps"], variances["cross"]):
        shaped(T, (k, k), "a template")
        shaped(C, (k, k), "a map")
        shaped(E, (m * k, p), "cross")
    shaped(variances["RX"], (p, p), "RX")
    basis = variances["basis"]
    for name in ("centre", "scale", "b0"):
        shaped(getattr(basis, name), (p,), f"basis.{name}")
    if basis.mix is not None:
        shaped(basis.mix, (p, p), "basis.mix")
    if not -1 <= basis.position < max(p, 1):
        raise ValueError("basis.position is not a column")
