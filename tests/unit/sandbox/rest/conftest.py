"""A tiny market whose every number can be checked by hand, and a caller of the rules."""

from __future__ import annotations

import base64
import datetime as dt
import json
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import numpy as np
import pytest

from massive_lab.sandbox.api import Account, RestRequest
from massive_lab.sandbox.market.market import Market
from massive_lab.sandbox.rest.rules import Rest
from massive_lab.schema.plans import plan
from massive_lab.schema.session import NEW_YORK, new_york_ns, session, sessions, trading_date

FIRST, LAST = dt.date(2025, 5, 19), dt.date(2025, 6, 11)
NOW_NS = new_york_ns(dt.date(2025, 6, 6), 11, 7)
CALL = "O:TST250620C00100000"
SECOND, MINUTE = 10**9, 60 * 10**9
BASE_URL = "http://127.0.0.1:9090"


class TinyMarket:
    """One stock (TST), one index (I:TIN) and three calls on the stock; a few prints a day, some at one nanosecond."""

    def __init__(self) -> None:
        self.days = sessions(FIRST, LAST)
        self._ticks = {symbol: self._tape(symbol) for symbol in ("TST", "I:TIN", CALL)}

    def _tape(self, symbol: str) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(len(symbol))
        parts = []
        for date in self.days:
            day = session(date)
            assert day is not None
            lo = day.early_ns if symbol == "TST" else day.open_ns
            hi = day.late_ns if symbol == "TST" else day.close_ns
            minutes = np.sort(rng.choice((hi - lo) // MINUTE, 45))
            parts.append(lo + minutes * MINUTE + np.sort(rng.integers(0, 3, 45)) * 7 * SECOND)
        time = np.sort(np.concatenate(parts))
        price = np.round(100 + np.cumsum(rng.normal(0, 0.4, len(time))), 2)
        size = np.where(rng.random(len(time)) < 0.1, 0.5, rng.integers(1, 900, len(time))).astype(float)
        return {"t": time, "p": price, "s": size}

    def knows(self, symbol: str, now_ns: int) -> bool:
        return symbol in self._ticks and (symbol != CALL or now_ns >= self._ticks[CALL]["t"][0])

    def universe(self, cluster: str, now_ns: int) -> list[str]:
        return {"stocks": ["TST"], "indices": ["I:TIN"], "options": [CALL]}[cluster]

    def _cut(self, symbol: str, start_ns: int, end_ns: int) -> dict[str, np.ndarray]:
        tape = self._ticks[symbol]
        rows = slice(*np.searchsorted(tape["t"], [start_ns, end_ns]))
        return {name: column[rows] for name, column in tape.items()}

    def trades(self, symbol: str, start_ns: int, end_ns: int) -> dict[str, np.ndarray]:
        cut = self._cut(symbol, start_ns, end_ns)
        n = len(cut["t"])
        first = int(np.searchsorted(self._ticks[symbol]["t"], start_ns))
        order = np.arange(first, first + n)
        conditions = np.empty(n, dtype=object)
        conditions[:] = [(12, 37) if i % 3 == 0 else () for i in order]
        minus = np.full(n, -1)
        return {
            "sip_ns": cut["t"],
            "participant_ns": cut["t"] - 1000,
            "trf_ns": np.where(order % 5 == 0, cut["t"] - 10, -1),
            "price": cut["p"],
            "size": cut["s"],
            "exchange": np.full(n, 4),
            "tape": np.full(n, 3),
            "sequence": order * 3 + 1,
            "trf_id": np.where(order % 5 == 0, 201, -1),
            "correction": minus,
            "late": np.zeros(n, dtype=bool),
            "id": np.array([str(i) for i in order], dtype=object),
            "conditions": conditions,
        }

    def quotes(self, symbol: str, start_ns: int, end_ns: int) -> dict[str, np.ndarray]:
        cut = self._cut(symbol, start_ns, end_ns)
        n = len(cut["t"])
        first = int(np.searchsorted(self._ticks[symbol]["t"], start_ns))
        return {
            "sip_ns": cut["t"],
            "participant_ns": cut["t"] - 1000,
            "bid_price": cut["p"] - 0.01,
            "bid_size": np.full(n, 200.0),
            "bid_exchange": np.full(n, 11),
            "ask_price": cut["p"] + 0.01,
            "ask_size": np.full(n, 300.0),
            "ask_exchange": np.full(n, 12),
            "sequence": np.arange(first, first + n) + 9,
            "tape": np.full(n, 3),
            "condition": np.full(n, 1),
            "indicator": np.full(n, -1),
        }

    def values(self, symbol: str, start_ns: int, end_ns: int) -> dict[str, np.ndarray]:
        cut = self._cut(symbol, start_ns, end_ns)
        return {"ts_ns": cut["t"], "value": cut["p"]}

    def live_bars(self, symbol: str, span_ns: int, start_ns: int, end_ns: int) -> Any:
        raise NotImplementedError

    def base_bars(self, symbol: str, unit: str, start_ns: int, end_ns: int, now_ns: int) -> dict[str, np.ndarray]:
        cut = self._cut(symbol, start_ns - 2 * 86_400 * SECOND, min(end_ns + 2 * 86_400 * SECOND, now_ns + 1))
        if unit == "day":
            starts = np.array([new_york_ns(trading_date(int(t))) for t in cut["t"]], dtype=np.int64)
        else:
            width = {"second": SECOND, "minute": MINUTE}[unit]
            starts = cut["t"] // width * width
        rows = []
        for start in np.unique(starts):
            if not start_ns <= start < end_ns:
                continue
            p, s = cut["p"][starts == start], cut["s"][starts == start]
            rows.append((start, p[0], p.max(), p.min(), p[-1], s.sum(), (p * s).sum() / s.sum(), len(p)))
        table = np.array(rows, dtype=object).reshape(-1, 8)
        names = ("start_ns", "open", "high", "low", "close", "volume", "vwap", "trade_count")
        ints = {"start_ns", "trade_count"}
        out = {n: table[:, i].astype(np.int64 if n in ints else float) for i, n in enumerate(names)}
        if symbol == "I:TIN":
            out["volume"] = np.full(len(table), np.nan)
            out["vwap"] = np.full(len(table), np.nan)
            out["trade_count"] = np.full(len(table), -1)
        return out

    def session_prices(self, symbol: str, date: dt.date, now_ns: int) -> dict[str, float] | None:
        midnight = new_york_ns(date)
        bar = self.base_bars(symbol, "day", midnight, midnight + 1, now_ns)
        if date not in self.days or not len(bar["open"]):
            return None
        out = {name: float(bar[name][0]) for name in ("open", "high", "low", "close", "volume", "vwap")}
        return {**out, "previous_close": 99.0, "early_price": 98.5, "late_price": float("nan")}

    def contracts(self, underlying: str, as_of: dt.date) -> dict[str, np.ndarray]:
        rows = []
        if underlying == "TST" and as_of <= dt.date(2025, 6, 20):
            for k in (95, 100, 105):
                text = f"O:TST250620C{k * 1000:08d}"
                rows.append((text, "TST", dt.date(2025, 6, 20), "american", "XCBO", float(k), 100.0, True))
        names = ("ticker", "root", "expiration", "style", "mic", "strike", "multiplier", "is_call")
        table = np.array(rows, dtype=object).reshape(-1, 8)
        kinds = {"strike": float, "multiplier": float, "is_call": bool}
        return {name: table[:, i].astype(kinds.get(name, object)) for i, name in enumerate(names)}

    def chain(self, underlying: str, tickers: list[str], now_ns: int) -> dict[str, np.ndarray]:
        n = len(tickers)
        nan = np.full(n, np.nan)
        out = {
            f"{side}_{what}": np.full(n, v) for side, v in (("bid", 2.0), ("ask", 2.2)) for what in ("price", "size")
        }
        out |= {"bid_exchange": np.full(n, 302), "ask_exchange": np.full(n, 309), "quote_ns": np.full(n, now_ns - 5)}
        out |= {"trade_price": np.full(n, 2.1), "trade_size": np.full(n, 3.0), "trade_exchange": np.full(n, 316)}
        out |= {"trade_condition": np.full(n, 209), "trade_ns": np.full(n, now_ns - SECOND), "iv": nan, "delta": nan}
        out |= {"gamma": nan, "theta": nan, "vega": nan, "open_interest": np.full(n, 12.0)}
        names = ("day_open", "day_high", "day_low", "day_close", "day_volume", "day_vwap", "previous_close")
        return out | dict.fromkeys(names, nan)


class Caller:
    """Asks the rules as one account at one moment."""

    def __init__(self, rest: Rest, tier: str = "advanced", now_ns: int = NOW_NS, **tiers: str) -> None:
        classes = ("stocks", "options", "indices")
        self.account = Account(tier, tier, {name: plan(tiers.get(name, tier)) for name in classes})  # type: ignore[misc]
        self.rest, self.now_ns = rest, now_ns

    def raw(self, path: str, query: dict[str, Any] | None = None) -> Any:
        asked = {name: str(value) for name, value in (query or {}).items()}
        return self.rest.handle(RestRequest(path, asked, self.account, self.now_ns, BASE_URL))

    def __call__(self, path: str, query: dict[str, Any] | None = None) -> Any:
        answer = self.raw(path, query)
        assert answer.content_type == "application/json"
        assert b"null" not in answer.body
        body = json.loads(answer.body)
        return SimpleNamespace(http=answer.status, body=body, error=error_of(body))

    def get(self, path: str, query: dict[str, Any] | None = None) -> Any:
        answer = self(path, query)
        assert answer.http == 200, answer.body
        return answer.body

    def pages(self, path: str, query: dict[str, Any], most: int = 4000) -> list[dict[str, Any]]:
        out = [self.get(path, query)]
        while "next_url" in out[-1]:
            url = urlsplit(out[-1]["next_url"])
            assert out[-1]["next_url"].startswith(BASE_URL)
            assert len(out) < most, "the chain of pages does not end"
            out.append(self.get(unquote(url.path), dict(parse_qsl(url.query))))
        return out


def error_of(body: Any) -> str:
    return body.get("error", body.get("message", "")) if isinstance(body, dict) else ""


def cursor_of(next_url: str) -> dict[str, str]:
    text = dict(parse_qsl(urlsplit(next_url).query))["cursor"]
    assert "=" not in text
    return dict(parse_qsl(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode(), keep_blank_values=True))


def ny(ms: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(ms / 1000, NEW_YORK)


@pytest.fixture(scope="session")
def tiny() -> Rest:
    return Rest(TinyMarket(), 7)


@pytest.fixture(scope="session")
def market() -> Market:
    return Market(7, 0.05)


@pytest.fixture(scope="session")
def rest(market: Market) -> Rest:
    return Rest(market, 7)


@pytest.fixture(scope="session")
def call() -> type[Caller]:
    return Caller


@pytest.fixture(scope="session")
def helpers() -> Any:
    return SimpleNamespace(
        NOW_NS=NOW_NS, CALL=CALL, cursor_of=cursor_of, ny=ny, BASE_URL=BASE_URL, TinyMarket=TinyMarket
    )
