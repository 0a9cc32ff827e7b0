"""Faults of the stream over real sockets on loopback, each with the same four questions after it.

Are the ref counts right, did no event come twice, is what was missed listed, is nothing left over? `docs/faults.md` lists
every kind and the test that shows it; a test here holds that list to the tests that exist.
"""

from __future__ import annotations

import ast
import asyncio
import json
import re
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from massive_lab import telemetry as t
from massive_lab.clock import ManualClock
from massive_lab.errors import ConnectionLost
from massive_lab.live.read.tables import RollingTable
from massive_lab.transports.websocket import connect
from tests.property.upstream import JUNK, World, id_of
from tests.unit.live.conftest import Bench, Ears, Inbox, Upstream

ROOT = Path(__file__).resolve().parents[2]


def trade(n: int, symbol: str = "AAPL", **changes: Any) -> dict[str, Any]:
    return {"ev": "T", "sym": symbol, "t": 1_750_000_000_000 + n, "p": float(n), "s": 1, "x": 4, "q": n, **changes}


class Drill:
    """A hub with three readers of two topics on a scripted upstream; `after` is the examination."""

    def __init__(self, upstream: Upstream, **changes: Any) -> None:
        self.upstream = upstream
        self.bench = Bench(upstream, _policy(**changes), None)
        self.hub = self.bench.hub
        self.inboxes = [Inbox(), Inbox(), Inbox()]
        self.table = RollingTable("trades", max_rows=200_000)
        self.ears = Ears()
        self.n = 100
        self.sent: list[int] = []
        self.inboxes_of = dict(zip(("T.AAPL", "T.AAPL ", "T.MSFT"), self.inboxes, strict=True))

    async def begin(self) -> None:
        for wire, inbox in self.inboxes_of.items():
            self.hub.open(self.bench.topic(wire.strip()), [inbox, self.table], self.ears)
        await self.bench.live("T.AAPL", "T.MSFT")
        await self.push()

    async def push(self, n: int = 1) -> None:
        """So many trades of AAPL, each expected once."""
        events = [trade(self.n + k) for k in range(n)]
        self.n += n
        self.sent += [event["q"] for event in events]
        await self.upstream.push(*events)
        await self.bench.until(lambda: len(self.inboxes[0].got) >= len(self.sent))

    @property
    def server_side(self) -> Any:
        return self.upstream.connections[-1]

    async def recover(self, n_connections: int) -> None:
        """Until the socket is back; time passes meanwhile."""
        await self.bench.until(lambda: len(self.upstream.connections) >= n_connections, step_s=0.05)
        await self.bench.until(lambda: self.upstream.held[-1] == {"T.AAPL", "T.MSFT"}, step_s=0.01)
        await self.bench.live("T.AAPL", "T.MSFT")

    async def after(self, *, n_gaps: int = 0) -> None:
        await self.push()
        for inbox in self.inboxes[:2]:
            assert [event.sequence for event in inbox.got] == self.sent, "each once, in order"
        assert self.inboxes[2].got == []
        book = self.hub.book
        assert [len(book.readers(topic)) for topic in book.wanted] == [2, 1]
        assert self.upstream.double == []
        assert self.upstream.held[-1] == {"T.AAPL", "T.MSFT"}
        gaps = self.hub.gaps.rows()
        assert sorted(gap.topic.wire for gap in gaps) == sorted(["T.AAPL", "T.MSFT"] * n_gaps)
        assert all(gap.start_ns <= (gap.end_ns or 0) for gap in gaps)
        assert len([task for task in asyncio.all_tasks() if task.get_name().startswith("massive_lab")]) <= 3
        assert self.ears.lost == {}


def _policy(**changes: Any) -> Any:
    from massive_lab.live.policy import Policy

    return Policy().with_(**changes)


