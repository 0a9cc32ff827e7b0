"""The vendor's own Python client through the gateway and directly, on one sandbox: the same rows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from massive import WebSocketClient
from massive.exceptions import AuthError

from massive_lab.config import Secret, Settings
from massive_lab.gateway.app import Gateway
from massive_lab.gateway.config import GatewaySettings
from massive_lab.gateway.tokens import TokenRule
from massive_lab.sandbox import SandboxProcess

pytestmark = pytest.mark.asyncio

TOKEN = "notebook-token-0123456789"
OTHER = "direct"


class Collector:
    """Messages of a client that runs as a task."""

    def __init__(self, key: str, ws_url: str, market: str, topics: list[str]) -> None:
        self.client = WebSocketClient(
            api_key=key, feed=ws_url.removeprefix("ws://"), market=market, subscriptions=topics, secure=False
        )
        self.messages: list[Any] = []
        self.task = asyncio.create_task(self.client.connect(self._take))

    async def _take(self, messages: list[Any]) -> None:
        self.messages.extend(messages)

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [vars(message) for message in self.messages]

    async def close(self) -> None:
        await self.client.close()
        self.task.cancel()
        await asyncio.wait([self.task])


async def until(done: Callable[[], object], *collectors: Collector) -> None:
    async with asyncio.timeout(60):
        while not done():
            for collector in collectors:
                if collector.task.done():
                    collector.task.result()
                    raise AssertionError("a client ended")
            await asyncio.sleep(0.01)


@pytest_asyncio.fixture
async def gateway(sandbox: SandboxProcess) -> AsyncIterator[Gateway]:
    logging.getLogger("WebSocketClient").setLevel(logging.CRITICAL)
    control = sandbox.control
    await asyncio.to_thread(control.reset_faults)
    await asyncio.to_thread(control.reset_counts)
    settings = GatewaySettings(
        (TokenRule("notebook", Secret(TOKEN)),), Secret("s" * 40), port=0, admin_port=0, sandbox=True
    )
    gateway = Gateway(settings, Settings(Secret(sandbox.key), sandbox.rest_url, sandbox.ws_url, sandbox=True))
    await gateway.start()
    yield gateway
    await gateway.close()


@pytest.fixture(scope="module")
def other_key(sandbox: SandboxProcess) -> str:
    """An account of its own: the vendor gives each one connection."""
    sandbox.control.add_account(OTHER)
    return OTHER


def connection(sandbox: SandboxProcess, account: str) -> dict[str, Any]:
    """The open connection of an account; empty when there is none."""
    return next((c for c in sandbox.control.connections() if c["open"] and c["account"] == account), {})


async def holds(sandbox: SandboxProcess, account: str, topics: list[str]) -> None:
    """The account's connection holds the topics."""
    async with asyncio.timeout(60):
        # Another process is asked.
        while set((await asyncio.to_thread(connection, sandbox, account)).get("held", ())) != set(topics):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def n_events(sandbox: SandboxProcess, account: str) -> int:
    return int((await asyncio.to_thread(connection, sandbox, account))["events"])


@pytest.mark.parametrize(
    ("market", "topics"),
    [
        ("stocks", ["T.AAPL", "Q.AAPL", "A.AAPL", "AM.SPY", "T.SPY"]),
        ("stocks", ["T.*", "AM.*"]),
        ("indices", ["V.I:SPX", "A.I:SPX", "AM.I:SPX"]),
        ("options", ["T.*", "AM.*"]),
    ],
    ids=["stocks", "stock wildcards", "indices", "option wildcards"],
)
async def test_the_official_client_gets_the_same_rows_as_directly(
    sandbox: SandboxProcess, gateway: Gateway, other_key: str, market: str, topics: list[str]
) -> None:
    direct = Collector(other_key, sandbox.ws_url, market, topics)
    through = [Collector(TOKEN, gateway.ws_url, market, topics) for _ in range(2)]
    for account in (OTHER, sandbox.key):
        await holds(sandbox, account, topics)
    # Held upstream since the first of the two, the topics may not be the second's yet.
    await until(lambda: [len(peer.topics) for peer in gateway.sockets._peers] == [len(topics)] * 2, *through)
    await asyncio.to_thread(sandbox.control.jump, 150.0)
    n_rows = await n_events(sandbox, OTHER)
    assert n_rows > 50
    await until(lambda: all(len(each.messages) >= n_rows for each in (direct, *through)), direct, *through)
    for each in through:
        assert each.rows == direct.rows
    assert len(direct.rows) == n_rows
    for each in (direct, *through):
        await each.close()


async def test_the_official_client_gets_the_same_ticks_over_an_upstream_reconnect(
    sandbox: SandboxProcess, gateway: Gateway, other_key: str
) -> None:
    topics = ["T.AAPL", "Q.AAPL", "T.MSFT"]
    control = sandbox.control
    direct = Collector(other_key, sandbox.ws_url, "stocks", topics)
    through = Collector(TOKEN, gateway.ws_url, "stocks", topics)
    for account in (OTHER, sandbox.key):
        await holds(sandbox, account, topics)
    await asyncio.to_thread(control.jump, 30.0)
    await until(lambda: len(direct.messages) > 20 and len(through.messages) >= len(direct.messages), direct, through)
    socket = through.client.websocket
    mine = await asyncio.to_thread(connection, sandbox, sandbox.key)
    await asyncio.to_thread(control.close_connection, mine["id"], abrupt=True)
    # The market goes on while the gateway is away.
    await asyncio.to_thread(control.jump, 20.0)
    await until(lambda: gateway.sockets.clusters["stocks"].state == "live")
    await holds(sandbox, sandbox.key, topics)
    assert (await asyncio.to_thread(connection, sandbox, sandbox.key))["id"] != mine["id"]
    await asyncio.to_thread(control.jump, 30.0)
    n_rows = await n_events(sandbox, OTHER)
    await until(lambda: len(direct.messages) == n_rows and ticks(through) == ticks(direct), direct, through)
    assert len(through.messages) == n_rows, "a row came twice"
    assert through.client.websocket is socket
    hub = gateway.sockets.clusters["stocks"].hub
    assert hub is not None
    assert sum(gap.n_events for gap in hub.gaps.rows()) > 0
    for each in (direct, through):
        await each.close()


def ticks(collector: Collector) -> set[tuple[Any, ...]]:
    """What was traded and quoted, and when. A row that was polled during the outage has no sequence number."""
    return {
        (row["event_type"], row["symbol"], row["timestamp"], row.get("price"), row.get("size"), row.get("bid_price"),
         row.get("ask_price"), row.get("ask_size"))
        for row in collector.rows
    }  # fmt: skip


async def test_the_official_client_is_told_that_its_token_is_wrong(gateway: Gateway) -> None:
    collector = Collector("not-a-token-0123456789", gateway.ws_url, "stocks", ["T.AAPL"])
    with pytest.raises(AuthError, match="authentication failed"):
        await asyncio.wait_for(collector.task, 30)


async def test_the_official_client_returns_when_the_gateway_restarts(
    sandbox: SandboxProcess, gateway: Gateway
) -> None:
    collector = Collector(TOKEN, gateway.ws_url, "stocks", ["AM.SPY"])
    await until(lambda: gateway.sockets.clusters["stocks"].n_topics == 1, collector)
    (peer,) = gateway.sockets._peers
    peer.close(1012, "the gateway restarts")
    await until(lambda: [each.topics.keys() for each in gateway.sockets._peers if each is not peer] == [{"AM.SPY"}], collector)
    await holds(sandbox, sandbox.key, ["AM.SPY"])
    await collector.close()
