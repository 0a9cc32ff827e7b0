"""Replicas on a real NATS server, with a sandbox for their vendor: whatever dies, the rows are those of the history."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import pytest_asyncio
from msgspec import Raw

from massive_lab.clock import SystemClock
from massive_lab.config import Secret, Settings
from massive_lab.errors import Unauthorized
from massive_lab.gateway.bus.follower import Replica
from massive_lab.gateway.bus.lease import decode_record
from massive_lab.gateway.bus.messages import Events, State, Subjects, encode
from massive_lab.gateway.bus.nats import Bus
from massive_lab.gateway.bus.policy import BusPolicy
from massive_lab.live.hub import Hub
from massive_lab.live.readers import HubReader, Listener
from massive_lab.live.topics import Topic
from massive_lab.loaders.backfill import Backfiller
from massive_lab.loaders.session import Session
from massive_lab.sandbox import SandboxProcess
from massive_lab.telemetry import Telemetry
from tests.e2e.nats_server import NatsServer

WAIT_S = 120.0
TIMEOUT_S = 1.0
POLICY = {"lease_s": 3.0, "beat_s": 0.1, "dead_s": 3.0, "idle_s": 1.0}
WIRES = ("T.SPY", "T.AAPL")


async def until(condition: Callable[[], object], what: str = "", tell: Callable[[], object] = str) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, f"it never came true: {what} ({tell()})"
        await asyncio.sleep(0.01)


class Wall:
    """A way to the server that can be closed without a word, as a network does it."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._is_open = asyncio.Event()
        self._is_open.set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, towards = await asyncio.open_connection("127.0.0.1", self._target)
        for source, target in ((reader, towards), (there, writer)):
            self._tasks.add(asyncio.ensure_future(self._carry(source, target)))

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65_536):
                await self._is_open.wait()
                target.write(data)
                await target.drain()
        except OSError:
            pass  # the other side is gone: so is this one
        finally:
            target.close()

    def shut(self) -> None:
        self._is_open.clear()

    def open(self) -> None:
        self._is_open.set()

    async def stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()


class Process:
    """A replica in a process of its own."""

    def __init__(self, bus: str, sandbox: SandboxProcess, topics: tuple[str, ...] = WIRES) -> None:
        asked = {
            "bus": bus, "ws_url": sandbox.ws_url, "key": sandbox.key, "policy": POLICY, "timeout_s": TIMEOUT_S, "topics": topics,
        }  # fmt: skip
        script = Path(__file__).with_name("bus_replica.py")
        environ = {**os.environ, "PYTHONPATH": str(script.parents[2])}
        command = [sys.executable, str(script), json.dumps(asked)]
        self.child = subprocess.Popen(command, stdout=subprocess.PIPE, env=environ)
        self.said: list[str] = []

    async def listen(self) -> None:
        assert self.child.stdout is not None
        while line := await asyncio.to_thread(self.child.stdout.readline):
            self.said.append(line.decode().strip())

    def kill(self) -> None:
        self.child.kill()
        self.child.wait(WAIT_S)


class Inbox:
    def __init__(self) -> None:
        self.inbox: list[Any] = []
        self.got: list[Any] = []

    def flush(self) -> int:
        self.got.extend(self.inbox)
        self.inbox.clear()
        return 0


class Ears(Listener):
    def __init__(self) -> None:
        self.lost: dict[str, str] = {}

    def failed(self, topic: Topic, error: Exception) -> None:
        self.lost[topic.wire] = str(error)


