"""Saved models: the same predictions in a new process, small files, damaged and hostile files."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm.exceptions import DataError, FormulaError, ParameterError, UnsupportedError
from sparselmm.report import summarize
from sparselmm.storage.format import read_tree, write_tree

RNG = np.random.default_rng(6)
N = 120
DATA = pd.DataFrame(
    {
        "x": RNG.normal(5, 2, N),
        "year": 2000 + RNG.integers(0, 9, N),
        "t": RNG.uniform(0, 10, N),
        "g": RNG.integers(0, 8, N),
        "h": RNG.choice(["a", "b b", "ü\n"], N),
        "f": pd.Categorical(RNG.choice(["lo", "mid", "hi"], N), categories=["lo", "mid", "hi"]),
        "when": pd.to_datetime("2024-01-01") + pd.to_timedelta(RNG.integers(0, 6, N), unit="D"),
        "ok": RNG.choice([True, False], N),
        "w": RNG.uniform(0.5, 2, N),
        "o": RNG.normal(size=N),
    }
)
DATA["y"] = np.exp(0.1 * DATA.x + 0.3 * RNG.normal(size=8)[DATA.g] + 0.1 * RNG.normal(size=N))

FORMULAS = [
    ("y ~ x + (x | g)", {}),
    ("log(y) ~ poly(x, 2)*f + ok + (1 | g/h) + offset(o)", {"weights": "w"}),
    ("y ~ scale(x) + bs(t, df=4) + cut(x, 3) + (1 | g) + (0 + f | h)", {"contrasts": {"f": "sum"}}),
    ("y ~ ns(t, df=3) + cr(x, df=4) + (1 | when)", {"offset": "o"}),
    ("y ~ year + I(x^2) + (year | g) + (1 | cut(t, 4))", {}),
    ("y ~ factor(g) + (x || h) + (1 | ok)", {}),
    ("y ~ x*k + (1 | g)", {"context": {"k": 2.5}}),
]


def make(formula, **arguments):
    model = slm.LinearMixedModel.from_formula(formula, DATA, **arguments)
    return model.at(np.random.default_rng(1).uniform(0.3, 1.0, len(model.theta_names)))


def context_constant(formula):
    return "*k" in formula


@pytest.mark.parametrize("include", [None, "variances"])
@pytest.mark.parametrize(("formula", "arguments"), FORMULAS)
def test_a_loaded_model_predicts_the_same(formula, arguments, include, tmp_path):
    if context_constant(formula):
        formula = "y ~ I(x*k) + (1 | g)"
    fit = make(formula, **arguments)
    path = tmp_path / "model.slmm"
    fit.save(path, include)
    model = slm.load(path)
    rows = DATA.drop(columns="y")
    pd.testing.assert_series_equal(model.predict(rows), fit.predict(rows), rtol=1e-12)
    pd.testing.assert_series_equal(model.predict(rows, re_form="~0"), fit.predict(rows, re_form="~0"), rtol=1e-12)
    if include is None:
        with pytest.raises(UnsupportedError, match="include='variances'"):
            model.predict(rows, se=True)
        return
    for request in ({"se": True}, {"interval": "prediction", "re_form": "~0"}, {"kind": "new_observation", "se": True}):
        pd.testing.assert_frame_equal(model.predict(rows, **request), fit.predict(rows, **request), rtol=1e-12)


def test_a_loaded_model_shows_its_estimates(tmp_path):
    fit = slm.lmer("y ~ x + f + (x || g) + (1 | h)", DATA, weights="w", reml=False)
    fit.save(tmp_path / "model")
    model = slm.load(tmp_path / "model")
    pd.testing.assert_series_equal(model.params, fit.params)
    pd.testing.assert_series_equal(model.bse, fit.bse)
    pd.testing.assert_series_equal(model.tvalues, fit.tvalues)
    pd.testing.assert_frame_equal(model.cov_params(), fit.cov_params())
    for label, frame in fit.ranef().items():
        pd.testing.assert_frame_equal(model.ranef()[label], frame)
    for name in ("formula", "sigma", "criterion", "deviance", "llf", "aic", "bic", "nobs", "npar", "reml", "converged",
                 "theta_names", "messages", "ngroups", "weights_name", "r_names"):  # fmt: skip
        assert getattr(model, name) == getattr(fit, name), name
    np.testing.assert_array_equal(model.theta, fit.theta)
    assert str(model.summary()) == str(summarize(fit))
    assert "without data" in repr(model)
    with pytest.raises(ParameterError, match="no data"):
        model.predict()
    with pytest.raises(AttributeError):
        model.sigma = 1.0


SCRIPT = """
import sys, numpy as np, pandas as pd, sparselmm as slm
data = pd.read_pickle(sys.argv[2])
found = slm.load(sys.argv[1]).predict(data, se=True)
np.save(sys.argv[3], found.to_numpy())
"""


def test_a_new_process_predicts_the_same(tmp_path):
    fit = make("log(y) ~ poly(x, 2) + f + (x | g) + (1 | h)")
    fit.save(tmp_path / "m.slmm", include="variances")
    DATA.to_pickle(tmp_path / "data.pkl")
    command = [sys.executable, "-c", SCRIPT, *(str(tmp_path / name) for name in ("m.slmm", "data.pkl", "out.npy"))]
    subprocess.run(command, check=True, timeout=120, cwd=tmp_path)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), fit.predict(DATA, se=True), rtol=1e-12)


def size(data, tmp_path, include=None):
    model = slm.LinearMixedModel.from_formula("y ~ x + (x | g)", data)
    model.at([0.5, 0.1, 0.3]).save(tmp_path / "size.slmm", include)
    return os.path.getsize(tmp_path / "size.slmm")


def test_size_grows_with_levels_and_not_with_rows(tmp_path):
    rng = np.random.default_rng(0)

    def data(n, m):
        return pd.DataFrame({"x": rng.normal(size=n), "g": np.arange(n) % m, "y": rng.normal(size=n)})

    few, many = size(data(5_000, 1_000), tmp_path), size(data(50_000, 1_000), tmp_path)
    assert abs(many - few) < 0.05 * few
    assert size(data(50_000, 10_000), tmp_path) > 5 * many
    few, many = (size(data(n, 1_000), tmp_path, "variances") for n in (5_000, 50_000))
    assert abs(many - few) < 0.1 * few


def test_a_file_holds_no_data(tmp_path):
    fit = make("y ~ x + (1 | g)")
    fit.save(tmp_path / "m.slmm", include="variances")
    stored = zipfile.ZipFile(tmp_path / "m.slmm")
    content = b"".join(stored.read(name) for name in stored.namelist())
    assert DATA.y.to_numpy()[:3].tobytes() not in content
    assert all(repr(float(v)).encode() not in content for v in DATA.y)


# --- what cannot be saved ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("formula", "context", "words"),
    [
        ("y ~ mine(x) + (1 | g)", {"mine": lambda v: v**2}, "'mine', a function"),
        ("y ~ z + (1 | g)", {"z": DATA.x.to_numpy() ** 2}, "'z', a ndarray"),
        ("y ~ x + (1 | pair(g))", {"pair": lambda v: v // 2}, "'pair', a function"),
    ],
)
def test_what_the_caller_brought_cannot_be_saved(formula, context, words, tmp_path):
    with pytest.raises(UnsupportedError, match=words):
        make(formula, context=context).save(tmp_path / "m.slmm")
    assert not os.listdir(tmp_path)


def test_context_that_is_not_used_does_not_matter(tmp_path):
    fit = make("y ~ x + (1 | g)", context={"mine": lambda v: v})
    fit.save(tmp_path / "m.slmm")
    assert slm.load(tmp_path / "m.slmm").predict(DATA).equals(fit.predict(DATA))


def test_periods_cannot_be_saved(tmp_path):
    data = DATA.assign(p=DATA.when.dt.to_period("D"))
    fit = slm.LinearMixedModel.from_formula("y ~ x + (1 | p)", data).at([0.5])
    with pytest.raises(UnsupportedError, match="turn them into texts"):
        fit.save(tmp_path / "m.slmm")


def test_bad_arguments(tmp_path):
    fit = make("y ~ x + (1 | g)")
    with pytest.raises(ParameterError, match="include"):
        fit.save(tmp_path / "m", include="all")
    with pytest.raises(ParameterError, match="no folder"):
        fit.save(tmp_path / "nowhere" / "m")


def test_a_model_from_arrays_keeps_its_estimates(tmp_path):
    g = np.repeat([3, 1, 2], 5)
    fit = slm.LinearMixedModel.from_arrays(np.sin(np.arange(15.0)), np.ones((15, 1)), [(g, None)]).at([0.5])
    fit.save(tmp_path / "m", include="variances")
    model = slm.load(tmp_path / "m")
    for label, frame in fit.ranef().items():
        pd.testing.assert_frame_equal(model.ranef()[label], frame)
    with pytest.raises(ParameterError, match="made from arrays"):
        model.predict({"x": [1.0]})


# --- damaged, foreign, newer and hostile files ------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model.slmm"
    make("y ~ x + poly(t, 2) + (x | g)").save(path, include="variances")
    return path


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path, contents, fresh_digests=False):
    if fresh_digests:
        header = json.loads(contents["header.json"])
        others = {name: value for name, value in contents.items() if name != "header.json"}
        header["sha256"] = {name: hashlib.sha256(value).hexdigest() for name, value in others.items()}
        contents = {**others, "header.json": json.dumps(header).encode()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in contents.items():
            archive.writestr(name, value)


def test_no_such_file(tmp_path):
    with pytest.raises(DataError, match="there is no file"):
        slm.load(tmp_path / "none.slmm")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 something else"])
def test_foreign_files(content, tmp_path):
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(DataError, match="not a saved model"):
        slm.load(tmp_path / "m")


def test_foreign_archives(tmp_path):
    write(tmp_path / "m", {"a.txt": b"1"})
    with pytest.raises(DataError, match="not a saved model"):
        slm.load(tmp_path / "m")
    write(tmp_path / "m", {"header.json": b'{"format": "other"}'})
    with pytest.raises(DataError, match="not written by sparselmm"):
        slm.load(tmp_path / "m")


def test_a_newer_version_is_refused(saved):
    contents = members(saved)
    header = json.loads(contents["header.json"])
    header.update(format_version=99, written_by="7.0")
    write(saved, {**contents, "header.json": json.dumps(header).encode()})
    with pytest.raises(DataError, match=r"version 99.*sparselmm 7\.0.*newer sparselmm"):
        slm.load(saved)


def test_every_damaged_byte_is_noticed(saved):
    whole = saved.read_bytes()
    rows = DATA.head(3)
    expected = slm.load(saved).predict(rows, se=True)
    for position in np.linspace(0, len(whole) - 1, 150).astype(int):
        broken = bytearray(whole)
        broken[position] ^= 0x55
        saved.write_bytes(bytes(broken))
        try:
            found = slm.load(saved).predict(rows, se=True)
        except DataError:
            continue
        pd.testing.assert_frame_equal(found, expected)  # a byte of the archive that means nothing
    for cut in (10, len(whole) // 2, len(whole) - 1):
        saved.write_bytes(whole[:cut])
        with pytest.raises(DataError):
            slm.load(saved)


def test_changed_numbers_are_noticed(saved):
    contents = members(saved)
    name = next(n for n in contents if n.endswith(".npy"))
    write(saved, {**contents, name: contents[name][:-1] + bytes([contents[name][-1] ^ 1])})
    with pytest.raises(DataError, match=f"damaged: {name}"):
        slm.load(saved)


@pytest.mark.parametrize(
    "expression", ["__import__('os').system('touch owned')", "np.load('x')", "eval('1')", "open('x')", "x.__class__"]
)
def test_a_loaded_formula_runs_only_known_functions(expression, saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    contents = members(saved)
    text = contents["model.json"].decode().replace(json.dumps("x"), json.dumps(expression))
    write(saved, {**contents, "model.json": text.encode()}, fresh_digests=True)
    with pytest.raises((FormulaError, DataError)):
        slm.load(saved).predict(DATA)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "tree",
    ['{"record": "Popen", "fields": {}}', '{"record": "ModelSpec", "fields": {"x": 1}}', '{"member": 99}', "[1, 2]",
     '{"array": ["a"], "dtype": "O"}', '{"dict": []}', '{"dict": [["facts", 1]]}', "not json", '{"something": 1}'],
)  # fmt: skip
def test_files_that_hold_no_model(tree, saved):
    write(saved, {**members(saved), "model.json": tree.encode()}, fresh_digests=True)
    with pytest.raises(DataError, match="not a valid model"):
        slm.load(saved)


def test_pickled_arrays_are_not_read(saved, tmp_path):
    contents = members(saved)
    name = next(n for n in contents if n.endswith(".npy"))
    np.save(tmp_path / "p.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    write(saved, {**contents, name: (tmp_path / "p.npy").read_bytes()}, fresh_digests=True)
    with pytest.raises(DataError, match="not a valid model"):
        slm.load(saved)


def test_trees_come_back_as_they_were(tmp_path):
    zone = pd.date_range("2024-01-01", periods=3, tz="Europe/Berlin")
    tree = {
        "numbers": [1, 2.5, -0.0, float("inf"), 10**20, True, None],
        1: ("a", "ü"),
        "float": np.array([0.1, np.nan]),
        "big": np.arange(20.0).reshape(4, 5),
        "flags": np.array([True, False]),
        "index": pd.Index([3, 1, 2], name="g"),
        "mixed": pd.Index(["a", 1, 2.5], dtype=object),
        "zone": zone,
        "scalar": np.float64(0.1),
    }
    write_tree(tmp_path / "t", tree, "1")
    found = read_tree(tmp_path / "t")
    assert found["numbers"] == tree["numbers"]
    assert found[1] == ("a", "ü")
    np.testing.assert_array_equal(found["float"], tree["float"])
    np.testing.assert_array_equal(found["big"], tree["big"])
    assert found["flags"].dtype == bool
    assert found["index"].equals(tree["index"])
    assert found["index"].name == "g"
    assert found["mixed"].tolist() == ["a", 1, 2.5]
    assert found["zone"].equals(zone)
    assert found["scalar"] == 0.1
    with pytest.raises(ValueError, match="read-only"):
        found["big"][0, 0] = 1.0


def test_a_loaded_model_can_be_pickled_and_copied(tmp_path):
    fit = slm.lmer("y ~ x + (x | g)", DATA)
    fit.save(tmp_path / "m.slmm", include="variances")
    model = slm.load(tmp_path / "m.slmm")
    expected = model.predict(DATA.head(5), se=True)
    for again in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        pd.testing.assert_frame_equal(again.predict(DATA.head(5), se=True), expected)
        assert str(again.summary()) == str(model.summary())
