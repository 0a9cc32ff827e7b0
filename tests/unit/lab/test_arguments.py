"""Whatever a caller gets wrong is told as `InvalidRequest` before anything is sent: nothing listens at this client's address."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

import massive_lab as ml
from massive_lab.errors import ConfigError, InvalidRequest
from massive_lab.loaders.chains import _filters
from massive_lab.loaders.when import parse_moment, parse_range

NOWHERE = {"rest_url": "http://127.0.0.1:9", "ws_url": "ws://127.0.0.1:9"}
DAY, NEXT = "2018-12-18", "2018-12-19"
JUNK = [0, 2.5, float("nan"), float("inf"), "", "x", b"x", [], {}, {1, 2}, slice(1, 2), object(), (1, "a"), True]

CALLS: dict[str, Callable[[ml.Lab[Any], Any], object]] = {
    "bars symbols": lambda lab, x: lab.bars([x], "1d", DAY, NEXT),
    "bars timeframe": lambda lab, x: lab.bars("AAPL", x, DAY, NEXT),
    "bars start": lambda lab, x: lab.bars("AAPL", "1d", x, NEXT),
    "bars end": lambda lab, x: lab.bars("AAPL", "1d", DAY, x),
    "bars adjustment": lambda lab, x: lab.bars("AAPL", "1d", DAY, NEXT, adjustment=x),
    "bars frame": lambda lab, x: lab.bars("AAPL", "1d", DAY, NEXT, frame=x),
    "grouped_daily": lambda lab, x: lab.grouped_daily(x),
    "open_close": lambda lab, x: lab.open_close("AAPL", x),
    "last kind": lambda lab, x: lab.last("AAPL", kind=x),
    "snapshot errors": lambda lab, x: lab.snapshot("AAPL", errors=x),
    "chain expiration": lambda lab, x: lab.chain("AAPL", expiration=[x, x, x]),
    "chain strike": lambda lab, x: lab.chain("AAPL", strike=str(x)),
    "chain option_type": lambda lab, x: lab.chain("AAPL", option_type=x),
    "indicator": lambda lab, x: lab.server_indicator("AAPL", x, DAY, NEXT),
    "indicator period": lambda lab, x: lab.server_indicator("AAPL", "ema", DAY, NEXT, period=x),
    "indicator slow": lambda lab, x: lab.server_indicator("AAPL", "macd", DAY, NEXT, slow=x),
    "indicator column": lambda lab, x: lab.server_indicator("AAPL", "ema", DAY, NEXT, column=x),
    "tickers market": lambda lab, x: lab.tickers(market=x),
    "exchanges": lambda lab, x: lab.exchanges(asset_class=x),
    "conditions": lambda lab, x: lab.conditions(asset_class=x),
    "regime as_of": lambda lab, x: lab.regime(as_of=x),
    "regime years": lambda lab, x: lab.regime(as_of=DAY, years=repr(x)),  # type: ignore[arg-type]
    "live channels": lambda lab, x: lab.live("AAPL", [x]),
}


@pytest.fixture(scope="module")
def lab() -> Iterator[ml.Lab[Any]]:
    with ml.connect("sandbox", sandbox=NOWHERE, max_attempts=1) as lab:
        yield lab


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("junk", JUNK, ids=repr)
def test_junk_is_refused_before_anything_is_sent(lab: ml.Lab[Any], name: str, junk: object) -> None:
    with pytest.raises((InvalidRequest, ml.UnknownSymbol)):
        CALLS[name](lab, junk)
    assert lab.load_report().requests == 0


@pytest.mark.parametrize(
    "moment",
    [
        dt.date.min,
        dt.date.max,
        "1969-12-31",
        "2262-01-01",
        dt.datetime.min.replace(tzinfo=dt.timezone(dt.timedelta(hours=14))),
        dt.datetime.max.replace(tzinfo=dt.timezone(-dt.timedelta(hours=12))),
    ],
    ids=str,
)
def test_times_that_nanoseconds_cannot_hold_are_refused(lab: ml.Lab[Any], moment: Any) -> None:
    with pytest.raises(InvalidRequest, match="outside 1970 to 2261"):
        lab.bars("AAPL", "1d", moment, NEXT)
    with pytest.raises(InvalidRequest, match="outside 1970 to 2261"):
        lab.bars("AAPL", "1d", DAY, moment)


def test_no_nanosecond_is_lost() -> None:
    text = "2018-12-18T10:00:00.123456789-05:00"
    stamp = pd.Timestamp(text)
    assert parse_moment(text) == parse_moment(stamp) == stamp.value
    assert parse_moment("2018-12-18T15:00:00.1234567Z") == stamp.value - 89
    assert parse_range(text, "2018-12-18T10:00:00.123456790-05:00").end_ns == stamp.value + 1


@pytest.mark.parametrize(
    ("strike", "wire"), [(np.int64(110), "110"), (np.float64(2.5), "2.5"), (12345.5, "12345.5"), (99999, "99999")]
)
def test_strikes_go_over_the_wire_in_full(strike: object, wire: str) -> None:
    assert _filters(None, strike, None) == {"strike_price": wire}


def test_one_channel_may_be_written_alone(lab: ml.Lab[Any]) -> None:
    with lab.live("AAPL", "AM") as live:
        assert live.topics().height <= 1
        with pytest.raises(InvalidRequest, match="no topic T"):
            live.trades()


@pytest.mark.parametrize(
    "arguments",
    [
        {"frame": "arrow"},
        {"timeout_s": "x"},
        {"timeout_s": -1},
        {"rest_url": 3},
        {"nonsense": 1},
        {"sandbox": "http://127.0.0.1:9"},
    ],
    ids=str,
)
def test_a_refused_connect_starts_nothing(monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any]) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr("subprocess.Popen", refuse)
    with pytest.raises((ConfigError, InvalidRequest)):
        ml.connect("sandbox", **arguments)