class Site:
    """A replica in this process: a hub on the bus, with the stitch, and what it delivers."""

    def __init__(self, bus_url: str, sandbox: SandboxProcess, *, key: str | None = None, **policy: float) -> None:
        clock = SystemClock()
        self.settings = Settings(
            Secret(key or sandbox.key), rest_url=sandbox.rest_url, ws_url=sandbox.ws_url, sandbox=True
        )
        self.bus = Bus(bus_url, timeout_s=TIMEOUT_S)
        self.replica = Replica(
            self.bus, self.settings, "stocks", clock=clock, bus_policy=BusPolicy(**{**POLICY, **policy})
        )
        self.hub = Hub(
            "stocks", f"{sandbox.ws_url}/stocks", self.settings.api_key, clock=clock, connector=self.replica,
            is_synthetic=True,
        )  # fmt: skip
        self.telemetry = Telemetry()
        self.session = Session(self.settings, telemetry=self.telemetry, clock=clock)
        self.filler = Backfiller(self.session)
        self.hub.join(self.telemetry, filler=self.filler)
        self.sink = Inbox()
        self.ears = Ears()
        self.readers: list[HubReader] = []

    def open(self, *wires: str) -> None:
        for wire in wires:
            self.readers.append(self.hub.open(Topic.parse("stocks", wire), [self.sink], self.ears))

    def is_live(self, *wires: str) -> bool:
        return all(self.hub.is_confirmed(Topic.parse("stocks", wire)) for wire in wires or WIRES)

    async def flows(self) -> None:
        """Wait until every topic is confirmed, no gap is open, and new trades are streamed."""
        await until(self.is_live, "topics are confirmed", self.tell)
        n = self.n_streamed()
        await until(lambda: self.n_streamed() > n + 20, "trades are streamed", self.tell)
        await until(lambda: all(span.is_over for span in self.hub.gaps.rows()), "gaps are decided", self.tell)

    def tell(self) -> str:
        replica = self.replica
        return (
            f"{self.hub.state} {self.hub.counts} {replica.status()} {list(replica.aside)} {list(self.hub.errors)[-3:]}"
        )

    def n_streamed(self) -> int:
        return sum(event.source == "stream" for event in self.sink.got)

    async def check(self) -> int:
        """What was delivered is the history, each print once; how many rows."""
        spans = self.hub.gaps.rows()
        assert {span.state for span in spans} <= {"filled"}, [
            (span.topic.wire, span.state, span.reason) for span in spans
        ]
        n = 0
        for wire in WIRES:
            symbol = wire.removeprefix("T.")
            mine = [event for event in self.sink.got if event.symbol == symbol]
            first, last = min(e.ms for e in mine) + 1, max(e.ms for e in mine)
            filled = await self.filler.fill("stocks", "T", symbol, first * 10**6, last * 10**6, max_rows=200_000)
            assert filled.is_whole
            frame = filled.frame.with_columns(ms=pl.col("ts_sip").dt.epoch("ms"))
            history = Counter(frame.select("ms", "price", "size", "exchange").rows())
            told = Counter((e.ms, e.price, e.size, e.exchange) for e in mine if first <= e.ms < last)
            assert told - history == Counter(), "delivered twice, or of no history"
            assert history - told == Counter(), "missing"
            n += told.total()
        return n

    async def close(self) -> None:
        await self.hub.aclose()
        await self.replica.aclose()
        await self.bus.aclose()
        await self.session.aclose()


@pytest.fixture(scope="module")
def market() -> Iterator[SandboxProcess]:
    with SandboxProcess(seed=7, speed=8.0, density=20.0) as process:
        yield process


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest_asyncio.fixture
async def make_site(market: SandboxProcess, nats_server: NatsServer) -> AsyncIterator[Callable[..., Site]]:
    market.control.reset_faults()
    made: list[Site] = []

    def make(url: str | None = None, **changes: Any) -> Site:
        made.append(Site(url or nats_server.url, market, **changes))
        return made[-1]

    yield make
    for site in made:
        await site.close()
    left = [task.get_name() for task in asyncio.all_tasks() if "massive_lab" in task.get_name()]
    assert not left


@asynccontextmanager
async def process(bus: str, sandbox: SandboxProcess, topics: tuple[str, ...] = WIRES) -> AsyncIterator[Process]:
    child = Process(bus, sandbox, topics)
    listening = asyncio.ensure_future(child.listen())
    try:
        yield child
    finally:
        child.kill()
        await listening
        assert child.child.stdout is not None
        child.child.stdout.close()


def n_upstream(market: SandboxProcess) -> int:
    return sum(each["open"] for each in market.control.connections() if each["cluster"] == "stocks")


@pytest.mark.asyncio
async def test_a_leader_is_killed_under_load_and_no_row_is_lost_or_told_twice(market, nats_server, make_site):
    async with process(nats_server.url, market) as leader:
        await until(lambda: "leads live" in leader.said, "the other process leads")
        site = make_site()
        site.open(*WIRES)
        await site.flows()
        assert not site.replica.is_leader
        assert n_upstream(market) == 1
        epoch = site.replica.fence.epoch
        leader.kill()
        await until(lambda: site.replica.is_leader, "this process leads")
        await site.flows()
        assert site.replica.fence.epoch > epoch
        assert n_upstream(market) == 1
        assert {span.topic.wire for span in site.hub.gaps.rows()} == set(WIRES)
        assert {event.source for event in site.sink.got} == {"stream", "backfill"}
        assert await site.check() > 10


