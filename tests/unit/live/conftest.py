"""A scripted upstream on the loopback interface, and the shortest way to a hub or a session on it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import polars as pl
import pytest
import pytest_asyncio
from websockets.asyncio.server import Server, ServerConnection, serve

from massive_lab.clock import ManualClock
from massive_lab.config import Secret, Settings
from massive_lab.live.hub import Hub
from massive_lab.live.policy import Policy
from massive_lab.live.readers import Listener
from massive_lab.live.topics import Topic
from massive_lab.telemetry import Event, Telemetry
from massive_lab.transports.runner import Runner

KEY = "test-key"


def status(name: str, message: str = "") -> dict[str, str]:
    return {"ev": "status", "status": name, "message": message}


async def always(now_ns: int) -> bool:
    return True


class Upstream:
    """A server that answers as the vendor does, except where a test tells it otherwise.

    All attributes are changed from the server's own loop only, or before anybody connects.
    """

    def __init__(self) -> None:
        self.messages: list[dict[str, str]] = []
        """What clients sent, auth included."""
        self.connections: list[ServerConnection] = []
        self.held: list[set[str]] = []
        """Topics held, one set per connection."""
        self.denied: set[str] = set()
        self.silent: set[str] = set()
        self.double: list[str] = []
        """Topics subscribed while they were held."""
        self.greeting: list[dict[str, str]] | None = [status("connected", "Connected Successfully")]
        self.auth_answer: list[dict[str, str]] | None = [status("auth_success", "authenticated")]
        self.after_auth: Callable[[ServerConnection], Awaitable[None]] | None = None
        self.refuse_upgrade: int | None = None
        self._server: Server | None = None
        self._changed = asyncio.Event()

    async def start(self, port: int = 0) -> None:
        self._server = await serve(self._talk, "127.0.0.1", port, process_request=self._upgrade, ping_interval=None)

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(next(iter(self._server.sockets)).getsockname()[1])

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    def _upgrade(self, connection: ServerConnection, request: Any) -> Any:
        assert "Origin" not in request.headers
        assert KEY not in request.path
        if self.refuse_upgrade is not None:
            return connection.respond(self.refuse_upgrade, "no\n")
        return None

    async def _talk(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        held: set[str] = set()
        self.held.append(held)
        if self.greeting is not None:
            await connection.send(json.dumps(self.greeting))
        async for text in connection:
            message = json.loads(text)
            self.messages.append(message)
            await self._answer(connection, held, message)
            self._changed.set()

    async def _answer(self, connection: ServerConnection, held: set[str], message: dict[str, str]) -> None:
        if message["action"] == "auth":
            if self.auth_answer is not None:
                await connection.send(json.dumps(self.auth_answer))
            if self.after_auth is not None:
                await self.after_auth(connection)
            return
        answers = []
        for topic in message["params"].split(","):
            if message["action"] == "unsubscribe":
                held.discard(topic)
                answers.append(status("success", f"unsubscribed to: {topic}"))
            elif topic in held:
                self.double.append(topic)
            elif topic in self.denied:
                answers.insert(0, status("error", "not authorized"))
            elif topic not in self.silent:
                held.add(topic)
                answers.append(status("success", f"subscribed to: {topic}"))
        if answers:
            await connection.send(json.dumps(answers))

    async def push(self, *events: dict[str, Any], raw: str | bytes | None = None) -> None:
        await self.connections[-1].send(json.dumps(list(events)) if raw is None else raw)

    def sent(self, action: str) -> list[str]:
        return [message["params"] for message in self.messages if message["action"] == action]


class Ears(Listener):
    def __init__(self) -> None:
        self.live: list[str] = []
        self.lost: dict[str, Exception] = {}
        self.suspended_by: dict[str, Exception] = {}
        self.refused_by: Exception | None = None

    def suspended(self, topic: Topic, error: Exception) -> None:
        self.suspended_by[topic.wire] = error

    def refused(self, error: Exception) -> None:
        self.refused_by = error

    def resumed(self) -> None:
        self.refused_by = None
        self.suspended_by.clear()

    def confirmed(self, topic: Topic) -> None:
        self.live.append(topic.wire)

    def failed(self, topic: Topic, error: Exception) -> None:
        self.lost[topic.wire] = error


class Inbox:
    """A sink that keeps everything."""

    def __init__(self) -> None:
        self.inbox: list[Any] = []
        self.got: list[Any] = []

    def flush(self) -> int:
        batch, self.inbox[:] = self.inbox[:], []
        self.got.extend(batch)
        return 0


class FakeRest:
    """A poller that answers from a table of prices."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[str]]] = []
        self.rows: dict[str, dict[str, Any]] = {}
        self.error: Exception | None = None

    async def poll(self, cluster: str, symbols: list[str]) -> pl.DataFrame:
        self.calls.append((cluster, list(symbols)))
        if self.error is not None:
            raise self.error
        rows = [{"symbol": symbol, **self.rows.get(symbol, {})} for symbol in symbols]
        return pl.DataFrame(rows, infer_schema_length=None)


