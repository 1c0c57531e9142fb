"""The progress line: shown only for long fits that someone watches, and wiped afterwards."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest

from sparselmm import LinearMixedModel
from sparselmm.report.progress import LONG_SECONDS, ProgressLine, progress, shows_progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Return a clock that the test turns, which lines start by and go by."""
    now = [100.0]
    monkeypatch.setattr("sparselmm.report.progress.time.perf_counter", lambda: now[0])
    return now


def screen(text):
    """Return what a terminal shows after the text: a carriage return overwrites from the left."""
    lines = [""]
    for part in text.split("\n"):
        line = ""
        for piece in part.split("\r"):
            line = piece + line[len(piece) :]
        lines[-1] = line
        lines.append("")
    return "\n".join(line.rstrip() for line in lines[:-1])


def slow_fit(line, clock, seconds=3.0, count=5):
    for i in range(1, count + 1):
        clock[0] += seconds
        line(i, 120.0 - i, 120.0 - i)


def test_silent_where_nobody_watches(clock):
    stream = io.StringIO()
    assert not shows_progress(stream) or "ipykernel" in sys.modules
    line = ProgressLine(0, stream)
    slow_fit(line, clock)
    line.close()
    assert stream.getvalue() == ""


def test_silent_for_a_quick_fit(clock):
    line = ProgressLine(0, Terminal())
    slow_fit(line, clock, seconds=LONG_SECONDS / 100)
    line.close()
    assert line.stream.getvalue() == ""


def test_slow_fits_show_one_line_that_is_wiped(clock):
    line = ProgressLine(0, Terminal())
    slow_fit(line, clock, seconds=3.0, count=5)
    text = line.stream.getvalue()
    assert "\n" not in text
    # 15 s for 5 evaluations; three more of the typical eight
    assert screen(text) == "evaluation 5, criterion 115.0000, 15 s elapsed, about 9 s to go"
    line.close()
    assert screen(line.stream.getvalue()) == ""
    before = line.stream.getvalue()
    line.close()
    assert line.stream.getvalue() == before, "closing twice writes nothing more"


def test_a_shorter_line_leaves_nothing_of_a_longer_one(clock):
    line = ProgressLine(0, Terminal())
    clock[0] += 10
    line(1, 1e9, 1e9)
    clock[0] += 1
    line(2, 1.0, 1.0)
    assert screen(line.stream.getvalue()).endswith("about 33 s to go")  # 11 s for 2 of 8
    line.close()
    assert screen(line.stream.getvalue()) == ""


def test_first_slow_evaluation_is_enough(clock):
    """The line comes as soon as the expected total is long, not when that time has passed."""
    line = ProgressLine(0, Terminal())
    clock[0] += LONG_SECONDS / 4
    line(1, 5.0, 5.0)
    assert "to go" in line.stream.getvalue()


def test_notebooks_count_as_watched(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    assert shows_progress(io.StringIO())


def test_best_value_is_shown_not_the_last(clock):
    line = ProgressLine(0, Terminal())
    clock[0] += 30
    line(4, 500.0, 123.0)
    assert "criterion 123.0000" in line.stream.getvalue()


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_verbose_prints_every_evaluation_and_wipes_nothing(clock, stream):
    line = ProgressLine(1, stream())
    slow_fit(line, clock, seconds=0.5, count=3)
    line.close()
    lines = line.stream.getvalue().splitlines()
    assert len(lines) == 3
    assert " ".join(lines[1].split()) == "evaluation 2 criterion 118.000000 best 118.000000 elapsed 1.0 s"


def test_negative_is_silent_everywhere(clock):
    line = ProgressLine(-1, Terminal())
    slow_fit(line, clock)
    line.close()
    assert line.stream.getvalue() == ""


def test_line_is_wiped_after_an_interruption(clock, monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)

    def interrupted():
        with progress(0) as line:
            slow_fit(line, clock)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert "to go" in stream.getvalue()
    assert screen(stream.getvalue()) == ""


def model():
    rng = np.random.default_rng(0)
    g = np.arange(60) % 10
    y = rng.standard_normal(10)[g] + rng.standard_normal(60)
    return LinearMixedModel.from_arrays(y, np.ones((60, 1)), [(g, None, "g")])


def test_fit_passes_its_evaluations_on(capsys):
    fit = model().fit(verbose=1)
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == fit.optimizer_report.n_evaluations
    for number, (line, (_, value)) in enumerate(zip(lines, fit.optimizer_report.trace), start=1):
        words = line.split()
        assert int(words[1]) == number
        assert float(words[3]) == pytest.approx(value, abs=1e-6)  # six digits are printed
    best = [float(line.split()[5]) for line in lines]
    assert best == sorted(best, reverse=True)


@pytest.mark.parametrize("verbose", [0, -1])
def test_quick_fits_print_nothing(capsys, verbose):
    model().fit(verbose=verbose)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
