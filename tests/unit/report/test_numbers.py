import math

import pytest

from sparselmm.report.numbers import (
    format_coefficients,
    format_common,
    format_df,
    format_p,
    format_quantiles,
    format_statistic,
)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        # every expectation is what R 4.2 prints with format(x, digits = 4)
        ([612.1002, 35.07171, 654.94], ["612.10", "35.07", "654.94"]),
        ([24.740658, 5.922138, 25.59182], ["24.741", "5.922", "25.592"]),
        ([90303.0, 1959.4], ["90303", "1959"]),
        ([0.0, 13.81], ["0.00", "13.81"]),
        ([602.4, 35.06, 0.0, 5.088e-08], ["6.024e+02", "3.506e+01", "0.000e+00", "5.088e-08"]),
        ([1e12, 1.0], ["1e+12", "1e+00"]),
        ([123456.7], ["123457"]),
        ([100000.0], ["1e+05"]),
        ([1e-12], ["1e-12"]),
        ([1.5, math.nan, math.inf, -math.inf], ["1.5", "NaN", "Inf", "-Inf"]),
        ([math.nan], ["NaN"]),
        ([], []),
        ([1e-300, 1e-301], ["1e-300", "1e-301"]),
    ],
)
def test_common(values, expected):
    assert format_common(values, 4) == expected


def test_no_negative_zero():
    assert format_common([-1e-9, 1234.5], 2) == ["-1.0e-09", "1.2e+03"]
    assert format_common([-0.0, 1.5], 2) == ["0.0", "1.5"]


def test_coefficients_share_their_decimals():
    assert format_coefficients([[251.4051, 10.46729], [6.824597, 1.545790]], 4) == [
        ["251.405", "10.467"],
        ["6.825", "1.546"],
    ]


def test_coefficients_of_very_different_size():
    cells = format_coefficients([[256.7, 1.109e-06], [7.366, 2.564e-07]], 4)
    assert cells == [["2.567e+02", "1.109e-06"], ["7.366e+00", "2.564e-07"]]


def test_coefficients_all_zero_or_missing():
    assert format_coefficients([[0.0], [math.nan]], 4) == [["0"], ["NaN"]]


def test_statistic():
    assert format_statistic([36.8381, 6.7714], 4) == ["36.838", "6.771"]
    assert format_statistic([math.nan, -0.6019], 4) == ["NaN", "-0.602"]


def test_df():
    assert format_df([17.0, 144.00042]) == ["17.000", "144.000"]
    assert format_df([math.inf, 2.5]) == ["Inf", "2.500"]
    assert format_df([15.3594, 37614.008]) == ["15.359", "3.761e+04"]


def test_p_values():
    assert format_p([1e-30, 3.2641e-06, 0.04321, 1.0], 4) == ["< 2e-16", "3.26e-06", "0.0432", "1.0000"]
    assert format_p([0.0, math.nan], 4) == ["< 2e-16", "NaN"]


def test_quantiles_hide_what_is_small_beside_the_largest():
    assert format_quantiles([-4.22501, -0.48681, -0.00251, 0.47602, 4.87561], 4)[2] == "-0.0025"
    assert format_quantiles([-2.646612, -0.610823, -0.052071, 0.569854, 2.753741], 4)[2] == "-0.05207"
