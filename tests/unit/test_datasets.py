"""The data sets of the package: files, types, numbers, names, and both places where they may be."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from distributions import build

from sparselmm import datasets
from sparselmm.datasets import list_datasets, load_dataset
from sparselmm.exceptions import DataError

ROOT = Path(__file__).resolve().parents[2]
ENTRIES = {e["name"]: e for e in json.loads((ROOT / "data" / "manifest.json").read_text())["datasets"]}
MOMENTS = json.loads((ROOT / "tests" / "reference" / "data_moments.json").read_text())
LICENCES = {"BSD-3-Clause", "MIT", "CC-BY-4.0", "GPL-2.0-or-later", "GPL-3.0-or-later"}


@pytest.mark.parametrize("name", ENTRIES)
def test_file_matches_its_checksum(name):
    content = (ROOT / "data" / ENTRIES[name]["file"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == ENTRIES[name]["sha256"]


@pytest.mark.parametrize("name", ENTRIES)
def test_types_and_levels_follow_the_manifest(name):
    entry, frame = ENTRIES[name], load_dataset(name)
    assert frame.shape == (entry["nrow"], len(entry["columns"]))
    for column in entry["columns"]:
        values = frame[column["name"]]
        assert values.isna().sum() == column.get("missing", 0)
        if column["type"] == "factor":
            assert isinstance(values.dtype, pd.CategoricalDtype)
            assert not values.cat.ordered
            assert list(values.cat.categories) == column["levels"]
        else:
            assert values.dtype.kind in "if"


def test_every_r_data_set_has_moments():
    assert set(ENTRIES) - set(MOMENTS) == {"score_parentedu_byclass"}


@pytest.mark.parametrize("name", MOMENTS)
def test_numbers_are_those_of_the_r_package(name):
    saved, frame = MOMENTS[name], load_dataset(name)
    assert len(frame) == saved["nrow"]
    for column, m in saved["columns"].items():
        values = frame[column]
        if m["type"] == "factor":
            assert list(values.cat.categories) == m["levels"]
            assert list(values.value_counts(sort=False)) == m["counts"]
            continue
        assert values.isna().sum() == m["missing"]
        assert [values.min(), values.max()] == [m["min"], m["max"]]
        assert [values.mean(), values.std()] == pytest.approx([m["mean"], m["sd"]], rel=1e-12, abs=1e-12)
        by_row = (values * np.arange(1, len(values) + 1)).dropna()
        assert by_row.sum() == pytest.approx(m["weighted"], abs=1e-13 * by_row.abs().sum())


def test_moments_of_the_set_that_is_in_no_r_package():
    frame = load_dataset("score_parentedu_byclass")
    assert list(frame["classroom"].value_counts(sort=False)) == [20, 20, 20]
    assert frame["score"].mean() == pytest.approx(10.591263877921417, rel=1e-12)


@pytest.mark.parametrize("name", ENTRIES)
def test_manifest_says_where_the_data_come_from(name):
    entry = ENTRIES[name]
    assert entry["licence"] in LICENCES
    for key in ("source", "licence_note", "description"):
        assert entry[key]
    assert entry["references"]


def test_licence_expression_of_the_package_covers_the_data():
    text = (ROOT / "pyproject.toml").read_text()
    expression = next(line for line in text.splitlines() if line.startswith("license ="))
    for entry in ENTRIES.values():
        assert entry["licence"] in expression


@pytest.mark.parametrize("variant", ["InstEval", "insteval", "INSTEVAL", " inst_eval ", "Inst-Eval"])
def test_name_variants(variant):
    assert len(load_dataset(variant)) == 73421


def test_frames_are_independent():
    first = load_dataset("sleepstudy")
    first.loc[0, "Reaction"] = 0.0
    assert load_dataset("sleepstudy").loc[0, "Reaction"] == 249.56


def test_unknown_names_are_explained():
    with pytest.raises(DataError, match=r"'sleepstdy'.*Did you mean 'sleepstudy'\?.*Penicillin"):
        load_dataset("sleepstdy")
    with pytest.raises(DataError, match=r"no data set 'qqqqq'\. The data sets are"):
        load_dataset("qqqqq")
    with pytest.raises(DataError, match="must be a string, not int"):
        load_dataset(3)  # type: ignore[arg-type]


def test_list():
    table = list_datasets()
    assert list(table.columns) == ["name", "rows", "columns", "licence", "source", "description"]
    assert set(table["name"]) == set(ENTRIES)
    assert "sleepstudy_ext" not in set(table["name"])


def test_insteval_loads_fast():
    load_dataset("InstEval")
    times = []
    for _ in range(5):
        started = time.thread_time()
        load_dataset("InstEval")
        times.append(time.thread_time() - started)
    assert min(times) < 0.15


@pytest.fixture
def places(monkeypatch, tmp_path):
    """Function that sets the two places where data are looked for."""

    def use(*folders: Path) -> None:
        monkeypatch.setattr(datasets, "_PLACES", folders)
        datasets._manifest.cache_clear()

    yield use
    monkeypatch.undo()
    datasets._manifest.cache_clear()


def test_the_first_place_wins(places, tmp_path):
    entry = {**ENTRIES["Rail"], "file": "rail.csv"}
    (tmp_path / "manifest.json").write_text(json.dumps({"datasets": [entry]}))
    (tmp_path / "rail.csv").write_bytes((ROOT / "data" / "Rail.csv").read_bytes())
    places(tmp_path, ROOT / "data")
    assert list(list_datasets()["name"]) == ["Rail"]
    assert len(load_dataset("rail")) == 18
    places(tmp_path / "absent", ROOT / "data")
    assert len(list_datasets()) == len(ENTRIES)


def test_missing_and_damaged_files_are_named(places, tmp_path):
    places(tmp_path / "a", tmp_path / "b")
    with pytest.raises(DataError, match=r"no manifest\.json in"):
        load_dataset("Rail")
    (tmp_path / "manifest.json").write_text(json.dumps({"datasets": [ENTRIES["Rail"]]}))
    places(tmp_path)
    with pytest.raises(DataError, match="file of data set 'Rail' is missing"):
        load_dataset("Rail")
    (tmp_path / "Rail.csv").write_text("Rail,travel\n1,55\n")
    with pytest.raises(DataError, match="has 1 rows"):
        load_dataset("Rail")


def test_built_distributions_contain_the_data(tmp_path):
    files = {e["file"] for e in ENTRIES.values()} | {"manifest.json", "LICENSES/MIT-MixedModels.jl.txt"}
    with tarfile.open(build("sdist", tmp_path)) as archive:
        names = {n.split("/", 1)[1] for n in archive.getnames() if "/" in n}
    assert {f"data/{f}" for f in files} <= names
    assert "sparselmm/linalg/kernels/native/native.h" in names
    installed = tmp_path / "site"
    with zipfile.ZipFile(build("wheel", tmp_path)) as archive:
        assert {f"sparselmm/_datasets/{f}" for f in files} <= set(archive.namelist())
        archive.extractall(installed)
    look = (
        "import sys; sys.path.insert(0, sys.argv[1]); from sparselmm import datasets as d;"
        "assert d.__file__.startswith(sys.argv[1]); print(d._manifest()[0], len(d.load_dataset('InstEval')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", look, str(installed)], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == [str(installed / "sparselmm" / "_datasets"), "73421"]
