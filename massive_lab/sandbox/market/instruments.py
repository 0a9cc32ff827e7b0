"""The listed instruments of the sandbox. Names are real, every price is synthetic."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["INDICES", "OPTION_UNDERLYINGS", "STOCKS", "Index", "OptionRoot", "Stock"]


@dataclass(frozen=True, slots=True)
class Stock:
    """A stock or fund.

    Attributes
    ----------
    beta, idio : float
        Sensitivity to the S&P 500, and own annualised volatility.
    price : float
        Dollars on the first session of 2025, about.
    prints : int
        Trades on a usual day at density 1.
    tracks, ratio
        A fund that follows an index exactly, at this fraction of it.
    """

    ticker: str
    name: str
    type: str
    mic: str
    beta: float
    idio: float
    price: float
    prints: int
    tracks: str = ""
    ratio: float = 0.0

    @property
    def tape(self) -> int:
        return {"XNAS": 3, "XNYS": 1}.get(self.mic, 2)


@dataclass(frozen=True, slots=True)
class Index:
    """An index. `tick_s`: seconds between values."""

    ticker: str
    name: str
    tick_s: float
    group: str


def _stocks() -> dict[str, Stock]:
    rows = (
        ("SPY", "SPDR S&P 500 ETF Trust", "ETF", "ARCX", 1.0, 0.0, 0, 16000, "I:SPX", 0.1),
        ("QQQ", "Invesco QQQ Trust, Series 1", "ETF", "XNAS", 1.15, 0.07, 0, 14000, "I:NDX", 0.025),
        ("IWM", "iShares Russell 2000 ETF", "ETF", "ARCX", 1.15, 0.09, 0, 8000, "I:RUT", 0.1),
        ("DIA", "SPDR Dow Jones Industrial Average ETF Trust", "ETF", "ARCX", 0.95, 0.04, 0, 3000, "I:DJI", 0.01),
        ("AAPL", "Apple Inc.", "CS", "XNAS", 1.15, 0.18, 243.0, 12000),
        ("MSFT", "Microsoft Corp", "CS", "XNAS", 1.05, 0.16, 420.0, 9000),
        ("NVDA", "Nvidia Corp", "CS", "XNAS", 1.75, 0.32, 138.0, 18000),
        ("AMZN", "Amazon.Com Inc", "CS", "XNAS", 1.25, 0.21, 220.0, 10000),
        ("GOOGL", "Alphabet Inc. Class A Common Stock", "CS", "XNAS", 1.1, 0.19, 190.0, 8500),
        ("GOOG", "Alphabet Inc. Class C Capital Stock", "CS", "XNAS", 1.1, 0.19, 191.0, 7000),
        ("META", "Meta Platforms, Inc. Class A Common Stock", "CS", "XNAS", 1.25, 0.25, 599.0, 7500),
        ("TSLA", "Tesla, Inc. Common Stock", "CS", "XNAS", 1.8, 0.42, 379.0, 17000),
        ("AVGO", "Broadcom Inc. Common Stock", "CS", "XNAS", 1.4, 0.28, 232.0, 6500),
        ("AMD", "Advanced Micro Devices", "CS", "XNAS", 1.7, 0.33, 121.0, 8500),
        ("NFLX", "NetFlix Inc", "CS", "XNAS", 1.2, 0.28, 886.0, 4500),
        ("INTC", "Intel Corp", "CS", "XNAS", 1.2, 0.29, 20.2, 8000),
        ("CSCO", "Cisco Systems, Inc. Common Stock", "CS", "XNAS", 0.9, 0.15, 59.0, 5000),
        ("ADBE", "Adobe Inc.", "CS", "XNAS", 1.15, 0.22, 441.0, 3500),
        ("QCOM", "Qualcomm Inc", "CS", "XNAS", 1.25, 0.23, 155.0, 4000),
        ("COST", "Costco Wholesale Corp", "CS", "XNAS", 0.8, 0.14, 909.0, 3000),
        ("PEP", "PepsiCo, Inc.", "CS", "XNAS", 0.55, 0.12, 150.0, 3000),
        ("SBUX", "Starbucks Corp", "CS", "XNAS", 0.95, 0.2, 92.0, 3200),
        ("COIN", "Coinbase Global, Inc. Class A Common Stock", "CS", "XNAS", 2.0, 0.55, 257.0, 6000),
        ("PLTR", "Palantir Technologies Inc. Class A Common Stock", "CS", "XNAS", 1.8, 0.48, 75.0, 11000),
        ("BRK.B", "Berkshire Hathaway Inc. Class B", "CS", "XNYS", 0.8, 0.1, 451.0, 3500),
        ("JPM", "JPMorgan Chase & Co.", "CS", "XNYS", 1.1, 0.14, 240.0, 4500),
        ("BAC", "Bank of America Corporation", "CS", "XNYS", 1.2, 0.17, 44.0, 5500),
        ("WFC", "Wells Fargo & Co.", "CS", "XNYS", 1.15, 0.18, 70.0, 4000),
        ("GS", "Goldman Sachs Group Inc.", "CS", "XNYS", 1.25, 0.16, 575.0, 2500),
        ("V", "VISA Inc.", "CS", "XNYS", 0.9, 0.12, 314.0, 3800),
        ("MA", "Mastercard Incorporated", "CS", "XNYS", 0.95, 0.12, 522.0, 2500),
        ("UNH", "UnitedHealth Group Incorporated", "CS", "XNYS", 0.6, 0.22, 504.0, 3500),
        ("JNJ", "Johnson & Johnson", "CS", "XNYS", 0.5, 0.12, 144.0, 3500),
        ("PFE", "Pfizer Inc.", "CS", "XNYS", 0.6, 0.18, 26.5, 6000),
        ("MRK", "Merck & Co., Inc.", "CS", "XNYS", 0.5, 0.16, 99.0, 3200),
        ("LLY", "Eli Lilly & Co.", "CS", "XNYS", 0.6, 0.25, 778.0, 3000),
        ("XOM", "Exxon Mobil Corporation", "CS", "XNYS", 0.8, 0.19, 107.0, 4500),
        ("CVX", "Chevron Corporation", "CS", "XNYS", 0.8, 0.18, 147.0, 3500),
        ("KO", "Coca-Cola Company", "CS", "XNYS", 0.5, 0.1, 62.0, 4200),
        ("PG", "Procter & Gamble Company", "CS", "XNYS", 0.5, 0.11, 166.0, 3000),
        ("WMT", "Walmart Inc.", "CS", "XNYS", 0.6, 0.13, 90.0, 5500),
        ("HD", "Home Depot, Inc.", "CS", "XNYS", 0.95, 0.14, 388.0, 2800),
        ("MCD", "McDonald's Corporation", "CS", "XNYS", 0.55, 0.12, 292.0, 2500),
        ("DIS", "The Walt Disney Company", "CS", "XNYS", 1.05, 0.18, 111.0, 4000),
        ("BA", "Boeing Company", "CS", "XNYS", 1.3, 0.27, 171.0, 4000),
        ("CAT", "Caterpillar Inc.", "CS", "XNYS", 1.1, 0.18, 361.0, 2500),
        ("F", "Ford Motor Company", "CS", "XNYS", 1.2, 0.25, 9.7, 6500),
        ("T", "AT&T Inc.", "CS", "XNYS", 0.55, 0.15, 22.8, 5500),
        ("NKE", "Nike, Inc. Class B", "CS", "XNYS", 1.0, 0.22, 74.0, 3800),
        ("GLD", "SPDR Gold Shares", "ETF", "ARCX", 0.05, 0.14, 245.0, 3500),
        ("TLT", "iShares 20+ Year Treasury Bond ETF", "ETF", "XNAS", -0.25, 0.11, 87.5, 5000),
        ("SCHL", "Scholastic Corp", "CS", "XNAS", 0.9, 0.28, 21.0, 420),
        ("WEYS", "Weyco Group", "CS", "XNAS", 0.7, 0.26, 37.0, 160),
        ("NATH", "Nathan's Famous, Inc.", "CS", "XNAS", 0.5, 0.24, 79.0, 220),
    )
    return {str(row[0]): Stock(*row) for row in rows}


STOCKS: dict[str, Stock] = _stocks()

INDICES: dict[str, Index] = {
    index.ticker: index
    for index in (
        Index("I:SPX", "S&P 500 (SANDBOX)", 1.0, "s_and_p"),
        Index("I:NDX", "Nasdaq Composite standing in for the Nasdaq 100 (SANDBOX)", 1.0, "nasdaq"),
        Index("I:COMP", "Nasdaq Composite (SANDBOX)", 1.0, "nasdaq"),
        Index("I:VIX", "Cboe Volatility Index (SANDBOX)", 15.0, "cccy"),
        Index("I:DJI", "Dow Jones Industrial Average, synthetic (SANDBOX)", 2.0, "dow_jones"),
        Index("I:RUT", "Russell 2000, synthetic (SANDBOX)", 5.0, "ftse_russell"),
    )
}


@dataclass(frozen=True, slots=True)
class OptionRoot:
    """How the options of one underlying are listed.

    Attributes
    ----------
    monthly, weekly : str
        OCC roots of the third-Friday contracts and of all others.
    step : float
        Finest strike interval, as a fraction of the price, before rounding to a listed interval.
    dailies : int
        Sessions ahead that each have an expiration; 0 for none.
    activity : float
        Expected trades a day of the busiest contract, at density 1.
    """

    underlying: str
    monthly: str
    weekly: str
    style: str
    dailies: int
    weeklies: int
    monthlies: int
    leaps_years: int
    step: float
    activity: float
    dividend: float = 0.0
    adjusted: str = ""
    am_settled: bool = False


OPTION_UNDERLYINGS: dict[str, OptionRoot] = {
    root.underlying: root
    for root in (
        OptionRoot("SPY", "SPY", "SPY", "american", 10, 6, 12, 2, 0.0016, 900, 0.012),
        OptionRoot("QQQ", "QQQ", "QQQ", "american", 5, 5, 9, 2, 0.002, 500, 0.006),
        OptionRoot("AAPL", "AAPL", "AAPL", "american", 0, 6, 8, 2, 0.01, 260, 0.004, "AAPL1"),
        OptionRoot("MSFT", "MSFT", "MSFT", "american", 0, 6, 8, 2, 0.01, 160, 0.007),
        OptionRoot("NVDA", "NVDA", "NVDA", "american", 0, 6, 8, 2, 0.008, 380, 0.0),
        OptionRoot("TSLA", "TSLA", "TSLA", "american", 0, 6, 8, 2, 0.008, 420, 0.0, "TSLA1"),
        OptionRoot("I:SPX", "SPX", "SPXW", "european", 10, 8, 12, 3, 0.001, 600, 0.013, am_settled=True),
        OptionRoot("I:NDX", "NDX", "NDXP", "european", 5, 5, 6, 2, 0.002, 60, 0.007, am_settled=True),
        OptionRoot("I:VIX", "VIX", "VIXW", "european", 0, 5, 6, 0, 0.02, 200, am_settled=True),
    )
}
"""By underlying symbol."""
