"""The comparison with R: saved output decides without R, live R where it is installed."""

import dataclasses
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm.compare_r import (
    Comparison,
    ExchangeTable,
    RError,
    RModel,
    RNotAvailableError,
    compare_with_r,
    r_formula,
    read_r_output,
    run,
    run_r,
    script,
    write_r_script,
)
from sparselmm.compare_r.comparison import Estimate, pair_up
from sparselmm.compare_r.estimates import estimates_r, theta_from_r
from sparselmm.data.tables.frame import as_pandas
from sparselmm.exceptions import DataError, FormulaError, ParameterError
from sparselmm.likelihood.result import TermCovariance

SAVED = Path(__file__).parents[1] / "reference" / "compare_r"
SLEEPSTUDY = "Reaction ~ Days + (Days | Subject)"
WITHOUT_TERMS = json.loads((SAVED / "sleepstudy_reml.json").read_text())


@pytest.fixture(scope="module")
def sleepstudy():
    return slm.load_dataset("sleepstudy")


@pytest.fixture(scope="module")
def comparison(sleepstudy):
    return compare_with_r(SLEEPSTUDY, sleepstudy, r_output=SAVED / "sleepstudy_reml.json")


# --- saved output -------------------------------------------------------------------------------


def test_agrees_with_saved_output(comparison):
    assert comparison.agrees, str(comparison)
    assert comparison.same_definition
    assert comparison.criterion_at_r == pytest.approx(comparison.criterion_r, rel=1e-10)
    assert comparison.notes == ()
    assert comparison.seconds_here > 0


def test_a_fit_can_be_given(sleepstudy):
    data = slm.load_dataset("penicillin")
    fit = slm.lmer("diameter ~ 1 + (1 | plate) + (1 | sample)", data, reml=False)
    comparison = compare_with_r(fit, data, r_output=json.loads((SAVED / "penicillin_ml.json").read_text()))
    assert comparison.agrees, str(comparison)
    assert comparison.seconds_here is None
    assert comparison.criterion_name == "Deviance"


def test_frame_and_text(comparison):
    frame = comparison.to_frame()
    assert list(frame.columns[:5]) == ["kind", "name", "here", "r", "difference"]
    assert set(frame["kind"]) == {"fixed effect", "std. error", "random sd", "random corr", "fit statistic", "count"}
    assert frame["agrees"].all()
    assert (frame["remark"] == "").all()
    text = str(comparison)
    assert "lme4 1.1.31" in text
    assert "  Subject Intercept Days 0.0655" in text
    assert "REML criterion: 1743.62827196 here" in text
    assert text.endswith("The two agree within 0.001 of each scale.")
    assert isinstance(comparison, Comparison)
    with pytest.raises(dataclasses.FrozenInstanceError):
        comparison.tolerance = 1.0


def test_other_estimates_disagree(sleepstudy):
    record = read_r_output(SAVED / "sleepstudy_reml.json")
    record["params"]["values"][1] += 0.01 * record["params"]["bse"][1]
    record["criterion"] += 0.01
    comparison = compare_with_r(SLEEPSTUDY, sleepstudy, r_output=record)
    assert not comparison.agrees
    assert not comparison.same_definition
    frame = comparison.to_frame()
    assert list(frame.loc[~frame["agrees"], "name"]) == ["Days", "criterion"]
    text = str(comparison)
    assert "at the same theta the criterion is not the same number" in text
    assert "disagree in 2 of" in text


def test_r_that_stopped_short_is_told_apart(sleepstudy):
    """R's numbers at another theta: the definition is the same, and the lower criterion is named."""
    record = read_r_output(SAVED / "sleepstudy_reml.json")
    fit = slm.lmer(SLEEPSTUDY, sleepstudy)
    theta = np.asarray(fit.theta) * 1.1
    record["theta"]["values"] = [float(t) for t in theta]
    record["criterion"] = fit.evaluate(theta)
    comparison = compare_with_r(fit, sleepstudy, r_output=record)
    assert comparison.same_definition
    assert not comparison.agrees
    assert "lower here by" in str(comparison)
    assert "R stopped short of it" in str(comparison)