@pytest_asyncio.fixture
async def start() -> AsyncIterator[Callable[..., Awaitable[Drill]]]:
    upstream = Upstream()
    await upstream.start()
    drills: list[Drill] = []

    async def make(**changes: Any) -> Drill:
        drills.append(Drill(upstream, **changes))
        await drills[-1].begin()
        return drills[-1]

    yield make
    for drill in drills:
        await drill.hub.aclose()
    await upstream.stop()
    left = [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("massive_lab")]
    assert left == []


def _reset(server_side: Any) -> None:
    raw = server_side.transport.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    server_side.transport.abort()


@pytest.mark.asyncio
async def test_refused_while_nobody_listens_and_back_on_the_same_port(start):
    drill = await start(backoff_base_s=0.1)
    port = drill.upstream.port
    await drill.upstream.stop()
    await drill.bench.until(lambda: len(drill.hub.errors) >= 3, step_s=0.05)
    await drill.upstream.start(port)
    await drill.recover(2)
    await drill.after(n_gaps=1)


@pytest.mark.asyncio
async def test_dns_failure(start, monkeypatch):
    drill = await start()

    async def no_such_name(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    good, drill.hub.feed._url = drill.hub.feed._url, "ws://no-such-name.test/stocks"
    with monkeypatch.context() as patch:
        patch.setattr(asyncio.get_running_loop(), "getaddrinfo", no_such_name)
        _reset(drill.server_side)
        await drill.bench.until(lambda: len(drill.hub.errors) >= 3, step_s=0.05)
        assert "could not be reached: gaierror" in str(drill.hub.errors[-1])
    drill.hub.feed._url = good
    await drill.recover(2)
    await drill.after(n_gaps=1)


@pytest.mark.asyncio
async def test_tls_failure(start):
    drill = await start()
    with pytest.raises(ConnectionLost, match="could not be reached"):
        await connect(f"wss://127.0.0.1:{drill.upstream.port}/stocks")
    good, attempts = drill.hub.feed._connect, []

    async def by_tls(url: str, **options: Any) -> Any:
        attempts.append(url)
        return await good(url.replace("ws://", "wss://") if len(attempts) <= 2 else url, **options)

    drill.hub.feed._connect = by_tls
    _reset(drill.server_side)
    await drill.recover(2)
    assert len(attempts) == 3
    await drill.after(n_gaps=1)


@pytest.mark.asyncio
async def test_101_then_close(start):
    drill = await start()
    greeting, drill.upstream.greeting = drill.upstream.greeting, None
    _reset(drill.server_side)
    for n in (2, 3):
        await drill.bench.until(lambda n=n: len(drill.upstream.connections) >= n, step_s=0.05)
        _reset(drill.server_side)
    drill.upstream.greeting = greeting
    await drill.recover(4)
    await drill.after(n_gaps=1)


@pytest.mark.parametrize("n_bytes", [1, 3, 60], ids=["in_the_head", "in_the_length", "in_the_body"])
@pytest.mark.asyncio
async def test_reset_in_the_middle_of_a_frame(n_bytes, start):
    drill = await start()
    body = json.dumps([trade(99), trade(98)]).encode()
    drill.server_side.transport.write((bytes([0x81, 126]) + len(body).to_bytes(2, "big") + body)[:n_bytes])
    await asyncio.sleep(0)
    _reset(drill.server_side)
    await drill.recover(2)
    await drill.after(n_gaps=1)


@pytest.mark.asyncio
async def test_half_open_is_found_by_the_ping(start):
    # Seconds: a machine that is slow to answer for a moment must not pass for one that is gone.
    drill = await start(ping_s=0.05, ping_timeout_s=2.0)
    drill.server_side.transport.pause_reading()  # the ping is never answered, and nothing says goodbye
    await drill.bench.until(lambda: drill.hub.errors)
    await drill.recover(2)
    await drill.after(n_gaps=1)
    _reset(drill.upstream.connections[0])


@pytest.mark.asyncio
async def test_pongs_without_data_do_not_pass_for_data(start):
    drill = await start(stale_s={"stocks": 5.0})
    states = []
    for _ in range(120):
        if drill.server_side.close_code is not None or len(drill.upstream.connections) > 1:
            break
        await drill.server_side.pong()
        drill.bench.clock.advance(0.25)
        states.append(drill.hub.state)
        await asyncio.sleep(0.002)
    assert "stale" in states
    await drill.recover(2)
    await drill.after(n_gaps=1)


@pytest.mark.asyncio
async def test_a_frame_that_comes_byte_by_byte(start):
    drill = await start()
    body = json.dumps([trade(drill.n)]).encode()
    for byte in bytes([0x81, len(body)]) + body:
        drill.server_side.transport.write(bytes([byte]))
        await asyncio.sleep(0)
        drill.bench.clock.advance(0.05)
    drill.sent.append(drill.n)
    drill.n += 1
    await drill.after()


@pytest.mark.asyncio
async def test_a_burst_of_ten_times_the_rate(start):
    drill = await start()
    for _ in range(20):
        await drill.push(500)
    await drill.after()
    assert drill.table.frame().height == len(drill.sent), "two readers, one table, each event once"


@pytest.mark.asyncio
async def test_a_frame_of_five_megabytes(start):
    drill = await start()
    events = [trade(drill.n + k, i=str(k), c=[14, 41]) for k in range(45_000)]
    drill.n += len(events)
    drill.sent += [event["q"] for event in events]
    text = json.dumps(events)
    assert len(text) > 5_000_000
    await drill.upstream.push(raw=text)
    await drill.after()


@pytest.mark.asyncio
async def test_a_frame_beyond_the_bound_is_an_outage_and_not_memory(start):
    drill = await start()
    await drill.upstream.push(raw="[" + " " * (17 * 2**20) + "]")
    await drill.recover(2)
    await drill.after(n_gaps=1)


@pytest.mark.parametrize("kind", sorted(JUNK))
@pytest.mark.asyncio
async def test_malformed(kind, start):
    drill = await start()
    await drill.upstream.push(raw=JUNK[kind].decode() if JUNK[kind].isascii() else JUNK[kind])
    await drill.after()
    assert len(drill.upstream.connections) == 1
    assert drill.hub.counts["quarantined"] == 1
    (fault,) = drill.bench.told(t.EventQuarantined)
    assert len(fault.excerpt) <= 200


@pytest.mark.asyncio
async def test_an_unknown_event_is_counted_and_nothing_else(start):
    drill = await start()
    await drill.upstream.push({"ev": "ZZ", "sym": "AAPL"}, {"ev": "LULD", "T": "AAPL"})
    await drill.after()
    assert drill.hub.status()["unknown"] >= 1
    assert drill.hub.counts["quarantined"] == 0


@pytest.mark.parametrize("back_ms", [2, 1_000, 3_600_000], ids=["a_millisecond", "a_leap_second", "an_hour"])
@pytest.mark.asyncio
async def test_time_going_back_in_the_events(back_ms, start):
    drill = await start()
    await drill.push(3)
    late = trade(drill.n, t=1_750_000_000_000 + drill.n - back_ms)
    drill.sent.append(drill.n)
    drill.n += 1
    await drill.upstream.push(late)
    await drill.bench.until(lambda: len(drill.inboxes[0].got) == len(drill.sent))
    assert drill.table.last["AAPL"].sequence == drill.sent[-2], "an older event does not become the last"
    await drill.after()


@pytest.mark.asyncio
async def test_a_reordered_frame_loses_nothing(start):
    drill = await start()
    first, second = trade(drill.n), trade(drill.n + 1)
    drill.sent += [second["q"], first["q"]]
    drill.n += 2
    await drill.upstream.push(second)
    await drill.upstream.push(first)
    await drill.bench.until(lambda: len(drill.inboxes[0].got) == len(drill.sent))
    assert drill.table.last["AAPL"].sequence == second["q"]
    await drill.after()


@pytest.mark.asyncio
async def test_a_duplicate_frame_is_told_once(start):
    drill = await start()
    text = json.dumps([trade(drill.n), trade(drill.n + 1)])
    drill.sent += [drill.n, drill.n + 1]
    drill.n += 2
    for _ in range(3):
        await drill.upstream.push(raw=text)
    await drill.after()
    assert drill.table.frame().height == len(drill.sent)
    assert drill.hub.counts["frames"] >= 5, "received, and counted as that"


# ---- the clock


class Wall(ManualClock):
    """A clock whose time of day can be set while the seconds go on."""

    offset_ns = 0

    def now_ns(self) -> int:
        return super().now_ns() + self.offset_ns


@pytest.fixture
def world() -> Any:
    made = World(clock=Wall(1_750_000_000 * 10**9))
    yield made
    made.close()


@pytest.mark.parametrize("hours", [1, -1])
def test_the_clock_is_set(hours: int, world: World) -> None:
    reader = world.open("T.AAPL")
    world.burst("T.AAPL")
    world.clock.offset_ns = hours * 3_600 * 10**9
    world.burst("T.AAPL")
    world.advance(5.0)
    assert world.state == "live"
    assert world.rest.calls == [], "no deadline hangs on the time of day"
    world.drop()
    world.advance(5.0)
    world.burst("T.AAPL")
    assert reader.streamed == [100, 101, 102]
    assert [gap.topic.wire for gap in world.gaps] == ["T.AAPL"]
    assert len(world.upstream.sockets) == 2


@pytest.mark.parametrize("hours", [1, -1])
def test_the_clock_is_set_during_an_outage(hours: int, world: World) -> None:
    reader = world.open("T.AAPL")
    world.burst("T.AAPL")
    world.upstream.refuse = 2
    world.drop()
    world.clock.offset_ns = hours * 3_600 * 10**9
    world.advance(10.0)
    assert world.state == "live"
    assert len(world.rest.calls) <= 4, "no storm"
    world.burst("T.AAPL")
    assert [id_of(event) for event in reader.sink.got] == [100, 101]
    assert [gap.topic.wire for gap in world.gaps] == ["T.AAPL"]


# ---- the page that lists them

KINDS = (
    "refused", "DNS failure", "TLS failure", "101 then close", "auth never answered", "auth_failed", "max_connections",
    "not authorized for one of many", "close 1000", "close 1001", "close 1006", "close 1008", "close 1009", "close 1011",
    "close 1012", "close 1013", "RST mid-frame", "half-open", "mute with pings", "pongs without data", "slow drip",
    "10x burst", "frame of 5 MB", "bad UTF-8", "bad JSON", "deep JSON", "unknown ev", "missing keys", "string for number",
    "NaN and Infinity", "time going back", "duplicate frame", "reordered frame", "event-loop stall 5 s", "kernel suspend",
    "kernel restart", "client gone without close", "client that never reads", "1,000 clients reconnecting at once",
    "token expiring mid-stream", "clock jump +1 h", "clock jump -1 h", "DST", "half day", "leap second",
    "429 with Retry-After", "429 without Retry-After", "500", "502", "503", "504", "200 with error body", "truncated gzip",
    "gzip bomb", "wrong content length", "redirect off host", "page loop", "duplicate page", "empty results",
    "next_url to another host", "slow headers", "connection reset between pages",
)  # fmt: skip


def _rows() -> dict[str, tuple[str, str]]:
    text = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")]
    return {kind: (what, tests) for kind, what, tests in cells if kind != "Fault"}


def test_every_kind_has_a_row_and_no_row_is_for_nothing() -> None:
    assert list(_rows()) == list(KINDS)


def test_every_test_that_the_page_names_exists() -> None:
    for kind, (what, tests) in _rows().items():
        assert what, kind
        named = re.findall(r"`([\w/]+\.py)::(\w+)`", tests)
        assert named, kind
        for path, name in named:
            tree = ast.parse((ROOT / "tests" / path).read_text(encoding="utf-8"))
            known = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
            assert name in known, f"{kind}: {path} has no {name}"