@pytest.mark.asyncio
async def test_a_leader_that_is_stopped_hands_over(market, nats_server, make_site):
    first = make_site()
    first.open(*WIRES)
    await until(lambda: first.replica.is_leader, "the first leads")
    second = make_site(lease_s=60.0)
    second.open(*WIRES)
    await second.flows()
    await first.close()
    # The record is looked at because the leader has said so: the next look by itself is due in 15 s.
    await until(lambda: second.replica.is_leader, "the second leads")
    await second.flows()
    assert n_upstream(market) == 1
    assert await second.check() > 10


@pytest.mark.asyncio
async def test_a_leader_behind_a_wall_stops_by_itself_and_comes_back_as_a_follower(market, nats_server, make_site):
    wall = Wall(nats_server.port)
    cut = make_site(await wall.start())
    try:
        cut.open(*WIRES)
        await until(lambda: cut.replica.is_leader, "the first leads")
        other = make_site()
        other.open(*WIRES)
        await asyncio.gather(cut.flows(), other.flows())
        epoch = other.replica.fence.epoch
        wall.shut()
        await until(lambda: other.replica.is_leader, "the other leads")
        await until(lambda: not cut.replica.is_leader, "the first has noticed")
        assert other.replica.fence.epoch > epoch
        await other.flows()
        assert n_upstream(market) == 1
        assert cut.hub.state != "live"
        wall.open()
        await cut.flows()
        assert not cut.replica.is_leader
        assert n_upstream(market) == 1
        await other.flows()
        assert await other.check() > 10
        assert await cut.check() > 10
    finally:
        await wall.stop()


@pytest.mark.asyncio
@pytest.mark.parametrize("store", ["kept", "lost"])
async def test_a_bus_that_is_started_again_is_an_outage_like_any_other(market, nats_server, make_site, tmp_path, store):
    sites = [make_site(), make_site()]
    for site in sites:
        site.open(*WIRES)
    await asyncio.gather(*(site.flows() for site in sites))
    epoch = sites[0].replica.fence.epoch
    # A store is known by the second it was made in.
    await until(lambda: time.time() >= (epoch >> 30) + 1, "the next second")
    nats_server.stop(signal.SIGKILL)
    await until(lambda: not any(site.hub.state == "live" for site in sites), "everybody has noticed")
    if store == "lost":
        shutil.rmtree(tmp_path / "jetstream")
    nats_server.start()
    await asyncio.gather(*(site.flows() for site in sites))
    assert sites[0].replica.fence.epoch == sites[1].replica.fence.epoch > epoch
    assert sorted(site.replica.is_leader for site in sites) == [False, True]
    assert n_upstream(market) == 1
    for site in sites:
        assert await site.check() > 10


@pytest.mark.asyncio
async def test_max_connections_makes_all_replicas_stand_back(market, nats_server, make_site):
    stranger = Bus(nats_server.url)
    await stranger.open()
    records: list[bytes] = []
    await stranger.subscribe("$KV.>", records.append)
    sites = [make_site(rest_s=5.0), make_site(rest_s=5.0)]
    for site in sites:
        site.open(*WIRES)
    await asyncio.gather(*(site.flows() for site in sites))
    n_terms = sum(site.replica.elector.n_terms for site in sites)
    foreign = Hub("stocks", f"{market.ws_url}/stocks", Secret(market.key), clock=SystemClock())
    foreign.open(Topic.parse("stocks", "T.MSFT"), [Inbox()])
    try:
        await until(lambda: not any(site.replica.is_leader for site in sites), "the leader stepped down")
        await until(lambda: foreign.state == "live", "the other program is served")
        assert n_upstream(market) == 1
        assert not any(site.hub.state == "live" for site in sites)
    finally:
        await foreign.aclose()
    await until(lambda: any(site.replica.is_leader for site in sites), "a replica leads again")
    assert sum(site.replica.elector.n_terms for site in sites) == n_terms + 1
    given_back = [record for record in (decode_record(data, 1.0) for data in records) if not record.holder]
    assert [(record.rest_s, record.why.partition(":")[0]) for record in given_back] == [(5.0, "evicted")]
    await stranger.aclose()
    await asyncio.gather(*(site.flows() for site in sites))
    for site in sites:
        assert await site.check() > 10


