"""The deviance with one parameter held: exact derivatives and minima."""

from __future__ import annotations

import numpy as np
import pytest
from resampling_designs import FORMULAS, made_fit

from sparselmm.inference.profile.curves import covariance_of, opened, optimum
from sparselmm.inference.profile.path import first_knot
from sparselmm.inference.profile.point import minimize
from sparselmm.likelihood.criterion import criterion_for

CASES = [(name, reml) for name in FORMULAS for reml in (False, True) if name != "factor slopes"]


def parameters_of(found):
    for parameter in found.parameters:
        yield parameter
        if parameter.kind == "cor":
            yield covariance_of(parameter)


@pytest.mark.parametrize(("name", "reml"), CASES)
def test_derivatives_are_those_of_the_deviance(name, reml):
    fit = made_fit(name, weighted=True)
    found = optimum(fit.problem, fit.result, criterion_for(reml))
    rng = np.random.default_rng(3)
    for parameter in parameters_of(found):
        with opened(found, parameter) as curve:
            deviance = curve.deviance
            # away from the optimum, and away from any boundary
            z = np.where(np.abs(curve.start) < 0.05, 0.3, curve.start)
            z = z * (1 + 0.1 * rng.standard_normal(len(z)))
            c = curve.c * 1.05 + (0.1 if parameter.kind in ("sd", "cor", "cov") else 0.0)
            c = float(np.clip(c, -1.2, 1.2)) if parameter.kind == "cor" else c
            local = deviance.derivatives(z, c)
            x, n = np.append(z, c), len(z) + 1
            h = 1e-4 * np.maximum(np.abs(x), 0.05)
            steps = [(x + h[i] * np.eye(n)[i], x - h[i] * np.eye(n)[i]) for i in range(n)]
            value = [(deviance.value(a[:-1], a[-1]) - deviance.value(b[:-1], b[-1])) / 2 for a, b in steps] / h
            bend = [
                (deviance.derivatives(a[:-1], a[-1]).gradient - deviance.derivatives(b[:-1], b[-1]).gradient) / 2
                for a, b in steps
            ] / h[:, None]
            scale = 1 / np.sqrt(np.abs(np.diag(local.hessian)) + 1e-9)
            assert local.value == pytest.approx(deviance.value(z, c), abs=1e-9)
            np.testing.assert_allclose(scale * local.gradient, scale * value, atol=2e-5, err_msg=parameter.name)
            np.testing.assert_allclose(
                local.hessian * np.outer(scale, scale), bend * np.outer(scale, scale), atol=2e-5, err_msg=parameter.name
            )


@pytest.mark.parametrize(("name", "reml"), CASES)
def test_the_estimate_is_the_minimum_of_its_own_curve(name, reml):
    fit = made_fit(name)
    found = optimum(fit.problem, fit.result, criterion_for(reml))
    for parameter in found.parameters:
        if parameter.kind == "cor" and np.isnan(found.values()[parameter.index]):
            continue
        with opened(found, parameter) as curve:
            assert curve.deviance.value(curve.start, curve.c) == pytest.approx(curve.minimum, abs=1e-7)
            knot = first_knot(curve)
            assert knot.at.value == pytest.approx(curve.minimum, abs=1e-6)
            assert abs(knot.zeta) < 2e-3


def test_slope_and_tangent_of_the_profile():
    fit = made_fit("correlated")
    found = optimum(fit.problem, fit.result, criterion_for(False))
    for parameter in found.parameters:
        with opened(found, parameter) as curve:
            h = 1e-3 * max(abs(curve.c), 0.1)
            c = curve.c + 20 * h
            before, at, after = (minimize(curve.deviance, curve.start, x) for x in (c - h, c, c + h))
            assert at.slope == pytest.approx((after.value - before.value) / (2 * h), rel=2e-3, abs=1e-4)
            scale = np.maximum(np.abs(at.tangent).max(), 1e-8)
            np.testing.assert_allclose(at.tangent / scale, (after.z - before.z) / (2 * h) / scale, atol=2e-2)
