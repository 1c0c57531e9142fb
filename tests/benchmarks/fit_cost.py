"""CPU time of the fits of the 76 reference models, against another tree of this package.

``python -m tests.benchmarks.fit_cost OTHER [--rounds 5]`` runs both trees in turn, one process each per
round with one BLAS thread, and prints the quotient of the best times of each model and their median.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parents[2]
LEAST_SECONDS = 0.05  # of repeated fits, for each measurement


def cost_of_models() -> dict[str, float]:
    """Return the least CPU seconds of one fit of each model."""
    sys.path.insert(0, str(HERE / "tests" / "reference"))
    import reference_helpers as rh

    records, out = rh.read_records("lme4.json.gz"), {}
    for name, record in records.items():
        model = rh.build_model(record, rh.load_reference_data(name))
        rh.quietly(model.fit, record["REML"])  # imports, first use of the workspace
        first, times = time.process_time(), []
        while not times or time.process_time() - first < LEAST_SECONDS:
            before = time.process_time()
            rh.quietly(model.fit, record["REML"])
            times.append(time.process_time() - before)
        out[name] = min(times)
    return out


def measured(tree: Path) -> dict[str, float]:
    """Return the times of a tree, measured in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "OPENBLAS_NUM_THREADS": "1"}
    run = [sys.executable, str(Path(__file__).resolve()), "--measure"]
    return json.loads(subprocess.run(run, env=environment, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Compare two trees, or measure the one that is imported."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("other", nargs="?", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure", action="store_true")
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(cost_of_models()))
        return
    ours: list[dict[str, float]] = []
    theirs: list[dict[str, float]] = []
    for _ in range(args.rounds):
        theirs.append(measured(args.other.resolve()))
        ours.append(measured(HERE))
    best = {m: (min(r[m] for r in ours), min(r[m] for r in theirs)) for m in ours[0]}
    quotients = {m: a / b for m, (a, b) in best.items()}
    for m in sorted(quotients, key=quotients.__getitem__):
        print(f"{m:24s} {1e3 * best[m][1]:9.2f} ms {1e3 * best[m][0]:9.2f} ms  x {quotients[m]:.3f}")
    print(f"median of {len(quotients)} models: x {median(quotients.values()):.3f}")


if __name__ == "__main__":
    main()