def test_changed_data_are_noticed(sleepstudy):
    changed = sleepstudy.assign(Reaction=sleepstudy["Reaction"].where(sleepstudy.index != 3, 300.0))
    comparison = compare_with_r(SLEEPSTUDY, changed, r_output=SAVED / "sleepstudy_reml.json")
    assert not comparison.agrees
    assert any("not exactly these" in note for note in comparison.notes)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"formula": "Reaction ~ 1 + (1 | Subject)"}, "another model"),
        ({"reml": False}, "maximum likelihood"),
        ({"weights": "w"}, "has weights 'w', the model here None"),
        ({"criterion": None}, "no finite criterion"),
    ],
)
def test_output_of_another_model_is_refused(sleepstudy, change, match):
    record = read_r_output(SAVED / "sleepstudy_reml.json") | change
    with pytest.raises(DataError, match=match):
        compare_with_r(SLEEPSTUDY, sleepstudy, r_output=record)


def test_bad_output_files(tmp_path):
    with pytest.raises(DataError, match="cannot read"):
        read_r_output(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(DataError, match="not JSON"):
        read_r_output(tmp_path / "bad.json")
    (tmp_path / "other.json").write_text("[1]")
    with pytest.raises(DataError, match="lacks formula"):
        read_r_output(tmp_path / "other.json")


def test_bad_arguments(sleepstudy):
    with pytest.raises(ParameterError, match="tolerance"):
        compare_with_r(SLEEPSTUDY, sleepstudy, tolerance=0)
    with pytest.raises(DataError, match="handed to R"):
        compare_with_r(slm.lmer(SLEEPSTUDY, sleepstudy), sleepstudy, weights="w")


# --- live R -------------------------------------------------------------------------------------


@pytest.fixture
def r_output(r_session, tmp_path):
    """Return a function that gives what the script of a model writes, all run in one R process."""

    def output(formula, data, *, reml=True, tight=False):
        model = RModel(formula, reml, tight=tight)
        table = ExchangeTable.from_frame(data, formula)
        source, target, script = (tmp_path / name for name in ("data.csv", "output.json", "fit.R"))
        source.write_text(table.text, encoding="utf-8")
        script.write_text(write_r_script(model, table, str(source), str(target)), encoding="utf-8")
        r_session.run(script)
        return target

    return output


@pytest.mark.needs_r
@pytest.mark.parametrize(
    ("formula", "name", "options"),
    [
        (SLEEPSTUDY, "sleepstudy", {}),
        ("Reaction ~ Days + I(Days**2) + (1 | Subject) + (0 + Days | Subject)", "sleepstudy", {"reml": False}),
        ("Reaction ~ Days + (Days || Subject)", "sleepstudy", {}),
        ("Reaction ~ I((Days - mean(Days)) / np.std(Days)) + (1 | Subject)", "sleepstudy", {}),
        ("angle ~ recipe * temperature + (1 | recipe:replicate)", "cake", {}),
        ("score ~ Machine + (0 + Machine | Worker)", "Machines", {"tight": True}),
        ("strength ~ 1 + (1 | batch/cask)", "Pastes", {}),
        ("Yield ~ 1 + (1 | Batch)", "Dyestuff2", {}),
        ("Reaction ~ 0 + (1 | Subject)", "sleepstudy", {"reml": False}),
    ],
)
@pytest.mark.filterwarnings("ignore:Singular fit")
def test_live(formula, name, options, r_output):
    data = slm.load_dataset(name)
    comparison = compare_with_r(formula, data, r_output=r_output(formula, data, **options), **options)
    assert comparison.agrees, str(comparison)
    assert comparison.same_definition, str(comparison)


@pytest.mark.needs_r
def test_live_weights_offset_and_awkward_data():
    rng = np.random.default_rng(4)
    n = 240
    data = pd.DataFrame(
        {
            "x 1": rng.normal(size=n),
            "f": rng.choice(["NA", 'say "hi"', "a\\b", "ünï,x"], n),
            "g": rng.integers(0, 20, n),
            "late": rng.random(n) < 0.5,
            "w": rng.uniform(0.5, 2, n),
            "o": rng.normal(size=n),
        }
    )
    data["y"] = data["x 1"] + data["o"] + rng.normal(size=20)[data["g"]] + rng.normal(size=n)
    data.loc[3, "f"] = None
    data.loc[5, "y"] = np.nan
    comparison = compare_with_r("y ~ `x 1` + f + late + (1 | g)", data, weights="w", offset="o", tight=True)
    assert comparison.agrees, str(comparison)
    assert comparison.same_definition, str(comparison)


def crossed(seed: int) -> pd.DataFrame:
    """Factors of which several have equally many levels, and three covariates."""
    rng = np.random.default_rng(seed)
    n, m = 300, 6
    data = pd.DataFrame({name: rng.integers(0, m, n) for name in ("g", "h")})
    data["c"], data["d.e"] = rng.integers(0, 4, n), rng.integers(0, 4, n)
    for name in ("x", "z1", "z2"):
        data[name] = rng.normal(size=n)
    gc = data["g"] * 4 + data["c"]
    b = rng.normal(size=(4, 24, 3))
    Z = np.column_stack([np.ones(n), data["x"], data["z1"]])
    effects = [b[k, codes] for k, codes in enumerate((data["g"], data["h"], data["c"], gc))]
    data["y"] = sum((Z * effect).sum(axis=1) for effect in effects) + 0.7 * rng.normal(size=n)
    return data


@pytest.fixture
def one_fit_each(monkeypatch):
    """Do without the further fits for the time."""
    for module in (run, script):
        monkeypatch.setattr(module, "REPETITIONS", 0)


def random_formula(rng: np.random.Generator) -> str:
    """Return a formula with repeated factors and ties."""
    factors = rng.choice(["g", "h", "g:c", "h:c", "c", "g:h", "c:g"], size=3, replace=False).tolist()
    sides = ["1", "0 + x", "x", "0 + z1", "0 + z1 + x"]
    bars = []
    for factor in factors:
        for side in rng.choice(sides, size=int(rng.integers(1, 4)), replace=False).tolist():
            mark = "||" if side == "x" and rng.random() < 0.5 else "|"
            bars.append(f"({side} {mark} {factor})")
    return "y ~ x + " + " + ".join(rng.permutation(bars).tolist())


@pytest.mark.needs_r
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "formula",
    ["y ~ x + (1 | g) + (x || g:c)", "y ~ x + (0 + x + z1 | g) + (1 | g:c) + (0 + z1 | g:c)",
     "y ~ x + (1 | h) + (1 | g) + (0 + x | h)", "y ~ x + (1 | c/g) + (0 + x | c/g)", "y ~ (1 | d.e) + (x || d.e:g)"],
)  # fmt: skip
def test_live_ties_and_repeated_factors(formula, one_fit_each):
    comparison = compare_with_r(formula, crossed(1))
    assert comparison.agrees, str(comparison)
    assert comparison.criterion_at_r == pytest.approx(comparison.criterion_r, rel=1e-9)
    assert not any("position" in row.remark for row in comparison.rows)


