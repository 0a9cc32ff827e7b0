from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from massive_lab.sandbox.market.optionprice import RATE, Surface, forward, greeks, implied_volatility, norm_cdf, price

spots = st.floats(20, 5000)
ratios = st.floats(0.75, 1.3)
terms = st.floats(0.02, 2.0)
sigmas = st.floats(0.08, 1.2)


def one(*values: float) -> list[np.ndarray]:
    return [np.array([value]) for value in values]


@given(st.floats(-30, 30))
def test_the_distribution_function_agrees_with_erfc(x: float) -> None:
    assert math.isclose(
        float(norm_cdf(np.array([x]))[0]), 0.5 * math.erfc(-x / math.sqrt(2)), rel_tol=1e-9, abs_tol=1e-15
    )


@given(spots, ratios, terms, sigmas)
def test_put_call_parity(spot: float, ratio: float, years: float, sigma: float) -> None:
    s, k, t, v = one(spot, spot * ratio, years, sigma)
    fwd = forward(s, t, 0.01, 0.0)
    call, put = (price(fwd, k, t, v, np.array([is_call])) for is_call in (True, False))
    assert np.allclose(call - put, np.exp(-RATE * t) * (fwd - k), atol=1e-8 * spot)


@given(spots, ratios, terms, sigmas, st.booleans())
def test_the_implied_volatility_gives_the_price_back(
    spot: float, ratio: float, years: float, sigma: float, is_call: bool
) -> None:
    s, k, t, v = one(spot, spot * ratio, years, sigma)
    fwd, side = forward(s, t, 0.01, 0.0), np.array([is_call])
    value = price(fwd, k, t, v, side)
    found = implied_volatility(value, fwd, k, t, side)
    if not np.isnan(found[0]):
        assert np.allclose(price(fwd, k, t, found, side), value, atol=1e-9 * spot)
    else:
        vega = float(greeks(s, fwd, k, t, v, side)["vega"][0])
        assert vega < 1e-5 * spot


def test_prices_no_volatility_explains_have_none() -> None:
    fwd, k, t = one(100, 80, 0.5)
    for value in (0.0, 19.0, 101.0, math.nan):
        assert np.isnan(implied_volatility(np.array([value]), fwd, k, t, np.array([True]))[0])


@given(spots, ratios, terms, sigmas, st.booleans())
def test_greeks_are_the_slopes_of_the_price(
    spot: float, ratio: float, years: float, sigma: float, is_call: bool
) -> None:
    s, k, t, v = one(spot, spot * ratio, years, sigma)
    side = np.array([is_call])

    def value(spot: np.ndarray = s, years: np.ndarray = t, sigma: np.ndarray = v) -> float:
        return float(price(forward(spot, years, 0.01, 0.0), k, years, sigma, side)[0])

    found = {name: float(array[0]) for name, array in greeks(s, forward(s, t, 0.01, 0.0), k, t, v, side).items()}
    h = s * 1e-4
    assert math.isclose(found["delta"], (value(s + h) - value(s - h)) / (2 * h[0]), abs_tol=2e-5)
    curve = (value(s + h) - 2 * value() + value(s - h)) / h[0] ** 2
    assert math.isclose(found["gamma"], curve, rel_tol=2e-3, abs_tol=2e-5 / spot)
    assert math.isclose(
        found["vega"], (value(sigma=v + 1e-5) - value(sigma=v - 1e-5)) / 2e-5 / 100, abs_tol=1e-6 * spot
    )
    assert math.isclose(
        found["theta"], -(value(years=t + 1e-6) - value(years=t - 1e-6)) / 2e-6 / 365, abs_tol=1e-6 * spot
    )


def test_the_surface_has_a_skew_a_smile_and_a_term_structure() -> None:
    surface = Surface(0.175, -0.11, 0.022, 3.0)
    level, fwd = np.full(5, 0.30), np.full(5, 100.0)
    strikes, month = np.array([80.0, 90.0, 100.0, 125.0, 160.0]), np.full(5, 30 / 365)
    smile = surface.volatility(level, fwd, strikes, month)
    assert smile[0] > smile[1] > smile[2]
    assert smile[4] > smile[3]
    years = np.array([0.02, 0.1, 0.5, 1.0, 2.0])
    assert (np.diff(surface.at_the_money(level, years)) < 0).all()
