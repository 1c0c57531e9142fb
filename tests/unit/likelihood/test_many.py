"""Many responses on one design: the same numbers as one fit each, and errors of our own."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm import LinearMixedModel, fit_many
from sparselmm.exceptions import DataError, ParameterError
from sparselmm.likelihood.one_factor import is_one_block

pytestmark = pytest.mark.filterwarnings("ignore::sparselmm.exceptions.SparseLMMWarning")
M = 12


def responses(codes, X, seed=0, count=M):
    """Return (n, count) responses; the share of the random effects falls to none, so that some fits are singular."""
    rng = np.random.default_rng(seed)
    out = []
    for j in range(count):
        sd = max(0.0, 1.2 - 0.2 * (j % 8))
        effects = sum(sd * rng.standard_normal((c.max() + 1, X.shape[1]))[c] for c in codes)
        out.append((10.0**j) ** (j % 3 == 1) * ((X * (1 + effects)).sum(axis=1) + rng.standard_normal(len(X))))
    return np.column_stack(out)


def design(name):
    """Return a model whose own response does not matter, and responses for it."""
    rng = np.random.default_rng(42)
    n, g = 96, np.arange(96) % 12
    X = np.column_stack([np.ones(n), rng.standard_normal((n, 2))])
    options, fixed = {}, X[:, :2]
    terms = {
        "intercept": [(g, None, "g")],
        "slope, weights, offset": [(g, X[:, :2], "g")],
        "k = 3": [(g, X, "g")],
        "double bar": [(g, None, "g"), (g, X[:, 1], "g")],
        "diagonal": [{"groups": g, "Z": X, "name": "g", "structure": "diag"}],
        "no fixed effects": [(g, X[:, :2], "g")],
        "slope far from zero": [(g, np.column_stack([np.ones(n), 2000 + X[:, 1]]), "g")],
        "crossed": [(g, None, "g"), (rng.integers(0, 7, n), X[:, :2], "h")],
    }[name]
    if "weights" in name:
        options = {"weights": rng.uniform(0.5, 2.0, n), "offset": rng.standard_normal(n)}
    if name == "no fixed effects":
        fixed = None
    codes = [g] if name != "crossed" else [g, terms[1][0]]
    return LinearMixedModel.from_arrays(rng.standard_normal(n), fixed, terms, **options), responses(codes, X[:, :2])


ONE_BLOCK = (
    "intercept",
    "slope, weights, offset",
    "k = 3",
    "double bar",
    "diagonal",
    "no fixed effects",
    "slope far from zero",
)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", [*ONE_BLOCK, "crossed"])
def test_every_row_equals_a_single_fit(name, reml):
    model, Y = design(name)
    assert is_one_block(model.problem.engine.crossproducts) == (name != "crossed")
    table = fit_many(model, Y, reml=reml)
    assert list(table.index) == list(range(M))
    assert list(table.columns[:2]) == ["criterion", "sigma"]
    assert list(table.columns[-2:]) == ["singular", "converged"]
    for j, row in enumerate(table.to_dict("records")):
        fit = type(model)(model.problem.with_response(Y[:, j]), model.source).fit(reml)
        # both stop where Newton's step promises less than 1e-9; the criterion is rounded to 1e-13 of its size
        assert row["criterion"] == pytest.approx(fit.criterion, abs=1e-8)
        assert row["converged"]
        assert row["singular"] == fit.is_singular
        # the criterion is flat at its minimum: 1e-9 in it are 1e-5 in estimates, relative to their errors
        assert row["sigma"] == pytest.approx(fit.sigma, rel=1e-5)
        for column in fit.params.index:
            assert row[column] == pytest.approx(fit.params[column], abs=1e-4 * fit.bse[column])
        theta = [row[f"theta[{n}]"] for n in model.theta_names]
        assert fit.evaluate(theta) == pytest.approx(row["criterion"], abs=1e-8)  # the columns belong together
    if name != "crossed":
        assert table["singular"].any(), "no singular fit among the responses"
        assert not table["singular"].all()


def test_processes_change_nothing_but_the_time():
    model, Y = design("crossed")
    pd.testing.assert_frame_equal(fit_many(model, Y[:, :5]), fit_many(model, Y[:, :5], n_jobs=2), rtol=0, atol=0)


def test_batches_change_nothing(monkeypatch):
    """A design so large that few responses fit in a batch gives the same rows."""
    model, Y = design("slope, weights, offset")
    whole = fit_many(model, Y)
    monkeypatch.setattr("sparselmm.likelihood.many.BATCH_ENTRIES", 5 * 24 * 20)
    # another batch has another start (a mean over responses): the same optimum, each to 1e-9
    np.testing.assert_allclose(fit_many(model, Y)["criterion"], whole["criterion"], rtol=0, atol=2e-9 + 1e-8)


def test_a_row_does_not_depend_on_its_neighbours():
    model, Y = design("k = 3")
    alone = pd.concat([fit_many(model, Y[:, [j]]) for j in range(4)], ignore_index=True)
    together = fit_many(model, Y).iloc[:4]
    np.testing.assert_allclose(together["criterion"], alone["criterion"], rtol=0, atol=1e-8)


def test_frames_keep_their_names():
    model, Y = design("intercept")
    frame = pd.DataFrame(Y[:, :3], columns=["a", "b", "c"], index=np.arange(len(Y)) + 100)
    table = fit_many(model, frame)
    assert list(table.index) == ["a", "b", "c"]
    np.testing.assert_array_equal(table.to_numpy(float), fit_many(model, Y[:, :3]).to_numpy(float))


def test_rows_left_out_of_the_model_are_left_out_of_the_responses():
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"y": rng.standard_normal(40), "x": rng.standard_normal(40), "g": np.arange(40) % 8})
    data.loc[[3, 17], "x"] = np.nan
    model = LinearMixedModel.from_formula("y ~ x + (1 | g)", data)
    Y = rng.standard_normal((40, 2))
    kept = np.delete(Y, [3, 17], axis=0)
    pd.testing.assert_frame_equal(fit_many(model, Y), fit_many(model, kept))
    Y[3] = np.nan  # a row that is not used may be missing
    pd.testing.assert_frame_equal(fit_many(model, Y), fit_many(model, kept))


def test_a_fit_serves_as_the_design():
    model, Y = design("intercept")
    pd.testing.assert_frame_equal(fit_many(model.fit(), Y), fit_many(model, Y))


def test_responses_are_left_alone():
    model, Y = design("slope, weights, offset")
    before = Y.copy()
    Y.flags.writeable = False
    fit_many(model, Y)
    np.testing.assert_array_equal(Y, before)


@pytest.mark.parametrize("name", ["intercept", "crossed"])
def test_bad_responses_are_named(name):
    model, Y = design(name)
    with pytest.raises(DataError, match="two dimensions"):
        fit_many(model, Y[:, 0])
    with pytest.raises(DataError, match="95 rows; the model uses 96"):
        fit_many(model, Y[1:])
    for value in (np.nan, np.inf):
        broken = Y.copy()
        broken[5, 2] = value
        with pytest.raises(DataError, match=r"responses \[\D*(64)?\D*2\)?\].*missing or not finite"):
            fit_many(model, broken)
    flat = Y.copy()
    flat[:, 4] = 3.0
    with pytest.raises(DataError, match=r"responses \[\D*(64)?\D*4\)?\] are constant"):
        fit_many(model, flat)
    with pytest.raises(ParameterError, match="reml"):
        fit_many(model, Y, reml="yes")


def test_numbers_in_errors_are_plain():
    model, Y = design("intercept")
    Y[5, 2] = np.nan
    with pytest.raises(DataError, match=r"responses \[2\]"):
        fit_many(model, Y)


@pytest.mark.parametrize("Y", [np.zeros((96, 0)), np.full((96, 2), "a"), [[1.0, 2.0], [3.0]]])
def test_responses_that_are_no_table_of_numbers_are_refused(Y):
    with pytest.raises(DataError):
        fit_many(design("intercept")[0], Y)


@pytest.mark.parametrize("n_jobs", [0, -1, 1.5])
def test_number_of_processes_is_checked(n_jobs):
    model, Y = design("crossed")
    with pytest.raises(ParameterError):
        fit_many(model, Y[:, :4], n_jobs=n_jobs)


def test_row_labels_in_another_order_are_refused():
    data = slm.load_dataset("sleepstudy")
    data.loc[4, "Reaction"] = np.nan
    fit = slm.lmer("Reaction ~ Days + (1 | Subject)", data)
    shuffled = data["Days"].sample(frac=1.0, random_state=1)
    used = data["Days"].drop(index=4).sample(frac=1.0, random_state=1)
    for y in (shuffled, used):
        with pytest.raises(DataError, match=r"y has the rows of the data in another order; pass y\.loc"):
            fit.refit(y)
        with pytest.raises(DataError, match="Y has the rows of the data in another order"):
            fit_many(fit, pd.DataFrame({"a": y}))
    y = data["Days"] + np.sin(data.index)
    same = [fit.refit(z).criterion for z in (y, y.drop(index=4), y.to_numpy(), y.set_axis(y.index + 1000))]
    np.testing.assert_allclose(same, same[0], rtol=1e-12)
