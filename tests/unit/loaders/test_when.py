from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from massive_lab.errors import InvalidRequest
from massive_lab.loaders.when import parse_date, parse_moment, parse_range

NEW_YORK = ZoneInfo("America/New_York")
dates = st.dates(dt.date(2000, 1, 1), dt.date(2040, 1, 1))
instants = st.datetimes(dt.datetime(2000, 1, 1), dt.datetime(2040, 1, 1), timezones=st.timezones())


@given(instants)
def test_an_instant_means_the_same_nanosecond_in_every_zone(moment: dt.datetime) -> None:
    expected = (moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1) * 1_000
    assert parse_moment(moment) == expected
    assert parse_moment(moment.astimezone(dt.UTC)) == expected


@given(dates, st.integers(1, 400))
def test_a_range_of_dates_runs_from_new_york_midnight_to_new_york_midnight(start: dt.date, days: int) -> None:
    end = start + dt.timedelta(days=days)
    span = parse_range(start.isoformat(), end)
    midnights = [dt.datetime(d.year, d.month, d.day, tzinfo=NEW_YORK) for d in (start, end)]
    assert [span.start_ns, span.end_ns] == [int(m.timestamp()) * 10**9 for m in midnights]
    assert span.path_segments() == (start.isoformat(), (end - dt.timedelta(days=1)).isoformat())


def test_instants_go_over_the_wire_as_inclusive_milliseconds() -> None:
    span = parse_range("1970-01-01T00:00:01Z", "1970-01-01T00:00:02Z")
    assert span.path_segments() == ("1000", "1999")


def test_a_date_and_an_instant_may_be_mixed() -> None:
    span = parse_range("2018-12-18", dt.datetime(2018, 12, 18, 10, tzinfo=NEW_YORK))
    assert span.end_ns - span.start_ns == 10 * 3600 * 10**9
    assert not span.by_date


@pytest.mark.parametrize("naive", [dt.datetime(2025, 6, 2, 9, 30), "2025-06-02T09:30:00", "2025-06-02 09:30"], ids=str)
def test_naive_datetimes_are_refused_with_a_hint(naive: object) -> None:
    with pytest.raises(InvalidRequest, match="no time zone") as caught:
        parse_moment(naive, name="start")
    assert "offset" in caught.value.hint


@pytest.mark.parametrize("junk", ["", "yesterday", "2025-13-01", 20250602, None, 1.5])
def test_anything_else_is_refused(junk: object) -> None:
    with pytest.raises(InvalidRequest):
        parse_moment(junk)


@pytest.mark.parametrize("pair", [("2025-06-03", "2025-06-02"), ("2025-06-02", "2025-06-02")])
def test_reversed_and_empty_ranges_are_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(InvalidRequest, match="empty or reversed"):
        parse_range(*pair)


def test_an_instant_is_no_date() -> None:
    with pytest.raises(InvalidRequest, match="a date is wanted"):
        parse_date("2025-06-02T09:30:00Z")
