"""The import-linter contract of pyproject.toml, run as a test."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
LINT = "import sys; from importlinter.cli import lint_imports_command; sys.argv[0] = 'lint'; lint_imports_command()"


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LINT, "--config", "pyproject.toml", "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def test_imports_go_downward_only():
    result = lint(REPOSITORY)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("file", "other"),
    [("exceptions", "sparselmm.likelihood.problem"), ("doors/mixedlm/stated", "sparselmm.inference.tidy")],
)
def test_the_contract_notices_an_import_that_is_not_allowed(tmp_path, file, other):
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    shutil.copytree(REPOSITORY / "sparselmm", tmp_path / "sparselmm", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "sparselmm" / f"{file}.py").open("a") as opened:
        opened.write(f"\nimport {other}\n")
    result = lint(tmp_path)
    assert result.returncode != 0
    assert f"sparselmm.{file.replace('/', '.')} -> {other}" in result.stdout.replace("\n", " ")


def test_every_module_belongs_to_a_layer():
    config = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    (contract,) = (c for c in config["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    layered = {name.strip() for line in contract["layers"] for name in line.split("|")}
    modules = {
        f"sparselmm.{path.stem}"
        for path in (REPOSITORY / "sparselmm").iterdir()
        if (path.suffix == ".py" and path.stem not in {"__init__", "__main__"}) or (path / "__init__.py").exists()
    }
    assert modules <= layered, f"not in the layers contract: {sorted(modules - layered)}"
    assert layered <= modules, f"in the layers contract but not in the package: {sorted(layered - modules)}"