@pytest.mark.needs_r
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(4))
def test_live_random_formulas(seed, one_fit_each):
    """Whatever the order and the names of lme4, every number finds its own."""
    rng = np.random.default_rng(seed)
    formula, data = random_formula(rng), crossed(seed)
    try:
        comparison = compare_with_r(formula, data)
    except DataError:  # a term twice in the formula, such as (1 | g:c) + (1 | c:g)
        pytest.skip(formula)
    assert comparison.criterion_at_r is not None, formula
    assert comparison.criterion_at_r == pytest.approx(comparison.criterion_r, rel=1e-8), str(comparison)
    assert not any("position" in row.remark or "only" in row.remark for row in comparison.rows), str(comparison)


@pytest.mark.needs_r
def test_r_error_is_one_clear_message(sleepstudy):
    model = RModel("Reaction ~ nothing + (1 | Subject)")
    table = ExchangeTable.from_frame(sleepstudy, model.formula)
    with pytest.raises(RError, match="object 'nothing' not found"):
        run_r(model, table)


def test_r_without_lme4_is_told_apart(sleepstudy, tmp_path):
    program = tmp_path / "Rscript"
    program.write_text("#!/bin/sh\necho \"Error in library(lme4) : there is no package called 'lme4'\" >&2\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(RNotAvailableError, match=r"install\.packages"):
        compare_with_r(SLEEPSTUDY, sleepstudy, rscript=str(program))


def test_no_r_names_the_way_out(sleepstudy):
    with pytest.raises(RNotAvailableError, match="write-r-script"):
        compare_with_r(SLEEPSTUDY, sleepstudy, rscript="no-such-program")


# --- the parts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "rs"),
    [
        ("y ~ I(x**2) + (1 | g)", "y ~ I(x^2) + (1 | g)"),
        ("np.log(y) ~ C(f) + C(`a b`) + (1 | g)", "log(y) ~ factor(f) + factor(`a b`) + (1 | g)"),
        ("y ~ scale(x, center=True) + xC(3)", "y ~ scale(x, center=TRUE) + xC(3)"),
        ("y ~ relevel(f, 'b') + (1 | g)", "y ~ relevel(factor(f), 'b') + (1 | g)"),
    ],
)
def test_formula_in_r(ours, rs):
    assert r_formula(ours) == rs


