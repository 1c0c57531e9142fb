"""``python -m tests.benchmarks.compare BASE HEAD``: two revisions of sparselmm on the same suite.

Each revision is checked out into a temporary worktree and put first on the module path; data, runner
and interpreter are the same for both, and their processes alternate.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .designs import select_designs
from .harness import run_design, stop_children_when_ended, thread_environment
from .tables import describe_machine, shown_time, summarize

ROOT = Path(__file__).resolve().parents[2]


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


@contextmanager
def worktree(revision: str, folder: Path) -> Iterator[tuple[Path, str]]:
    """Check a revision out into a folder, yield it and the short commit, and remove it again."""
    commit = _git("rev-parse", "--short", "--verify", f"{revision}^{{commit}}")
    _git("worktree", "add", "--detach", "--quiet", str(folder), commit)
    try:
        yield folder, commit
    finally:
        _git("worktree", "remove", "--force", str(folder))


def table(rows: list[dict[str, Any]], base: str, head: str) -> str:
    """Return the Markdown table; a ratio below 1 means that head is faster."""
    lines = [f"| design | {base} | {head} | ratio | criterion: head - base |", "|---|---:|---:|---:|---:|"]
    for row in rows:
        if "problem" in row:
            lines.append(f"| {row['design']} | | | | {row['problem']} |")
            continue
        times = f"{shown_time(row['base'])} | {shown_time(row['head'])} | {row['ratio']:.2f}"
        lines.append(f"| {row['design']} | {times} | {row['criterion_difference']:.2g} |")
    return "\n".join(lines)


def _row(record: dict[str, Any]) -> dict[str, Any]:
    base, head = record["peers"]
    problems = [f"{e['peer'].split('@')[1]}: {e['problem']}" for e in (base, head) if "problem" in e]
    if problems:
        return {"design": record["design"], "problem": "; ".join(problems)}
    return {
        "design": record["design"],
        "base": base["seconds"],
        "head": head["seconds"],
        "ratio": head["seconds"] / base["seconds"],
        "criterion_difference": head["criterion"] - base["criterion"],
    }


def main(arguments: list[str] | None = None) -> int:
    """Compare two revisions; the exit status is 1 when head is slower than the limit anywhere."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.compare", description=__doc__)
    parser.add_argument("base")
    parser.add_argument("head")
    parser.add_argument("--designs", default="standard")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", default="1")
    parser.add_argument("--time-limit", type=float, default=900.0)
    parser.add_argument("--limit", type=float, default=1.25, help="largest ratio that is accepted")
    parser.add_argument("--output", default=None, help="JSON file")
    options = parser.parse_args(arguments)
    stop_children_when_ended()
    rows = []
    with (
        tempfile.TemporaryDirectory(prefix="benchmark-revisions-") as folder,
        worktree(options.base, Path(folder, "base")) as (base, base_commit),
        worktree(options.head, Path(folder, "head")) as (head, head_commit),
    ):
        environment = thread_environment(options.threads)
        sources = {"sparselmm@base": base, "sparselmm@head": head}
        path = environment.get("PYTHONPATH", "")
        for design in select_designs(options.designs.split(",")):
            outcomes, n = run_design(
                design,
                dict.fromkeys(sources, sys.executable),
                scale=options.scale,
                repeats=options.repeats,
                environments={k: environment | {"PYTHONPATH": f"{v}{os.pathsep}{path}"} for k, v in sources.items()},
                limit=options.time_limit,
                say=lambda text: print(text, file=sys.stderr, flush=True),
            )
            for outcome, source in zip(outcomes, sources.values()):
                for answer in outcome.answers:
                    if not Path(answer["source"]).is_relative_to(source.resolve()):
                        raise SystemExit(f"{outcome.peer} ran {answer['source']} instead of the checkout")
            rows.append(_row(summarize(design, outcomes, n)))
    print(table(rows, f"base {base_commit}", f"head {head_commit}"))
    if options.output:
        machine = describe_machine()
        record = {"base": base_commit, "head": head_commit, "environment": machine, "designs": rows}
        Path(options.output).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return int(any("problem" in row or row["ratio"] > options.limit for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
