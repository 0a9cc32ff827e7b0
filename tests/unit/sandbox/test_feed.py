"""Events as they arrive on sockets: fields, order, time, wildcards, batching, and nothing lost or sent twice."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.unit.sandbox.conftest import Start, receive, receive_n, send

pytestmark = pytest.mark.asyncio

T0 = 1_545_233_400_000
FIELDS = {
    ("stocks", "T"): {"ev", "sym", "i", "x", "p", "s", "ds", "t", "pt", "q", "z"},
    ("stocks", "Q"): {"ev", "sym", "bx", "bp", "bs", "ax", "ap", "as", "c", "t", "pt", "q", "z"},
    ("stocks", "A"): {"ev", "sym", "v", "dv", "av", "dav", "op", "vw", "o", "c", "h", "l", "a", "z", "s", "e"},
    ("options", "T"): {"ev", "sym", "x", "p", "s", "t", "q"},
    ("options", "Q"): {"ev", "sym", "bx", "bp", "bs", "ax", "ap", "as", "t", "q"},
    ("options", "AM"): {"ev", "sym", "v", "av", "op", "vw", "o", "c", "h", "l", "a", "z", "s", "e"},
    ("indices", "V"): {"ev", "val", "T", "t"},
    ("indices", "AM"): {"ev", "sym", "op", "o", "c", "h", "l", "s", "e"},
}
SYMBOL = {"stocks": "AAPL", "options": "O:SPY251219C00650000", "indices": "I:SPX"}


@pytest.mark.parametrize(("cluster", "prefix"), FIELDS)
async def test_fields_are_those_of_the_class(start: Start, cluster: str, prefix: str):
    async with start() as run, run.ws(cluster, params=f"{prefix}.{SYMBOL[cluster]}") as socket:
        await run.control("jump", 61)
        item = (await receive(socket))[0]
        assert set(item) - {"c"} == FIELDS[cluster, prefix] - {"c"}
        assert item["ev"] == prefix
        assert item.get("sym", item.get("T")) == SYMBOL[cluster]
        if prefix in {"A", "AM"}:
            assert item["e"] - item["s"] == {"A": 1_000, "AM": 60_000}[prefix]
        else:
            assert item["t"] == T0


async def test_conditions_are_absent_when_there_are_none(start: Start):
    async with start() as run, run.ws(params="T.AAPL") as socket:
        await run.control("jump", 0.2)
        plain, coded = await receive_n(socket, 2)
        assert "c" not in plain
        assert coded["c"] == [14, 41]


async def test_a_paused_clock_sends_nothing_and_jumps_send_everything_once(start: Start):
    async with start() as run, run.ws(params="T.AAPL") as socket:
        seen = []
        for jump in (0.05, 0.05, 1, 0.33, 20, 0.07):
            await run.control("jump", jump)
        seen = [item["q"] for item in await receive_n(socket, 215)]
        assert seen == list(range(T0 // 100, T0 // 100 + 215))


async def test_running_time_sends_everything_once_and_in_order(start: Start):
    async with start(paused=False, speed=50) as run, run.ws(params="T.AAPL,T.MSFT") as socket:
        items = await receive_n(socket, 300)
        for symbol in ("AAPL", "MSFT"):
            numbers = [item["q"] for item in items if item["sym"] == symbol]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert [item["t"] for item in items] == sorted(item["t"] for item in items)


async def test_confirmations_may_share_a_frame_with_events_and_come_first(start: Start):
    async with start(paused=False, speed=50) as run, run.ws(params="T.AAPL") as socket:
        await receive(socket)
        mixed: list[dict] = []
        while not mixed:
            for action in ("subscribe", "unsubscribe"):
                await send(socket, action, "T.MSFT,Q.MSFT")
                while (items := await receive(socket))[0]["ev"] != "status":
                    assert all(item["ev"] != "status" for item in items)
                mixed = mixed or items[2:]
                assert [item["ev"] for item in items[:2]] == ["status", "status"]
        assert {item["ev"] for item in mixed} <= {"T", "Q"}


async def test_events_begin_at_the_virtual_time_of_the_subscription(start: Start):
    async with start() as run, run.ws(params="T.AAPL") as socket:
        await run.control("jump", 1)
        assert len(await receive_n(socket, 10)) == 10
        async with run.ws("stocks", key="sandbox-business", params="T.AAPL") as later:
            await run.control("jump", 0.1)
            assert [item["t"] for item in await receive(later)] == [T0 + 1_000]


async def test_a_wildcard_and_a_single_bring_an_event_once(start: Start):
    async with start() as run, run.ws(params="T.AAPL,T.*") as socket:
        await run.control("jump", 1)
        items = await receive_n(socket, 20)
        assert len({(item["sym"], item["q"]) for item in items}) == len(items) == 20
        await send(socket, "unsubscribe", "T.*")
        await receive(socket)
        await run.control("jump", 1)
        assert {item["sym"] for item in await receive(socket)} == {"AAPL"}
        await send(socket, "unsubscribe", "T.AAPL")
        await receive(socket)
        await run.control("jump", 1)
        counts = (await run.control("counts"))["ws"]["stocks"]
        assert counts["topics"] == {"T.AAPL": 20, "T.MSFT": 10}


async def test_one_frame_holds_mixed_topics_and_symbols(start: Start):
    async with start() as run, run.ws(params="T.AAPL,Q.MSFT,A.AAPL") as socket:
        await run.control("jump", 1.1)
        assert {(item["ev"], item["sym"]) for item in await receive(socket)} == {
            ("T", "AAPL"),
            ("Q", "MSFT"),
            ("A", "AAPL"),
        }


async def test_frames_stay_below_a_megabyte(start: Start):
    async with start() as run, run.ws(params="Q.AAPL,Q.MSFT,T.AAPL,T.MSFT") as socket:
        jumping = asyncio.create_task(run.control("jump", 3_000))
        n = 0
        async with asyncio.timeout(30):
            while n < 120_000:
                text = await socket.recv()
                assert len(text) < 1_000_000
                n += len(json.loads(text))
        await jumping
        assert n == 120_000
        assert (await run.control("counts"))["ws"]["stocks"]["events"] == 120_000


async def test_the_delayed_feed_is_fifteen_minutes_behind(start: Start):
    async with start() as run, run.ws(key="sandbox-starter", params="A.AAPL", delayed=True) as socket:
        await run.control("jump", 1)
        (item,) = await receive(socket)
        assert item["e"] == T0 - 900_000


async def test_a_jump_may_pass_over_events(start: Start):
    async with start() as run, run.ws(params="T.AAPL") as socket:
        await run.control("jump", 3_600 * 5, deliver=False)
        await run.control("jump", 0.1)
        assert [item["t"] for item in await receive(socket)] == [T0 + 5 * 3_600_000]


async def test_topics_without_synthetic_data_are_confirmed_and_silent(start: Start):
    async with start() as run, run.ws(params="LULD.AAPL,NOI.*,T.AAPL") as socket:
        await run.control("jump", 0.1)
        assert [item["ev"] for item in await receive(socket)] == ["T"]


async def test_a_slow_consumer_is_told_and_cut(start: Start):
    async with start(max_buffer_bytes=200_000) as run:
        reader, writer = await asyncio.open_connection("127.0.0.1", run.port, limit=2**12)
        writer.write(
            b"GET /stocks HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        for action, params in (("auth", "sandbox"), ("subscribe", "Q.AAPL,Q.MSFT")):
            payload = json.dumps({"action": action, "params": params}).encode()
            writer.write(bytes([0x81, 0x80 | len(payload), 0, 0, 0, 0]) + payload)
        while not [c for c in await run.control("connections") if c["stage"] == "subscribed"]:
            pass
        while await run.control("connections") and (await run.control("counts"))["connections"][0]["ended_by"] is None:
            await run.control("jump", 300)
        assert (await run.control("counts"))["connections"][0]["ended_by"] == "slow_consumer"
        async with asyncio.timeout(20):
            text = await reader.read(-1)
        assert text.endswith(b'"message":"Slow consumer: send buffer exceeded."}]')
        writer.close()


async def test_counts_equal_what_a_client_saw(start: Start):
    async with start() as run, run.ws(params="T.AAPL,A.*") as socket:
        n_bytes = n_events = 0
        for _ in range(3):
            await run.control("jump", 2)
        while n_events < 72:
            text = await socket.recv()
            n_bytes += len(text)
            n_events += len(json.loads(text))
        await socket.close()
        while await run.control("connections"):
            pass
        counts = await run.control("counts")
        (one,) = counts["connections"]
        handshake = [
            '[{"ev":"status","status":"connected","message":"Connected Successfully"}]',
            '[{"ev":"status","status":"auth_success","message":"authenticated"}]',
            (
                '[{"ev":"status","status":"success","message":"subscribed to: T.AAPL"},'
                '{"ev":"status","status":"success","message":"subscribed to: A.*"}]'
            ),
        ]
        assert one["sent_bytes"] == n_bytes + sum(map(len, handshake))
        assert (one["events"], one["statuses"], one["ended_by"]) == (72, 4, "client")
        stocks = counts["ws"]["stocks"]
        assert (stocks["opened"], stocks["closed"], stocks["authenticated"]) == (1, 1, 1)
        assert stocks["topics"] == {"T.AAPL": 60, "A.AAPL": 6, "A.MSFT": 6}


async def test_a_client_that_leaves_stops_the_work(start: Start):
    async with start() as run:
        async with run.ws(params="T.*"):
            pass
        while await run.control("connections"):
            pass
        assert all(feed.n_topics == 0 for feed in run.sandbox.ws.feeds.values())
