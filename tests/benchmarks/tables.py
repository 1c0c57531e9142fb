"""From outcomes to tables: medians, agreement of the criteria, Markdown and JSON."""

from __future__ import annotations

import platform
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

from .designs import BenchmarkDesign
from .harness import Outcome

ABSOLUTE_UP_TO = 1e5


def tolerance(criterion: float, count: int = 1) -> float:
    """Return how far a criterion may be above the best: 1e-7 up to 1e5, else 1e-11 of it."""
    return 1e-7 * count if abs(criterion) <= ABSOLUTE_UP_TO * count else 1e-11 * abs(criterion)


def summarize(design: BenchmarkDesign, outcomes: list[Outcome], rows: int) -> dict[str, Any]:
    """Return the record of one design: one entry per peer, criteria compared with the best."""
    entries = [_entry(outcome) for outcome in outcomes]
    kind = "REML" if design.reml else "ML"
    count = 1000 if design.task == "refits" else 40 if design.task == "refit" else 1
    comparable = [e for e in entries if e.get("kind") == kind]
    if comparable:
        best = min(e["criterion"] for e in comparable)
        for e in comparable:
            e["above_best"] = e["criterion"] - best
            e["agrees"] = bool(e["above_best"] <= tolerance(best, count))
    ours = next((e for e in entries if e["peer"] == "sparselmm" and "seconds" in e), None)
    for e in entries:
        if ours and "seconds" in e:
            e["ratio"] = e["seconds"] / ours["seconds"]
            e["cpu_ratio"] = e["cpu"] / ours["cpu"] if e["cpu"] and ours["cpu"] else None
    return {
        "design": design.name,
        "title": design.title,
        "formula": design.formula,
        "criterion": kind,
        "task": design.task,
        "rows": rows,
        "peers": entries,
    }


def _entry(outcome: Outcome) -> dict[str, Any]:
    if not outcome.answers:
        return {"peer": outcome.peer, "problem": outcome.problem or "not run"}
    last = outcome.answers[-1]
    cpus = [median(a["cpu"]) for a in outcome.answers if a.get("cpu")]
    peaks = [a["peak_mb"] for a in outcome.answers if a.get("peak_mb") is not None]
    entry = {
        "peer": outcome.peer,
        "seconds": median(median(a["seconds"]) for a in outcome.answers),
        "cpu": median(cpus) if cpus else None,
        "first": median(a["seconds"][0] for a in outcome.answers),
        "fastest": min(min(a["seconds"]) for a in outcome.answers),
        "processes": len(outcome.answers),
        "peak_mb": max(peaks) if peaks else None,
    }
    return entry | {
        k: last.get(k) for k in ("criterion", "kind", "evaluations", "gradients", "converged", "note", "versions")
    }


def verdict(entry: dict[str, Any], kind: str) -> str:
    """Return in words how the criterion compares."""
    if "problem" in entry:
        return str(entry["problem"])
    if entry.get("kind") != kind:
        return f"{entry.get('kind')}, not comparable"
    words = "agrees" if entry["agrees"] else f"worse by {entry['above_best']:.2g}"
    return words if entry.get("converged") in (True, None) else words + ", warns"


def shown_time(seconds: float) -> str:
    """Return a time with a fitting unit."""
    if seconds < 0.1:
        return f"{1e3 * seconds:.2f} ms" if seconds < 0.01 else f"{1e3 * seconds:.1f} ms"
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"


def _cell(value: Any, form: str) -> str:
    return "" if value is None else format(value, form)


def _evaluations(entry: dict[str, Any]) -> str:
    if entry.get("evaluations") is None:
        return ""
    gradients = entry.get("gradients")
    return f"{entry['evaluations']}" + (f" (+{gradients} with derivatives)" if gradients else "")


def markdown(records: list[dict[str, Any]], environment: dict[str, Any]) -> str:
    """Return the report."""
    head = "| program | time | first call | processor | ratio | evaluations | memory (MB) | criterion | |"
    lines = ["# Benchmarks", "", *_preamble(environment), ""]
    for record in records:
        lines += [
            f"## {record['title']}",
            "",
            f"`{record['formula']}`, {record['criterion']}, {record['rows']:,} rows",
            "",
            head,
            "|---|---:|---:|---:|---:|---:|---:|---:|---|",
        ]
        for e in record["peers"]:
            words = verdict(e, record["criterion"])
            if "problem" in e:
                lines.append(f"| {e['peer']} | | | | | | | | {words} |")
                continue
            cpu = "" if e["cpu"] is None else shown_time(e["cpu"])
            ratio = " / ".join(filter(None, (_cell(e.get("ratio"), ".2f"), _cell(e.get("cpu_ratio"), ".2f"))))
            cells = [e["peer"], shown_time(e["seconds"]), shown_time(e["first"]), cpu, ratio, _evaluations(e)]
            cells += [_cell(e["peak_mb"], ",.0f"), _cell(e["criterion"], ".8f"), words]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def _preamble(environment: dict[str, Any]) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    missing = "; ".join(f"{name}: {why}" for name, why in environment["missing"].items())
    lines = [
        f"{environment['date']}; {environment['cpu']}, {environment['cores']} cores; "
        f"threads: {environment['threads']}; "
        f"scale {environment['scale']:g}; median of {environment['repeats']} processes; load {environment['load']}.",
        "",
        f"Versions: {versions}.",
    ]
    return lines + (["", f"Not run: {missing}."] if missing else [])


def describe_machine() -> dict[str, Any]:
    """Return processor, cores, load and date."""
    import os

    cpu = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                cpu = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    load = " ".join(f"{x:.1f}" for x in os.getloadavg()) if hasattr(os, "getloadavg") else "unknown"
    return {"cpu": cpu, "cores": os.cpu_count(), "load": load, "date": date.today().isoformat()}


def collect_versions(records: list[dict[str, Any]]) -> dict[str, str]:
    """Return the versions that all peers named; those of the same package in two environments are both kept."""
    found: dict[str, set[str]] = {}
    for record in records:
        for e in record["peers"]:
            for name, version in (e.get("versions") or {}).items():
                found.setdefault(name, set()).add(version)
    return {name: "/".join(sorted(values)) for name, values in sorted(found.items())}
