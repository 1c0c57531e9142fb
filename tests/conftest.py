"""What all tests share: the marker of the tests that need R, and one R process for those that run scripts in it."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

import pytest


@functools.cache
def _missing(packages: tuple[str, ...]) -> str:
    """Return what the comparisons with R lack on this machine, or nothing."""
    rscript = shutil.which("Rscript")
    if rscript is None:
        return "Rscript is not on this machine"
    code = "cat(Filter(function(p) !requireNamespace(p, quietly = TRUE), commandArgs(trailingOnly = TRUE)))"
    done = subprocess.run([rscript, "--vanilla", "-e", code, *packages], capture_output=True, text=True, check=True)
    return f"R lacks {done.stdout.strip()}" if done.stdout.strip() else ""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs R where it is not installed; in continuous integration that is a failure."""
    for marker in item.iter_markers("needs_r"):
        missing = _missing(marker.args or ("lme4",))
        if missing and os.environ.get("CI"):
            pytest.fail(f"{missing}, and continuous integration must compare with it", pytrace=False)
        if missing:
            pytest.skip(missing)


class RSession:
    """One R process that runs scripts one after another, each in an environment of its own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ["R", "--vanilla", "--no-echo", "--encoding=UTF-8"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            text=True,
            encoding="utf-8",
        )

    def run(self, script: Path) -> None:
        """Run a script; what R printed is the message of the error if it stops."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f'source("{script}", local = new.env(), encoding = "UTF-8"); cat("\\n<done>\\n")\n')
        self._process.stdin.flush()
        printed = []
        for line in self._process.stdout:
            if line == "<done>\n":
                return
            printed.append(line)
        raise RuntimeError("R stopped: " + "".join(printed))

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.communicate("quit()\n", timeout=60)


@pytest.fixture(scope="session")
def r_session():
    session = RSession()
    yield session
    session.close()
