"""The scripts in docs/examples run in an empty folder with nothing but the built package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from distributions import build

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPTS = sorted((REPOSITORY / "docs" / "examples").glob("*.py"))
CHECK = "import sparselmm, sys; assert sparselmm.__file__.startswith(sys.argv[1]), sparselmm.__file__"


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Return a folder that holds the package as a wheel brings it."""
    folder = tmp_path_factory.mktemp("wheel")
    with zipfile.ZipFile(build("wheel", folder)) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(arguments: list[str], site: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def test_it_is_the_built_package(site, tmp_path):
    done = run(["-c", CHECK, str(site)], site, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_script(script, site, tmp_path):
    shutil.copy(script, tmp_path)
    done = run([script.name], site, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert done.stderr == ""


def test_the_page_shows_all_of_them():
    page = (REPOSITORY / "docs" / "examples.md").read_text(encoding="utf-8")
    assert SCRIPTS
    assert all(f"{{literalinclude}} examples/{script.name}" in page for script in SCRIPTS)
