from __future__ import annotations

import asyncio
import gzip
import json

import pytest

from tests.unit.sandbox.conftest import Start, raw_get

pytestmark = pytest.mark.asyncio

TARGET = "/v2/aggs/ticker/AAPL/prev"


def parse(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.split(": ", 1) for line in lines), body


@pytest.mark.parametrize(
    ("target", "headers", "status"),
    [
        (TARGET, ["Authorization: Bearer sandbox"], 200),
        (f"{TARGET}?apiKey=sandbox", [], 200),
        (TARGET, ["Authorization: Bearer nope"], 401),
        (f"{TARGET}?apiKey=nope", [], 401),
        (TARGET, [], 401),
        ("/nothing", ["Authorization: Bearer sandbox"], 404),
    ],
)
async def test_keys(start: Start, target: str, headers: list[str], status: int):
    async with start() as run:
        got, _, body = parse(await raw_get(run.port, target, headers))
        assert got == status
        if status == 401:
            missing = not headers and "apiKey" not in target
            assert json.loads(body)["error"] == ("API Key was not provided" if missing else "Unknown API Key")
            assert run.rules.asked == []


async def test_what_reaches_the_rules(start: Start):
    async with start() as run:
        target = (
            "//v2//aggs/ticker/O:SPY251219C00650000/prev?ticker.any_of=I%3ASPX%2CAAPL&limit=2&limit=3&apiKey=sandbox"
        )
        await raw_get(run.port, target, [])
        (asked,) = run.rules.asked
        assert asked.path == "/v2/aggs/ticker/O:SPY251219C00650000/prev"
        assert asked.query == {"ticker.any_of": "I:SPX,AAPL", "limit": "2"}
        assert (asked.account.name, asked.base_url) == ("sandbox", run.rest_url)
        assert asked.now_ns == run.sandbox.clock.now_ns()
        assert (await run.control("counts"))["rest"]["endpoints"]["aggs_prev"]["requests"] == 1


async def test_every_answer_is_labelled(start: Start):
    async with start() as run:
        for target, headers in (
            (TARGET, ["Authorization: Bearer sandbox"]),
            (TARGET, []),
            ("/nothing?apiKey=sandbox", []),
        ):
            _, got, body = parse(await raw_get(run.port, target, headers))
            assert got["X-Massive-Lab"] == "SANDBOX"
            assert len(got["X-Request-Id"]) == 32
            if body.startswith(b"{"):
                assert got["X-Request-Id"] == json.loads(body)["request_id"]
            assert got["Vary"] == "Accept-Encoding"
        _, got, _ = parse(await raw_get(int(run.control_url.rsplit(":", 1)[1]), "/status"))
        assert got["X-Massive-Lab"] == "SANDBOX"


async def test_gzip_when_accepted_and_worth_it(start: Start):
    async with start() as run:
        accepting = ["Authorization: Bearer sandbox", "Accept-Encoding: gzip, deflate"]
        _, headers, body = parse(await raw_get(run.port, "/v3/quotes/AAPL", accepting))
        assert headers["Content-Encoding"] == "gzip"
        assert len(json.loads(gzip.decompress(body))["fill"]) == 500_000
        assert (await run.control("counts"))["rest"]["endpoints"]["quotes"]["body_bytes"] == len(body) < 50_000
        _, headers, _ = parse(await raw_get(run.port, TARGET, accepting))
        assert "Content-Encoding" not in headers
        assert body == parse(await raw_get(run.port, "/v3/quotes/AAPL", accepting))[2]


async def test_other_methods_are_refused(start: Start):
    async with start() as run:
        reader, writer = await asyncio.open_connection("127.0.0.1", run.port)
        writer.write(b"POST /v1/marketstatus/now HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 405")
        writer.close()


async def test_a_plain_get_on_a_cluster_asks_for_an_upgrade(start: Start):
    async with start() as run:
        status, headers, _ = parse(await raw_get(run.port, "/stocks"))
        assert (status, headers["Upgrade"]) == (426, "websocket")


async def test_the_sixth_call_of_a_basic_account_is_refused_until_virtual_time_moves_on(start: Start):
    async with start() as run:
        basic = ["Authorization: Bearer sandbox-basic"]
        statuses = [parse(await raw_get(run.port, TARGET, basic))[0] for _ in range(6)]
        assert statuses == [200] * 5 + [429]
        _, headers, _ = parse(await raw_get(run.port, TARGET, basic))
        assert "Retry-After" not in headers
        await run.control("jump", 60)
        assert parse(await raw_get(run.port, TARGET, basic))[0] == 200
        counts = (await run.control("counts"))["rest"]["total"]
        assert counts["status"] == {"200": 6, "429": 2}


async def test_counts_are_exact(start: Start):
    async with start() as run:
        bodies = []
        target = "/v3/trades/AAPL?limit=1"
        while target:
            _, _, body = parse(await raw_get(run.port, target))
            bodies.append(body)
            target = json.loads(body).get("next_url", "").removeprefix(run.rest_url)
        await raw_get(run.port, TARGET, [])
        counts = (await run.control("counts"))["rest"]
        assert counts["endpoints"]["trades"] == {
            "requests": 3,
            "status": {"200": 3},
            "body_bytes": sum(map(len, bodies)),
            "pages": 3,
            "continued": 2,
            "aborted": 0,
            "disconnected": 0,
        }
        assert counts["endpoints"]["aggs_prev"]["status"] == {"401": 1}
        assert counts["total"]["requests"] == 4
        await run.control("reset_counts")
        assert (await run.control("counts"))["rest"]["total"]["requests"] == 0


async def test_a_request_is_counted_though_the_client_does_not_wait(start: Start):
    async with start() as run:
        await run.fault("latency", scope="aggs_prev", latency_ms=100)
        _, writer = await asyncio.open_connection("127.0.0.1", run.port)
        writer.write(f"GET {TARGET} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sandbox\r\n\r\n".encode())
        while not (await run.control("counts"))["faults"]:
            pass
        writer.transport.abort()
        while not (counts := (await run.control("counts"))["rest"]["endpoints"]["aggs_prev"])["disconnected"]:
            pass
        assert (counts["requests"], counts["body_bytes"], counts["aborted"]) == (1, 0, 0)


async def test_a_request_cut_into_bytes_is_read(start: Start):
    async with start() as run:
        await run.fault("slicer", scope="rest", direction="up", size_bytes=1)
        assert parse(await raw_get(run.port, TARGET))[0] == 200


async def test_a_mistake_in_the_rules_is_logged_counted_and_a_500(start: Start, caplog: pytest.LogCaptureFixture):
    async with start() as run:

        def fail(request: object) -> None:
            raise ZeroDivisionError("a bug")

        run.rules.handle = fail
        assert parse(await raw_get(run.port, TARGET))[0] == 500
        assert (await run.control("counts"))["rest"]["endpoints"]["aggs_prev"]["status"] == {"500": 1}
    assert "a bug" in caplog.text
