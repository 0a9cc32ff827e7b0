"""Option contracts as records: what is listed, filtered and sorted, for the chain and for the reference."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from massive_lab.errors import UnknownSymbol
from massive_lab.sandbox.api import MarketData
from massive_lab.sandbox.rest.envelope import bad_request
from massive_lab.sandbox.rest.params import Range, choice, day_of, ranged
from massive_lab.schema.symbols import OptionSymbol, parse_symbol

__all__ = ["SORTS", "Contract", "Filters", "find_contracts", "listed", "read_filters", "reader_of", "sorted_by"]

SORTS = ("ticker", "underlying_ticker", "expiration_date", "strike_price")


class Contract(NamedTuple):
    ticker: str
    underlying: str
    """With its prefix: ``I:SPX``."""
    root: str
    expiration: dt.date
    style: str
    mic: str
    strike: float
    multiplier: float
    is_call: bool

    @property
    def type(self) -> str:
        return "call" if self.is_call else "put"


class Filters(NamedTuple):
    kind: str
    expiration: Range[dt.date]
    strike: Range[float]

    def accepts(self, contract: Contract) -> bool:
        return (
            (not self.kind or contract.type == self.kind)
            and self.expiration.accepts(contract.expiration)
            and self.strike.accepts(contract.strike)
        )

    def choose(self, contracts: Iterable[Contract]) -> list[Contract]:
        if not self.kind and not self.expiration and not self.strike:
            return list(contracts)
        return [contract for contract in contracts if self.accepts(contract)]


def _price(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise bad_request(f"The parameter '{name}' must be a number, not '{text}'") from None


def read_filters(query: Mapping[str, str]) -> Filters:
    kind = choice(query, "contract_type", ("call", "put", "other"), "") if query.get("contract_type") else ""
    return Filters(kind, ranged(query, "expiration_date", day_of), ranged(query, "strike_price", _price))


def listed(market: MarketData, underlying: str, as_of: dt.date) -> list[Contract]:
    """All contracts of an underlying listed on a date, ascending by ticker."""
    columns = market.contracts(underlying, as_of)
    names = ("ticker", "root", "expiration", "style", "mic", "strike", "multiplier", "is_call")
    rows = zip(*(columns[name].tolist() for name in names), strict=True)
    return [Contract(row[0], underlying, *row[1:]) for row in rows]


def find_contracts(market: MarketData, tickers: Iterable[str], as_of: dt.date) -> dict[str, Contract]:
    """Contracts by ticker, of those that are listed on a date."""
    wanted: dict[str, set[str]] = {}
    for ticker in tickers:
        symbol = _parsed(ticker)
        if symbol is not None and symbol.expiration >= as_of:
            wanted.setdefault(symbol.underlying, set()).add(ticker)
    return {
        contract.ticker: contract
        for underlying, some in wanted.items()
        for contract in listed(market, underlying, as_of)
        if contract.ticker in some
    }


def _parsed(ticker: str) -> OptionSymbol | None:
    try:
        symbol = parse_symbol(ticker)
    except UnknownSymbol:
        return None
    return symbol if isinstance(symbol, OptionSymbol) else None


_KEYS: dict[str, Callable[[Contract], Any]] = {
    "ticker": lambda contract: contract.ticker,
    "underlying_ticker": lambda contract: contract.underlying,
    "expiration_date": lambda contract: contract.expiration,
    "strike_price": lambda contract: contract.strike,
}


def sorted_by(contracts: Iterable[Contract], sort: str) -> tuple[list[Contract], list[tuple[Any, str]]]:
    """Ascending by a field, then by ticker; and what each is sorted by."""
    key = _KEYS[sort]
    pairs = sorted(((key(contract), contract.ticker), contract) for contract in contracts)
    return [contract for _, contract in pairs], [at for at, _ in pairs]


def reader_of(sort: str) -> Callable[[str], Any]:
    """How a cursor's text becomes a sort value again."""
    readers: dict[str, Callable[[str], Any]] = {"expiration_date": dt.date.fromisoformat, "strike_price": float}
    return readers.get(sort, str)
