from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from massive_lab.sandbox.api import Columns, RestAnswer, RestRequest
from massive_lab.sandbox.client import SandboxControl
from massive_lab.sandbox.control import Control
from massive_lab.sandbox.server import Options, Sandbox

SECOND = 1_000_000_000


class ClockworkMarket:
    """A market whose every event can be predicted: one trade, quote and value each 100 ms, a bar when its window ends.

    The n-th event of the era has price n, so that a lost, repeated or reordered one is seen at a glance.
    """

    symbols: ClassVar = {"stocks": ["AAPL", "MSFT"], "options": ["O:SPY251219C00650000"], "indices": ["I:SPX"]}

    def knows(self, symbol: str, now_ns: int) -> bool:
        return any(symbol in known for known in self.symbols.values()) or symbol.startswith("O:SPY25")

    def universe(self, cluster: str, now_ns: int) -> list[str]:
        return self.symbols[cluster]

    def _times(self, start_ns: int, end_ns: int, step_ns: int) -> np.ndarray[Any, Any]:
        return np.arange(-(-start_ns // step_ns) * step_ns, end_ns, step_ns, dtype=np.int64)

    def trades(self, symbol: str, start_ns: int, end_ns: int) -> Columns:
        sip = self._times(start_ns, end_ns, SECOND // 10)
        n = len(sip)
        number = sip // (SECOND // 10)
        conditions = np.empty(n, dtype=object)
        conditions[:] = [(14, 41) if i % 2 else () for i in number.tolist()]
        return {
            "sip_ns": sip,
            "participant_ns": sip - 1_000_000,
            "trf_ns": np.full(n, -1),
            "price": (number % 1_000_000).astype(float) + 0.5,
            "size": np.full(n, 100.0),
            "exchange": np.full(n, 4),
            "tape": np.full(n, 3),
            "sequence": number,
            "trf_id": np.full(n, -1),
            "correction": np.full(n, -1),
            "late": np.zeros(n, dtype=bool),
            "id": np.array([str(i) for i in number.tolist()], dtype=object),
            "conditions": conditions,
        }

    def quotes(self, symbol: str, start_ns: int, end_ns: int) -> Columns:
        sip = self._times(start_ns, end_ns, SECOND // 10)
        n = len(sip)
        whole = {"bid_size": 100.0, "ask_size": 200.0, "bid_price": 99.5, "ask_price": 100.0}
        codes = {"bid_exchange": 11, "ask_exchange": 12, "tape": 3, "condition": 1, "indicator": -1}
        return {
            "sip_ns": sip,
            "participant_ns": sip,
            "sequence": sip // (SECOND // 10),
            **{name: np.full(n, value) for name, value in {**whole, **codes}.items()},
        }

    def values(self, symbol: str, start_ns: int, end_ns: int) -> Columns:
        ts = self._times(start_ns, end_ns, SECOND // 10)
        return {"ts_ns": ts, "value": (ts // (SECOND // 10) % 1_000_000).astype(float)}

    def live_bars(self, symbol: str, span_ns: int, start_ns: int, end_ns: int) -> Columns:
        emit = self._times(start_ns, end_ns, span_ns)
        names = ("open", "high", "low", "close", "vwap", "day_vwap", "day_open")
        volumes = ("volume", "day_volume", "average_size", "trade_count")
        gone = np.nan if symbol.startswith("I:") else 50.0
        return {
            "emit_ns": emit,
            "start_ns": emit - span_ns,
            "end_ns": emit,
            **{name: np.full(len(emit), 10.25) for name in names},
            **{name: np.full(len(emit), gone) for name in volumes},
        }


class EchoRules:
    """Answers with what was asked; ``/v3/trades`` has three pages, ``/big`` is half a megabyte."""

    def __init__(self) -> None:
        self.asked: list[RestRequest] = []

    def handle(self, request: RestRequest) -> RestAnswer:
        self.asked.append(request)
        if request.path == "/nothing":
            return RestAnswer(404, b"404 page not found", "text/plain")
        body: dict[str, Any] = {"status": "OK", "request_id": "0" * 32, "now_ns": request.now_ns}
        if request.path.startswith("/v3/trades/"):
            page = int(request.query.get("cursor", "1"))
            body["results"] = [{"page": page, "fill": "x" * 600}]
            if page < 3:
                body["next_url"] = f"{request.base_url}{request.path}?cursor={page + 1}"
        else:
            size = 500_000 if request.path.startswith("/v3/quotes/") else 0
            body |= {"path": request.path, "query": dict(request.query), "fill": "y" * size}
        return RestAnswer(200, json.dumps(body).encode())


class Running:
    """A sandbox in this process, with its control plane."""

    def __init__(self, sandbox: Sandbox, control_port: int, rules: EchoRules) -> None:
        self.sandbox = sandbox
        self.rules = rules
        self.port = sandbox.port
        self.rest_url = f"http://127.0.0.1:{sandbox.port}"
        self.ws_url = f"ws://127.0.0.1:{sandbox.port}"
        self.delayed_ws_url = f"ws://127.0.0.1:{sandbox.delayed_port}"
        self.control_url = f"http://127.0.0.1:{control_port}"
        self._control = SandboxControl(self.control_url)

    async def control(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call the synchronous control client beside the loop."""
        return await asyncio.to_thread(getattr(self._control, method), *args, **kwargs)

    async def fault(self, kind: str, **params: Any) -> str:
        return str(await self.control("add_fault", kind, **params))

    @asynccontextmanager
    async def ws(
        self, cluster: str = "stocks", *, key: str | None = "sandbox", params: str = "", delayed: bool = False
    ) -> AsyncIterator[ClientConnection]:
        """A client that has read its confirmations."""
        base = self.delayed_ws_url if delayed else self.ws_url
        async with connect(f"{base}/{cluster}", compression=None, ping_interval=None) as socket:
            assert await receive(socket) == [said("connected", "Connected Successfully")]
            if key is not None:
                await send(socket, "auth", key)
                assert (await receive(socket))[0]["status"] == "auth_success"
            if params:
                await send(socket, "subscribe", params)
                wanted = {f"subscribed to: {param}" for param in params.split(",")}
                while wanted:
                    wanted -= {item.get("message") for item in await receive(socket)}
            yield socket


def said(status: str, message: str) -> dict[str, str]:
    return {"ev": "status", "status": status, "message": message}


async def send(socket: ClientConnection, action: str, params: str) -> None:
    await socket.send(json.dumps({"action": action, "params": params}))


async def receive(socket: ClientConnection) -> list[dict[str, Any]]:
    async with asyncio.timeout(10):
        items = json.loads(await socket.recv())
    assert isinstance(items, list)
    return items


async def ended(socket: ClientConnection) -> ConnectionClosed:
    """Read to the end; how the connection closed."""
    try:
        async with asyncio.timeout(10):
            while True:
                await socket.recv()
    except ConnectionClosed as error:
        return error


async def receive_n(socket: ClientConnection, n: int) -> list[dict[str, Any]]:
    """Items until there are `n`."""
    items: list[dict[str, Any]] = []
    while len(items) < n:
        items += await receive(socket)
    return items


async def raw_get(
    port: int, target: str, headers: Sequence[str] = ("Authorization: Bearer sandbox",), *, close: bool = True
) -> bytes:
    """Everything the server sends to a plain GET until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = [f"GET {target} HTTP/1.1", f"Host: 127.0.0.1:{port}", *headers, *(["Connection: close"] if close else [])]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    try:
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()


Start = Callable[..., Any]


@pytest.fixture
def start() -> Start:
    """``async with start(paused=False, ...) as running``: a sandbox on the clockwork market, paused unless told."""

    @asynccontextmanager
    async def starting(**options: Any) -> AsyncIterator[Running]:
        rules = EchoRules()
        chosen = Options(**{"port": 0, "control_port": 0, "paused": True, **options})
        sandbox = Sandbox(chosen, lambda: (ClockworkMarket(), rules))  # type: ignore[arg-type, return-value]
        control = Control(sandbox, lambda: None)
        await sandbox.start()
        await control.start()
        try:
            yield Running(sandbox, control.port, rules)
        finally:
            await sandbox.stop()
            await control.stop()
            if sandbox.failed.done():
                sandbox.failed.result()

    return starting
