"""Mutation testing: single small faults drawn at random, and whether some test notices each of them.

Run ``python -m tests.mutants --seed 1 --count 120``. A fault is a changed sign, comparison, constant or operator, a
branch that is always or never taken, a statement left out, two arguments swapped. Each is put into a copy of the
tree, where the tests that run the changed line are run, the nearest and fastest first, then all others of their files,
until one fails or the time that one mutant may take is used up. Another seed draws other faults.

Which tests run a line is learned once from a run of the whole suite with pytest-cov, kept in ``.mutants/`` and made
anew with ``--map``. What survives is printed as a diff, to be judged by a reader: a hole in the tests, or a change that
no test can notice (equivalent code, tuning). ``--skip`` leaves out areas, ``--jobs`` runs several copies at once.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from queue import SimpleQueue

from tests.mutant_sites import ROOT, Mutant, Sites

STORE = ROOT / ".mutants"
COPIED = ("sparselmm", "tests", "data", "docs", *(path.name for path in ROOT.glob("*.*") if path.is_file()), "LICENSE")
STAGES = 10.0, 40.0  # seconds of tests, as the map knows them, that come first and second; then all others
PATIENCE = 6.0, 40.0  # a stage may use so many times the processor that it should, and so many seconds more
STARVED = 20.0  # times that many seconds of the clock, on a machine that others use


def draw(seed: int, count: int, skip: list[str], among: list[str]) -> list[Mutant]:
    """Return faults drawn without replacement from all lines of the package, one per line at most."""
    sites = []
    for path in sorted((ROOT / "sparselmm").rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if not any(s in name for s in skip) and (not among or any(a in name for a in among)):
            sites += Sites(name, path.read_bytes()).found
    print(f"{len(sites)} possible faults", flush=True)
    chosen: dict[tuple[str, int], Mutant] = {}
    for mutant in random.Random(seed).sample(sites, len(sites)):
        if len(chosen) == count:
            break
        chosen.setdefault((mutant.path, mutant.line), mutant)
    return list(chosen.values())


# --- which tests run which line --------------------------------------------------------------------------------


def pytest_runtest_logreport(report) -> None:  # type: ignore[no-untyped-def]
    """Note the seconds of each test, when this file is a plugin of the run that makes the map."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        return  # the process that started the workers hears of it, too
    with open(os.environ["MUTANTS_TIMES"], "a", encoding="utf-8") as file:
        file.write(json.dumps([report.nodeid, report.duration]) + "\n")


def make_map() -> None:
    """Run the whole suite once with coverage by test."""
    shutil.rmtree(STORE, ignore_errors=True)
    STORE.mkdir()
    environment = {**os.environ, "COVERAGE_FILE": str(STORE / "coverage"), "MUTANTS_TIMES": str(STORE / "times")}
    command = [sys.executable, "-m", "pytest", "-n", "auto", "--dist", "worksteal", "-p", "tests.mutants",
               "-p", "no:cacheprovider", "--cov=sparselmm", "--cov-context=test", "--cov-report="]  # fmt: skip
    subprocess.run(command, cwd=ROOT, env=environment, check=True)


class TestMap:
    """Which tests run a line, and how long each takes."""

    def __init__(self) -> None:
        from coverage import CoverageData

        self._data = CoverageData(basename=str(STORE / "coverage"))
        self._data.read()
        self.times: dict[str, float] = Counter()
        for line in (STORE / "times").read_text(encoding="utf-8").splitlines():
            name, seconds = json.loads(line)
            self.times[name] += seconds
        here = tests_here()
        self.times = {name: seconds for name, seconds in self.times.items() if name in here}
        self._lines: dict[str, dict[int, list[str]]] = {}

    @cached_property
    def _measured(self) -> dict[str, str]:
        return {re.sub(r".*(?=sparselmm/)", "", f.replace("\\", "/")): f for f in self._data.measured_files()}

    def tests(self, mutant: Mutant) -> list[str]:
        """Return the tests to run, those that run the line first; all of the nearest folder where none is known."""
        if mutant.path not in self._lines:
            file = self._measured.get(mutant.path)
            self._lines[mutant.path] = self._data.contexts_by_lineno(file) if file else {}
        lines = self._lines[mutant.path]
        direct = _test_names(lines.get(mutant.line, []))
        if not direct:  # a line that runs at import, or compiled code
            direct = {t for found in lines.values() for t in _test_names(found)}
        direct &= set(self.times)
        files = {t.split("::")[0] for t in direct}
        beside = {t for t in self.times if t.split("::")[0] in files} - direct
        if not direct:
            direct = {t for t in self.times if nearness(mutant.path, t) > 0}

        def order(test: str) -> tuple[int, float]:
            return -nearness(mutant.path, test), self.times[test]

        return [*sorted(direct, key=order), *sorted(beside, key=order)]


