"""A vendor of one's own on a loopback socket, a gateway in front of it, and a client that writes its bytes by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from aiohttp import web

from massive_lab.config import Secret, Settings
from massive_lab.gateway.app import Gateway
from massive_lab.gateway.config import GatewaySettings
from massive_lab.gateway.tokens import TokenRule

KEY = "canary-key-0123456789"
SECRET = "canary-secret-0123456789-0123456789"
TOKENS = {"desk": "canary-desk-0123456789", "other": "canary-other-0123456789"}


@dataclass(slots=True)
class Reply:
    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes
    raw: bytes


@dataclass(slots=True)
class Seen:
    method: str
    target: str
    headers: dict[str, str]


@dataclass(slots=True)
class Vendor:
    """Answers with `reply`, and remembers what it was asked."""

    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    reply: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]] | None = None

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.seen.append(Seen(request.method, request.raw_path, headers))
        if self.reply is not None:
            return await self.reply(request)
        return self.json(b'{"status":"OK","results":[{"p":1.10}]}')

    @staticmethod
    def json(body: bytes, status: int = 200, **headers: str) -> web.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(
            status=status, body=body, headers={"Content-Type": "application/json", "X-Request-Id": "vendor1", **named}
        )

    def will(self, body: bytes, status: int = 200, **headers: str) -> None:
        """Answer everything from now on with this."""

        async def reply(_: web.BaseRequest) -> web.StreamResponse:
            return self.json(body, status, **headers)

        self.reply = reply


@pytest_asyncio.fixture
async def vendor() -> AsyncIterator[Vendor]:
    found = Vendor()
    server = web.Server(found.handle, access_log=None)
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    found.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    yield found
    listener.close()
    await server.shutdown(0.5)


Serve = Callable[..., Awaitable[Gateway]]


@pytest_asyncio.fixture
async def serve(vendor: Vendor) -> AsyncIterator[Serve]:
    """Start a gateway in front of the vendor; options of `GatewaySettings`, and of `Gateway` as ``gateway_*``."""
    async with AsyncExitStack() as stack:

        async def start(*, upstream: dict[str, Any] | None = None, **options: Any) -> Gateway:
            ours = {
                name.removeprefix("gateway_"): options.pop(name)
                for name in list(options)
                if name.startswith("gateway_")
            }
            settings = GatewaySettings(
                **{
                    "tokens": tuple(TokenRule(name, Secret(token)) for name, token in TOKENS.items()),
                    "secret": Secret(SECRET),
                    "port": 0,
                    "admin_port": 0,
                    "drain_s": 5.0,
                    **options,
                }
            )
            given = {"rest_url": vendor.url, "ws_url": vendor.url.replace("http", "ws", 1), **(upstream or {})}
            gateway = Gateway(settings, Settings(api_key=Secret(KEY), **given), **ours)
            await gateway.start()
            stack.push_async_callback(gateway.close)
            return gateway

        yield start


Ask = Callable[..., Awaitable[Reply]]


@pytest.fixture
def ask() -> Ask:
    """``await ask(url, target, method="GET", body=b"", token="...", **headers)``: one request on a connection of its own."""

    async def one(
        url: str,
        target: str,
        *,
        method: str = "GET",
        body: bytes = b"",
        token: str | None = TOKENS["desk"],
        **headers: str,
    ) -> Reply:
        host = urlsplit(url).netloc
        lines = [f"{method} {target} HTTP/1.1"]
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            named.setdefault("Authorization", f"Bearer {token}")
        if body:
            named.setdefault("Content-Length", str(len(body)))
        named = {"Host": host, "Connection": "close", **named}
        lines += [f"{name}: {value}" for name, value in named.items()]
        return await raw(url, "\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    return one


@pytest.fixture
def send() -> Ask:
    """``await send(url, bytes)``: write them, and read until the other side closes."""
    return raw


async def raw(url: str, data: bytes) -> Reply:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(data)
        async with asyncio.timeout(20):
            whole = await reader.read()
    except ConnectionError:
        whole = b""
    finally:
        writer.close()
    head, _, body = whole.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    status = int(first.split(" ")[1]) if first else 0
    return Reply(status, headers, body, whole)
