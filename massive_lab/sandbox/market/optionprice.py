"""Option prices: Black (1976) on the forward, a volatility surface, and its inversion.

The surface is lognormal with a skew and a smile in standardised log-moneyness and a term structure that reverts to a
long-run level. Rates are constant: 4 % for cash, and a dividend yield for each underlying. American contracts are priced
as European ones but never below what exercise pays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from massive_lab.sandbox.market.rng import Bools, Floats

__all__ = ["RATE", "Surface", "forward", "greeks", "implied_volatility", "norm_cdf", "price"]

RATE = 0.04
"""Continuously compounded, per year of 365 days."""

_NUMERATOR = (
    *(220.206867912376, 221.213596169931, 112.079291497871, 33.912866078383),
    *(6.37396220353165, 0.700383064443688, 3.52624965998911e-02),
)
_DENOMINATOR = (
    *(440.413735824752, 793.826512519948, 637.333633378831, 296.564248779674, 86.7807322029461),
    *(16.064177579207, 1.75566716318264, 8.83883476483184e-02),
)


def norm_cdf(x: Floats) -> Floats:
    """The standard normal distribution function to double precision (Hart 1968, after West 2005).

    Examples
    --------
    >>> [round(float(p), 10) for p in norm_cdf(np.array([-1.0, 0.0, 1.0]))]
    [0.1586552539, 0.5, 0.8413447461]
    """
    a = np.minimum(np.abs(x), 37.0)
    tail = np.exp(-a * a / 2)
    near = tail * np.polyval(_NUMERATOR[::-1], a) / np.polyval(_DENOMINATOR[::-1], a)
    safe = np.maximum(a, 7.0)
    far = tail / (safe + 1 / (safe + 2 / (safe + 3 / (safe + 4 / (safe + 0.65))))) / 2.506628274631
    below = np.where(a < 7.07106781186547, near, far)
    return np.where(x > 0, 1 - below, below)


def _d1(fwd: Floats, strike: Floats, years: Floats, sigma: Floats) -> Floats:
    total = sigma * np.sqrt(years)
    return np.asarray(np.log(fwd / strike) / total + total / 2)


def price(fwd: Floats, strike: Floats, years: Floats, sigma: Floats, is_call: Bools) -> Floats:
    """Present value per share of a European option."""
    d1 = _d1(fwd, strike, years, sigma)
    d2 = d1 - sigma * np.sqrt(years)
    sign = np.where(is_call, 1.0, -1.0)
    value = sign * (fwd * norm_cdf(sign * d1) - strike * norm_cdf(sign * d2))
    return np.asarray(np.exp(-RATE * years) * np.maximum(value, 0.0))


def forward(spot: Floats, years: Floats, dividend: float, mean: float) -> Floats:
    """Forward of the underlying; with a `mean` (the VIX) it reverts there instead of growing at the rate."""
    if mean:
        return np.asarray(mean + (spot - mean) * np.exp(-3.0 * years))
    return np.asarray(spot * np.exp((RATE - dividend) * years))


@dataclass(frozen=True, slots=True)
class Surface:
    """Volatility by term and strike.

    Attributes
    ----------
    long_run : float
        Where at-the-money volatility tends for long terms.
    skew, smile : float
        Slope and curvature per standard deviation of log-moneyness.
    """

    long_run: float
    skew: float
    smile: float
    reversion: float

    def at_the_money(self, level: Floats, years: Floats) -> Floats:
        """Volatility at the forward, `level` being that of very short terms."""
        kt = self.reversion * np.maximum(years, 1e-6)
        weight = (1 - np.exp(-kt)) / kt
        return np.asarray(np.sqrt(weight * level**2 + (1 - weight) * self.long_run**2))

    def standardised(self, level: Floats, fwd: Floats, strike: Floats, years: Floats) -> Floats:
        """Log-moneyness in standard deviations, within 5."""
        total = self.at_the_money(level, years) * np.sqrt(np.maximum(years, 1 / 2000))
        return np.clip(np.log(strike / fwd) / total, -5.0, 5.0)

    def volatility(self, level: Floats, fwd: Floats, strike: Floats, years: Floats) -> Floats:
        x = self.standardised(level, fwd, strike, years)
        shape = 1 + self.skew * x + self.smile * x * x
        return np.clip(self.at_the_money(level, years) * np.maximum(shape, 0.35), 0.04, 4.0)


def implied_volatility(value: Floats, fwd: Floats, strike: Floats, years: Floats, is_call: Bools) -> Floats:
    """Volatility at which `price` gives `value`; NaN where no volatility in (0.01, 6) does, or the price hardly
    depends on it.
    """
    value = np.where(np.isfinite(value), value, 0.0)
    low, high = np.full(len(value), 0.01), np.full(len(value), 6.0)
    solvable = (years > 0) & (value > price(fwd, strike, years, low, is_call) + 1e-9)
    solvable &= value < price(fwd, strike, years, high, is_call)
    for _ in range(46):
        middle = (low + high) / 2
        above = price(fwd, strike, years, middle, is_call) > value
        high = np.where(above, middle, high)
        low = np.where(above, low, middle)
    sigma = (low + high) / 2
    vega = np.exp(-RATE * years) * fwd * _density(_d1(fwd, strike, years, sigma)) * np.sqrt(years) / 100
    return np.where(solvable & (vega > 2e-6 * fwd), sigma, np.nan)


def _density(x: Floats) -> Floats:
    return np.asarray(np.exp(-x * x / 2) / 2.5066282746310002)


def greeks(
    spot: Floats, fwd: Floats, strike: Floats, years: Floats, sigma: Floats, is_call: Bools
) -> dict[str, Floats]:
    """``delta`` and ``gamma`` to the spot, ``theta`` per calendar day, ``vega`` per volatility point; NaN where sigma is."""
    d1 = _d1(fwd, strike, years, sigma)
    d2 = d1 - sigma * np.sqrt(years)
    carry = np.log(fwd / spot) / years
    grown = np.exp((carry - RATE) * years)
    discount = np.exp(-RATE * years)
    sign = np.where(is_call, 1.0, -1.0)
    density = _density(d1)
    decay = -grown * spot * density * sigma / (2 * np.sqrt(years))
    decay = decay - sign * RATE * strike * discount * norm_cdf(sign * d2)
    decay = decay - sign * (carry - RATE) * spot * grown * norm_cdf(sign * d1)
    return {
        "delta": sign * grown * norm_cdf(sign * d1),
        "gamma": grown * density / (spot * sigma * np.sqrt(years)),
        "theta": decay / 365,
        "vega": spot * grown * density * np.sqrt(years) / 100,
    }
