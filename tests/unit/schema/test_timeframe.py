from __future__ import annotations

import pytest

from massive_lab.errors import InvalidRequest
from massive_lab.schema.timeframe import Timeframe, parse_timeframe

NS = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "timespan", "duration_ns", "offset"),
    [
        ("1s", "second", NS, None),
        ("1m", "minute", 60 * NS, None),
        ("5m", "minute", 300 * NS, None),
        ("2h", "hour", 7200 * NS, None),
        ("9999s", "second", 9999 * NS, None),
        ("1d", "day", None, "1d"),
        ("2w", "week", None, "2w"),
        ("1mo", "month", None, "1mo"),
        ("2q", "quarter", None, "6mo"),
        ("1y", "year", None, "1y"),
    ],
)
def test_timeframes(text: str, timespan: str, duration_ns: int | None, offset: str | None) -> None:
    parsed = parse_timeframe(text)
    assert (parsed.timespan, parsed.duration_ns, parsed.calendar_offset) == (timespan, duration_ns, offset)
    assert parsed.is_intraday == (duration_ns is not None)
    assert str(parsed) == text
    assert parse_timeframe(parsed) is parsed
    assert parse_timeframe(str(parsed)) == parsed
    assert hash(parse_timeframe(text)) == hash(Timeframe(parsed.multiplier, parsed.unit))


@pytest.mark.parametrize(
    "value",
    ["", "m", "1", "0m", "01m", "-1m", "1.5m", "10000s", "1M", "1min", "1 m", " 1m", "1m ", "1m\n", "1mo1", "\u0661m",
     "1\u0663m", "\uff15m", None, 1, 5.0, True, b"1m", ["1m"], {"1m"}, ("1m", "2m")],
    ids=repr,
)  # fmt: skip
def test_anything_else_is_the_typed_error_hashable_or_not(value: object) -> None:
    with pytest.raises(InvalidRequest, match=r"is not a timeframe.*'m' minutes, 'mo' months"):
        parse_timeframe(value)
