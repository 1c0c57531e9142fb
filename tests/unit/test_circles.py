"""The plan of the package: no circles of imports among files, small files, small folders."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "sparselmm"
FILES_PER_FOLDER = 14
LINES_PER_FILE = 400


def modules(package: Path) -> dict[str, Path]:
    """Return the files of a package by module name; a folder stands for its ``__init__``."""
    names = {path: [package.name, *path.relative_to(package).with_suffix("").parts] for path in package.rglob("*.py")}
    return {".".join(parts[:-1] if parts[-1] == "__init__" else parts): path for path, parts in names.items()}


def imports(tree: ast.AST, name: str, is_folder: bool) -> Iterator[str]:
    """Yield every module that a file may import: inside functions, for type checkers and relative ones too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = name.split(".")
            above = parts[: len(parts) - node.level + is_folder] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def graph(package: Path) -> dict[str, set[str]]:
    """Return what each file imports of the package; a name of a module stands for that module."""
    files = modules(package)
    found = {}
    for name, path in files.items():
        wanted = imports(ast.parse(path.read_text(encoding="utf-8")), name, path.stem == "__init__")
        targets = (target if target in files else target.rpartition(".")[0] for target in wanted)
        found[name] = {target for target in targets if target in files} - {name}
    return found


def circles(edges: Mapping[str, set[str]]) -> list[set[str]]:
    """Return the groups of files of which each leads to each other one (Warshall's closure)."""
    reach = {name: set(targets) for name, targets in edges.items()}
    for middle in reach:
        for targets in reach.values():
            if middle in targets:
                targets |= reach[middle]
    groups = {frozenset(other for other in reach[name] if name in reach[other]) for name in reach}
    return sorted((set(group) for group in groups if group), key=sorted)


def test_no_file_leads_back_to_itself():
    assert circles(graph(PACKAGE)) == []


@pytest.mark.parametrize(
    "second",
    [
        "from package import a",
        "from package.a import x",
        "import package.a",
        "from . import a",
        "from .a import x",
        "def f():\n    from package.a import x",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from package.a import x",
    ],
)
def test_a_circle_is_seen(tmp_path, second):
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "a.py").write_text("from package.c import y\n")
    (folder / "b.py").write_text(second)
    (folder / "c.py").write_text("import package.b\nimport package.d\n")
    (folder / "d.py").write_text("import os\n")
    assert circles(graph(folder)) == [{"package.a", "package.b", "package.c"}]


def test_no_folder_is_a_corridor():
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    count = {str(f.relative_to(PACKAGE)): len([p for p in f.glob("*.py") if p.stem != "__init__"]) for f in folders}
    assert not {folder: n for folder, n in count.items() if n > FILES_PER_FOLDER}


def test_no_file_is_long():
    lines = {str(path.relative_to(PACKAGE)): len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert not {name: n for name, n in lines.items() if n > LINES_PER_FILE}