def test_exchange_keeps_types_levels_and_missing_values():
    frame = pd.DataFrame(
        {
            "y": [1.0, 0.1 + 0.2, np.nan],
            "i": pd.array([1, None, 3], dtype="Int64"),
            "f": pd.Categorical(["b", "a", None], categories=["b", "unused", "a"], ordered=True),
            "s": ["NA", "<NA>", None],
            "t": [True, None, False],
            "other": [1, 2, 3],
        }
    )
    table = ExchangeTable.from_frame(frame, "y ~ i + f + s + t + (1 | f)")
    assert [(c.name, c.kind, c.levels) for c in table.columns] == [
        ("y", "numeric", ()),
        ("i", "numeric", ()),
        ("f", "factor", ("b", "a")),
        ("s", "character", ("<NA>", "NA")),
        ("t", "logical", ()),
    ]
    assert table.missing == "<NA0>"
    assert table.lines[1:3] == ('"1","1","b","NA","TRUE"', '"0.30000000000000004","<NA0>","a","<NA>","<NA0>"')


def test_exchange_takes_what_the_formula_names():
    frame = pd.DataFrame({"y": [1.0], "x": [1.0], "xx": [1.0], "w": [1.0]})
    assert [c.name for c in ExchangeTable.from_frame(frame, "y ~ x", ["w"]).columns] == ["y", "x", "w"]
    assert len(ExchangeTable.from_frame(frame, "y ~ . - w").columns) == 4
    with pytest.raises(DataError, match="no column"):
        ExchangeTable.from_frame(frame, "a ~ b")


def test_exchange_refuses_what_it_cannot_write():
    with pytest.raises(DataError, match="different types"):
        ExchangeTable.from_frame(pd.DataFrame({"f": [1, "a"]}), "f ~ 1")
    with pytest.raises(DataError, match="levels"):
        ExchangeTable.from_frame(pd.DataFrame({"f": ["a\nb", "c"]}), "f ~ 1")
    with pytest.raises(DataError, match="list"):
        as_pandas([1, 2])


