"""Every note of a fit is shown in every form of its summary, with its severity."""

from __future__ import annotations

import html
import re

import pytest

from sparselmm.exceptions import Message
from sparselmm.report import summarize
from sparselmm.report.latex import escape_latex

NOTES = (
    Message("singular", "warning", "The fit is singular: x & z < 3 of g_1 has zero variance.", "Leave it out."),
    Message("rows", "info", "3 rows dropped.", ""),
    Message("scale", "note", "Column 'x_2' is 100% of the others.", "Rescale."),
)


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("count", [0, 1, 3])
def test_every_note_in_every_form(fit, count):
    content = summarize(fit.but(messages=NOTES[:count]))
    forms = {
        "text": (words(str(content)), lambda t: t),
        "HTML": (words(content._repr_html_()), html.escape),
        "LaTeX": (words(content.to_latex()), escape_latex),
        "Markdown": (words(content.to_markdown().replace("\\", "")), lambda t: t),
    }
    for name, (shown, escaped) in forms.items():
        for i, note in enumerate(NOTES):
            found = f"{note.severity.capitalize()}: {escaped(note.what)}" in shown
            assert found == (i < count), f"{note.code} in {name}"


def test_warnings_stand_out_in_html(fit):
    shown = summarize(fit.but(messages=NOTES))._repr_html_()
    items = re.findall(r"<li( class=\"warning\")?>(\w+):", shown)
    assert items == [("", "Convergence"), (' class="warning"', "Warning"), ("", "Info"), ("", "Note")]