async def until(condition: Callable[[], object], clock: ManualClock | None = None, step_s: float = 0.0) -> None:
    """Give the loop turns until a condition holds; with a clock, time moves on at each turn. Bounded by turns."""
    for _ in range(20_000):
        if condition():
            return
        if clock is not None and step_s:
            clock.advance(step_s)
        await asyncio.sleep(0.0005)
    raise AssertionError("the condition never came true")


class Bench:
    """A hub on a scripted upstream, under a clock that tests move."""

    def __init__(self, upstream: Upstream, policy: Policy, poller: FakeRest | None) -> None:
        self.clock = ManualClock(start_ns=1_750_000_000 * 10**9)
        self.events: list[Event] = []
        self.telemetry = Telemetry()
        self.telemetry.add(self.events.append)
        self.hub = Hub(
            "stocks", f"{upstream.url}/stocks", Secret(KEY), clock=self.clock, policy=policy, poller=poller,
            jitter=lambda: 1.0, market_open=always,
        )  # fmt: skip
        self.hub.join(self.telemetry)

    def told(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def topic(self, wire: str) -> Topic:
        return Topic.parse("stocks", wire)

    async def until(self, condition: Callable[[], object], step_s: float = 0.0) -> None:
        await until(condition, self.clock, step_s)

    async def live(self, *wires: str) -> None:
        await self.until(lambda: all(self.hub.is_confirmed(self.topic(wire)) for wire in wires))


@pytest_asyncio.fixture
async def upstream() -> AsyncIterator[Upstream]:
    server = Upstream()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def rest() -> FakeRest:
    return FakeRest()


@pytest_asyncio.fixture
async def make_bench(upstream: Upstream) -> AsyncIterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(poller: FakeRest | None = None, **changes: object) -> Bench:
        made.append(Bench(upstream, Policy().with_(**changes), poller))
        return made[-1]

    yield make
    for bench in made:
        await bench.hub.aclose()


@pytest_asyncio.fixture
async def bench(make_bench: Callable[..., Bench]) -> Bench:
    return make_bench()


@pytest.fixture
def served() -> Iterator[tuple[Upstream, Settings, Runner]]:
    """An upstream on a thread of its own, settings that lead to it, and a private runner: for the synchronous face."""
    with Runner("test-server") as server_thread, Runner("test-io") as runner:
        async def start() -> Upstream:
            server = Upstream()
            await server.start()
            return server

        server = server_thread.call(start())
        server.thread = server_thread  # type: ignore[attr-defined]
        yield server, Settings(Secret(KEY), ws_url=server.url), runner
        server_thread.call(server.stop())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("test-")]


@pytest.fixture
def tools() -> Any:
    """The helpers, without importing this file by name."""

    class Tools:
        pass

    bag = Tools()
    for item in (Ears, Inbox, FakeRest, Upstream, until, status):
        setattr(bag, item.__name__, staticmethod(item) if callable(item) and not isinstance(item, type) else item)
    return bag
