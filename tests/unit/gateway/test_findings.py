"""What mutated requests have brought to light."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

import pytest

DESK = "canary-desk-0123456789"

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize(
    "target",
    [
        f"/v3/trades/AAPL?limit=5&{DESK}",
        f"/v3/trades/AAPL?apiKey?={DESK}",
        f"/v3/trades/AAPL?key={DESK.replace('d', '%64')}",
        f"/v3/trades/{DESK}",
    ],
)
async def test_a_token_in_a_place_of_no_token_does_not_go_up(serve: Any, vendor: Any, ask: Any, target: str) -> None:
    gateway = await serve()
    reply = await ask(gateway.url, target)
    assert reply.status == 400
    assert DESK.encode() not in reply.raw
    assert vendor.seen == []


async def test_the_subprotocols_that_a_client_asks_for_are_not_logged(
    serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await serve()
    parts = urlsplit(gateway.url)
    with caplog.at_level("INFO"):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(
            b"GET /stocks HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            b"Sec-WebSocket-Protocol: bearer-of-somebody\r\n\r\n"
        )
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readuntil(b"Connected Successfully")
        writer.close()
    assert b" 101 " in head
    assert b"bearer-of-somebody" not in head
    assert "websocket opened" in caplog.text
    assert "bearer-of-somebody" not in caplog.text


async def test_who_connects_and_says_nothing_is_sent_away(serve: Any) -> None:
    gateway = await serve()
    gateway._edges[0].silent_s = 0.05
    parts = urlsplit(gateway.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    async with asyncio.timeout(20):
        whole = await reader.read()
    writer.close()
    assert whole.startswith(b"HTTP/1.1 408 ")


async def test_the_wait_for_the_first_byte_does_not_end_a_connection_that_has_spoken(serve: Any) -> None:
    gateway = await serve()
    gateway._edges[0].silent_s = 1.0
    parts = urlsplit(gateway.url)
    request = b"GET /v1/marketstatus/now HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer " + DESK.encode() + b"\r\n\r\n"
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    for _ in range(2):
        writer.write(request)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        await reader.readuntil(b"}]}")
        await asyncio.sleep(1.5)  # longer than the wait, were it still running
    writer.close()


@pytest.mark.parametrize(
    ("version", "key"), [(b"13", b"AAAAAAA\xecAAAAAAAAAAAAAA=="), (b"\xe53", b"AAAAAAAAAAAAAAAAAAAAAA==")]
)
async def test_a_handshake_beyond_ascii_is_the_client_s_fault(serve: Any, version: bytes, key: bytes) -> None:
    gateway = await serve()
    parts = urlsplit(gateway.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(
        b"GET /stocks HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: " + version + b"\r\nSec-WebSocket-Key: " + key + b"\r\n\r\n"
    )
    head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.1 426 ")
