"""Files from strangers: whatever they hold, they load or are refused, in little memory, and nothing else happens."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import mutations
import numpy as np
import pandas as pd
import pytest
from mutations import OLD, ROWS, as_member, members, write

import sparselmm as slm
from sparselmm.exceptions import DataError

CRAFTED = 2_000_000  # bytes that refusing a crafted file may take
RNG = np.random.default_rng(5)
DATA = pd.DataFrame(
    {
        "x": RNG.normal(5, 2, 90),
        "t": RNG.uniform(0, 10, 90),
        "g": RNG.integers(0, 7, 90),
        "h": RNG.choice(["a", "ü", "c"], 90),
        "f": RNG.choice(["lo", "hi"], 90),
        "day": pd.Timestamp("2024-01-01", tz="Europe/Berlin") + pd.to_timedelta(np.arange(90) % 4, unit="D"),
    }
)
DATA["y"] = 0.3 * DATA.x + RNG.normal(size=7)[DATA.g] + RNG.normal(size=90)
FORMULAS = [
    "y ~ scale(x) + f*poly(t, 2) + (x | g) + (1 | h:f)",
    "y ~ ns(t, df=3) + cut(x, 3) + factor(f) + (x || g) + (1 | h)",
    "y ~ bs(t, df=4) + I(x - mean(x)) + (1 | g/h) + (1 | day)",
]


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model.slmm"
    slm.LinearMixedModel.from_formula(FORMULAS[0], DATA, solver="cholmod").at([0.5, 0.1, 0.3, 0.4]).save(
        path, include="variances"
    )
    return path


def tree_of(path):
    return json.loads(members(path)["model.json"])


def with_tree(path, change):
    """Write the file again with a changed tree; ``change`` gets the tree and the arrays by number."""
    contents = members(path)
    tree = json.loads(contents["model.json"])
    arrays = {name: np.load(io.BytesIO(c)) for name, c in contents.items() if name.endswith(".npy")}
    change(tree, arrays)
    write(path, {**contents, **{name: as_member(a) for name, a in arrays.items()},
                 "model.json": json.dumps(tree).encode()})  # fmt: skip


def entry(tree, *names):
    """Return what stands in a tree under names of fields and keys of tables."""
    for name in names:
        if isinstance(tree, dict) and "dict" in tree:
            tree = next(v for k, v in tree["dict"] if k == name)
        elif isinstance(tree, dict) and "record" in tree:
            tree = tree["fields"][name]
        elif isinstance(tree, dict) and "tuple" in tree:
            tree = tree["tuple"][name]
        else:
            tree = tree[name]
    return tree


def pair(tree, i, j):
    pairs = entry(tree, "variances", "gram", "pairs")["dict"]
    return next(value for key, value in pairs if key == {"tuple": [i, j]})["fields"]


def numbers(value, arrays):
    """Return the array that stands in a tree, to be changed in place, or its list."""
    return arrays[f"{value['member']}.npy"] if "member" in value else value["array"]


# --- memory safety: what compiled code trusts ---------------------------------------------------------


@pytest.mark.parametrize("level", [-1, 7, 10**6, -(2**31)])
@pytest.mark.parametrize("field", ["rows", "cols"])
def test_levels_out_of_range_are_refused(field, level, saved):
    def change(tree, arrays):
        numbers(pair(tree, 1, 0)[field], arrays)[-1] = level

    with_tree(saved, change)
    with pytest.raises(DataError, match="a level that does not exist"):
        slm.load(saved)


def test_unsorted_and_repeated_pairs_are_refused(saved):
    def swap(tree, arrays):
        rows, cols = (numbers(pair(tree, 1, 0)[name], arrays) for name in ("rows", "cols"))
        rows[[0, -1]], cols[[0, -1]] = rows[[-1, 0]], cols[[-1, 0]]

    def repeat(tree, arrays):
        rows, cols = (numbers(pair(tree, 1, 0)[name], arrays) for name in ("rows", "cols"))
        rows[1], cols[1] = rows[0], cols[0]

    whole = saved.read_bytes()
    for change in (swap, repeat):
        saved.write_bytes(whole)
        with_tree(saved, change)
        with pytest.raises(DataError, match="not sorted"):
            slm.load(saved)


def test_a_diagonal_that_is_not_whole_is_refused(saved):
    def change(tree, arrays):
        numbers(pair(tree, 1, 1)["cols"], arrays)[-1] -= 1

    with_tree(saved, change)
    with pytest.raises(DataError, match="lower triangle with its diagonal"):
        slm.load(saved)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(value, saved):
    def change(tree, arrays):
        numbers(pair(tree, 1, 0)["values"], arrays)[0] = value

    with_tree(saved, change)
    with pytest.raises(DataError, match="not finite"):
        slm.load(saved)


def test_sizes_that_do_not_agree_are_refused(saved):
    def more_levels(tree, arrays):
        entry(tree, "variances", "gram", "m")["tuple"][0] += 1

    def shorter_modes(tree, arrays):
        name = f"{entry(tree, 'terms', 0, 'modes')['member']}.npy"
        arrays[name] = arrays[name][:-1]

    def other_keys(tree, arrays):
        keys = entry(tree, "encoding", "terms", 1, "grouping", "keys")
        numbers(keys, arrays)[0] = 100

    def another_column(tree, arrays):
        entry(tree, "encoding", "kept")["tuple"][-1] += 1

    whole = saved.read_bytes()
    for change, words in (
        (more_levels, "sizes"),
        (shorter_modes, "shape"),
        (other_keys, "keys"),
        (another_column, "kept"),
    ):
        saved.write_bytes(whole)
        with_tree(saved, change)
        with pytest.raises(DataError, match=words):
            slm.load(saved)


@pytest.mark.parametrize(
    ("names", "value", "words"),
    [
        (("facts", "sigma"), "1", "sigma"),
        (("facts", "reml"), 1, "reml"),
        (("encoding", "spec", "rules"), "S", "rules"),
        (("encoding", "fixed", "intercept"), None, "intercept"),
        (("variances", "system"), "inverse", "system"),
        (("encoding", "kept"), {"tuple": [0, 0, 1, 2, 3, 4]}, "kept"),
        (("terms", 0, "name"), 3, "name"),
    ],
)  # fmt: skip
def test_fields_of_the_wrong_type_are_named(names, value, words, saved):
    def change(tree, arrays):
        holder = entry(tree, *names[:-1])
        if "dict" in holder:
            next(item for item in holder["dict"] if item[0] == names[-1])[1] = value
        else:
            (holder["fields"] if "record" in holder else holder)[names[-1]] = value

    with_tree(saved, change)
    with pytest.raises(DataError, match=f"not a valid model: .*{words}"):
        slm.load(saved)


def test_expressions_are_read_at_load(saved):
    def change(tree, arrays):
        entry(tree, "encoding", "terms", 0, "grouping", "factors")["tuple"][0] = "g("

    with_tree(saved, change)
    with pytest.raises(DataError, match="not a valid model"):
        slm.load(saved)


# --- memory: sizes come first -------------------------------------------------------------------------


def refusal(path):
    """Return the text of the refusal, and the most memory that it took."""
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as error:
            slm.load(path)
        return str(error.value), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["model.json", "header.json", "0.npy", "more.txt"])
def test_blanks_are_not_unpacked(name, saved):
    contents = members(saved)
    contents[name] = contents.get(name, b"") + b" " * 100_000_000
    write(saved, contents, fresh=name != "header.json")
    del contents
    words, peak = refusal(saved)
    assert re.search("too many|too long|not the size|not those", words), words
    assert peak < CRAFTED


def test_an_array_that_claims_terabytes_is_not_made(saved):
    contents = members(saved)
    contents["0.npy"] = re.sub(rb"\(\d+, \d+\)", b"(1000000000000,)", contents["0.npy"][:128]) + contents["0.npy"][128:]
    write(saved, contents)
    words, peak = refusal(saved)
    assert "not the size" in words or "not an array" in words
    assert peak < CRAFTED


def test_an_array_longer_than_its_levels_is_not_read(saved):
    def change(tree, arrays):
        arrays[f"{entry(tree, 'terms', 0, 'modes')['member']}.npy"] = np.zeros((5_000_000, 2))

    with_tree(saved, change)
    words, peak = refusal(saved)
    assert "shape" in words
    assert peak < CRAFTED


def test_a_size_that_the_archive_cannot_hold_is_refused(saved):
    whole = saved.read_bytes()
    with zipfile.ZipFile(saved) as archive:
        size = archive.getinfo("0.npy").file_size.to_bytes(4, "little")
    directory = whole.index(b"PK\x01\x02", whole.index(b"PK\x01\x02") + 4)
    at = whole.index(size, directory)
    saved.write_bytes(whole[:at] + (2**31).to_bytes(4, "little") + whole[at + 4 :])
    words, peak = refusal(saved)
    assert "claims 2,147,483,648 bytes" in words
    assert peak < CRAFTED


def test_opening_takes_little_more_than_the_numbers(tmp_path):
    g = np.arange(60_000) % 20_000
    data = pd.DataFrame({"x": RNG.normal(size=len(g)), "y": RNG.normal(size=len(g)), "g": g})
    path = tmp_path / "model.slmm"
    slm.LinearMixedModel.from_formula("y ~ x + (x | g)", data).at([0.5, 0.1, 0.3]).save(path, include="variances")
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    slm.load(path)
    tracemalloc.start()
    slm.load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * unpacked


def test_names_of_hundreds_of_characters_come_back(tmp_path):
    levels = np.array([f"{'x' * 500}{i}" for i in range(3_000)])
    data = pd.DataFrame({"y": RNG.normal(size=6_000), "g": np.tile(levels, 2)})
    fit = slm.LinearMixedModel.from_formula("y ~ 1 + (1 | g)", data).at([0.5])
    fit.save(tmp_path / "m.slmm")
    pd.testing.assert_frame_equal(slm.load(tmp_path / "m.slmm").ranef()["g"], fit.ranef()["g"])


# --- writing ------------------------------------------------------------------------------------------


def test_a_planted_link_is_not_followed(tmp_path):
    fit = slm.LinearMixedModel.from_formula("y ~ x + (1 | g)", DATA).at([0.5])
    victim = tmp_path / "victim"
    victim.write_text("precious")
    folder = tmp_path / "shared"
    folder.mkdir()
    (folder / "m.slmm.part").symlink_to(victim)
    (folder / "m.slmm").symlink_to(victim)
    fit.save(folder / "m.slmm")
    assert victim.read_text() == "precious"
    assert sorted(os.listdir(folder)) == ["m.slmm", "m.slmm.part"]
    assert slm.load(folder / "m.slmm").nobs == 90


def test_nothing_is_left_behind_on_a_full_disk(tmp_path, monkeypatch):
    fit = slm.LinearMixedModel.from_formula("y ~ x + (1 | g)", DATA).at([0.5])
    fit.save(tmp_path / "m.slmm")
    before = (tmp_path / "m.slmm").read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", full)
    with pytest.raises(OSError, match="No space left"):
        slm.LinearMixedModel.from_formula("y ~ x + (x | g)", DATA).at([0.5, 0.1, 0.2]).save(tmp_path / "m.slmm")
    assert os.listdir(tmp_path) == ["m.slmm"]
    assert (tmp_path / "m.slmm").read_bytes() == before


# --- the first format, and files changed at random ----------------------------------------------------


def test_files_of_the_first_format_load():
    """The file and the numbers beside it were written by the version before the format was checked."""
    model, expected = slm.load(OLD / "format1.slmm"), json.loads((OLD / "format1.json").read_text())
    found = model.predict(ROWS, se=True)
    np.testing.assert_allclose(found["mean"], expected["mean"], rtol=1e-12)
    np.testing.assert_allclose(found["se"], expected["se"], rtol=1e-10)
    np.testing.assert_allclose(model.ranef()["h:f"].iloc[:, 0], expected["ranef"], rtol=1e-12)
    assert model.criterion == expected["criterion"]


def sources(folder):
    yield OLD / "format1.slmm"
    for i, formula in enumerate(FORMULAS):
        model = slm.LinearMixedModel.from_formula(formula, DATA, solver="cholmod")
        path = folder / f"source{i}.slmm"
        model.at(np.linspace(0.3, 0.6, len(model.theta_names))).save(path, include="variances")
        yield path


def mutated(folder, each):
    """Run the changes in processes of their own, so that a crash is seen as one."""
    for source in sources(folder):
        command = [sys.executable, mutations.__file__, str(source), str(folder), "0", str(each)]
        environment = {**os.environ, "PYTHONPATH": str(Path(slm.__file__).parents[1])}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=1800)
        assert done.returncode == 0, f"died of {done.returncode} at {done.stderr.splitlines()[-1:]}"
        counts = json.loads(done.stdout.splitlines()[-1])
        assert counts["foreign"] == 0, done.stdout
        assert counts["loaded"] > 0.02 * each  # some changes do no harm
        assert counts["refused"] > 0.5 * each


def test_hundreds_of_changed_files(tmp_path):
    mutated(tmp_path, 80)


@pytest.mark.slow
def test_ten_thousand_changed_files(tmp_path):
    mutated(tmp_path, 2_500)
