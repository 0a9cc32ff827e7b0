"""What a watchlist that is opened and closed all day long needs: subscriptions, memory and the fallback, each by its figure."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import threading
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve

import soak.live
from massive_lab.clock import Clock, ManualClock, SystemClock
from massive_lab.config import Secret, Settings
from massive_lab.live.registry import n_hubs
from massive_lab.live.session import Live
from massive_lab.schema.symbols import parse_many
from massive_lab.telemetry import FallbackStarted, Telemetry, WireSent
from massive_lab.transports.runner import Runner
from tests.property.upstream import World

WAIT_S = 30.0


class Vendor:
    """A server on loopback that answers, publishes one trade for each confirmed topic, and counts what it holds."""

    def __init__(self) -> None:
        self.subscribed: list[str] = []
        self.held: set[str] = set()
        self.n_open = 0
        self.changed = threading.Condition()
        self._server: Server | None = None

    async def start(self) -> None:
        self._server = await serve(self._talk, "127.0.0.1", 0, ping_interval=None, compression=None)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"ws://127.0.0.1:{next(iter(self._server.sockets)).getsockname()[1]}"

    async def _talk(self, connection: ServerConnection) -> None:
        self.n_open += 1
        await _say(connection, ("connected", "Connected Successfully"))
        try:
            async for text in connection:
                message = json.loads(text)
                if message["action"] == "auth":
                    await _say(connection, ("auth_success", "authenticated"))
                    continue
                wires = message["params"].split(",")
                if message["action"] == "subscribe":
                    assert not self.held.intersection(wires)
                    self.subscribed += wires
                    self.held.update(wires)
                    await _say(connection, *(("success", f"subscribed to: {wire}") for wire in wires))
                    trades = [{"ev": "T", "sym": w[2:], "p": 1.0, "s": 1, "t": 1, "q": 1} for w in wires if w[:2] == "T."]
                    await connection.send(json.dumps(trades))
                else:
                    with self.changed:
                        self.held.difference_update(wires)
                        self.changed.notify_all()
                    await _say(connection, *(("success", f"unsubscribed to: {wire}") for wire in wires))
        finally:
            self.held.clear()
            self.n_open -= 1


async def _say(connection: ServerConnection, *statuses: tuple[str, str]) -> None:
    await connection.send(json.dumps([{"ev": "status", "status": name, "message": text} for name, text in statuses]))


@pytest.fixture
def vendor() -> Iterator[tuple[Vendor, Runner, Callable[..., Live]]]:
    with Runner("test-vendor") as server_thread, Runner("test-io") as runner:

        async def start() -> Vendor:
            server = Vendor()
            await server.start()
            return server

        server = server_thread.call(start())
        settings = Settings(Secret("test-key"), ws_url=server.url)

        def mount(
            *symbols: str,
            telemetry: Telemetry | None = None,
            channels: tuple[str, ...] = ("T", "Q"),
            clock: Clock | None = None,
        ) -> Live:
            telemetry, clock = telemetry or Telemetry(), clock or SystemClock()
            return Live(settings, runner, telemetry, clock, None, parse_many(symbols), channels)

        yield server, runner, mount
        assert n_hubs() == 0
        server_thread.call(server.stop())


async def _advance(clock: ManualClock, seconds: float) -> None:
    clock.advance(seconds)


def test_subscription_lifecycle_without_duplicates(vendor: Any) -> None:
    """Twelve widgets want overlapping symbols, come and go, and the server sees each topic once and in the end none."""
    server, runner, mount_on = vendor
    clock = ManualClock()  # the linger must not run out while widgets come and go, however slow the machine
    mount = partial(mount_on, clock=clock)
    heard: list[WireSent] = []
    telemetry = Telemetry()
    telemetry.add(lambda event: heard.append(event) if isinstance(event, WireSent) else None)
    keep = mount("AAPL", telemetry=telemetry).wait_live(WAIT_S)
    lists = [("AAPL", "MSFT"), ("MSFT", "SPY"), ("SPY", "AAPL")]
    for _ in range(3):
        widgets = [mount(*symbols, telemetry=telemetry).wait_live(WAIT_S) for symbols in lists for _ in range(4)]
        readers = keep.topics().filter(topic="T.AAPL")["readers"].item()
        assert readers == 1 + 8
        assert server.n_open == 1
        for widget in widgets:
            widget.close()
        assert keep.topics().filter(topic="T.AAPL")["readers"].item() == 1
    counts = Counter(server.subscribed)
    assert counts == Counter(f"{channel}.{symbol}" for channel in "TQ" for symbol in ("AAPL", "MSFT", "SPY"))
    sent = [topic for event in heard if event.action == "subscribe" for topic in event.topics]
    assert Counter(sent) == counts, "what we say we sent is what the server got"
    runner.call(_advance(clock, 1.1))
    with server.changed:
        assert server.changed.wait_for(lambda: server.held == {"T.AAPL", "Q.AAPL"}, WAIT_S)
    keep.close()
    assert n_hubs() == 0


def _things() -> Counter[str]:
    gc.collect()
    return Counter(f"{type(thing).__module__}.{type(thing).__qualname__}" for thing in gc.get_objects())


def test_memory_over_mount_cycles(vendor: Any) -> None:
    """A thousand times opened, read and closed: not one object, thread, task, file or kilobyte more."""
    server, runner, mount = vendor

    def cycle() -> None:
        server.subscribed.clear()
        live = mount("AAPL", channels=("T",))
        reader = live.trades("AAPL")
        live.wait_live(WAIT_S)
        assert reader.frame().width > 0
        reader.close()
        live.close()

    async def census() -> int:
        return len([task for task in asyncio.all_tasks() if not task.done()])

    def measure() -> tuple[int, int, int, int]:
        gc.collect()
        traced, _ = tracemalloc.get_traced_memory()
        return runner.call(census()), threading.active_count(), len(list(Path(f"/proc/{os.getpid()}/fd").iterdir())), traced

    for _ in range(50):
        cycle()
    tracemalloc.start()
    try:
        for _ in range(50):
            cycle()
        things = _things()
        before = measure()
        for _ in range(900):
            cycle()
        after = measure()
        grown = _things() - things
    finally:
        tracemalloc.stop()
    assert after[:3] == before[:3], "tasks, threads, files"
    libraries = ("massive_lab", "asyncio", "websockets", "_asyncio", "polars")
    ours = {name: n for name, n in grown.items() if name.startswith(libraries)}
    assert sum(ours.values()) <= 10, ours
    assert not {name: n for name, n in grown.items() if n >= 450}, "nothing grows with the cycles"
    assert after[3] - before[3] < 100 * 900, "less than a hundred bytes a cycle"


@pytest.mark.parametrize(
    "how", ["without a close frame", "by the server with code 1000", "by the server with code 1011"], ids=["cut", "1000", "1011"]
)
def test_fallback_within_100_ms(how: str) -> None:
    """From the moment the loss is known to the first request to REST, on the injected clock."""
    world = World()
    try:
        reader = world.open("T.AAPL")
        world.burst("T.AAPL")
        world.upstream.refuse = 1_000
        lost_at = world.clock.monotonic()
        world.drop(how)
        while not world.rest.calls:
            world.advance(0.001)
            assert world.clock.monotonic() - lost_at < 0.1, "no poll within 100 ms"
        (started,) = [event for event in world.events if isinstance(event, FallbackStarted)]
        assert started.since_loss_s <= 0.1
        assert world.state == "polling"
        world.burst("T.AAPL")
        world.advance(20.0)
        assert [event.source for event in reader.sink.got] == ["stream", "poll"]
        world.check()
    finally:
        world.close()


def test_a_second_of_the_soak_loses_no_trade(capsys: pytest.CaptureFixture[str]) -> None:
    assert soak.live.run(1.0, 10_000) == 0
    assert "verdict: no trade lost" in capsys.readouterr().out
