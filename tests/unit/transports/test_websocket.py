from __future__ import annotations

import asyncio
import socket

import pytest
import pytest_asyncio
from websockets.asyncio.server import serve

from massive_lab.errors import (
    ConnectionLost,
    InvalidRequest,
    NotEntitled,
    RateLimited,
    Timeout,
    Unauthorized,
    UpstreamError,
)
from massive_lab.transports.websocket import connect

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def server():
    """Do what the path says; keep the request headers."""
    seen = []

    def upgrade(connection, request):
        seen.append(request.headers)
        if request.path.startswith("/http/"):
            return connection.respond(int(request.path.rpartition("/")[2]), "no\n")
        return None

    async def talk(connection):
        path = connection.request.path
        if path == "/echo":
            async for message in connection:
                await connection.send(message)
        elif path == "/large":
            await connection.send("x" * 5_000)
            await connection.wait_closed()
        elif path == "/deaf":
            connection.transport.pause_reading()
            await connection.wait_closed()
        elif path == "/abort":
            connection.transport.abort()
        elif path.startswith("/close/"):
            await connection.close(int(path.rpartition("/")[2]), "why not")
        elif path == "/bad-utf8":
            await connection.send(b"\xff\xfe", text=True)
            await connection.wait_closed()

    async with serve(talk, "127.0.0.1", 0, process_request=upgrade, ping_interval=None, close_timeout=0.2) as running:
        port = next(iter(running.sockets)).getsockname()[1]
        yield f"ws://127.0.0.1:{port}", seen


async def test_text_goes_out_and_bytes_come_in(server):
    url, seen = server
    connection = await connect(f"{url}/echo")
    await connection.send("grüße")
    assert await connection.recv() == "grüße".encode()
    await connection.close()
    await connection.close()
    (headers,) = seen
    assert "Origin" not in headers
    assert "Sec-WebSocket-Extensions" not in headers
    assert headers["User-Agent"].startswith("massive_lab/")


async def test_compression_and_headers_only_when_asked(server):
    url, seen = server
    connection = await connect(f"{url}/echo", compression="deflate", headers={"X-Mine": "1"})
    assert "permessage-deflate" in seen[0]["Sec-WebSocket-Extensions"]
    assert seen[0]["X-Mine"] == "1"
    await connection.close()


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, Unauthorized), (403, NotEntitled), (429, RateLimited), (500, UpstreamError), (503, UpstreamError)],
)
async def test_a_refused_upgrade_names_its_status(status, error, server):
    with pytest.raises(error, match=str(status)) as caught:
        await connect(f"{server[0]}/http/{status}")
    if error is UpstreamError:
        assert caught.value.status == status


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 1012, 1013])
async def test_every_close_is_a_loss_with_its_code(code, server):
    connection = await connect(f"{server[0]}/close/{code}")
    with pytest.raises(ConnectionLost, match=f"by the server with code {code} \\(why not\\)"):
        await connection.recv()
    assert (connection.close_code, connection.close_reason) == (code, "why not")
    with pytest.raises(ConnectionLost):
        await connection.send("too late")


async def test_a_cut_without_a_close_frame(server):
    connection = await connect(f"{server[0]}/abort")
    with pytest.raises(ConnectionLost, match="without a close frame"):
        await connection.recv()
    assert connection.close_code == 1006


async def test_a_frame_beyond_the_bound_ends_the_connection(server):
    connection = await connect(f"{server[0]}/large", max_frame_bytes=1_000)
    with pytest.raises(ConnectionLost, match="1009"):
        await connection.recv()


async def test_text_that_is_not_utf8_is_handed_on_as_bytes(server):
    connection = await connect(f"{server[0]}/bad-utf8")
    assert await connection.recv() == b"\xff\xfe"
    await connection.close()


async def test_cancelling_a_read_loses_nothing(server):
    connection = await connect(f"{server[0]}/echo")
    read = asyncio.ensure_future(connection.recv())
    await asyncio.sleep(0)
    read.cancel()
    await asyncio.gather(read, return_exceptions=True)
    await connection.send("kept")
    assert await connection.recv() == b"kept"
    await connection.close()


async def test_a_close_that_is_cancelled_cuts_the_connection(server):
    connection = await connect(f"{server[0]}/deaf", close_timeout_s=60.0)
    closing = asyncio.ensure_future(connection.close())
    await asyncio.sleep(0)
    assert not closing.done()
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert connection._ws.transport.is_closing()
    with pytest.raises(ConnectionLost):
        await connection.recv()


async def test_nobody_listens():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ConnectionLost, match="ConnectionRefusedError"):
        await connect(f"ws://127.0.0.1:{port}/stocks")


async def test_a_server_that_never_answers_the_upgrade():
    with socket.socket() as quiet:  # listens, so TCP connects, but nobody ever accepts
        quiet.bind(("127.0.0.1", 0))
        quiet.listen()
        with pytest.raises(Timeout, match=r"within 0\.05 s"):
            await connect(f"ws://127.0.0.1:{quiet.getsockname()[1]}/stocks", open_timeout_s=0.05)


async def test_a_server_that_talks_nonsense():
    async def babble(reader, writer):
        writer.write(b"HELLO\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(ConnectionLost):
        await connect(f"ws://127.0.0.1:{port}/stocks")
    server.close()


@pytest.mark.parametrize("url", ["http://h/x", "ws:///x", "ws://h/x?apiKey=k", "ws://user@h/x", "ws://h/x#f"])
async def test_an_address_with_more_than_host_and_path_is_refused(url):
    with pytest.raises(InvalidRequest):
        await connect(url)


async def test_the_library_below_never_logs_frames_or_headers_whatever_the_level(server, caplog):
    url, _ = server
    with caplog.at_level(1):
        connection = await connect(url + "/echo", headers={"X-Token": "canary-header"})
        await connection.send('{"action": "auth", "params": "canary-key"}')
        await connection.recv()
        await connection.close()
    client = [record.getMessage() for record in caplog.records if record.name != "websockets.server"]
    assert not [line for line in client if "canary" in line]
    assert "canary" in caplog.text, "the test's own server does log"
