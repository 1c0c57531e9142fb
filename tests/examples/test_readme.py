"""The README: its Python blocks and commands run outside the checkout and print what it shows.

A block of ``python`` or of a ``sparselmm`` command followed by a ``text`` block is run and its
output compared with that block, word by word; a number may differ by one unit of its last digit.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[2] / "README.md"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
COMMAND = re.compile(r"\.venv/bin/sparselmm (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Example:
    """One block of code and the output the README shows for it."""

    language: str
    code: str
    shown: str | None


def examples() -> list[Example]:
    blocks = [(match[1], match[2]) for match in FENCE.finditer(README.read_text(encoding="utf-8"))]
    following = [*blocks[1:], ("", "")]
    return [
        Example(language, code, after if kind == "text" else None)
        for (language, code), (kind, after) in zip(blocks, following)
    ]


def script() -> str:
    """Return the Python blocks as one program that prints a mark after each."""
    parts = [e.code + "\nprint('\\x1e', end='', flush=True)\n" for e in examples() if e.language == "python"]
    return "\n".join(parts)


def run(command: list[str], folder: Path) -> str:
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8", timeout=300)
    assert result.returncode == 0, result.stderr
    return result.stdout


def comparable(text: str) -> list[list[str]]:
    """Return the words of the lines; of the paragraph on convergence, whose numbers are rounding, only its verdict."""
    blocks = [re.sub(r"^(Convergence: \w+)(?s:.*)$", r"\1", block) for block in text.split("\n\n")]
    return [line.split() for block in blocks for line in block.splitlines() if line.strip()]


def assert_same_output(printed: str, shown: str) -> None:
    lines, expected = comparable(printed), comparable(shown)
    assert [len(line) for line in lines] == [len(line) for line in expected], f"printed:\n{printed}\nshown:\n{shown}"
    for line, wanted in zip(lines, expected):
        for word, target in zip(line, wanted):
            assert same_word(word, target), f"{word!r} is not {target!r} in {' '.join(line)!r}"


def same_word(word: str, target: str) -> bool:
    """Return whether two words agree, numbers to one unit of the last digit shown."""
    if word == target:
        return True
    if NUMBER.sub("#", word) != NUMBER.sub("#", target):
        return False
    pairs = zip(NUMBER.findall(word), NUMBER.findall(target), strict=True)
    return all(abs(float(a) - float(b)) <= 1.001 * unit(b) for a, b in pairs)


def unit(number: str) -> float:
    """Return one unit of the last digit of a printed number; counts must be equal."""
    mantissa, _, exponent = number.lower().partition("e")
    decimals = len(mantissa.partition(".")[2])
    return 0.0 if decimals == 0 and not exponent else 10.0 ** (int(exponent or 0) - decimals)


@pytest.mark.parametrize(
    ("word", "target", "same"),
    [
        ("251.405", "251.406", True),
        ("251.405", "251.407", False),
        ("180", "181", False),
        ("1.2e-05", "1.3e-05", True),
        ("Days", "days", False),
        ("(-0.3)", "(-0.4)", True),
    ],
)
def test_words_are_compared_by_their_digits(word, target, same):
    assert same_word(word, target) is same


def test_python_blocks(tmp_path):
    (tmp_path / "readme.py").write_text(script(), encoding="utf-8")
    *outputs, rest = run([sys.executable, "readme.py"], tmp_path).split("\x1e")
    blocks = [e for e in examples() if e.language == "python"]
    assert blocks, "the README has no Python example"
    assert len(outputs) == len(blocks)
    assert rest == ""
    for block, output in zip(blocks, outputs):
        if block.shown is not None:
            assert_same_output(output, block.shown)
        else:
            assert output == "", f"the README does not show that this prints: {output}"


def test_main_command(tmp_path):
    (command,) = [e for e in examples() if e.language == "sh" and COMMAND.search(e.code) and "apt-get" in e.code]
    arguments = shlex.split(COMMAND.search(command.code)[1])
    program = [sys.executable, "-c", "import sys; from sparselmm.cli import main; sys.exit(main())"]
    output = run([*program, *arguments], tmp_path)
    assert command.shown is not None, "the README does not show what its main command prints"
    assert_same_output(output, command.shown)
