"""Sessions against dates that are known: half days, clock changes, holidays planned and unplanned."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import pytest

from massive_lab.errors import InvalidRequest
from massive_lab.schema.session import NEW_YORK, Session, new_york_ns, phase_at, session, sessions, trading_date

NS = 1_000_000_000
UTC = dt.UTC


def utc_ns(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * NS


def day(text: str) -> dt.date:
    return dt.date.fromisoformat(text)


def must(text: str) -> Session:
    found = session(day(text))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("date", "early", "opening", "closing", "late"),
    [
        # winter and summer time; New York is UTC-5 or UTC-4
        ("2025-01-15", "2025-01-15T09:00", "2025-01-15T14:30", "2025-01-15T21:00", "2025-01-16T01:00"),
        ("2025-06-02", "2025-06-02T08:00", "2025-06-02T13:30", "2025-06-02T20:00", "2025-06-03T00:00"),
        # the days around both clock changes
        ("2025-03-07", "2025-03-07T09:00", "2025-03-07T14:30", "2025-03-07T21:00", "2025-03-08T01:00"),
        ("2025-03-10", "2025-03-10T08:00", "2025-03-10T13:30", "2025-03-10T20:00", "2025-03-11T00:00"),
        ("2025-10-31", "2025-10-31T08:00", "2025-10-31T13:30", "2025-10-31T20:00", "2025-11-01T00:00"),
        ("2025-11-03", "2025-11-03T09:00", "2025-11-03T14:30", "2025-11-03T21:00", "2025-11-04T01:00"),
        # before 2007 summer time began in April
        ("2006-03-31", "2006-03-31T09:00", "2006-03-31T14:30", "2006-03-31T21:00", "2006-04-01T01:00"),
        ("2006-04-03", "2006-04-03T08:00", "2006-04-03T13:30", "2006-04-03T20:00", "2006-04-04T00:00"),
        # half days close at 13:00 and end at 17:00
        ("2018-11-23", "2018-11-23T09:00", "2018-11-23T14:30", "2018-11-23T18:00", "2018-11-23T22:00"),
        ("2018-07-03", "2018-07-03T08:00", "2018-07-03T13:30", "2018-07-03T17:00", "2018-07-03T21:00"),
        ("2018-12-24", "2018-12-24T09:00", "2018-12-24T14:30", "2018-12-24T18:00", "2018-12-24T22:00"),
        ("2025-07-03", "2025-07-03T08:00", "2025-07-03T13:30", "2025-07-03T17:00", "2025-07-03T21:00"),
    ],
)
def test_bounds(date: str, early: str, opening: str, closing: str, late: str) -> None:
    found = must(date)
    assert (found.early_ns, found.open_ns, found.close_ns, found.late_ns) == tuple(
        utc_ns(text) for text in (early, opening, closing, late)
    )
    assert found.date == day(date)
    assert found.is_half_day == (closing[-5:] in ("17:00", "18:00"))
    for value in (found.early_ns, found.open_ns, found.close_ns, found.late_ns):
        assert type(value) is int


@pytest.mark.parametrize(
    "date",
    [
        "2018-12-05",  # day of mourning for George H. W. Bush
        "2025-01-09",  # and for Jimmy Carter
        "2012-10-29",  # hurricane Sandy
        "2012-10-30",
        "2001-09-11",
        "2001-09-14",
        "2007-01-02",  # day of mourning for Gerald Ford
        "2025-12-25",
        "2025-04-18",  # Good Friday
        "2021-06-18",  # not yet Juneteenth: open, see below
        "2022-06-20",  # Juneteenth, observed
        "2025-06-01",  # Sunday
        "2025-06-07",  # Saturday
        "2022-12-26",
        "2023-01-02",
    ],
)
def test_closed_and_open_days(date: str) -> None:
    closed = date != "2021-06-18"
    assert (session(day(date)) is None) == closed
    assert sessions(day(date), day(date) + dt.timedelta(days=1)) == ([] if closed else [day(date)])
    if closed:
        assert {phase_at(new_york_ns(day(date), hour)) for hour in range(24)} == {"closed"}


@pytest.mark.parametrize("date", ["2025-06-02", "2025-01-15", "2018-11-23", "2018-07-03", "2025-03-10", "2025-11-03"])
def test_phases_are_half_open_at_every_boundary(date: str) -> None:
    found = must(date)
    bounds = [
        (found.early_ns, "closed", "early"),
        (found.open_ns, "early", "regular"),
        (found.close_ns, "regular", "late"),
        (found.late_ns, "late", "closed"),
    ]
    for at_ns, before, after in bounds:
        assert (phase_at(at_ns - 1), phase_at(at_ns), phase_at(at_ns + 1)) == (before, after, after)


def test_a_half_day_is_late_from_one_and_over_at_five() -> None:
    date = day("2018-11-23")
    assert [phase_at(new_york_ns(date, hour)) for hour in (3, 4, 9, 10, 12, 13, 16, 17, 19)] == [
        "closed", "early", "early", "regular", "regular", "late", "late", "closed", "closed",
    ]  # fmt: skip


def test_late_trading_belongs_to_its_new_york_date_also_after_midnight_in_utc() -> None:
    at_ns = utc_ns("2025-01-16T00:59:59")
    assert trading_date(at_ns) == day("2025-01-15")
    assert phase_at(at_ns) == "late"
    assert phase_at(utc_ns("2025-01-16T01:00:00")) == "closed"


@pytest.mark.parametrize(
    ("at", "date"),
    [
        ("2025-06-02T03:59:59", "2025-06-01"),
        ("2025-06-02T04:00:00", "2025-06-02"),
        ("2025-01-15T04:59:59", "2025-01-14"),
        ("2025-01-15T05:00:00", "2025-01-15"),
        ("1969-12-31T12:00:00", "1969-12-31"),
    ],
)
def test_the_new_york_date_of_an_instant(at: str, date: str) -> None:
    assert trading_date(utc_ns(at)) == day(date)
    assert trading_date(utc_ns(at) + NS - 1) == day(date)


def test_a_nanosecond_before_midnight_is_the_day_before() -> None:
    midnight = new_york_ns(day("2025-06-02"))
    assert (trading_date(midnight - 1), trading_date(midnight)) == (day("2025-06-01"), day("2025-06-02"))


@pytest.mark.parametrize(
    ("date", "hour", "at"),
    [
        ("2025-03-09", 1, "2025-03-09T06:00"),
        ("2025-03-09", 3, "2025-03-09T07:00"),
        ("2025-11-02", 0, "2025-11-02T04:00"),
        ("2025-11-02", 2, "2025-11-02T07:00"),
    ],
)
def test_wall_clocks_on_the_nights_of_the_change(date: str, hour: int, at: str) -> None:
    assert new_york_ns(day(date), hour) == utc_ns(at)
    assert new_york_ns(day(date), hour, 7) == utc_ns(at) + 7 * 60 * NS


def test_ranges_are_half_open_and_ascending() -> None:
    week = [day(f"2018-12-{n:02}") for n in (3, 4, 6, 7)]  # without Wednesday the fifth
    assert sessions(day("2018-12-03"), day("2018-12-08")) == week
    assert sessions(day("2018-12-01"), day("2018-12-07")) == week[:3]
    assert sessions(day("2018-12-04"), day("2018-12-04")) == []
    assert sessions(day("2018-12-07"), day("2018-12-03")) == []
    assert sessions(day("2018-12-08"), day("2018-12-10")) == []


@pytest.mark.parametrize(("year", "n"), [(1990, 253), (2001, 248), (2012, 250), (2018, 251), (2020, 253), (2024, 252)])
def test_a_year_has_as_many_sessions_as_it_had(year: int, n: int) -> None:
    found = sessions(dt.date(year, 1, 1) if year > 1990 else dt.date(1990, 1, 2), dt.date(year + 1, 1, 1))
    assert len(found) == n
    assert found == sorted(set(found))
    assert all(type(date) is dt.date for date in found)
    assert all(session(date) is not None for date in found)


def test_all_sessions_of_three_decades_are_in_order_and_of_known_lengths() -> None:
    lengths: set[int] = set()
    last = 0
    for date in sessions(dt.date(1993, 1, 4), dt.date(2025, 1, 1)):
        found = session(date)
        assert found is not None
        assert last <= found.early_ns < found.open_ns < found.close_ns < found.late_ns
        last = found.late_ns
        assert dt.datetime.fromtimestamp(found.early_ns // NS, NEW_YORK).hour == 4
        assert trading_date(found.late_ns - 1) == date
        lengths.add((found.close_ns - found.open_ns) // NS // 60)
    # 6:30; half days 3:30; and the days the exchange opened late or closed early for reasons of its own.
    assert {390, 210} <= lengths
    assert max(lengths) == 390


@pytest.mark.parametrize("date", [dt.date(1989, 12, 29), dt.date(1, 1, 1), dt.date(9999, 12, 31), dt.date(1990, 1, 1)])
def test_dates_outside_the_calendar_are_told_and_not_guessed(date: dt.date) -> None:
    with pytest.raises(InvalidRequest, match=r"covers 1990-01-02 to .* is outside"):
        session(date)
    with pytest.raises(InvalidRequest, match="is outside"):
        sessions(min(date, day("2025-06-02")), max(date, day("2025-06-02")))


def test_the_last_day_of_a_range_is_what_must_be_covered_and_not_its_open_end() -> None:
    with pytest.raises(InvalidRequest) as caught:
        session(dt.date(9999, 12, 31))
    last = day(str(caught.value).split(" to ")[1][:10])
    assert sessions(last, last + dt.timedelta(days=1)) == [last]
    with pytest.raises(InvalidRequest):
        sessions(last, last + dt.timedelta(days=2))


@pytest.mark.parametrize("value", ["2025-06-02", None, 20250602, dt.datetime(2025, 6, 2, tzinfo=UTC)], ids=repr)
def test_what_is_no_date_is_a_typed_error(value: object) -> None:
    with pytest.raises(InvalidRequest, match="is not a date"):
        session(value)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match="is not a date"):
        sessions(value, day("2025-06-03"))  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match="is not a date"):
        sessions(day("2025-06-02"), value)  # type: ignore[arg-type]


def test_new_york_is_new_york() -> None:
    assert ZoneInfo("America/New_York") == NEW_YORK
