"""The audit of an approximate fit."""

from __future__ import annotations

import numpy as np
import pytest
from approximate_designs import FORMULAS, fitted

from sparselmm.exceptions import ParameterError, PlanError
from sparselmm.inference.diagnose import audit as module
from sparselmm.linalg.audit import dense


@pytest.mark.parametrize("name", sorted(FORMULAS))
@pytest.mark.parametrize("reml", [True, False])
def test_it_finds_the_criterion_of_the_exact_solver(name, reml):
    exact, fit = fitted(name, "schur", reml), fitted(name, "iterative", reml)
    found = fit.audit(progress=False)
    assert found.exact == pytest.approx(exact.evaluate(fit.theta), rel=1e-12, abs=1e-9)
    assert found.error == found.criterion - found.exact
    assert abs(found.ratio) < 8
    assert found.standard_error == fit.convergence.monte_carlo.standard_error


def test_the_exact_criterion_at_any_theta():
    exact, fit = fitted("slopes", "schur"), fitted("slopes", "iterative")
    for theta in (fit.theta * 2.0, np.zeros(4), np.array([0.5, 0.0, 0.0, 0.3])):
        assert fit.evaluate(theta, exact=True) == pytest.approx(exact.evaluate(theta), rel=1e-12)
    assert exact.evaluate(exact.theta, exact=True) == exact.criterion


def test_it_prints_and_reports(capsys, monkeypatch):
    fit = fitted("three", "iterative")
    assert "rows needs" in str(fit.audit_cost())
    assert "of its Monte Carlo standard errors" in str(fit.audit())
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.0)
    fit.audit()
    shown = capsys.readouterr().err
    assert shown.startswith("audit: a dense Cholesky factorisation of 134 rows")
    assert "100 %" in shown


def test_without_memory_it_is_refused_before_anything_is_done(monkeypatch):
    fit = fitted("three", "iterative")
    monkeypatch.setattr(dense, "available_memory", lambda: 1e5)
    monkeypatch.setattr(dense, "scaled_blocks", lambda *_: pytest.fail("it was begun"))
    with pytest.raises(PlanError, match=r"cannot be had here: .* of 0.0001 GB available"):
        fit.audit()


def test_exact_fits_need_none():
    with pytest.raises(ParameterError, match="exact already: the solver 'schur'"):
        fitted("three", "schur").audit()


def test_an_error_of_rounding_is_no_number_of_standard_errors():
    found = module.Audit(1000.0 + 1e-12, 1000.0, 1e-32, None, 0.0)
    assert abs(found.ratio) < 1.0
    assert module.Audit(1000.5, 1000.0, 0.25, None, 0.0).ratio == 2.0
