"""The typed events of the stream, as the vendor's wire spells them.

Attribute names are those of `massive_lab.schema.columns`; the wire's names are given to the parser. Times on the stream are
milliseconds; every ``ts_`` attribute is UTC nanoseconds.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta, Struct, field

__all__ = [
    "WIRE_TAGS",
    "Bar",
    "Event",
    "IndexValue",
    "Message",
    "MinuteBar",
    "Notice",
    "Quote",
    "SecondBar",
    "Status",
    "Trade",
    "Wire",
    "decimal_or",
    "to_ns",
]

_MS = 1_000_000
# A time in the wrong unit would overflow the nanoseconds of a frame; it is refused here instead.
Ms = Annotated[int, Meta(ge=0, le=9_223_372_036_854)]
# The least of 64 bits stands for a null where numbers are kept together.
Int = Annotated[int, Meta(ge=-(2**63) + 1, le=2**63 - 1)]
Below = Annotated[int, Meta(ge=0, lt=_MS)]
Text = Annotated[str, Meta(min_length=1)]
Ids: TypeAlias = "Int | tuple[Int, ...] | None"


def to_ns(stamp: int) -> int:
    """A time whose unit the vendor's texts disagree on, as nanoseconds, by its magnitude.

    Examples
    --------
    >>> to_ns(1_750_000_000_000) == to_ns(1_750_000_000_000_000) == to_ns(1_750_000_000_000_000_000)
    True
    """
    if stamp < 10**14:
        return stamp * _MS
    return stamp * 1_000 if stamp < 10**17 else stamp


class Trade(Struct, tag_field="ev", tag="T", gc=False):
    """A trade of a stock or an option.

    Attributes
    ----------
    symbol : str
    ms : int
        SIP time, UTC milliseconds, as the wire has it; see `ts_sip`.
    price : float
    whole, decimal : float, str or None
        The two ways the wire states the size; see `size`.
    conditions, exchange, tape, sequence, trade_id, trf_id
        As in the ``live_trades`` table; None when not sent.
    ts_recv : int
        UTC nanoseconds of the local receipt.
    source : str
        ``stream``, ``poll`` or ``backfill``. The vendor's events do not say; a gateway's say so of what REST brought it.
    sub_ns : int
        Nanoseconds below the millisecond of `ms`, which only events from REST know.
    """

    symbol: Text = field(name="sym")
    ms: Ms = field(name="t")
    price: float = field(name="p")
    whole: float | None = field(name="s", default=None)
    decimal: str | None = field(name="ds", default=None)
    conditions: Ids = field(name="c", default=None)
    exchange: Int | None = field(name="x", default=None)
    tape: Int | None = field(name="z", default=None)
    sequence: Int | None = field(name="q", default=None)
    trade_id: str | int | None = field(name="i", default=None)
    participant: Int | None = field(name="pt", default=None)
    trf_id: Int | None = field(name="trfi", default=None)
    trf: Int | None = field(name="trft", default=None)
    ts_recv: int = field(name="-recv", default=0)
    source: str = field(name="src", default="stream")
    sub_ns: Below = field(name="ns", default=0)

    @property
    def ts_sip(self) -> int:
        """SIP time, UTC ns."""
        return self.ms * _MS + self.sub_ns

    ts_event = ts_sip

    @property
    def staleness_ns(self) -> int:
        """How late it came, ns: `ts_recv` less `ts_event`. Meaningful once received."""
        return self.ts_recv - self.ts_event

    @property
    def ts_participant(self) -> int | None:
        """Exchange time, UTC ns."""
        return None if self.participant is None else to_ns(self.participant)

    @property
    def ts_trf(self) -> int | None:
        """Time at the trade reporting facility, UTC ns."""
        return None if self.trf is None else to_ns(self.trf)

    @property
    def size(self) -> float | None:
        """Shares or contracts, with the fraction where the vendor sent one."""
        return decimal_or(self.decimal, self.whole)


class Quote(Struct, tag_field="ev", tag="Q", gc=False):
    """A best bid and offer. A price of 0 on the wire means that side is missing; `mid_price` is then None."""

    symbol: Text = field(name="sym")
    ms: Ms = field(name="t")
    bid_price: float | None = field(name="bp", default=None)
    bid_size: float | None = field(name="bs", default=None)
    bid_exchange: Int | None = field(name="bx", default=None)
    ask_price: float | None = field(name="ap", default=None)
    ask_size: float | None = field(name="as", default=None)
    ask_exchange: Int | None = field(name="ax", default=None)
    conditions: Ids = field(name="c", default=None)
    indicators: Ids = field(name="i", default=None)
    tape: Int | None = field(name="z", default=None)
    sequence: Int | None = field(name="q", default=None)
    participant: Int | None = field(name="pt", default=None)
    ts_recv: int = field(name="-recv", default=0)
    source: str = field(name="src", default="stream")
    sub_ns: Below = field(name="ns", default=0)

    @property
    def ts_sip(self) -> int:
        """SIP time, UTC ns."""
        return self.ms * _MS + self.sub_ns

    ts_event = ts_sip

    @property
    def staleness_ns(self) -> int:
        """How late it came, ns: `ts_recv` less `ts_event`. Meaningful once received."""
        return self.ts_recv - self.ts_event

    @property
    def ts_participant(self) -> int | None:
        """Exchange time, UTC ns."""
        return None if self.participant is None else to_ns(self.participant)

    @property
    def mid_price(self) -> float | None:
        """Mean of bid and ask; None when one side is missing."""
        return (self.bid_price + self.ask_price) / 2 if self.bid_price and self.ask_price else None

    @property
    def spread(self) -> float | None:
        """Ask less bid; None when one side is missing."""
        return self.ask_price - self.bid_price if self.bid_price and self.ask_price else None


class Bar(Struct, gc=False):
    """A bar of the stream; `SecondBar` or `MinuteBar`. Sent again with the same start, it replaces the one before."""

    symbol: Text = field(name="sym")
    ms: Ms = field(name="s")
    open: float = field(name="o")
    high: float = field(name="h")
    low: float = field(name="l")
    close: float = field(name="c")
    end_ms: Ms = field(name="e", default=0)
    whole: float | None = field(name="v", default=None)
    decimal: str | None = field(name="dv", default=None)
    vwap: float | None = field(name="vw", default=None)
    day_whole: float | None = field(name="av", default=None)
    day_decimal: str | None = field(name="dav", default=None)
    day_vwap: float | None = field(name="a", default=None)
    day_open: float | None = field(name="op", default=None)
    average_size: float | None = field(name="z", default=None)
    ts_recv: int = field(name="-recv", default=0)
    source: str = field(name="src", default="stream")

    @property
    def span_ms(self) -> int:
        """Length of the interval in milliseconds."""
        return 1_000

    @property
    def ts_event(self) -> int:
        """Start of the interval, included, UTC ns."""
        return self.ms * _MS

    @property
    def ts_close(self) -> int:
        """End of the interval, excluded, UTC ns."""
        # The vendor's index samples state an end equal to the start.
        return (self.end_ms if self.end_ms > self.ms else self.ms + self.span_ms) * _MS

    @property
    def staleness_ns(self) -> int:
        """How late it came, ns: `ts_recv` less `ts_close`, for a bar is sent when it ends. Meaningful once received."""
        return self.ts_recv - self.ts_close

    @property
    def volume(self) -> float | None:
        """Shares or contracts of the interval; None for indices."""
        return decimal_or(self.decimal, self.whole)

    @property
    def day_volume(self) -> float | None:
        """Shares or contracts of the day so far; None for indices."""
        return decimal_or(self.day_decimal, self.day_whole)


class SecondBar(Bar, tag_field="ev", tag="A", gc=False):
    """A bar of one second."""


class MinuteBar(Bar, tag_field="ev", tag="AM", gc=False):
    """A bar of one minute."""

    @property
    def span_ms(self) -> int:
        """Length of the interval in milliseconds."""
        return 60_000


class IndexValue(Struct, tag_field="ev", tag="V", gc=False):
    """A value of an index."""

    symbol: Text = field(name="T")
    ms: Ms = field(name="t")
    value: float = field(name="val")
    ts_recv: int = field(name="-recv", default=0)
    source: str = field(name="src", default="stream")
    sub_ns: Below = field(name="ns", default=0)

    @property
    def ts_event(self) -> int:
        """Time of the value, UTC ns."""
        return self.ms * _MS + self.sub_ns

    @property
    def staleness_ns(self) -> int:
        """How late it came, ns: `ts_recv` less `ts_event`. Meaningful once received."""
        return self.ts_recv - self.ts_event


class Notice(Struct, gc=False):
    """Limit bands, imbalances and fair values: read so that they do no harm, delivered by a later release."""

    symbol: str | None = field(name="sym", default=None)
    ticker: str | None = field(name="T", default=None)
    stamp: Int | None = field(name="t", default=None)


class _Limits(Notice, tag_field="ev", tag="LULD", gc=False): ...


class _Imbalance(Notice, tag_field="ev", tag="NOI", gc=False): ...


class _FairValue(Notice, tag_field="ev", tag="FMV", gc=False): ...


class _LaunchpadValue(Notice, tag_field="ev", tag="LV", gc=False): ...


class Status(Struct, tag_field="ev", tag="status", gc=False):
    """A control message of the server."""

    status: str = ""
    message: str = ""


Event: TypeAlias = Trade | Quote | SecondBar | MinuteBar | IndexValue
Message: TypeAlias = Event | Notice | Status
Wire: TypeAlias = (
    Trade | Quote | SecondBar | MinuteBar | IndexValue | _Limits | _Imbalance | _FairValue | _LaunchpadValue | Status
)
WIRE_TAGS = frozenset({"T", "Q", "A", "AM", "V", "LULD", "NOI", "FMV", "LV", "status"})


def decimal_or(decimal: str | None, whole: float | None) -> float | None:
    """The decimal text where it is a usable number, else the plain number.

    Examples
    --------
    >>> decimal_or("0.25", 0.0), decimal_or(None, 3.0), decimal_or("?", 3.0), decimal_or("inf", 3.0)
    (0.25, 3.0, 3.0, 3.0)
    """
    if decimal is None:
        return whole
    try:
        value = float(decimal)
    except ValueError:
        return whole
    return value if 0 <= value < float("inf") else whole
