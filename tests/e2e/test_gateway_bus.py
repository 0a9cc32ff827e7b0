"""Replicas on a real NATS server, with a sandbox for their vendor: whatever dies, the rows are those of the history."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
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

from massive_lab.clock import SystemClock
from massive_lab.config import Secret, Settings
from massive_lab.gateway.bus.follower import Replica
from massive_lab.gateway.bus.nats import Bus
from massive_lab.gateway.bus.policy import BusPolicy
from massive_lab.live.hub import Hub
from massive_lab.live.topics import Topic
from massive_lab.loaders.backfill import Backfiller
from massive_lab.loaders.session import Session
from massive_lab.sandbox import SandboxProcess
from massive_lab.telemetry import Telemetry

WAIT_S = 30.0
TIMEOUT_S = 0.4
POLICY = {"lease_s": 0.9, "beat_s": 0.1, "dead_s": 0.9, "idle_s": 1.0}
WIRES = ("T.SPY", "T.AAPL")


async def until(condition: Callable[[], object], what: str = "", tell: Callable[[], object] = str) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, f"it never came true: {what} ({tell()})"
        await asyncio.sleep(0.01)


class NatsServer:
    """Debian's nats-server on a free port of the loopback interface, with a store that outlives it."""

    def __init__(self, path: Path) -> None:
        program = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin:/usr/local/sbin")
        assert program is not None, "nats-server is missing: apt-get install nats-server"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.url = f"nats://127.0.0.1:{self.port}"
        self._command = [program, "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", str(path)]
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._child = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + WAIT_S
        while True:
            assert self._child.poll() is None, f"nats-server ended with {self._child.returncode}"
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1.0) as asked:
                    assert asked.recv(4) == b"INFO"
                    return
            except OSError:
                assert time.monotonic() < end, "nats-server does not listen"
                time.sleep(0.02)

    def stop(self, how: int = signal.SIGTERM) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.send_signal(how)
            child.wait(WAIT_S)


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


class Site:
    """A replica in this process: a hub on the bus, with the stitch, and what it delivers."""

    def __init__(self, bus_url: str, sandbox: SandboxProcess, **policy: float) -> None:
        clock = SystemClock()
        self.settings = Settings(Secret(sandbox.key), rest_url=sandbox.rest_url, ws_url=sandbox.ws_url, sandbox=True)
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

    def open(self, *wires: str) -> None:
        for wire in wires:
            self.hub.open(Topic.parse("stocks", wire), [self.sink])

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

    def make(url: str | None = None, **policy: float) -> Site:
        made.append(Site(url or nats_server.url, market, **policy))
        return made[-1]

    yield make
    for site in made:
        await site.close()
    left = [task.get_name() for task in asyncio.all_tasks() if "massive_lab" in task.get_name()]
    assert not left


@asynccontextmanager
async def process(bus: str, sandbox: SandboxProcess) -> AsyncIterator[Process]:
    child = Process(bus, sandbox)
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
        assert await site.check() > 50
