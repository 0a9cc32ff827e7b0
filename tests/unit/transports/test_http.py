"""The REST transport against a loopback server that writes raw bytes, so that every fault is a real one.

Each test runs on a `Bench`, which at its end compares our telemetry with the server's own count and looks for tasks left
behind; a test need not ask for that.
"""

from __future__ import annotations

import asyncio
import gzip
import logging
import random
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Self

import pytest

from massive_lab.clock import ManualClock
from massive_lab.config import Secret, Settings
from massive_lab.errors import ClosedError, ConnectionLost, InvalidRequest, Timeout, UpstreamError
from massive_lab.telemetry import Event, RequestCoalesced, RequestDone, RetryScheduled, Telemetry, ThrottleWait
from massive_lab.transports.http import HttpTransport, _Sent

KEY = "sk-Hidden-0123456789"
Step = Callable[["Server", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


# the server


class HangUp(Exception):
    """Raised by a step to end the connection."""


class Server:
    """Reads request heads, counts them, and plays one step per request; the last step repeats."""

    def __init__(self, *steps: Step) -> None:
        self.steps = steps
        self.heads: list[bytes] = []
        self.n_connections = 0
        self.n_left = 0
        """Connections the client ended while a step was answering."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._running: set[asyncio.Task[Any]] = set()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        self.n_connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                step = self.steps[min(len(self.heads), len(self.steps)) - 1]
                await step(self, reader, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, HangUp, asyncio.CancelledError):
            pass  # the end of the connection, or of the test
        finally:
            writer.close()
            self._running.discard(task)

    @property
    def lines(self) -> list[str]:
        return [head.split(b"\r\n", 1)[0].decode() for head in self.heads]


def packed(body: bytes = b"{}", status: str = "200 OK", **headers: str) -> bytes:
    fields = {"content-length": str(len(body)), **{name.replace("_", "-"): value for name, value in headers.items()}}
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode() + body


def says(*pieces: bytes, then: str = "keep") -> Step:
    """Write the pieces one by one; then keep the connection, end it politely, or reset it."""

    async def step(_: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if then == "reset":
            # With no linger, closing sends RST, and what the peer has not read is lost.
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        if then != "keep":
            raise HangUp

    return step


def answers(body: bytes = b"{}", status: str = "200 OK", **headers: str) -> Step:
    return says(packed(body, status, **headers))


async def hangs(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer nothing until the client leaves."""
    try:
        await reader.read(1)
    finally:
        server.n_left += 1
    raise HangUp


def begins(*pieces: bytes) -> Step:
    """Write the pieces, and nothing more until the client leaves."""

    async def step(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
        await writer.drain()
        await hangs(server, reader, writer)

    return step


# the bench


class Bench:
    def __init__(self, server: Server, **changes: Any) -> None:
        self.server = server
        self.clock = ManualClock(start_ns=1_700_000_000 * 10**9)
        self.events: list[Event] = []
        self.telemetry = Telemetry()
        self.telemetry.add(self.events.append)
        options = {name: changes.pop(name) for name in ("chance", "max_body_bytes") if name in changes}
        settings = Settings(api_key=Secret(KEY), rest_url=server.url)
        self.transport = HttpTransport(replace(settings, **changes), self.telemetry, self.clock, **options)

    async def get(self, target: str = "/v3/trades/AAPL", **options: Any) -> Any:
        return await self.transport.get(target, **{"cause": "test", **options})

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if type(event) is kind]

    @property
    def done(self) -> list[RequestDone]:
        return self.of(RequestDone)

    async def advance(self) -> float:
        """Wait until somebody sleeps, and move the clock exactly to the moment the first wakes."""
        await until(lambda: self.clock.n_sleeping)
        wait_s = self.clock.next_wake_s()
        assert wait_s is not None
        self.clock.advance(wait_s)
        return wait_s

    async def while_advancing(self, work: Awaitable[Any]) -> tuple[Any, list[float]]:
        """Let the clock run as fast as it is asked to; the outcome of the work, and the waits."""
        task = asyncio.ensure_future(work)
        waits = []
        while True:
            await until(lambda: task.done() or self.clock.n_sleeping)
            if task.done():
                return task, waits
            waits.append(await self.advance())


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  most conditions live on the far side of a socket
            await asyncio.sleep(0.001)


@asynccontextmanager
async def bench(*steps: Step, **changes: Any) -> AsyncIterator[Bench]:
    async with Server(*steps) as server:
        others = asyncio.all_tasks()
        one = Bench(server, **changes)
        try:
            yield one
        finally:
            await one.transport.aclose()
        left = {task for task in asyncio.all_tasks() - others - server._running if not task.done()}
        assert not left
        assert one.transport.n_in_flight == 0
        assert len([event for event in one.done if event.sent]) == len(server.heads)
        assert not [event for event in one.done if event.status is not None and not event.sent]
        assert KEY not in repr(one.events)


# what is asked


@pytest.mark.asyncio
async def test_the_key_travels_in_the_header_and_nowhere_else(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with bench(answers(b"[]"), says(then="end"), max_attempts=1) as b:
        answer = await b.get(params={"limit": "5", "ticker.gte": "A B&c"})
        with pytest.raises(ConnectionLost) as caught:
            await b.get()
        assert KEY not in f"{caught.value!s} {caught.value!r} {vars(caught.value)} {answer!r} {b.transport!r}"
        head = b.server.heads[0].decode()
        assert b.server.lines[0] == "GET /v3/trades/AAPL?limit=5&ticker.gte=A+B%26c HTTP/1.1"
        assert head.count(KEY) == 1
        assert f"authorization: bearer {KEY}\r\n".lower() in head.lower()
    assert KEY not in caplog.text


@pytest.mark.asyncio
async def test_params_join_a_query_that_is_there() -> None:
    async with bench(answers()) as b:
        await b.get("/v3/trades/AAPL?cursor=abc%3D", params={"limit": "1"})
        assert b.server.lines == ["GET /v3/trades/AAPL?cursor=abc%3D&limit=1 HTTP/1.1"]


@pytest.mark.parametrize(
    "symbol", ["I:SPX", "O:SPXW251219P05000000", "BRK.B", "BACpL", "A-B", "I%3ASPX", "a%2Fb", "x;y=1,2", "~'()*!$&"]
)
@pytest.mark.asyncio
async def test_a_path_reaches_the_server_letter_by_letter(symbol: str) -> None:
    async with bench(answers()) as b:
        await b.get(f"/v3/trades/{symbol}?order=asc")
        assert b.server.lines == [f"GET /v3/trades/{symbol}?order=asc HTTP/1.1"]


@pytest.mark.parametrize(
    "target",
    [
        "",
        "v3/trades/A",
        "http://127.0.0.1:1/v3/trades/A",
        "https://example.com/v3/trades/A",
        "//example.com/v3/trades/A",
        "@example.com/",
        "/v3/trades/A B",
        "/v3/trades/A\r\nX-Injected: 1",
        "/v3/trades/A\n",
        "/v3/trades/A#fragment",
        "/v3/../v1/secret",
        "/v3/trades/..",
        "/v3/%2E%2e/v1",
        "/v3/./trades",
        "/v3/trades/Ä",
        "/v3/trades/" + "A" * 40_000,
    ],
)
@pytest.mark.asyncio
async def test_what_is_no_path_of_the_host_is_refused_unsent(target: str) -> None:
    async with bench(answers()) as b:
        with pytest.raises(InvalidRequest, match="path of the configured host"):
            await b.get(target)
        assert b.events == []
        assert b.server.n_connections == 0


@pytest.mark.asyncio
async def test_a_redirect_is_an_answer_and_takes_the_key_nowhere() -> None:
    async with Server(answers()) as elsewhere, bench(answers(b"", "302 Found", location=elsewhere.url + "/x")) as b:
        answer = await b.get()
        assert (answer.status, answer.headers["location"]) == (302, elsewhere.url + "/x")
        assert elsewhere.n_connections == 0
        assert [(event.status, event.outcome) for event in b.done] == [(302, "http_error")]


@pytest.mark.asyncio
async def test_extra_headers_are_sent_and_cannot_replace_the_key() -> None:
    async with bench(answers(), extra_headers={"X-Extra": "1", "Authorization": "Bearer other"}) as b:
        await b.get()
        head = b.server.heads[0].decode().lower()
        assert "x-extra: 1\r\n" in head
        assert head.count("authorization:") == 1
        assert KEY.lower() in head


# what comes back

TEXT = b'{"results":[' + b",".join(b'{"p":%d}' % n for n in range(500)) + b"]}"
ZIPPED = gzip.compress(TEXT)
TWO_MEMBERS = gzip.compress(TEXT[:700]) + gzip.compress(TEXT[700:])


def chunked(*parts: bytes, headers: bytes = b"") -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts if part)
    return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n" + headers + b"\r\n" + body + b"0\r\n\r\n"


def bytewise(data: bytes) -> list[bytes]:
    return [data[n : n + 1] for n in range(len(data))]


@pytest.mark.parametrize(
    ("pieces", "n_wire_bytes"),
    [
        pytest.param([packed(TEXT)], len(TEXT), id="plain"),
        pytest.param([packed(TEXT, content_encoding="identity")], len(TEXT), id="identity"),
        pytest.param([packed(ZIPPED, content_encoding="gzip")], len(ZIPPED), id="gzip"),
        pytest.param([packed(ZIPPED, content_encoding=" GZip ")], len(ZIPPED), id="gzip in capitals"),
        pytest.param([packed(ZIPPED, content_encoding="x-gzip")], len(ZIPPED), id="x-gzip"),
        pytest.param([packed(TWO_MEMBERS, content_encoding="gzip")], len(TWO_MEMBERS), id="two members"),
        pytest.param(bytewise(packed(TWO_MEMBERS, content_encoding="gzip")), len(TWO_MEMBERS), id="byte by byte"),
        pytest.param([chunked(TEXT[:9], TEXT[9:])], len(TEXT), id="chunked"),
        pytest.param(
            [chunked(*bytewise(TWO_MEMBERS), headers=b"content-encoding: gzip\r\n")],
            len(TWO_MEMBERS),
            id="chunked gzip",
        ),
    ],
)
@pytest.mark.asyncio
async def test_a_whole_body_comes_out_whole(pieces: list[bytes], n_wire_bytes: int) -> None:
    async with bench(says(*pieces)) as b:
        answer = await b.get()
        assert answer.body == TEXT
        assert answer.n_wire_bytes == n_wire_bytes
        assert [(e.status, e.outcome, e.n_bytes, e.sent) for e in b.done] == [(200, "ok", n_wire_bytes, True)]


@pytest.mark.asyncio
async def test_an_empty_answer_is_empty_whatever_its_encoding_says() -> None:
    async with bench(answers(b"", "404 Not Found", content_encoding="gzip")) as b:
        assert (await b.get()).body == b""


@pytest.mark.asyncio
async def test_header_names_are_lower_case_and_the_request_id_is_kept() -> None:
    async with bench(says(b"HTTP/1.1 404 Not Found\r\nX-Request-ID: r-1\r\nContent-Length: 0\r\n\r\n")) as b:
        answer = await b.get()
        assert (answer.request_id, answer.headers["x-request-id"]) == ("r-1", "r-1")
        assert b.done[0].request_id == "r-1"
        with pytest.raises(TypeError):
            answer.headers["x-request-id"] = "r-2"


DAMAGED = bytearray(ZIPPED)
DAMAGED[-6] ^= 0xFF  # the checksum
BROKEN = {
    "closed without an answer": says(then="end"),
    "reset without an answer": says(then="reset"),
    "no HTTP": says(b"SSH-2.0-x\r\n\r\n", then="end"),
    "half a head": says(b"HTTP/1.1 200 OK\r\ncontent-le", then="end"),
    "shorter than its length": says(packed(TEXT)[:-5], then="end"),
    "reset in the body": says(packed(TEXT)[:-900], then="reset"),
    "chunks that stop": says(chunked(TEXT)[:-9], then="end"),
    "a chunk size that is none": says(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", then="end"),
    "gzip that stops": answers(ZIPPED[:-20], content_encoding="gzip"),
    "gzip without its trailer": answers(ZIPPED[:-8], content_encoding="gzip"),
    "a second member that stops": answers(TWO_MEMBERS[:-1], content_encoding="gzip"),
    "a wrong checksum": answers(bytes(DAMAGED), content_encoding="gzip"),
    "rubbish behind the gzip": answers(ZIPPED + b"rubbish", content_encoding="gzip"),
    "no gzip at all": answers(TEXT, content_encoding="gzip"),
}


@pytest.mark.parametrize("fault", BROKEN)
@pytest.mark.asyncio
async def test_a_broken_answer_is_an_error_and_counted_once(fault: str) -> None:
    async with bench(BROKEN[fault], max_attempts=1) as b:
        with pytest.raises(ConnectionLost) as caught:
            await b.get()
        assert caught.value.endpoint == "trades"
        assert caught.value.hint
        assert [(event.outcome, event.sent, event.attempt) for event in b.done] == [("connection", True, 1)]


@pytest.mark.parametrize("fault", BROKEN)
@pytest.mark.asyncio
async def test_a_broken_answer_is_asked_for_again(fault: str) -> None:
    async with bench(BROKEN[fault], answers(TEXT)) as b:
        task, waits = await b.while_advancing(b.get())
        assert task.result().body == TEXT
        assert len(waits) == 1
        assert [event.outcome for event in b.done] == ["connection", "ok"]
        assert [(event.reason, event.attempt) for event in b.of(RetryScheduled)] == [("ConnectionLost", 1)]


@pytest.mark.asyncio
async def test_a_body_that_fits_exactly_is_taken() -> None:
    async with bench(
        answers(ZIPPED, content_encoding="gzip"), answers(TEXT), max_body_bytes=len(TEXT), max_attempts=1
    ) as b:
        assert (await b.get()).body == TEXT
        assert (await b.get()).body == TEXT


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(answers(TEXT), id="on the wire"),
        pytest.param(answers(ZIPPED, content_encoding="gzip"), id="inflated"),
        pytest.param(answers(TWO_MEMBERS, content_encoding="gzip"), id="over two members"),
        pytest.param(says(chunked(*bytewise(ZIPPED), headers=b"content-encoding: gzip\r\n")), id="chunked"),
        pytest.param(answers(gzip.compress(bytes(10_000_000)), content_encoding="gzip"), id="a bomb"),
    ],
)
@pytest.mark.asyncio
async def test_a_body_over_the_bound_is_refused_and_not_asked_for_again(step: Step) -> None:
    limit = len(TEXT) - 1
    async with bench(step, max_body_bytes=limit) as b:
        with pytest.raises(UpstreamError, match=f"larger than {limit} bytes") as caught:
            await b.get()
        assert caught.value.status == 200
        assert [event.outcome for event in b.done] == ["connection"]


@pytest.mark.asyncio
async def test_an_encoding_that_was_not_asked_for_is_refused() -> None:
    async with bench(answers(TEXT, content_encoding="br")) as b:
        with pytest.raises(UpstreamError, match="'br'"):
            await b.get()
        assert b"accept-encoding: gzip\r\n" in b.server.heads[0].lower()


# time


@pytest.mark.parametrize(
    "step",
    [hangs, begins(packed(TEXT)[:-1]), begins(b"HTTP/1.1 200 OK\r\n")],
    ids=["nothing", "in the body", "in the head"],
)
@pytest.mark.asyncio
async def test_silence_ends_in_a_timeout_and_the_server_sees_us_leave(step: Step) -> None:
    async with bench(step, max_attempts=1, timeout_s=0.05) as b:
        with pytest.raises(Timeout, match=r"0\.05 s") as caught:
            await b.get()
        assert caught.value.endpoint == "trades"
        assert [(event.outcome, event.sent) for event in b.done] == [("timeout", True)]
        await until(lambda: b.server.n_left == 1)


@pytest.mark.asyncio
async def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        async with bench(answers(), rest_url=f"http://127.0.0.1:{taken.getsockname()[1]}", max_attempts=2) as b:
            task, waits = await b.while_advancing(b.get())
            assert isinstance(task.exception(), ConnectionLost)
            assert len(waits) == 1
            assert [(e.outcome, e.status, e.sent) for e in b.done] == [("connection", None, False)] * 2


@pytest.fixture
def deaf() -> Any:
    """A port that accepts connections, as the kernel does by itself, and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"https://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.asyncio
async def test_a_connection_that_never_opens_times_out_unsent(deaf: str) -> None:
    async with bench(answers(), rest_url=deaf, connect_timeout_s=0.05, max_attempts=1) as b:
        with pytest.raises(Timeout):
            await b.get()
        assert [(e.outcome, e.status, e.sent) for e in b.done] == [("timeout", None, False)]


@pytest.mark.asyncio
async def test_a_call_cancelled_while_connecting_was_not_sent(deaf: str) -> None:
    async with bench(answers(), rest_url=deaf, connect_timeout_s=60, max_attempts=1) as b:
        task = asyncio.create_task(b.get())
        await until(lambda: b.transport._client and b.transport._client._transport._pool.connections)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [(e.outcome, e.status, e.sent) for e in b.done] == [("cancelled", None, False)]


@pytest.mark.asyncio
async def test_a_call_cancelled_while_it_waits_for_a_connection_was_not_sent() -> None:
    async with bench(hangs, max_connections=1) as b:
        first = asyncio.create_task(b.get("/v3/trades/A"))
        await until(lambda: b.server.heads)
        second = asyncio.create_task(b.get("/v3/trades/B"))
        await until(lambda: len(b.transport._client._transport._pool._requests) == 2)
        second.cancel()
        await asyncio.wait([second])
        first.cancel()
        await asyncio.wait([first])
        assert [(e.outcome, e.sent) for e in b.done] == [("cancelled", False), ("cancelled", True)]


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.asyncio
async def test_whenever_a_call_is_cancelled_both_counts_agree(seed: int) -> None:
    """Cancelled after any number of turns of the loop: before, while and after the request is written."""
    async with bench(answers(TEXT), max_attempts=1) as b:
        if seed % 2:
            await b.get("/v3/trades/WARM")  # the second call then finds an open connection
        task = asyncio.create_task(b.get())
        for _ in range(seed // 2):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        # What was sent may still be on its way to the server's reader.
        await until(lambda: len(b.server.heads) >= sum(event.sent for event in b.done))


@pytest.mark.asyncio
async def test_a_tunnel_is_not_the_request() -> None:
    class Request:
        def __init__(self, method: bytes) -> None:
            self.method = method

    sent = _Sent()
    await sent("http11.send_request_headers.started", {"request": Request(b"CONNECT")})
    await sent("http11.send_request_headers.failed", {"exception": asyncio.CancelledError()})
    assert not sent.done
    await sent("http11.send_request_headers.started", {"request": Request(b"GET")})
    assert sent.done
    await sent("http11.send_request_headers.failed", {"exception": asyncio.CancelledError()})
    assert sent.done
    await sent("http11.send_request_headers.failed", {"exception": OSError()})
    assert not sent.done


# again


@pytest.mark.parametrize("status", ["408 x", "429 x", "499 x", "500 x", "502 x", "503 x", "504 x", "520 x"])
@pytest.mark.asyncio
async def test_trouble_on_the_servers_side_is_asked_again(status: str) -> None:
    async with bench(answers(b"no", status), answers(b"no", status), answers(TEXT), chance=lambda: 0.5) as b:
        task, waits = await b.while_advancing(b.get())
        assert task.result().body == TEXT
        assert waits == [0.1875, 0.375]
        assert [(e.reason, e.delay_s, e.attempt) for e in b.of(RetryScheduled)] == [
            (status[:3], 0.1875, 1),
            (status[:3], 0.375, 2),
        ]
        assert [event.attempt for event in b.done] == [1, 2, 3]


@pytest.mark.parametrize("status", ["400 x", "401 x", "403 x", "404 x", "501 x"])
@pytest.mark.asyncio
async def test_a_verdict_is_not_asked_again(status: str) -> None:
    async with bench(answers(b"no", status, retry_after="1")) as b:
        answer = await b.get()
        assert (answer.status, answer.body) == (int(status[:3]), b"no")
        assert len(b.server.heads) == 1
        assert b.of(RetryScheduled) == []


@pytest.mark.asyncio
async def test_the_last_answer_is_handed_out_when_tries_are_spent() -> None:
    async with bench(*(answers(b"%d" % n, "503 x") for n in range(9)), max_attempts=3) as b:
        task, waits = await b.while_advancing(b.get())
        assert (task.result().status, task.result().body) == (503, b"2")
        assert len(waits) == 2


@pytest.mark.parametrize(
    ("value", "wait_s"), [("3", 3.0), ("Tue, 14 Nov 2023 22:13:29 GMT", 9.0), ("70", 70.0), ("0", None)]
)
@pytest.mark.asyncio
async def test_retry_after_is_obeyed(value: str, wait_s: float | None) -> None:
    async with bench(answers(b"", "429 x", retry_after=value), answers(TEXT)) as b:
        task, waits = await b.while_advancing(b.get())
        assert task.result().body == TEXT
        assert waits == ([] if wait_s is None else [wait_s])


@pytest.mark.asyncio
async def test_a_wait_that_is_too_long_is_told_instead_of_waited_for() -> None:
    async with bench(answers(b"", "429 x", retry_after="71")) as b:
        answer = await b.get()
        assert (answer.status, answer.headers["retry-after"]) == (429, "71")
        assert b.of(RetryScheduled) == []


@pytest.mark.asyncio
async def test_retries_of_all_requests_share_one_budget() -> None:
    async with bench(answers(b"", "503 x")) as b:
        for n in range(30):
            task, _ = await b.while_advancing(b.get(f"/v3/trades/A{n}"))
            assert task.result().status == 503
        # 20 in reserve, and a fifth of a retry earned by each request once the reserve was touched.
        assert 20 <= len(b.of(RetryScheduled)) <= 26
        assert len(b.server.heads) == 30 + len(b.of(RetryScheduled))


# the call budget


@pytest.mark.asyncio
async def test_the_sixth_call_of_a_minute_waits_for_exactly_what_is_left_of_it() -> None:
    async with bench(answers(TEXT), calls_per_minute=5) as b:
        for n in range(5):
            await b.get(f"/v3/trades/A{n}")
            b.clock.advance(1.0)
        sixth = asyncio.create_task(b.get("/v3/trades/A5"))
        await until(lambda: b.clock.n_sleeping)
        assert [event.wait_s for event in b.of(ThrottleWait)] == [55.0]
        await b.get("/v3/trades/B", budget="options")  # another budget does not wait
        b.clock.advance(54.999)
        assert b.clock.n_sleeping == 1
        assert len(b.server.heads) == 6
        b.clock.advance(0.001)
        assert (await sixth).status == 200
        assert len(b.of(ThrottleWait)) == 1


@pytest.mark.asyncio
async def test_a_retry_spends_budget_too() -> None:
    async with bench(answers(b"", "503 x"), answers(TEXT), calls_per_minute=1, chance=lambda: 0.0) as b:
        task, waits = await b.while_advancing(b.get())
        assert task.result().status == 200
        assert waits == [0.125, pytest.approx(59.875)]


@pytest.mark.asyncio
async def test_a_call_cancelled_in_the_queue_sends_and_reports_nothing() -> None:
    async with bench(answers(TEXT), calls_per_minute=1) as b:
        await b.get("/v3/trades/A")
        task = asyncio.create_task(b.get("/v3/trades/B"))
        await until(lambda: b.clock.n_sleeping)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert b.clock.n_sleeping == 0
        assert len(b.done) == 1


# shared flights


@pytest.mark.asyncio
async def test_identical_calls_in_flight_are_one_request() -> None:
    async with bench(answers(TEXT)) as b:
        got = await asyncio.gather(*(b.get(params={"limit": "1"}, cause=f"c{n}") for n in range(20)))
        assert [answer.body for answer in got] == [TEXT] * 20
        assert len(b.server.heads) == 1
        assert [event.cause for event in b.of(RequestCoalesced)] == [f"c{n}" for n in range(1, 20)]
        await b.get(params={"limit": "1"})  # over: not in flight any more
        assert len(b.server.heads) == 2


@pytest.mark.asyncio
async def test_other_parameters_are_another_request() -> None:
    async with bench(answers(TEXT)) as b:
        await asyncio.gather(b.get(params={"limit": "1"}), b.get(params={"limit": "2"}))
        assert sorted(b.server.lines) == [f"GET /v3/trades/AAPL?limit={n} HTTP/1.1" for n in (1, 2)]


@pytest.mark.asyncio
async def test_an_error_reaches_everybody_who_waited() -> None:
    async with bench(says(then="end"), max_attempts=1) as b:
        got = await asyncio.gather(*(b.get() for _ in range(5)), return_exceptions=True)
        assert [type(error) for error in got] == [ConnectionLost] * 5
        assert len(b.done) == 1


def gated(gate: asyncio.Event) -> Step:
    async def step(_: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gate.wait()
        writer.write(packed(TEXT))

    return step


@pytest.mark.parametrize("victim", [0, 1, 2])
@pytest.mark.asyncio
async def test_one_who_leaves_does_not_hurt_the_others(victim: int) -> None:
    gate = asyncio.Event()
    async with bench(gated(gate)) as b:
        tasks = [asyncio.create_task(b.get()) for _ in range(3)]
        await until(lambda: b.server.heads)
        tasks[victim].cancel()
        await asyncio.wait([tasks[victim]])
        assert tasks[victim].cancelled()
        gate.set()
        for task in tasks[:victim] + tasks[victim + 1 :]:
            assert (await task).body == TEXT
        assert [event.outcome for event in b.done] == ["ok"]


@pytest.mark.parametrize("step", [hangs, begins(packed(TEXT)[:-1])], ids=["nothing yet", "in the body"])
@pytest.mark.asyncio
async def test_the_last_who_leaves_aborts_the_connection(step: Step) -> None:
    async with bench(step) as b:
        tasks = [asyncio.create_task(b.get()) for _ in range(3)]
        await until(lambda: b.server.heads)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert all(task.cancelled() for task in tasks)
        # Reported before the callers were let go, once, and the server notices.
        assert [(event.outcome, event.sent) for event in b.done] == [("cancelled", True)]
        assert b.transport.n_in_flight == 0
        await until(lambda: b.server.n_left == 1)


@pytest.mark.asyncio
async def test_a_call_made_while_an_identical_one_is_being_aborted_is_its_own_and_can_be_closed() -> None:
    async with bench(hangs) as b:
        first = asyncio.create_task(b.get())
        await until(lambda: b.server.heads)
        first.cancel()
        await asyncio.sleep(0)  # the abort is under way
        second = asyncio.create_task(b.get())
        await asyncio.wait([first])
        await until(lambda: len(b.server.heads) == 2)
        # The end of the first must not have struck the second from the books: identical calls join it ...
        third = asyncio.create_task(b.get())
        await until(lambda: b.of(RequestCoalesced))
        assert b.transport.n_in_flight == 1
        # ... and closing ends it.
        await b.transport.aclose()
        for task in (second, third):
            with pytest.raises(ClosedError):
                await task


@pytest.mark.asyncio
async def test_an_answer_that_has_come_is_not_a_flight_to_join() -> None:
    async with bench(answers(b"1"), answers(b"2")) as b:
        over = asyncio.Event()
        # Set in the last step of the first call's task: who waits for it runs before any callback of that task.
        b.telemetry.add(lambda event: over.set() if type(event) is RequestDone else None)

        async def late() -> bytes:
            await over.wait()
            assert [flight.task.done() for flight in b.transport._flights._flights.values()] == [True]
            return (await b.get()).body

        second = asyncio.create_task(late())
        assert (await b.get()).body == b"1"
        assert await second == b"2"
        assert b.of(RequestCoalesced) == []


# the end


@pytest.mark.parametrize("step", [hangs, begins(packed(TEXT)[:-1])], ids=["nothing yet", "in the body"])
@pytest.mark.asyncio
async def test_closing_aborts_what_is_in_flight(step: Step) -> None:
    async with bench(step) as b:
        tasks = [asyncio.create_task(b.get(f"/v3/trades/A{n}")) for n in range(3)]
        await until(lambda: len(b.server.heads) == 3)
        await b.transport.aclose()
        for task in tasks:
            with pytest.raises(ClosedError) as caught:
                await task
            assert caught.value.endpoint == "trades"
        assert sorted(event.outcome for event in b.done) == ["cancelled"] * 3
        await until(lambda: b.server.n_left == 3)
        await b.transport.aclose()  # again: nothing to do
        with pytest.raises(ClosedError, match="closed"):
            await b.get()
        assert len(b.server.heads) == 3


@pytest.mark.asyncio
async def test_closing_ends_the_waits_for_retries_and_budget() -> None:
    async with bench(answers(b"", "503 x", retry_after="50"), calls_per_minute=1) as b:
        retrying = asyncio.create_task(b.get("/v3/trades/A"))
        await until(lambda: b.clock.n_sleeping == 1)
        queueing = asyncio.create_task(b.get("/v3/trades/B"))
        await until(lambda: b.clock.n_sleeping == 2)
        await b.transport.aclose()
        for task in (retrying, queueing):
            with pytest.raises(ClosedError):
                await task
        assert b.clock.n_sleeping == 0


@pytest.mark.asyncio
async def test_a_caller_who_is_cancelled_himself_hears_that_and_not_that_the_client_closed() -> None:
    async with bench(hangs) as b:
        task = asyncio.create_task(b.get())
        await until(lambda: b.server.heads)
        (flight,) = b.transport._flights._flights.values()
        # Both at once: the request has been aborted by `aclose`, and the caller not yet told.
        flight.task.add_done_callback(lambda _: task.cancel())
        await b.transport.aclose()
        await asyncio.wait([task])
        assert task.cancelled()


@pytest.mark.asyncio
async def test_connections_are_kept_and_a_dead_one_is_replaced() -> None:
    async with bench(answers(b"1"), answers(b"2"), says(packed(b"3"), then="end"), answers(b"4")) as b:
        got = [(await b.get()).body for _ in range(3)]
        assert b.server.n_connections == 1
        # Wait until the server's goodbye has reached this side; a request before that is lost on any client.
        pool = b.transport._client._transport._pool
        await until(lambda: all(connection.has_expired() for connection in pool.connections))
        assert [*got, (await b.get()).body] == [b"1", b"2", b"3", b"4"]
        assert b.server.n_connections == 2
        assert [event.outcome for event in b.done] == ["ok"] * 4


@pytest.mark.asyncio
async def test_under_random_faults_every_attempt_is_reported_once() -> None:
    chance = random.Random(7)
    steps = [chance.choice([answers(TEXT), answers(b"", "503 x"), *BROKEN.values()]) for _ in range(120)]
    async with bench(*steps, max_attempts=3) as b:
        work = [b.get(f"/v3/trades/A{n}") for n in range(40)]
        task, _ = await b.while_advancing(asyncio.gather(*work, return_exceptions=True))
        assert {type(got) for got in task.result() if isinstance(got, Exception)} <= {ConnectionLost}
        assert len(b.done) == len(b.server.heads) == 40 + len(b.of(RetryScheduled))
