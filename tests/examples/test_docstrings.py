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


def public_callables() -> list[str]:
    """Return the public functions and the classes that are not exceptions or warnings."""
    names = []
    for name in sorted(sparselmm.__all__):
        public = getattr(sparselmm, name)
        if inspect.isfunction(public) or (inspect.isclass(public) and not issubclass(public, BaseException)):
            names.append(name)
    return names


@pytest.mark.parametrize("name", public_callables())
def test_public_functions_and_classes_have_an_example(name):
    assert ">>> " in (inspect.getdoc(getattr(sparselmm, name)) or "")
