"""The registry of benchmark designs: data, model, what is timed, and how special peers state the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from . import generators as gen
from .generators import FloatArray, Table

ALL_PEERS = ("sparselmm", "lme4", "mixedlm", "lme-python", "gpboost", "statsmodels")


@dataclass(frozen=True)
class BenchmarkDesign:
    """One design.

    Attributes
    ----------
    name, title : str
        Key on the command line, and the line in the table.
    formula : str
        In lme4's spelling, the same for all peers that read formulas.
    make : callable
        Data for a scale.
    reml : bool
        REML or maximum likelihood.
    task : str
        What is timed: ``fit``, ``refit`` (one new response), ``refits`` (all responses), ``cold`` (a new
        process that prints a summary), ``evaluate`` (the criterion at one θ).
    responses : callable, optional
        Further responses (n, m) for the tasks that refit.
    groups : tuple of (str, tuple of str)
        Per random term the grouping column and its numeric slopes, for peers without formulas.
    peers : tuple of str
        Those that can state the model.
    standard : bool
        Whether the design is in the default selection.
    """

    name: str
    title: str
    formula: str
    make: Callable[[float], Table]
    reml: bool = True
    task: str = "fit"
    responses: Callable[[Table], FloatArray] | None = None
    groups: tuple[tuple[str, tuple[str, ...]], ...] = field(default=())
    peers: tuple[str, ...] = ("sparselmm", "lme4", "mixedlm", "lme-python")
    standard: bool = True


def sleepstudy_responses(table: Table, count: int = 1000) -> FloatArray:
    """Simulate responses of the sleepstudy model at rounded estimates, (n, count)."""
    rng = np.random.default_rng(11)
    days, subject = table["Days"].values.astype(float), table["Subject"].values
    m = int(subject.max()) + 1
    intercepts = 24.7 * rng.standard_normal((m, count))
    slopes = 5.9 * rng.standard_normal((m, count))
    mean = 251.4 + 10.5 * days[:, None] + intercepts[subject] + slopes[subject] * days[:, None]
    return mean + 25.6 * rng.standard_normal((len(days), count))


INSTEVAL = "y ~ service + (1 | s) + (1 | d) + (1 | dept)"
SLEEPSTUDY = "Reaction ~ Days + (Days | Subject)"
CROSSED = "y ~ x + (1 | g) + (1 | h)"

_DESIGNS = (
    BenchmarkDesign(
        "insteval",
        "InstEval, three crossed factors",
        INSTEVAL,
        gen.insteval,
        groups=(("s", ()), ("d", ()), ("dept", ())),
        peers=ALL_PEERS,
    ),
    BenchmarkDesign(
        "crossed",
        "crossed 1M: 10,000 × 2,000 levels (Zipf 0.8)",
        CROSSED,
        lambda scale: gen.crossed(1_000_000, 10_000, 2_000, scale, 101, zipf=0.8),
        groups=(("g", ()), ("h", ())),
        peers=ALL_PEERS,
    ),
    BenchmarkDesign(
        "ratings",
        "ratings 1M: 6,040 users × 3,644 items",
        "y ~ 1 + (1 | u) + (1 | i)",
        lambda scale: gen.ratings(840_000, 6_040, 3_644, scale, 102),
        groups=(("u", ()), ("i", ())),
        peers=ALL_PEERS,
    ),
    BenchmarkDesign(
        "nested",
        "nested 1M: (1 + x | u) with 100,000 levels in (1 | i) with 1,000",
        "y ~ x + (1 + x | u) + (1 | i)",
        lambda scale: gen.nested(1_000_000, 100_000, 1_000, scale, 103),
    ),
    BenchmarkDesign(
        "maximal",
        "maximal: 56 subjects × 32 items, 72 θ",
        "y ~ a*b*c + (1 + a*b*c | subj) + (1 + a*b*c | item)",
        lambda scale: gen.maximal(56, 32, scale, 104),
    ),
    BenchmarkDesign(
        "vector",
        "vector crossed: InstEval with (service | dept), ML",
        "y ~ service + (1 | s) + (1 | d) + (service | dept)",
        gen.insteval,
        reml=False,
    ),
    BenchmarkDesign(
        "sleepstudy",
        "sleepstudy",
        SLEEPSTUDY,
        gen.sleepstudy,
        groups=(("Subject", ("Days",)),),
        peers=("sparselmm", "lme4", "mixedlm", "lme-python", "statsmodels"),
    ),
    BenchmarkDesign(
        "sleepstudy-refit",
        "sleepstudy, one refit to a new response",
        SLEEPSTUDY,
        gen.sleepstudy,
        task="refit",
        responses=partial(sleepstudy_responses, count=40),
    ),
    BenchmarkDesign(
        "sleepstudy-1000",
        "sleepstudy, 1,000 refits",
        SLEEPSTUDY,
        gen.sleepstudy,
        task="refits",
        responses=sleepstudy_responses,
    ),
    BenchmarkDesign(
        "large",
        "10^7 rows, 2,000 × 500 levels, numeric codes",
        "y ~ x1 + x2 + (1 | g) + (1 | h)",
        lambda scale: gen.crossed(10_000_000, 2_000, 500, scale, 105, covariates=2, numeric=True),
        groups=(("g", ()), ("h", ())),
        peers=("sparselmm", "lme4", "mixedlm", "gpboost"),
        standard=False,
    ),
    BenchmarkDesign(
        "cold",
        "InstEval, from the start of the interpreter to the printed summary",
        INSTEVAL,
        gen.sleepstudy,
        task="cold",
        peers=("sparselmm", "lme4"),
    ),
    *(
        BenchmarkDesign(
            f"replicated-{exponent}",
            f"time of one evaluation, 10^{exponent} rows on one set of level pairs",
            CROSSED,
            partial(gen.replicated, 10**exponent, seed=106),
            task="evaluate",
            peers=("sparselmm",),
            standard=False,
        )
        for exponent in (5, 6, 7)
    ),
)

DESIGNS: dict[str, BenchmarkDesign] = {design.name: design for design in _DESIGNS}


def select_designs(names: list[str]) -> list[BenchmarkDesign]:
    """Return the designs of a list of names; ``standard`` and ``all`` are selections."""
    chosen: dict[str, BenchmarkDesign] = {}
    for name in names:
        if name in ("standard", "all"):
            chosen |= {d.name: d for d in _DESIGNS if d.standard or name == "all"}
        elif name in DESIGNS:
            chosen[name] = DESIGNS[name]
        else:
            raise SystemExit(f"no design {name!r}; there are {', '.join(DESIGNS)}, standard and all")
    return list(chosen.values())
