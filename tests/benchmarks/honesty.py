"""Whether the iterative solver's error of log|M| is as large as it says: many seeds against exact values.

``python -m tests.benchmarks.honesty`` prints a table; the tests use a part of it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import numpy as np

import sparselmm as slm
from sparselmm.linalg import IterativeControl, make_system
from sparselmm.linalg.blocks import BlockGram, Templates
from sparselmm.linalg.iterative import system as iterative

from .generators import Column, FloatArray, Table
from .huge import HUGE, HugeDesign, as_frame

THETAS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
HARD = {"mobility": 0.1, "general": 0.02, "band": 0.02}
EASY = {"indep": 0.02, "commun": 0.02}


@dataclass(frozen=True)
class Trial:
    """One evaluation: ``error`` of log|M| against the exact value, and what the solver said of it.

    ``derivatives`` are errors of the sums of the blocks of Z'V⁻¹Z in units of their standard errors.
    """

    theta: float
    seed: int
    error: float
    standard_error: float
    derivatives: tuple[float, ...]
    probes: int
    deflation: int
    precision: float

    @property
    def ratio(self) -> float:
        """The error in standard errors."""
        return self.error / self.standard_error


def band(scale: float, width: int = 3, seed: int = 206) -> Table:
    """Five rows for each level of g, all with levels of h within ``width`` of its own place.

    No few directions stand out: the eigenvalues of S fill an interval.
    """
    rng = np.random.default_rng(seed)
    levels = int(100_000 * scale)
    g = np.repeat(np.arange(levels), 5)
    h = np.clip(g // 2 + rng.integers(-width, width + 1, len(g)), 0, levels // 2 - 1)
    columns = {"y": rng.standard_normal(len(g)), "x": rng.standard_normal(len(g)), "g": g, "h": h}
    return {name: Column(values.astype(np.int32) if name in "gh" else values) for name, values in columns.items()}


DESIGNS = {**HUGE, "band": HugeDesign("band", "y ~ x + (1 | g) + (1 | h)", band)}


@cache
def gram_of(name: str, scale: float) -> BlockGram:
    """Return Z'WZ of a design at a small scale."""
    design = DESIGNS[name]
    model = slm.LinearMixedModel.from_formula(design.formula, as_frame(design.make(scale)))
    return model.problem.engine.crossproducts.gram


def same_theta(gram: BlockGram, theta: float) -> Templates:
    """Return theta times the identity for each term."""
    return tuple(theta * np.eye(k) for k in gram.k)


@contextmanager
def single_precision(everywhere: bool) -> Iterator[None]:
    """Make the solver work on probes in single precision, however small the design."""
    before = iterative.SINGLE_CELLS
    iterative.SINGLE_CELLS = 0 if everywhere else before
    try:
        yield
    finally:
        iterative.SINGLE_CELLS = before


def trials(
    gram: BlockGram,
    thetas: Sequence[float] = THETAS,
    seeds: Sequence[int] = range(60),
    *,
    grow: bool = False,
    single: bool = False,
    probes: int = 16,
    deflation: int = 32,
) -> list[Trial]:
    """Return the trials of all thetas and seeds; the exact system is factored once per theta."""
    exact = make_system(gram, "schur")
    found = []
    for theta in thetas:
        templates = same_theta(gram, theta)
        exact.refactor(templates)
        truth, sums = exact.logdet(), exact.information_sums()
        for seed in seeds:
            with single_precision(single):
                system = iterative.IterativeSystem(
                    gram, IterativeControl(seed=seed, probes=probes, deflation=deflation)
                )
            system.adapt(templates, grow=grow)
            known = system.report()
            found.append(
                Trial(
                    theta,
                    seed,
                    system.logdet() - truth,
                    known.standard_error,
                    information_ratios(system, sums),
                    known.probes,
                    known.deflation,
                    known.precision,
                )
            )
    return found


def information_ratios(system: iterative.IterativeSystem, truth: tuple[FloatArray, ...]) -> tuple[float, ...]:
    """Return the errors of the diagonals of the information sums in their standard errors, term by term."""
    out: list[float] = []
    for found, expected, drawn in zip(system.information_sums(), truth, system.information_samples()):
        if len(drawn):
            error = np.diag(drawn.std(axis=0, ddof=1)) / np.sqrt(len(drawn)) + 1e-10 * np.diag(expected)
            out += list((np.diag(found) - np.diag(expected)) / error)
    return tuple(out)


def summary(found: Sequence[Trial]) -> str:
    """Return one line about trials of the same kind."""
    ratio = np.array([t.ratio for t in found])
    slope = np.array([t.derivatives for t in found])
    error, said = np.array([t.error for t in found]), np.array([t.standard_error for t in found])
    effort = f"{np.median([t.deflation for t in found]):.0f}/{np.median([t.probes for t in found]):.0f}"
    return (
        f"{np.sqrt((error**2).mean()):>10.1e}{np.sqrt((said**2).mean()):>10.1e}{ratio.mean():>7.2f}{ratio.std():>7.2f}"
        f"{np.abs(ratio).max():>7.2f}{(np.abs(ratio) > 2.0).mean():>7.3f}{slope.std():>7.2f}{np.abs(slope).max():>7.2f}"
        f"{effort:>9}{max(abs(t.precision) for t in found):>10.1e}"
    )


HEADER = (
    f"{'design':<10}{'theta':>6}{'rms error':>10}{'rms s.e.':>10}{'mean':>7}{'sd':>7}{'max':>7}{'> 2':>7}"
    f"{'sd grad':>8}{'max':>6}{'effort':>9}{'precision':>10}"
)


def main() -> None:
    """Print the table of error / standard error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--designs", nargs="+", default=[*EASY, *HARD])
    parser.add_argument("--seeds", type=int, default=60)
    parser.add_argument("--thetas", type=float, nargs="+", default=THETAS)
    parser.add_argument("--scale", type=float)
    parser.add_argument("--grow", action="store_true", help="let the solver reach its standard error")
    parser.add_argument("--single", action="store_true", help="probes in single precision")
    parser.add_argument("--probes", type=int, default=16)
    parser.add_argument("--deflation", type=int, default=32)
    chosen = parser.parse_args()
    print(HEADER)
    for name in chosen.designs:
        gram = gram_of(name, chosen.scale or (EASY | HARD)[name])
        everything = []
        for theta in chosen.thetas:
            found = trials(
                gram,
                (theta,),
                range(chosen.seeds),
                grow=chosen.grow,
                single=chosen.single,
                probes=chosen.probes,
                deflation=chosen.deflation,
            )
            everything += found
            print(f"{name:<10}{theta:>6g}{summary(found)}", flush=True)
        print(f"{name:<10}{'all':>6}{summary(everything)}", flush=True)


if __name__ == "__main__":
    main()
