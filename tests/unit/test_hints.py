"""Names of R and statsmodels lead to ours."""

from __future__ import annotations

import pytest

import sparselmm as slm
from sparselmm.api.hints import FIT_NAMES


@pytest.fixture(scope="module")
def fit():
    return slm.lmer("Yield ~ 1 + (1 | Batch)", slm.load_dataset("dyestuff"))


@pytest.mark.parametrize(("name", "ours"), FIT_NAMES.items())
def test_hint_names_something_that_exists(fit, name, ours):
    with pytest.raises(AttributeError, match="is called"):
        getattr(fit, name)
    assert hasattr(fit, ours.removesuffix("()"))


def test_unknown_names_have_no_hint(fit):
    with pytest.raises(AttributeError, match=r"'zzz'$"):
        _ = fit.zzz


def test_models_that_are_not_fitted_here_are_named():
    with pytest.raises(AttributeError, match="only linear models"):
        _ = slm.glmer
