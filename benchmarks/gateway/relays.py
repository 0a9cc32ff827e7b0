"""What stands between the upstream and the clients: our gateway, and two relays written as one would.

Each runs in a process of its own, holds one upstream connection, and speaks the vendor's handshake to its clients. ``raw`` is
the floor of the socket library: the upstream's frame goes to every client as it came, by `websockets.broadcast`, whatever the
client asked for. ``naive`` reads each frame with ``json.loads``, picks each client's events, and writes them with ``json.dumps``
for each.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed

from massive_lab.config import Secret, Settings
from massive_lab.gateway.app import Gateway
from massive_lab.gateway.config import GatewaySettings
from massive_lab.gateway.tokens import TokenRule

__all__ = ["RELAYS", "SYMBOLS", "TOKEN", "run_relay", "say"]

SYMBOLS = ("AAPL", "MSFT", "SPY", "NVDA", "TSLA", "AMD", "META", "QQQ")
TOKEN = "token-of-the-benchmark"


async def say(connection: ServerConnection | ClientConnection, *statuses: tuple[str, str]) -> None:
    await connection.send(json.dumps([{"ev": "status", "status": name, "message": text} for name, text in statuses]))


def run_relay(name: str, upstream: str, pipe: Connection) -> None:
    """Serve; say the port; end with the pipe."""
    asyncio.run(RELAYS[name](upstream, pipe))


async def _until_told(pipe: Connection) -> None:
    with suppress(EOFError):
        await asyncio.get_running_loop().run_in_executor(None, pipe.recv)


async def _gateway(upstream: str, pipe: Connection) -> None:
    settings = GatewaySettings((TokenRule("benchmark", Secret(TOKEN)),), Secret("s" * 40), port=0, admin_port=0)
    gateway = Gateway(settings, Settings(Secret("key"), ws_url=upstream))
    await gateway.start()
    pipe.send(int(gateway.url.rpartition(":")[2]))
    await _until_told(pipe)
    await gateway.close()


class _Relay:
    def __init__(self, upstream: str, pipe: Connection) -> None:
        self.clients: dict[ServerConnection, set[str]] = {}
        self._upstream = upstream
        self._pipe = pipe

    async def run(self) -> None:
        async with (
            connect(f"{self._upstream}/stocks", compression=None, ping_interval=None, max_size=None) as up,
            serve(self._talk, "127.0.0.1", 0, compression=None, ping_interval=None) as running,
        ):
            await up.send(json.dumps({"action": "auth", "params": "key"}))
            await up.send(json.dumps({"action": "subscribe", "params": ",".join(f"T.{symbol}" for symbol in SYMBOLS)}))
            reading = asyncio.create_task(self._read(up))
            self._pipe.send(next(iter(running.sockets)).getsockname()[1])
            await _until_told(self._pipe)
            reading.cancel()

    async def _read(self, up: ClientConnection) -> None:
        async for frame in up:
            await self.relay(frame)

    async def relay(self, frame: Any) -> None:
        raise NotImplementedError

    async def _talk(self, connection: ServerConnection) -> None:
        await say(connection, ("connected", "Connected Successfully"))
        with suppress(ConnectionClosed):
            async for text in connection:
                message = json.loads(text)
                if message["action"] == "auth":
                    await say(connection, ("auth_success", "authenticated"))
                else:
                    wires = message["params"].split(",")
                    await say(connection, *(("success", f"subscribed to: {wire}") for wire in wires))
                    self.clients.setdefault(connection, set()).update(wires)
        self.clients.pop(connection, None)


class _Raw(_Relay):
    async def relay(self, frame: Any) -> None:
        broadcast(self.clients, frame)
        await asyncio.sleep(0)


class _Naive(_Relay):
    async def relay(self, frame: Any) -> None:
        events = json.loads(frame)
        for client, wires in list(self.clients.items()):
            wanted = [event for event in events if f"{event['ev']}.{event.get('sym')}" in wires]
            if wanted:
                with suppress(ConnectionClosed):
                    await client.send(json.dumps(wanted))


async def _raw(upstream: str, pipe: Connection) -> None:
    await _Raw(upstream, pipe).run()


async def _naive(upstream: str, pipe: Connection) -> None:
    await _Naive(upstream, pipe).run()


RELAYS = {"gateway": _gateway, "raw": _raw, "naive": _naive}
