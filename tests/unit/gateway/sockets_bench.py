"""The WebSocket side of a gateway on a real port, before a scripted upstream; clients are plain `websockets`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from aiohttp import web
from websockets.asyncio.client import ClientConnection, connect

from massive_lab.clock import SystemClock
from massive_lab.config import Secret, Settings
from massive_lab.gateway.admission import Admission
from massive_lab.gateway.config import GatewaySettings
from massive_lab.gateway.tokens import TokenBook, TokenRule
from massive_lab.gateway.ws import Sockets, add_websocket_routes
from massive_lab.live.policy import Policy
from massive_lab.telemetry import Telemetry
from tests.unit.live.conftest import KEY, Upstream

TOKEN = "desk-token-0123456789"
NARROW = "narrow-token-0123456789"
INDICES_ONLY = "indices-token-0123456789"
RULES = (
    TokenRule("desk", Secret(TOKEN)),
    TokenRule("narrow", Secret(NARROW), topics=("AM.*", "T.A*")),
    TokenRule("indices", Secret(INDICES_ONLY), clusters=("indices",)),
)
SECRET = Secret("s" * 40)
CONNECTED = {"ev": "status", "status": "connected", "message": "Connected Successfully"}
AUTHENTICATED = {"ev": "status", "status": "auth_success", "message": "authenticated"}


def success(text: str) -> dict[str, str]:
    return {"ev": "status", "status": "success", "message": text}


def trade(number: int, symbol: str = "AAPL") -> dict[str, Any]:
    return {"ev": "T", "sym": symbol, "t": 1_750_000_000_000 + number, "p": 5.25, "s": 100, "q": number, "new": {"x": [1]}}


def quote(number: int, symbol: str = "AAPL") -> dict[str, Any]:
    return {"ev": "Q", "sym": symbol, "t": 1_750_000_000_000 + number, "bp": 5.0, "ap": 5.5, "q": number}


class Talk:
    """One client."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.frames: list[list[dict[str, Any]]] = []

    async def frame(self) -> list[dict[str, Any]]:
        async with asyncio.timeout(20):
            text = await self.socket.recv()
        found = json.loads(text)
        assert isinstance(found, list)
        assert isinstance(text, str)
        self.frames.append(found)
        return found

    async def say(self, action: str, params: str) -> None:
        await self.socket.send(json.dumps({"action": action, "params": params}))

    async def log_in(self, token: str = TOKEN) -> None:
        assert await self.frame() == [CONNECTED]
        await self.say("auth", token)
        assert await self.frame() == [AUTHENTICATED]

    async def until(self, wanted: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        """Everything up to what is wanted, that included."""
        got: list[dict[str, Any]] = []
        while not any(wanted(item) for item in got):
            got += await self.frame()
        return got

    async def subscribe(self, *wires: str) -> None:
        await self.say("subscribe", ",".join(wires))
        waiting = {f"subscribed to: {wire}" for wire in wires}
        while waiting:
            waiting -= {item.get("message", "") for item in await self.frame()}

    async def close_code(self) -> int | None:
        async with asyncio.timeout(20):
            await self.socket.wait_closed()
        return self.socket.close_code


class Gate:
    """A gateway's WebSocket side."""

    def __init__(self, sockets: Sockets, tokens: TokenBook, port: int, stack: AsyncExitStack) -> None:
        self.sockets = sockets
        self.tokens = tokens
        self.port = port
        self.noted: list[tuple[str, str]] = []
        self._stack = stack

    def url(self, path: str = "/stocks") -> str:
        return f"ws://127.0.0.1:{self.port}{path}"

    async def talk(self, path: str = "/stocks", **options: Any) -> Talk:
        options = {"ping_interval": None, "max_size": None, "compression": None, "close_timeout": 0.5, **options}
        return Talk(await self._stack.enter_async_context(connect(self.url(path), **options)))

    async def client(self, *wires: str, token: str = TOKEN) -> Talk:
        talk = await self.talk()
        await talk.log_in(token)
        if wires:
            await talk.subscribe(*wires)
        return talk


@asynccontextmanager
async def gate_to(
    ws_url: str, *, key: str = KEY, admission: Admission | None = None, rules: tuple[TokenRule, ...] = RULES, **options: Any
) -> AsyncIterator[Gate]:
    """Serve until the block ends. Fields of `GatewaySettings` and arguments of `Sockets` may be given."""
    own = {name: options.pop(name) for name in [*options] if name in GatewaySettings.__dataclass_fields__}
    settings = GatewaySettings(tokens=rules, secret=SECRET, port=0, admin_port=0, **own)
    tokens = TokenBook(rules, SECRET)
    noted: list[tuple[str, str]] = []
    options.setdefault("policy", Policy(linger_s=0.05, backoff_base_s=0.05, backoff_cap_s=0.1, grace_s=0.01))
    sockets = Sockets(
        settings, Settings(Secret(key), ws_url=ws_url), tokens, admission or Admission(1e6, 10_000), SystemClock(),
        Telemetry(), lambda what, label: noted.append((what, label)), **options,
    )  # fmt: skip
    app = web.Application()
    add_websocket_routes(app, sockets)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
    await site.start()
    port = runner.addresses[0][1]
    async with AsyncExitStack() as stack:
        gate = Gate(sockets, tokens, port, stack)
        gate.noted = noted
        try:
            yield gate
        finally:
            await sockets.aclose()
            await stack.aclose()
            await runner.cleanup()


@asynccontextmanager
async def scripted() -> AsyncIterator[Upstream]:
    upstream = Upstream()
    await upstream.start()
    try:
        yield upstream
    finally:
        await upstream.stop()
