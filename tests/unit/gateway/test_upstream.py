"""What an answer of the vendor means, and what becomes of its body."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import pytest

from massive_lab.clock import SystemClock
from massive_lab.config import Secret, Settings
from massive_lab.errors import ClosedError, ConnectionLost, Timeout, UpstreamError
from massive_lab.gateway.bodies import BadBody, accepts_gzip, dress, inflate
from massive_lab.gateway.metrics import Metrics
from massive_lab.gateway.upstream import Fetched, Upstream, meaning
from massive_lab.telemetry import RequestDone, Telemetry

VENDOR = "https://api.massive.com"


def fetched(status: int, kind: str = "application/json; charset=utf-8") -> Fetched:
    return Fetched(status, {"content-type": kind}, b"{}", False, "upstream")


@pytest.mark.parametrize(
    ("found", "status"),
    [
        (fetched(200), None),
        (fetched(200, "text/csv"), None),
        (fetched(200, "image/png"), None),
        (fetched(200, "text/html"), 502),
        (fetched(200, ""), 502),
        (fetched(204), None),
        (fetched(304), 502),
        (fetched(400), None),
        (fetched(400, "text/html"), 400),
        (fetched(401), 502),
        (fetched(403), None),
        (fetched(403, "text/html"), 403),
        (fetched(404, "text/plain"), None),
        (fetched(407), 502),
        (fetched(408), 504),
        (fetched(429), None),
        (fetched(499), 504),
        (fetched(500), 502),
        (fetched(503), 503),
        (fetched(504, "text/html"), 504),
        (fetched(599), 502),
        (Timeout("late"), 504),
        (ConnectionLost("gone"), 502),
        (UpstreamError("too large", status=200), 502),
        (ClosedError("closing"), 503),
    ],
    ids=str,
)
def test_errors_keep_their_meaning(found: Any, status: int | None) -> None:
    ours = meaning(found)
    assert (None if ours is None else ours[0]) == status


def test_a_body_is_looked_into_only_where_an_address_may_be() -> None:
    damaged = b"\x1f\x8b no gzip"
    assert dress(damaged, gzipped=True, upstream_base=None, public_base="http://gw", accepts=True) == (damaged, True)
    with pytest.raises(BadBody, match="damaged"):
        dress(damaged, gzipped=True, upstream_base=VENDOR, public_base="http://gw", accepts=True)
    with pytest.raises(BadBody, match="another host"):
        dress(b'{"next_url":"https://x/"}', gzipped=False, upstream_base=VENDOR, public_base="http://gw", accepts=True)


def test_inflating_stops_at_its_bound() -> None:
    members = gzip.compress(b"a" * 600) + gzip.compress(b"b" * 400)
    assert inflate(members, 1_000) == b"a" * 600 + b"b" * 400
    with pytest.raises(BadBody, match="too large"):
        inflate(members, 999)
    with pytest.raises(BadBody, match="too large"):
        inflate(gzip.compress(b"0" * 50_000_000), 1_000_000)


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("gzip", True),
        ("GZIP", True),
        ("br;q=1, gzip;q=0.1", True),
        ("gzip;q=0.0", False),
        ("deflate", False),
        ("", False),
    ],
)
def test_who_takes_gzip(header: str, accepted: bool) -> None:
    assert accepts_gzip(header) == accepted


@pytest.mark.asyncio
async def test_the_vendor_is_asked_once_and_every_attempt_is_told_of(vendor: Any) -> None:
    told: list[Any] = []
    telemetry = Telemetry()
    telemetry.add(told.append)
    upstream = Upstream(Settings(api_key=Secret("k"), rest_url=vendor.url), telemetry, SystemClock(), Metrics())
    vendor.will(b'{"error":"x"}', 503, Retry_After="1")
    first, second = await asyncio.gather(*(upstream.fetch("/v3/trades/AAPL", "trades") for _ in range(2)))
    assert (first.status, first.source, second.source) == (503, "upstream", "shared")
    assert [(each.status, each.attempt) for each in told if isinstance(each, RequestDone)] == [(503, 1)]
    vendor.will(b"?", Content_Encoding="br")
    with pytest.raises(UpstreamError, match="not asked for"):
        await upstream.fetch("/v3/trades/AAPL", "trades")
    await upstream.aclose()
    with pytest.raises(ClosedError):
        await upstream.fetch("/v3/trades/AAPL", "trades")
