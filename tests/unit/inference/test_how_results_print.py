"""Results that print as tables: means and contrasts, variances, progress of long bootstraps."""

from __future__ import annotations

import re

import pytest

import sparselmm as slm
from sparselmm.inference.bootstrap import replicates


@pytest.fixture(scope="module")
def cake():
    return slm.lmer("angle ~ recipe + temp + (1 | recipe:replicate)", slm.load_dataset("cake"))


@pytest.mark.parametrize("contrasts", [None, "pairwise"])
def test_means_and_contrasts_as_text_and_html(cake, contrasts):
    found = cake.emmeans("recipe", contrasts=contrasts)
    text, shown = str(found), found._repr_html_()
    assert repr(found) == text
    blocks = text.split("\n\n")
    assert blocks[0] == found.means.to_string(index=False)
    assert ("A - B" in text) == ("A - B" in shown) == (contrasts is not None)
    assert len(blocks) == (2 if contrasts is None else 3)
    assert shown.count("<table") == (1 if contrasts is None else 2)
    assert found.notes
    assert blocks[-1] == "\n".join(found.notes)
    for note in found.notes:
        assert f"<p>{note}</p>" in shown


def test_table_of_variances_as_text_and_html(cake):
    table = cake.varcorr
    for shown in (repr(table), re.sub(r"<[^>]+>", " ", table._repr_html_())):
        words = shown.split()
        assert words[:5] == ["grp", "var1", "var2", "vcov", "sdcor"]
        assert "NaN" not in words
        assert [w for w in words if w in ("recipe:replicate", "Intercept", "Residual")] == [
            "recipe:replicate", "Intercept", "Residual",
        ]  # fmt: skip
        assert f"{table.sigma:.4f}"[:6] in shown


def test_a_long_bootstrap_says_how_far_it_is(cake, monkeypatch, capsys):
    monkeypatch.setattr(replicates, "SILENT_SECONDS", -1.0)
    monkeypatch.setattr(replicates, "LARGEST_BATCH", 10)
    cake.bootstrap(25, seed=1, progress=True)
    shown = capsys.readouterr().err
    assert re.findall(r"\rbootstrap: batch (\d) of 3, \d+ s", shown) == ["1", "2", "3"]
    assert shown.endswith("\n")
    cake.bootstrap(25, seed=1, progress=False)
    assert capsys.readouterr().err == ""


def test_a_short_bootstrap_is_silent(cake, capsys):
    cake.bootstrap(5, seed=1, progress=True)
    assert capsys.readouterr().err == ""
