"""Every fault on REST, seen with a plain socket; each test ends with the reset that must restore the calm.

Of times only lower bounds are asserted: what the fault promises, and what a slow machine cannot break.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.unit.sandbox.conftest import Running, Start, raw_get

pytestmark = pytest.mark.asyncio

TARGET = "/v2/aggs/ticker/AAPL/prev"
BIG = "/v3/quotes/AAPL"


@asynccontextmanager
async def faulty(start: Start, kind: str, **params: object) -> AsyncIterator[Running]:
    async with start() as run:
        calm = await raw_get(run.port, TARGET)
        assert calm.startswith(b"HTTP/1.1 200 OK")
        name = await run.fault(kind, name="it", **params)
        assert name == "it"
        yield run
        counts = await run.control("counts")
        assert counts["faults"]["it"] >= 1
        await run.control("reset_faults")
        assert (await raw_get(run.port, TARGET)).startswith(b"HTTP/1.1 200 OK")
        assert await run.control("faults") == []


def body_of(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


async def aborted(run: Running, endpoint: str = "aggs_prev") -> int:
    return int((await run.control("counts"))["rest"]["endpoints"][endpoint]["aborted"])


async def test_latency_holds_the_answer_back(start: Start):
    async with faulty(start, "latency", scope="aggs_prev", latency_ms=150, jitter_ms=20) as run:
        before = time.monotonic()
        assert status_of(await raw_get(run.port, TARGET)) == 200
        assert time.monotonic() - before >= 0.13
        await raw_get(run.port, BIG)
        assert (await run.control("counts"))["faults"]["it"] == 1


async def test_latency_upstream_holds_the_request_back(start: Start):
    async with faulty(start, "latency", scope="rest", direction="up", latency_ms=150) as run:
        before = time.monotonic()
        asking = asyncio.create_task(raw_get(run.port, TARGET))
        await asking
        assert time.monotonic() - before >= 0.15


async def test_bandwidth_is_a_rate(start: Start):
    async with faulty(start, "bandwidth", scope="quotes", rate_bytes_s=2_500_000) as run:
        before = time.monotonic()
        answer = await raw_get(run.port, BIG)
        assert time.monotonic() - before >= len(answer) / 2_500_000 * 0.99
        assert len(json.loads(body_of(answer))["fill"]) == 500_000


async def test_slicer_loses_nothing(start: Start):
    async with faulty(start, "slicer", size_bytes=10, variation_bytes=9, delay_ms=1) as run:
        assert json.loads(body_of(await raw_get(run.port, TARGET)))["status"] == "OK"


async def test_limit_data_closes_after_so_many_bytes(start: Start):
    async with faulty(start, "limit_data", scope="aggs_prev", limit_bytes=250) as run:
        await run.control("reset_counts")
        answer = await raw_get(run.port, TARGET)
        assert len(answer) == 250
        counts = (await run.control("counts"))["rest"]["endpoints"]["aggs_prev"]
        assert (counts["requests"], counts["aborted"]) == (1, 1)
        assert counts["body_bytes"] == len(body_of(answer)) > 0


async def test_timeout_swallows_the_answer_then_closes(start: Start):
    async with faulty(start, "timeout", scope="aggs_prev", timeout_ms=100) as run:
        before = time.monotonic()
        assert await raw_get(run.port, TARGET) == b""
        assert time.monotonic() - before >= 0.1
        assert await aborted(run) == 1


async def test_timeout_zero_is_a_black_hole_until_the_reset(start: Start):
    async with faulty(start, "timeout", scope="aggs_prev") as run:
        asking = asyncio.create_task(raw_get(run.port, TARGET))
        while (await run.control("counts"))["faults"].get("it") != 1:
            pass
        assert not asking.done()
        await run.control("reset_faults")
        with pytest.raises(ConnectionResetError):
            await asking


async def test_reset_peer_is_a_reset(start: Start):
    async with faulty(start, "reset_peer", scope="aggs_prev") as run:
        with pytest.raises(ConnectionResetError):
            await raw_get(run.port, TARGET)
        assert await aborted(run) == 1


async def test_slow_close_delivers_at_once_and_closes_late(start: Start):
    async with faulty(start, "slow_close", scope="aggs_prev", delay_ms=200) as run:
        reader, writer = await asyncio.open_connection("127.0.0.1", run.port)
        writer.write(f"GET {TARGET} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sandbox\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"Connection: close" in head
        before = time.monotonic()
        async with asyncio.timeout(5):
            assert json.loads(await reader.read())["status"] == "OK"
        assert time.monotonic() - before >= 0.15
        writer.close()


async def test_down_on_an_endpoint_resets_its_requests_and_no_others(start: Start):
    async with faulty(start, "down", scope="aggs_prev") as run:
        with pytest.raises(ConnectionResetError):
            await raw_get(run.port, TARGET)
        assert status_of(await raw_get(run.port, BIG)) == 200
        assert await aborted(run) == 1


async def test_down_everywhere_refuses_to_connect_and_comes_back_on_the_same_port(start: Start):
    async with start() as run, run.ws() as socket:
        await run.fault("down")
        with pytest.raises(ConnectionRefusedError):
            await raw_get(run.port, TARGET)
        async with asyncio.timeout(5):
            await socket.wait_closed()
        await run.control("reset_faults")
        assert status_of(await raw_get(run.port, TARGET)) == 200


async def test_down_sometimes_refuses_as_its_seed_says(start: Start):
    async def outcomes() -> list[bool]:
        results = []
        async with start() as run:
            await run.fault("down", probability=0.5, seed=4)
            for _ in range(8):
                try:
                    results.append(bool(await raw_get(run.port, TARGET)))
                except ConnectionResetError:
                    results.append(False)
        return results

    first = await outcomes()
    assert set(first) == {True, False}
    assert first == await outcomes()


@pytest.mark.parametrize(("wait", "header"), [(None, None), (2, b"Retry-After: 2\r\n"), (0.5, b"Retry-After: 0.5\r\n")])
async def test_429_with_and_without_retry_after(start: Start, wait: float | None, header: bytes | None):
    async with faulty(start, "http_429", count=1, retry_after_s=wait) as run:
        answer = await raw_get(run.port, TARGET)
        assert status_of(answer) == 429
        assert (b"Retry-After" in answer) == (header is not None)
        assert header is None or header in answer
        assert json.loads(body_of(answer))["error"].startswith("You've exceeded the maximum requests per minute")
        assert status_of(await raw_get(run.port, TARGET)) == 200


@pytest.mark.parametrize("status", [500, 502, 503, 504, 499])
async def test_5xx_is_an_html_page(start: Start, status: int):
    async with faulty(start, "http_5xx", status=status) as run:
        answer = await raw_get(run.port, TARGET)
        assert status_of(answer) == status
        assert b"Content-Type: text/html" in answer
        assert body_of(answer).startswith(b"<html>")


async def test_200_with_an_error_body(start: Start):
    async with faulty(start, "http_200_error", message="broken inside") as run:
        answer = await raw_get(run.port, TARGET)
        assert status_of(answer) == 200
        body = json.loads(body_of(answer))
        assert (body["status"], body["error"]) == ("ERROR", "broken inside")


async def test_truncated_json_in_a_whole_answer(start: Start):
    async with faulty(start, "truncated_json", fraction=0.5) as run:
        answer = await raw_get(run.port, TARGET)
        assert f"Content-Length: {len(body_of(answer))}".encode() in answer
        with pytest.raises(json.JSONDecodeError):
            json.loads(body_of(answer))


async def page(run: Running, target: str) -> bytes:
    return body_of(await raw_get(run.port, target))


@pytest.mark.parametrize("how", ["bad_json", "no_results"])
async def test_the_second_page_is_broken_and_the_first_is_not(start: Start, how: str):
    async with faulty(start, "broken_page", how=how, page=2, scope="trades") as run:
        first = json.loads(await page(run, "/v3/trades/AAPL?limit=1"))
        second = await page(run, first["next_url"].removeprefix(run.rest_url))
        if how == "bad_json":
            with pytest.raises(json.JSONDecodeError):
                json.loads(second)
        else:
            assert "results" not in json.loads(second)
        counts = (await run.control("counts"))["rest"]["endpoints"]["trades"]
        assert (counts["requests"], counts["continued"], counts["pages"]) == (2, 1, 2)


@pytest.mark.parametrize(("to", "back_at"), [("self", 2), ("first", 1)])
async def test_pages_lead_back(start: Start, to: str, back_at: int):
    async with faulty(start, "page_loop", page=2, to=to, scope="trades") as run:
        first = json.loads(await page(run, "/v3/trades/AAPL?limit=1"))
        second = json.loads(await page(run, first["next_url"].removeprefix(run.rest_url)))
        third = json.loads(await page(run, second["next_url"].removeprefix(run.rest_url)))
        assert third["results"][0]["page"] == back_at


@pytest.mark.parametrize("delta", [10, -10])
async def test_content_length_lies(start: Start, delta: int):
    async with faulty(start, "wrong_content_length", delta_bytes=delta) as run:
        answer = await raw_get(run.port, TARGET)
        assert f"Content-Length: {len(body_of(answer)) + delta}\r\n".encode() in answer
        assert json.loads(body_of(answer))["status"] == "OK"


async def test_a_fault_on_one_answer_leaves_the_next_on_the_same_connection_alone(start: Start):
    async with start() as run:
        await run.fault("latency", latency_ms=50, count=1)
        reader, writer = await asyncio.open_connection("127.0.0.1", run.port)
        for _ in range(3):
            writer.write(f"GET {TARGET} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sandbox\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
            assert json.loads(await reader.readexactly(length))["status"] == "OK"
        writer.close()
        counts = await run.control("counts")
        assert counts["faults"] == {"latency-1": 1}
        assert counts["rest"]["endpoints"]["aggs_prev"]["requests"] == 3