def test_other_frames():
    polars = pytest.importorskip("polars")
    assert list(as_pandas(polars.DataFrame({"x": [1, 2]}))["x"]) == [1, 2]
    assert list(as_pandas({"x": [1, 2]})["x"]) == [1, 2]


def test_script_with_data_inside_and_outside(sleepstudy):
    table = ExchangeTable.from_frame(sleepstudy, SLEEPSTUDY)
    inside = write_r_script(RModel(SLEEPSTUDY, weights="w`1", offset="o"), table, None, None)
    assert inside.count('\\"308\\"') == 10
    assert "weights = `w\\`1`, offset = `o`" in inside
    assert 'levels = c("308", "309"' in inside
    outside = write_r_script(RModel(SLEEPSTUDY, reml=False, tight=True), table, "d.csv", "o.json")
    assert 'read.csv(file = "d.csv"' in outside
    assert "REML = FALSE, control = control" in outside
    assert '"o.json")[1]' in outside


@pytest.mark.parametrize(
    ("formula", "shown"),
    [
        ("Reaction ~ system('id') + (1 | Subject)", r"system\(\)"),
        ("Reaction ~ np.system('id') + (1 | Subject)", r"system\(\)"),
        ("Reaction ~ Days + (1 | `system`('id'))", r"system\(\)"),
        ("Reaction ~ utils::scale(Days) + (1 | Subject)", "utils::"),
        ("Reaction ~ `Days\\` + (1 | Subject)", r"`Days\\`"),
    ],
)
def test_what_is_no_function_of_formulas_is_not_passed_on(formula, shown, sleepstudy):
    table = ExchangeTable.from_frame(sleepstudy, SLEEPSTUDY)
    with pytest.raises(FormulaError, match=f"holds {shown}, which is not among"):
        write_r_script(RModel(formula), table, None, None)


def test_functions_of_formulas_are_passed_on(sleepstudy):
    formula = "Reaction ~ splines::ns(Days, 2) + np.log(Days + 1) + C(f, contr.sum) + offset(o) + (1 | Subject)"
    script = write_r_script(RModel(formula), ExchangeTable.from_frame(sleepstudy, SLEEPSTUDY), None, None)
    assert "lmer(Reaction ~ splines::ns(Days, 2) + log(Days + 1) + C(f, contr.sum) + offset(o)" in script


def test_pairs_by_name_then_by_position():
    here = [Estimate("fixed effect", "a", "a", 1.0, 0.1), Estimate("fixed effect", "poly[1]", "p[1]", 2.0, 0.1)]
    r = [Estimate("fixed effect", "poly1", "p1", 2.0, 0.1), Estimate("fixed effect", "a", "a", 1.00001, 0.1)]
    rows = pair_up(here, r, 1e-3, flat=False)
    assert [row.agrees for row in rows] == [True, True]
    assert rows[1].remark == "paired by position with poly1"


def test_what_only_one_program_has_disagrees():
    here = [Estimate("random sd", "g a", "g | a", 1.0, 1.0)]
    r = [Estimate("random sd", "g a", "g | a", 1.0, 1.0), Estimate("random sd", "g b", "g | b", 2.0, 2.0)]
    rows = pair_up(here, r, 1e-3, flat=True)
    assert [row.remark for row in rows] == ["", "only in R"]
    assert not rows[1].agrees
    assert [row.remark for row in pair_up(r, here, 1e-3, flat=True)] == ["", "only here"]


def test_singular_directions_are_not_held_against_either():
    here, r = [[Estimate("random sd", "g", "g", v, v)] for v in (0.0, 1e-6)]
    assert pair_up(here, r, 1e-3, flat=True)[0].agrees
    assert not pair_up(here, r, 1e-3, flat=False)[0].agrees


def test_undefined_correlations_agree_with_each_other_only():
    here, r = Estimate("random corr", "g", "g", math.nan), Estimate("random corr", "g", "g", math.nan)
    assert pair_up([here], [r], 1e-3, flat=False)[0].agrees
    assert not pair_up([here], [Estimate("random corr", "g", "g", 0.5)], 1e-3, flat=False)[0].agrees


