"""ML and REML as functions of their ingredients."""

from __future__ import annotations

import numpy as np
import pytest

from sparselmm.likelihood.criterion import ML, REML, criterion_for

PARTS = {"ldL2": 3.0, "ldRX2": 5.0, "pwrss": 7.0, "n": 11, "p": 2, "sum_log_weights": 0.5}


def test_ml_by_hand():
    # 3 - 0.5 + 11 (1 + log(2π 7/11))
    assert ML.value(**PARTS) == pytest.approx(2.5 + 11 * (1 + np.log(14 * np.pi / 11)), rel=1e-15)
    assert ML.df(11, 2) == 11


def test_reml_by_hand():
    # 3 + 5 - 0.5 + 9 (1 + log(2π 7/9))
    assert REML.value(**PARTS) == pytest.approx(7.5 + 9 * (1 + np.log(14 * np.pi / 9)), rel=1e-15)
    assert REML.df(11, 2) == 9


def test_reml_without_fixed_effects_is_ml():
    parts = {**PARTS, "p": 0, "ldRX2": 0.0}
    assert REML.value(**parts) == ML.value(**parts)


def test_names_follow_lme4():
    assert (criterion_for(False), criterion_for(True)) == (ML, REML)
    assert (ML.name, REML.name) == ("deviance", "REML criterion")
    assert (ML.reml, REML.reml) == (False, True)
