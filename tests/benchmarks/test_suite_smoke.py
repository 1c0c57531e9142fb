"""The benchmark suite runs and its tables say what they should; sparselmm alone, tiny sizes."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from . import compare, micro
from .designs import DESIGNS, select_designs
from .generators import zipf_probabilities
from .harness import THREAD_VARIABLES, Outcome, find_peers, fixed_columns, run_design, thread_environment
from .run import run
from .tables import markdown, summarize, tolerance
from .weights import show_weights, weight_costs

TINY = 0.004


@pytest.mark.parametrize("name", [n for n, d in DESIGNS.items() if d.task != "cold"])
def test_generators_are_seeded_and_complete(name: str) -> None:
    design = DESIGNS[name]
    table, again = design.make(TINY), design.make(TINY)
    n = len(next(iter(table.values())).values)
    for column, values in table.items():
        assert len(values.values) == n
        np.testing.assert_array_equal(values.values, again[column].values)
        if values.levels is not None:
            assert set(np.unique(values.values)) == set(range(len(values.levels)))
    assert set(fixed_columns(design.formula)) <= set(table)
    assert {g for g, _ in design.groups} <= set(table)


def test_described_distributions() -> None:
    p = zipf_probabilities(2000, 0.8)
    assert p[0] / p[9] == pytest.approx(10**0.8)
    ratings = DESIGNS["ratings"].make(0.05)
    per_user = np.bincount(ratings["u"].values)
    pairs = ratings["u"].values.astype(np.int64) * 100_000 + ratings["i"].values
    assert per_user.min() >= 20
    assert len(np.unique(pairs)) == len(pairs)
    assert len(pairs) == pytest.approx(0.05 * 840_000, rel=0.02)
    nested = DESIGNS["nested"].make(0.01)
    parents = np.unique(np.column_stack([nested["u"].values, nested["i"].values]), axis=0)
    assert len(parents) == len(nested["u"].levels or ())
    maximal = DESIGNS["maximal"].make(1.0)
    assert len(maximal["y"].values) == 56 * 32
    cells = [DESIGNS[f"replicated-{e}"].make(0.01) for e in (5, 6)]
    keys = [np.unique(t["g"].values * 10_000 + t["h"].values) for t in cells]
    np.testing.assert_array_equal(*keys)


def test_one_process_per_fit_and_a_report(tmp_path: Path) -> None:
    programs, missing = find_peers(["sparselmm"], [])
    assert not missing
    options = Namespace(scale=TINY, repeats=1, threads="1", time_limit=60.0, output=str(tmp_path / "table"), quiet=True)
    result = run(select_designs(["crossed"]), programs, {"lme4": "Rscript with lme4 is not installed"}, options)
    entry = result["designs"][0]["peers"][0]
    assert entry["seconds"] > 0
    assert entry["agrees"]
    assert entry["converged"]
    saved = json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))
    assert saved["designs"][0]["peers"][0]["criterion"] == entry["criterion"]
    text = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "crossed 1M" in text
    assert "Not run: lme4" in text


def test_a_peer_that_is_too_slow_is_stopped_and_named() -> None:
    programs, _ = find_peers(["sparselmm"], [])
    outcomes, _ = run_design(
        DESIGNS["sleepstudy"],
        programs,
        scale=1.0,
        repeats=3,
        environments=dict.fromkeys(programs, thread_environment("1")),
        limit=0.05,
        say=lambda text: None,
    )
    assert outcomes[0].answers == []
    assert "not finished after 0.05 s" in outcomes[0].problem


def test_criteria_are_compared_with_the_best() -> None:
    def answer(criterion: float, kind: str = "REML") -> dict[str, object]:
        return {
            "seconds": [2.0, 1.0, 1.0],
            "cpu": [1.0],
            "peak_mb": 3.0,
            "criterion": criterion,
            "kind": kind,
            "converged": True,
        }

    outcomes = [
        Outcome("sparselmm", [answer(100.0)]),
        Outcome("lme4", [answer(100.0 + 5e-8)]),
        Outcome("mixedlm", [answer(100.5)]),
        Outcome("gpboost", [answer(90.0, "ML")]),
        Outcome("statsmodels", problem="not finished after 1 s"),
    ]
    record = summarize(replace(DESIGNS["insteval"], title="t"), outcomes, 10)
    assert [e.get("agrees") for e in record["peers"]] == [True, True, False, None, None]
    assert record["peers"][0]["seconds"] == 1.0
    machine = dict.fromkeys(("date", "cpu", "cores", "threads", "repeats", "load"), "?")
    text = markdown([record], {**machine, "scale": 1.0, "versions": {}, "missing": {}})
    assert "worse by 0.5" in text
    assert "ML, not comparable" in text
    assert "not finished after 1 s" in text
    assert tolerance(5e4) == 1e-7
    assert tolerance(-2e5) == 2e-6


def test_threads_are_the_same_for_all_libraries() -> None:
    assert {thread_environment("2", {})[name] for name in THREAD_VARIABLES} == {"2"}
    assert thread_environment("default", {"OMP_NUM_THREADS": "7", "HOME": "h"}) == {"HOME": "h"}


def test_unknown_names_are_refused() -> None:
    with pytest.raises(SystemExit, match="no design 'nosuch'"):
        select_designs(["nosuch"])
    with pytest.raises(SystemExit, match="no peer 'nosuch'"):
        find_peers(["nosuch"], [])


def test_table_of_two_revisions() -> None:
    rows = [{"design": "a", "base": 2.0, "head": 1.0, "ratio": 0.5, "criterion_difference": 0.0}]
    assert "| a | 2.00 s | 1.00 s | 0.50 | 0 |" in compare.table(rows, "b", "h")


def test_benchmark_of_weights_runs() -> None:
    rows = weight_costs(["crossed"], TINY, micro.as_frame)
    assert [r["solver"] for r in rows] == ["schur", "cholmod"]
    assert all(r["changed"] > 0.0 for r in rows)
    assert show_weights(rows).count("\n") == 3


def test_micro_benchmarks_run() -> None:
    rows = micro.evaluation_costs(["crossed"], TINY)
    assert {r["solver"] for r in rows} == {"schur", "cholmod"}
    assert all(r["evaluate"] > 0 and r["dpotrf"] > 0 and r["equivalents"] > 0 for r in rows)
    times = micro.openmp_costs(TINY)
    assert times["with"] > 0