def tests_here() -> set[str]:
    """Return the names of all tests of the tree, which may be younger than the map."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {line for line in done.stdout.splitlines() if "::" in line}


def _test_names(contexts: list[str]) -> set[str]:
    return {c.split("|")[0] for c in contexts if "|" in c}


def nearness(path: str, test: str) -> int:
    """Return how many folders and names of a file the path of a test shares, as tests/unit mirrors the package."""
    source = Path(path).with_suffix("").parts[1:]
    found = set(re.split(r"[/_]", test.split("::")[0].removesuffix(".py")))
    return sum(bool(set(part.split("_")) & found or part in test) for part in source)


def stages(tests: list[str], times: dict[str, float], limit: float) -> Iterator[tuple[list[str], float]]:
    """Yield portions of the tests and the seconds that each should take, up to the limit for all of them."""
    done, portion, total = 0.0, list[str](), 0.0
    budgets = iter([*(s for s in STAGES if s < limit), limit])
    budget = next(budgets)
    for test in tests:
        portion.append(test)
        total += times[test]
        done += times[test]
        if done >= budget:
            yield portion, total
            portion, total = [], 0.0
            budget = next(budgets, 0.0)
            if not budget:
                return
    if portion:
        yield portion, total


# --- one mutant ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant: the test that failed, or None; ``tests`` and seconds that it took."""

    mutant: Mutant
    killed_by: str | None
    tests: int
    seconds: float


def copy_of_the_tree() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="mutants-"))
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("_build", "jupyter_execute"))
        elif source.exists():
            shutil.copy2(source, folder / name)
    return folder


def try_mutant(mutant: Mutant, folder: Path, known: TestMap, limit: float) -> Verdict:
    """Put a fault into a copy of the tree, run tests until one fails, and take it out again."""
    file = folder / mutant.path
    source, stat, start, count = file.read_bytes(), file.stat(), time.monotonic(), 0
    for cached in file.parent.glob(f"__pycache__/{file.stem}.*"):
        cached.unlink()
    file.write_bytes(mutant.applied(source))
    try:
        for portion, expected in stages(known.tests(mutant), known.times, limit):
            count += len(portion)
            failed = run_tests(folder, portion, expected)
            if failed:
                return Verdict(mutant, failed, count, time.monotonic() - start)
        return Verdict(mutant, None, count, time.monotonic() - start)
    finally:
        file.write_bytes(source)
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def run_tests(folder: Path, tests: list[str], expected: float) -> str:
    """Return the first test that fails, what else went wrong, or nothing."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", *sorted(tests)]
    limit = int(PATIENCE[0] * expected + PATIENCE[1])

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))

    try:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False,
                              timeout=STARVED * limit, preexec_fn=limited)  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"no end within {STARVED * limit:.0f} s"
    if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        return f"no end within {limit} s of the processor"
    if done.returncode == 0:
        return ""
    if done.returncode == 4:
        raise RuntimeError(f"the map of tests is not that of this tree; make it anew with --map\n{done.stdout[-2000:]}")
    failed = re.search(r"^(?:FAILED|ERROR) (\S+.*?)(?: - |$)", done.stdout, re.MULTILINE)
    return failed[1] if failed else f"pytest ended with {done.returncode}"


# --- the run ---------------------------------------------------------------------------------------------------


def report(verdicts: list[Verdict]) -> str:
    """Return rates by area and the survivors as diffs."""
    survived = [v.mutant for v in verdicts if v.killed_by is None]
    drawn, left = (Counter(m.area for m in some) for some in ([v.mutant for v in verdicts], survived))
    lines = [f"{m.diff()}\n" for m in sorted(survived, key=lambda m: (m.path, m.line))]
    lines += [f"{area:28} {n:4} drawn {n - left[area]:4} killed" for area, n in sorted(drawn.items())]
    total = len(verdicts)
    rate = f", {100 * (total - len(survived)) / total:.0f} %" if total else ""
    return "\n".join([*lines, f"{total} drawn, {total - len(survived)} killed, {len(survived)} survived{rate}"])


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants", description="Which small faults do no tests notice?"
    )
    parser.add_argument("--seed", type=int, required=True, help="of the draw")
    parser.add_argument("--count", type=int, default=120, help="mutants to draw")
    parser.add_argument("--limit", type=float, default=240.0, help="seconds of tests for one mutant at most")
    parser.add_argument("--jobs", type=int, default=1, help="copies of the tree that work at once")
    parser.add_argument("--skip", nargs="*", default=[], help="parts of paths to leave out")
    parser.add_argument("--among", nargs="*", default=[], help="parts of paths to draw from")
    parser.add_argument("--map", action="store_true", help="learn anew which tests run which line")
    parser.add_argument("--output", type=Path, help="JSON file for the verdicts")
    given = parser.parse_args()
    if given.map or not (STORE / "times").exists():
        make_map()
    known = TestMap()
    folders: SimpleQueue[Path] = SimpleQueue()
    for _ in range(given.jobs):
        folders.put(copy_of_the_tree())
    verdicts: list[Verdict] = []

    def one(mutant: Mutant) -> None:
        folder = folders.get()
        try:
            verdict = try_mutant(mutant, folder, known, given.limit)
        finally:
            folders.put(folder)
        verdicts.append(verdict)
        fate = f"killed by {verdict.killed_by}" if verdict.killed_by else f"SURVIVED {verdict.tests} tests"
        what = f"{mutant.old[:40]!r} -> {mutant.new[:40]!r}"
        print(f"{len(verdicts):4} {verdict.seconds:5.0f} s  {mutant.path}:{mutant.line} {what}: {fate}", flush=True)
        if given.output:
            given.output.write_text(json.dumps([asdict(v) for v in verdicts], indent=1), encoding="utf-8")

    with ThreadPoolExecutor(given.jobs) as pool:
        list(pool.map(one, draw(given.seed, given.count, given.skip, given.among)))
    print(report(verdicts))
    for _ in range(given.jobs):
        shutil.rmtree(folders.get())


if __name__ == "__main__":
    main()
