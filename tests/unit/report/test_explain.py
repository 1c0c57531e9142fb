"""Errors, warnings and messages lead to the documentation."""

from __future__ import annotations

import ast
import inspect
import pickle
import re
import sys
import traceback
import warnings
from pathlib import Path

import pytest

import sparselmm as slm
from sparselmm import exceptions
from sparselmm.exceptions import DesignError, Message, ParameterError, SparseLMMError
from sparselmm.report.explain import PARTS, _texts

REPOSITORY = Path(__file__).resolve().parents[3]


def message_codes() -> set[str]:
    """Return the codes of all messages that the sources make."""
    codes = set()
    for path in (REPOSITORY / "sparselmm").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Message":
                first = node.args[0] if node.args else next(k.value for k in node.keywords if k.arg == "code")
                codes.add(ast.literal_eval(first))
    return codes


def classes(base: type) -> list[type]:
    return [c for _, c in inspect.getmembers(exceptions, inspect.isclass) if issubclass(c, base) and c is not base]


@pytest.fixture
def one_row_per_level():
    return slm.load_dataset("sleepstudy").assign(row=range(180))


@pytest.mark.parametrize("code", sorted(message_codes()))
def test_every_message_is_explained(code):
    assert slm.explain(Message(code, "note", "text")).topic == code


@pytest.mark.parametrize("kind", classes(SparseLMMError))
def test_every_error_is_explained(kind):
    assert slm.explain(kind).topic == kind.__name__


@pytest.mark.parametrize("kind", classes(exceptions.SparseLMMWarning))
def test_topics_of_warnings_are_explained(kind):
    assert kind is exceptions.DataWarning or slm.explain(kind).topic == kind.topic


def test_every_section_is_about_something():
    known = message_codes() | {kind.__name__ for kind in classes(SparseLMMError)}
    assert set(_texts()) == known


def test_links_lead_to_pages_and_the_page_has_all_parts():
    for text in _texts().values():
        for page in re.findall(r"\]\(([^)#]+)", text):
            assert (REPOSITORY / "docs" / page).is_file()
    page = (REPOSITORY / "docs" / "messages.md").read_text(encoding="utf-8")
    assert all(f"explanations/{part}.md" in page for part in PARTS)


def test_it_prints_as_text_without_links():
    text = repr(slm.explain("singular"))
    assert text.startswith("singular\n\nA variance")
    assert "Reading singular fits (docs/tutorials/singular-fits.md)" in text
    assert max(map(len, text.splitlines())) <= 79
    assert slm.explain("singular")._repr_markdown_().startswith("**singular**\n\n")


def test_the_traceback_of_an_error_ends_with_the_way_to_more(one_row_per_level):
    with pytest.raises(DesignError) as caught:
        slm.lmer("Reaction ~ Days + (1 | row)", one_row_per_level)
    lines = traceback.format_exception_only(caught.value)
    assert lines[-1] == 'More: slm.explain("DesignError")\n'
    assert "More" not in str(caught.value)
    assert pickle.loads(pickle.dumps(caught.value)).__notes__ == caught.value.__notes__


def test_errors_that_say_all_have_no_such_line():
    with pytest.raises(SparseLMMError) as caught:
        slm.lmer("Reaction ~ Dyas + (1 | Subject)", slm.load_dataset("sleepstudy"))
    assert not hasattr(caught.value, "__notes__")


def test_warnings_end_with_it():
    with pytest.warns(exceptions.SingularFitWarning, match=r'More: slm\.explain\("singular"\)$'):
        slm.lmer("Yield ~ 1 + (1 | Batch)", slm.load_dataset("dyestuff2"))
    with warnings.catch_warnings(record=True) as caught:
        exceptions.warn_user("text", exceptions.DataWarning)
        exceptions.warn_user(Message("monte_carlo", "warning", "text"), exceptions.ConvergenceWarning)
    assert [str(c.message) for c in caught] == ["text", 'text More: slm.explain("monte_carlo")']


def test_the_last_error_at_the_prompt(monkeypatch):
    monkeypatch.setattr(sys, "last_exc", None, raising=False)
    monkeypatch.setattr(sys, "last_value", exceptions.FormulaError("no"), raising=False)
    assert slm.explain().topic == "FormulaError"
    monkeypatch.setattr(sys, "last_value", KeyError("x"), raising=False)
    with pytest.raises(ParameterError, match="not one of this package"):
        slm.explain()


def test_unknown_topics():
    with pytest.raises(ParameterError, match="did you mean 'singular'"):
        slm.explain("singlar")
    with pytest.raises(ParameterError, match="there are FormulaError, "):
        slm.explain(ZeroDivisionError)
