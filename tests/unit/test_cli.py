"""The command line: what it prints, its JSON, and its exit status."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import sparselmm as slm
from sparselmm.cli import main

SAVED = Path(__file__).parents[1] / "reference" / "compare_r"
SLEEPSTUDY = ("Reaction ~ Days + (Days | Subject)", "--dataset", "sleepstudy")


@pytest.fixture
def run(capsys):
    def call(*arguments):
        status = main(arguments)
        out, err = capsys.readouterr()
        return status, out, err

    return call


@pytest.fixture
def sleepstudy():
    return slm.load_dataset("sleepstudy")


def test_fit_prints_the_summary(run):
    status, out, err = run("fit", *SLEEPSTUDY)
    assert status == 0
    assert err == ""
    title, *rest = out.splitlines()
    assert title == "Linear mixed model fit by REML. t-tests use Satterthwaite's method"
    assert rest[:2] == ["Formula: Reaction ~ Days + (Days | Subject)", "   Data: sleepstudy"]
    assert "REML criterion at convergence: 1743.6" in out
    assert "Days        10.467      1.546 17.000   6.771 3.26e-06 ***" in out
    assert "Days        10.467      1.546   6.771" in run("fit", *SLEEPSTUDY, "--ddf", "none")[1]
    assert "Correlation of Fixed" not in out
    assert "Correlation of Fixed" in run("fit", *SLEEPSTUDY, "--correlation")[1]


def test_fit_json_has_every_number_in_full(run, sleepstudy):
    status, out, _ = run("fit", *SLEEPSTUDY, "--output", "json", "--ml")
    record = json.loads(out)
    fit = slm.lmer(SLEEPSTUDY[0], sleepstudy, reml=False)
    assert status == 0
    assert [p["estimate"] for p in record["params"]] == list(fit.params)
    assert [t["value"] for t in record["theta"]] == list(fit.theta)
    assert [v["sdcor"] for v in record["varcorr"]] == list(fit.varcorr.to_frame()["sdcor"])
    assert record["varcorr"][-1]["var1"] is None
    assert (record["criterion"], record["criterion_name"]) == (fit.criterion, fit.criterion_name)
    assert (record["aic"], record["nobs"], record["ngroups"]) == (fit.aic, 180, {"Subject": 18})
    assert record["data"] == "sleepstudy"
    assert record["reml"] is False
    assert record["optimizer"]["n_evaluations"] > 1


def test_json_has_null_for_what_is_not_finite(run):
    status, out, _ = run("fit", "Yield ~ 1 + (1 | Batch)", "--dataset", "Dyestuff2", "--output", "json")
    record = json.loads(out, parse_constant=lambda name: pytest.fail(name))
    assert status == 0
    assert record["is_singular"] is True
    assert [m["code"] for m in record["messages"]] == ["singular"]


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".CSV.GZ", ".tsv", ".tsv.gz", ".txt", ".txt.gz", ".parquet"])
def test_files(run, sleepstudy, tmp_path, suffix):
    path = tmp_path / f"some.data{suffix}"
    frame = sleepstudy.assign(Subject=sleepstudy["Subject"].astype(int), w=1.0, o=0.0)
    if suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if ".tsv" in suffix else ",")
    arguments = ["fit", SLEEPSTUDY[0], str(path), "--weights", "w", "--offset", "o", "--categorical", "Subject"]
    status, out, err = run(*arguments)
    assert (status, err) == (0, "")
    assert "REML criterion at convergence: 1743.6" in out
    assert f"   Data: {path}\nWeights: w\n Offset: o\n" in out


@pytest.mark.parametrize(
    ("writing", "options", "suffix"),
    [
        ({"sep": ";", "decimal": ","}, ["--decimal", ","], ".csv"),
        ({"sep": "|"}, ["--sep", "|"], ".csv"),
        ({"sep": "\t"}, ["--sep", "\\t"], ".csv"),
        ({"sep": "\t"}, [], ".txt"),
        ({"sep": " "}, ["--sep", " "], ".txt"),
        ({"encoding": "utf-16"}, ["--encoding", "utf-16"], ".csv"),
        ({"encoding": "latin-1"}, ["--encoding", "latin-1"], ".csv.gz"),
        ({"na_rep": "-99"}, ["--na", ".", "--na", "-99"], ".csv"),
    ],
)
def test_options_about_files(run, sleepstudy, tmp_path, writing, options, suffix):
    path = tmp_path / f"data{suffix}"
    frame = sleepstudy.assign(Größe=sleepstudy["Days"] + 0.5).drop(columns="Days")
    frame.loc[3, "Größe"] = None
    frame.to_csv(path, index=False, **writing)
    status, out, err = run("fit", "Reaction ~ Größe + (1 | Subject)", str(path), *options)
    assert (status, err) == (0, "")
    assert "Number of obs: 179" in out
    assert "Größe" in out


def test_thousands(run, sleepstudy, tmp_path):
    path = tmp_path / "data.csv"
    frame = sleepstudy.assign(Reaction=[f"{1000 * y:,.0f}" for y in sleepstudy["Reaction"]])
    frame.to_csv(path, index=False)
    status, out, _ = run("fit", SLEEPSTUDY[0], str(path), "--thousands", ",", "--output", "json")
    assert status == 0
    assert json.loads(out)["params"][1]["estimate"] == pytest.approx(10467.3, abs=0.1)


@pytest.mark.parametrize(
    ("content", "arguments", "match"),
    [
        ("g,größe\n".encode("latin-1"), [], "it is not in utf-8; name its encoding, for example --encoding latin-1"),
        ("g,x\n".encode("utf-16"), [], "it is not in utf-8; name --encoding utf-16"),
        (b"g,x\n", ["--encoding", "utf-99"], "unknown encoding: utf-99"),
        (b"g,x\n", ["--decimal", ",,"], "cannot read"),
        (b"g,x\n", ["--sep", ""], "cannot read"),
    ],
)
def test_files_in_other_encodings(run, tmp_path, content, arguments, match):
    for name, data in (("d.csv", content), ("d.txt", content), ("d.csv.gz", gzip.compress(content))):
        (tmp_path / name).write_bytes(data)
        status, out, err = run("fit", "y ~ x + (1 | g)", str(tmp_path / name), *arguments)
        assert (status, out) == (2, "")
        assert match in err
        assert err.count("\n") == 1


def test_a_broken_archive(run, tmp_path):
    whole = gzip.compress(b"y,x,g\n" * 500)
    for content in (whole[:20], b"y,x,g\n"):
        (tmp_path / "d.csv.gz").write_bytes(content)
        status, _, err = run("fit", "y ~ x + (1 | g)", str(tmp_path / "d.csv.gz"))
        assert (status, err.count("\n")) == (2, 1)
        assert "cannot read" in err


def test_options_about_text_are_refused_for_parquet(run, sleepstudy, tmp_path):
    sleepstudy.to_parquet(tmp_path / "d.parquet")
    status, _, err = run("fit", SLEEPSTUDY[0], str(tmp_path / "d.parquet"), "--sep", ";")
    assert status == 2
    assert "--sep is for text files" in err


def test_categorical(run, sleepstudy):
    status, out, _ = run("fit", "Reaction ~ Days + (1 | Subject)", "--dataset", "sleepstudy", "--categorical", "Days")
    assert status == 0
    assert "Days[T." in out


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["fit", "y ~ x + (1 | g)"], "either a FILE or --dataset"),
        (["fit", "y ~ x + (1 | g)", "a.csv", "--dataset", "sleepstudy"], "either a FILE or --dataset"),
        (["fit", "y ~ x + (1 | g)", "--dataset", "sleepstudi"], "sleepstudi"),
        (["fit", "y ~ x + (1 | g)", "none.csv"], "cannot read none.csv: No such file"),
        (["fit", "y ~ x + (1 | g)", "none.parquet"], "cannot read none.parquet"),
        (["fit", "y ~ x + (1 | g)", "data.xlsx"], "should end in .csv"),
        (["fit", "Reaction ~ Dais + (1 | Subject)", "--dataset", "sleepstudy"], "Days"),
        (["fit", "Reaction ~ Days + (1 | Subject", "--dataset", "sleepstudy"], "Days + -->(1 | Subject"),
        (["fit", "Reaction ~ Days", "--dataset", "sleepstudy"], "random"),
        (["fit", *SLEEPSTUDY, "--categorical", "Tag"], "no column 'Tag'"),
        (["fit", *SLEEPSTUDY, "--weights", "nothing"], "nothing"),
        (["compare-r", *SLEEPSTUDY, "--r-output", "none.json"], "cannot read none.json"),
        (["write-r-script", *SLEEPSTUDY, "--weights", "nothing"], "nothing"),
        (["write-r-script", "Reaction ~ (Days | ", "--dataset", "sleepstudy"], "Days"),
        (["write-r-script", *SLEEPSTUDY, "--data-out", "no/such/folder.csv"], "cannot write"),
        (["write-r-script", "y ~ 1 + (1 | s)", "--dataset", "insteval"], "--data-out"),
    ],
)
def test_errors_are_one_line_and_exit_2(run, arguments, match):
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("sparselmm: ")
    assert err.count("\n") == 1
    assert match in err


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n3,4,5\n", "a,b\n\xff"])
def test_broken_files(run, tmp_path, text):
    path = tmp_path / "broken.csv"
    path.write_bytes(text.encode("latin-1"))
    status, _, err = run("fit", "a ~ b + (1 | g)", str(path))
    assert status == 2
    assert f"cannot read {path}" in err


@pytest.mark.parametrize(
    "arguments",
    [[], ["fit"], ["guess"], ["fit", "y ~ x", "--output", "xml"], ["compare-r", "y ~ x", "--tolerance", "-1"]],
)
def test_usage_errors_exit_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage: sparselmm" in capsys.readouterr().err


def test_compare_with_saved_output(run):
    status, out, _ = run("compare-r", *SLEEPSTUDY, "--r-output", str(SAVED / "sleepstudy_reml.json"))
    assert status == 0
    assert "The two agree" in out
    status, out, _ = run(
        "compare-r", *SLEEPSTUDY, "--r-output", str(SAVED / "sleepstudy_reml.json"), "--tolerance", "1e-15"
    )
    assert status == 1
    assert "The two disagree" in out


def test_write_r_script(run, tmp_path):
    status, out, _ = run("write-r-script", *SLEEPSTUDY, "--ml", "--tight")
    assert status == 0
    assert "lmer(Reaction ~ Days + (Days | Subject), data = data, REML = FALSE" in out
    data = tmp_path / "d.csv"
    status, out, _ = run("write-r-script", *SLEEPSTUDY, "--data-out", str(data))
    assert "249.56" not in out
    assert pd.read_csv(data).shape == (180, 3)


def test_write_r_script_shows_what_it_does_not_pass_on(run):
    status, out, err = run("write-r-script", "Reaction ~ system('id') + (1 | Subject)", "--dataset", "sleepstudy")
    assert status == 2
    assert "system()" in err
    assert "lmer(" not in out


def test_datasets(run):
    status, out, _ = run("datasets")
    assert status == 0
    assert len(out.splitlines()) == len(slm.list_datasets())
    assert any(line.split()[:2] == ["InstEval", "73421"] for line in out.splitlines())


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"sparselmm {slm.__version__}\n"


def test_help_imports_nothing_heavy():
    program = (
        "import sys\n"
        "from sparselmm.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('formulaic', 'nlopt', 'sksparse', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert "compare-r" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_reader_that_leaves_early_sees_no_traceback():
    command = f"{sys.executable} -m sparselmm.cli fit '{SLEEPSTUDY[0]}' --dataset sleepstudy --output json | (exit 0)"
    command += "; echo ${PIPESTATUS[0]}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.strip() == "0"
    assert done.stderr == ""