@pytest.mark.asyncio
async def test_what_does_not_belong_on_the_bus_is_set_aside_and_the_key_is_never_on_it(market, nats_server, make_site):
    stranger = Bus(nats_server.url)
    await stranger.open()
    heard: list[bytes] = []
    end = await stranger.subscribe(">", heard.append)
    try:
        site = make_site()
        subjects = Subjects(site.settings.ws_url, site.settings.api_key, "stocks")
        site.open(*WIRES)
        await site.flows()
        for subject in (subjects.leader, subjects.interest, subjects.events(Topic.parse("stocks", "T.SPY"))):
            for data in (b"", b"nonsense", b'{"m":"state","epoch":-1}', b"[" * 10_000, b"x" * 600_000):
                await stranger.publish(subject, data)
        epoch = site.replica.fence.epoch
        forged = Events(epoch, 10**9, "T.SPY", Raw(b'[{"ev":"status","status":"max_connections","message":""}]'))
        await stranger.publish(subjects.events(Topic.parse("stocks", "T.SPY")), encode(forged))
        old = State(epoch - 1, "an older leader", "over")
        await stranger.publish(subjects.leader, encode(old))
        await stranger.flush()
        await until(lambda: site.replica.counts["malformed"] == 16, "all were counted", site.tell)
        await until(lambda: site.replica.counts["old"] == 1, "the old one was counted", site.tell)
        await site.flows()
        assert site.replica.counts["ended"] == 0
        assert len(site.replica.aside) == 16
        assert await site.check() > 5
    finally:
        await end()
        await stranger.aclose()
    assert any(b'"m":"events"' in data for data in heard)
    assert any(b'"holder"' in data for data in heard)
    assert not [data for data in heard if market.key.encode() in data]


@pytest.mark.asyncio
async def test_the_upstream_sees_the_union_and_the_dead_are_forgotten(market, nats_server, make_site):
    site = make_site()
    site.open("T.SPY")
    await until(lambda: site.is_live("T.SPY"), "it is confirmed")
    leader = site.replica.leader
    assert leader is not None
    async with process(nats_server.url, market, ("T.AAPL", "T.SPY")) as other:
        await until(lambda: "follows live" in other.said, "the other process reads")
        await until(lambda: leader.interests.union == {"T.SPY", "T.AAPL"}, "the union")
        assert leader.interests.readers("T.SPY") == 2
        await until(
            lambda: {topic.wire for topic in leader.hub.book.held} == {"T.SPY", "T.AAPL"}, "the upstream holds it"
        )
        other.kill()
        await until(lambda: leader.interests.union == {"T.SPY"}, "the dead are forgotten")
        await until(lambda: {topic.wire for topic in leader.hub.book.held} == {"T.SPY"}, "the upstream was told")
    # Nobody reads anything any more: the upstream is closed.
    for reader in site.readers:
        site.hub.close_reader(reader)
    await site.hub.aclose()
    await until(lambda: not site.replica.is_leader, "the lease is given back")
    await until(lambda: n_upstream(market) == 0, "the upstream is closed")


@pytest.mark.asyncio
async def test_wildcards_and_refusals_go_through(market, nats_server, make_site):
    sites = [make_site(), make_site()]
    sites[0].open("T.*")
    sites[1].open("T.SPY")
    await until(lambda: sites[0].is_live("T.*") and sites[1].is_live("T.SPY"), "both are confirmed")
    await until(lambda: len({event.symbol for event in sites[0].sink.got}) > 5, "many symbols")
    await until(lambda: sites[1].sink.got, "one symbol")
    assert {event.symbol for event in sites[1].sink.got} == {"SPY"}
    market.control.add_fault("not_authorized", scope="stocks")
    sites[1].open("Q.SPY")
    await until(lambda: "Q.SPY" in sites[1].ears.lost, "it was refused")
    assert "not authorized" in sites[1].ears.lost["Q.SPY"]
    assert sites[1].is_live("T.SPY")
    assert all(site.replica.counts["ended"] == 0 for site in sites)


@pytest.mark.asyncio
async def test_a_refused_key_is_refused_to_every_replica_for_good(nats_server, make_site):
    sites = [make_site(key="a-key-the-vendor-does-not-know"), make_site(key="a-key-the-vendor-does-not-know")]
    for site in sites:
        site.open("T.SPY")
    await until(lambda: all(isinstance(site.hub.final_error, Unauthorized) for site in sites), "both are told")


@pytest.mark.asyncio
async def test_without_a_bus_a_replica_waits_for_it(market, nats_server, make_site):
    nats_server.stop()
    site = make_site()
    site.open(*WIRES)
    await until(lambda: any("bus does not answer" in str(error) for error in site.hub.errors), "it says why")
    nats_server.start()
    await site.flows()
    assert await site.check() > 5
