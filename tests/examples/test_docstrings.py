"""Every example in a docstring of the package runs and prints what it says."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil

import pytest

import sparselmm

OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def module_names() -> list[str]:
    names = [info.name for info in pkgutil.walk_packages(sparselmm.__path__, "sparselmm.")]
    return ["sparselmm", *(name for name in names if not name.endswith("__main__"))]


def collect() -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    return [test for name in module_names() for test in finder.find(importlib.import_module(name)) if test.examples]


@pytest.mark.parametrize("example", collect(), ids=lambda test: test.name)
def test_example(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines: list[str] = []
    runner = doctest.DocTestRunner(optionflags=OPTIONS, verbose=False)
    runner.run(example, out=lines.append)
    assert runner.failures == 0, "".join(lines)


#: An example of this one would need R.
WITHOUT_EXAMPLE = {"compare_with_r"}


def public_functions() -> list[str]:
    names = sorted(name for name in sparselmm.__all__ if inspect.isfunction(getattr(sparselmm, name)))
    return [name for name in names if name not in WITHOUT_EXAMPLE]


@pytest.mark.parametrize("name", public_functions())
def test_public_functions_have_an_example(name):
    assert ">>> " in (inspect.getdoc(getattr(sparselmm, name)) or "")
