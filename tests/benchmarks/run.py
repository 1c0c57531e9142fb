"""``python -m tests.benchmarks.run``: sparselmm and every installed peer on the same data."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from .designs import ALL_PEERS, BenchmarkDesign, select_designs
from .harness import find_peers, run_design, stop_children_when_ended, thread_environment
from .tables import collect_versions, describe_machine, markdown, summarize


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.run", description=__doc__)
    parser.add_argument("--designs", default="standard", help="names with commas between, 'standard' or 'all'")
    parser.add_argument("--scale", type=float, default=1.0, help="size relative to the full design")
    parser.add_argument("--repeats", type=int, default=3, help="processes per program and design")
    parser.add_argument("--threads", default="1", help="a number for every library, or 'default'")
    parser.add_argument("--peers", default=",".join(ALL_PEERS), help="names with commas between")
    parser.add_argument(
        "--python", action="append", default=[], metavar="PROGRAM", help="a further interpreter to look for peers in"
    )
    parser.add_argument("--time-limit", type=float, default=900.0, help="seconds for one process")
    parser.add_argument("--output", default="benchmark-results", help="path without suffix; .md and .json are written")
    parser.add_argument("--quiet", action="store_true", help="print nothing while running")
    return parser.parse_args(arguments)


def run(
    designs: list[BenchmarkDesign],
    programs: dict[str, str],
    missing: dict[str, str],
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Run the designs one after the other and return the whole record."""

    def say(text: str) -> None:
        if not options.quiet:
            print(text, file=sys.stderr, flush=True)

    environments = dict.fromkeys(programs, thread_environment(options.threads))
    machine = describe_machine()
    records = []
    for design in designs:
        outcomes, rows = run_design(
            design,
            programs,
            scale=options.scale,
            repeats=options.repeats,
            environments=environments,
            limit=options.time_limit,
            say=say,
        )
        records.append(summarize(design, outcomes, rows))
        environment = {
            **machine,
            "threads": options.threads,
            "scale": options.scale,
            "repeats": options.repeats,
            "versions": collect_versions(records),
            "missing": missing,
        }
        write(records, environment, Path(options.output))  # a long run that is stopped leaves what it has
    return {"environment": environment, "designs": records}


def write(records: list[dict[str, Any]], environment: dict[str, Any], path: Path) -> None:
    """Write the Markdown and the JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(path.name + ".md").write_text(markdown(records, environment), encoding="utf-8")
    text = json.dumps({"environment": environment, "designs": records}, indent=1)
    path.with_name(path.name + ".json").write_text(text + "\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Run the suite; the exit status is 1 when sparselmm failed or its criterion is not the best."""
    options = parse(arguments)
    stop_children_when_ended()
    programs, missing = find_peers(options.peers.split(","), options.python)
    for name, why in missing.items():
        print(f"{name} is left out: {why}", file=sys.stderr)
    result = run(select_designs(options.designs.split(",")), programs, missing, options)
    if not options.quiet:
        print(markdown(result["designs"], result["environment"]))
    ours = [e for d in result["designs"] for e in d["peers"] if e["peer"] == "sparselmm"]
    return int(any("problem" in e or e.get("agrees") is False for e in ours))


if __name__ == "__main__":
    raise SystemExit(main())