def saved_terms(*terms: tuple[str, list[str], list[float], str], theta: list[float]) -> dict[str, object]:
    """Return what a record says of random terms: R's name, coefficients, deviations, and the label in theta."""
    grp, var1, sdcor, names = ["Residual"], [None], [9.0], []
    for name, columns, sd, label in reversed(terms):
        grp, var1, sdcor = [*[name] * len(columns), *grp], [*columns, *var1], [*sd, *sdcor]
        tri = [c if i == j else f"{c}.{d}" for j, d in enumerate(columns) for i, c in enumerate(columns) if i >= j]
        names = [*(f"{label}.{column}" for column in tri), *names]
    labels = list(dict.fromkeys(term[3] for term in terms))
    return {
        "varcorr": {"grp": grp, "var1": var1, "var2": [None] * len(grp), "vcov": sdcor, "sdcor": sdcor},
        "ngroups": {"names": labels, "values": [9] * len(labels)},
        "theta": {"names": names, "values": theta},
    }


def fit_with(*terms: tuple[str, str, tuple[str, ...], list[float]]) -> SimpleNamespace:
    """Return what the matching asks of a fit."""
    covariances = [TermCovariance(name, label, columns, np.diag(np.square(sd))) for name, label, columns, sd in terms]
    k = [len(columns) for _, _, columns, _ in terms]
    return SimpleNamespace(varcorr=SimpleNamespace(terms=covariances), theta=np.zeros(sum(m * (m + 1) // 2 for m in k)))


def test_theta_is_matched_by_term():
    record = saved_terms(
        ("s", ["(Intercept)", "fb"], [1.0, 2.0], "s"), ("g", ["(Intercept)"], [3.0], "g"), theta=[1, 2, 3, 4]
    )
    g, s = ("g", "g", ("Intercept",), [3.0]), ("s", "s", ("Intercept", "f[T.b]"), [1.0, 2.0])
    assert list(theta_from_r(fit_with(g, s), record)) == [4, 1, 2, 3]
    assert theta_from_r(fit_with(g), record) is None
    assert theta_from_r(fit_with(g, s, ("h", "h", ("Intercept",), [1.0])), record) is None
    # the columns in another order would be another theta
    assert theta_from_r(fit_with(g, ("s", "s", ("f[T.b]", "Intercept"), [2.0, 1.0])), record) is None


def test_ties_reversed_and_renamed_by_lme4():
    """lme4 1.1-31: y ~ (0 + z1 + z2 | g) + (1 | g:c) + (0 + z1 | g:c)."""
    record = saved_terms(
        ("g.c", ["z1"], [0.5], "g:c"), ("g.c.1", ["(Intercept)"], [2.0], "g:c"), ("g", ["z1", "z2"], [1.0, 3.0], "g"),
        theta=[5, 20, 1, 2, 3],
    )  # fmt: skip
    fit = fit_with(
        ("g:c", "g:c", ("Intercept",), [2.0]), ("g:c.1", "g:c", ("z1",), [0.5]), ("g", "g", ("z1", "z2"), [1.0, 3.0])
    )
    assert list(theta_from_r(fit, record)) == [20, 5, 1, 2, 3]
    full = {e.key: e.value for e in estimates_r(fit, {**WITHOUT_TERMS, **record}) if e.kind == "random sd"}
    assert full["g:c | (Intercept)"] == 2.0
    assert full["g:c.1 | z1"] == 0.5


def test_terms_that_differ_only_in_their_values_are_paired_by_these():
    record = saved_terms(("a", ["x"], [5.0], "a"), ("a.1", ["x"], [1.0], "a"), theta=[5, 1])
    fit = fit_with(("a", "a", ("x",), [1.01]), ("a.1", "a", ("x",), [4.9]))
    assert list(theta_from_r(fit, record)) == [1, 5]
