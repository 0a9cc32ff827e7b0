"""Every fault on WebSocket sessions, seen by an ordinary client.

Of times only lower bounds are asserted: what the fault promises, and what a slow machine cannot break.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from massive_lab.sandbox.faults.book import FaultBook
from massive_lab.sandbox.faults.toxics import Down
from tests.unit.sandbox.conftest import Start, ended, receive, receive_n, said, send

pytestmark = pytest.mark.asyncio


def prices(items: list[dict]) -> list[float]:
    return [item["p"] for item in items]


async def frames(run, socket: ClientConnection, n: int) -> list[str]:
    """Raw text of `n` frames."""
    async with asyncio.timeout(10):
        return [await socket.recv() for _ in range(n)]


async def test_refuse_upgrade(start: Start):
    async with start() as run:
        await run.fault("refuse_upgrade", scope="stocks", status=502)
        with pytest.raises(InvalidStatus) as caught:
            await connect(f"{run.ws_url}/stocks")
        assert caught.value.response.status_code == 502
        async with run.ws("options"):
            pass
        await run.control("reset_faults")
        async with run.ws("stocks"):
            pass
        counts = (await run.control("counts"))["ws"]["stocks"]
        assert (counts["refused"], counts["opened"]) == (1, 1)


async def test_down_on_a_cluster_resets_open_connections_and_refuses_new_ones(start: Start):
    async with start() as run, run.ws("stocks") as socket:
        await run.fault("down", scope="stocks")
        assert (await ended(socket)).rcvd is None
        with pytest.raises(InvalidMessage):
            await connect(f"{run.ws_url}/stocks", open_timeout=5)


async def test_auth_silent(start: Start):
    async with start() as run:
        await run.fault("auth_silent", count=1)
        async with run.ws(key=None) as socket:
            await send(socket, "auth", "sandbox")
            await socket.send("not json")  # the answer to this shows that auth has had none
            assert (await receive(socket))[0]["message"] == "invalid message: not JSON"
        async with run.ws():
            pass


async def test_auth_fail(start: Start):
    async with start() as run:
        await run.fault("auth_fail", count=1, message="no")
        async with run.ws(key=None) as socket:
            await send(socket, "auth", "sandbox")
            assert await receive(socket) == [said("auth_failed", "no")]
            assert (await ended(socket)).rcvd is None
        async with run.ws():
            pass


@pytest.mark.parametrize(("victim", "dies"), [("oldest", 0), ("newest", 1)])
async def test_max_connections_strikes_even_within_the_limit(start: Start, victim: str, dies: int):
    async with start() as run, run.ws(key="sandbox-business") as one:
        await run.fault("max_connections", victim=victim)
        async with run.ws(key="sandbox-business") as two:
            dead = (one, two)[dies]
            assert (await receive(dead))[0]["status"] == "max_connections"
            assert (await ended(dead)).rcvd.code == 1008
            await send((one, two)[1 - dies], "subscribe", "T.AAPL")
            assert (await receive((one, two)[1 - dies]))[0]["status"] == "success"


async def test_not_authorized_on_one_topic(start: Start):
    async with start() as run, run.ws() as socket:
        await run.fault("not_authorized", scope="T.AAPL")
        await send(socket, "subscribe", "T.AAPL,T.MSFT")
        assert await receive_n(socket, 2) == [
            said("error", "not authorized"),
            said("success", "subscribed to: T.MSFT"),
        ]
        await run.control("reset_faults")
        await send(socket, "subscribe", "T.AAPL")
        assert await receive(socket) == [said("success", "subscribed to: T.AAPL")]


@pytest.mark.parametrize("data", [True, False])
async def test_unconfirmed(start: Start, data: bool):
    async with start() as run, run.ws() as socket:
        await run.fault("unconfirmed", scope="T.AAPL", data=data)
        await send(socket, "subscribe", "T.AAPL,T.MSFT")
        assert await receive(socket) == [said("success", "subscribed to: T.MSFT")]
        await run.control("jump", 1)
        symbols = {item["sym"] for item in await receive_n(socket, 10)}
        assert symbols == ({"AAPL", "MSFT"} if data else {"MSFT"})


async def test_mute_drops_events_while_pings_and_statuses_pass(start: Start):
    async with start() as run, run.ws(params="T.AAPL") as socket:
        await run.fault("mute", scope="ws")
        await run.control("jump", 1)
        async with asyncio.timeout(5):
            await (await socket.ping())
        await send(socket, "subscribe", "T.MSFT")
        assert await receive(socket) == [said("success", "subscribed to: T.MSFT")]
        await run.control("reset_faults")
        await run.control("jump", 0.1)
        items = await receive(socket)
        assert [item["t"] for item in items] == [1545233401000] * 2
        assert (await run.control("counts"))["ws"]["stocks"]["topics"] == {"T.AAPL": 1, "T.MSFT": 1}


async def test_mute_of_one_topic(start: Start):
    async with start() as run, run.ws(params="T.AAPL,T.MSFT") as socket:
        await run.fault("mute", scope="T.AAPL")
        await run.control("jump", 1)
        assert {item["sym"] for item in await receive(socket)} == {"MSFT"}


async def test_duplicate_frames_are_counted_twice(start: Start):
    async with start() as run, run.ws(params="T.AAPL") as socket:
        await run.fault("duplicate", count=1)
        await run.control("jump", 1)
        one, two = await frames(run, socket, 2)
        assert one == two
        counts = await run.control("counts")
        assert counts["ws"]["stocks"]["topics"] == {"T.AAPL": 20}
        assert counts["connections"][0]["frames"] == 5


async def test_reorder_swaps_two_frames_and_loses_none(start: Start):
    async with start() as run, run.ws(params="T.AAPL") as socket:
        await run.fault("reorder", count=1)
        await run.control("jump", 0.1)
        await run.control("jump", 0.1)
        first, second = await receive(socket), await receive(socket)
        assert prices(first) == [334001.5]
        assert prices(second) == [334000.5]


async def test_a_frame_held_back_is_released_by_the_reset(start: Start):
    async with start() as run, run.ws(params="T.AAPL") as socket:
        await run.fault("reorder")
        await run.control("jump", 0.1)
        await run.control("reset_faults")
        assert prices(await receive(socket)) == [334000.5]


@pytest.mark.parametrize("how", ["bad_json", "object", "no_ev", "nan", "null", "random"])
async def test_malformed(start: Start, how: str):
    async with start() as run, run.ws(params="T.AAPL") as socket:
        await run.fault("malformed", how=how, count=1, seed=1)
        await run.control("jump", 0.1)
        (text,) = await frames(run, socket, 1)
        try:
            parsed = json.loads(text, parse_constant=lambda _: "not a number")
        except json.JSONDecodeError:
            assert how in {"bad_json", "random"}
        else:
            whole = isinstance(parsed, list) and all(
                item.get("ev") and item["sym"] and isinstance(item["p"], float) for item in parsed
            )
            assert not whole
        await run.control("jump", 0.1)
        assert prices(await receive(socket)) == [334001.5]
        assert (await run.control("counts"))["ws"]["stocks"]["events"] == 1


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 1012, 4000])
async def test_close_with_any_code(start: Start, code: int):
    async with start() as run, run.ws(params="T.AAPL") as socket:
        await run.fault("close", code=code, reason="bye", count=1)
        error = await ended(socket)
        assert (error.rcvd.code, error.rcvd.reason) == (code, "bye")
        async with run.ws(params="T.AAPL"):
            pass


@pytest.mark.parametrize("kind", ["close", "abrupt"])
async def test_an_ending_waits_for_its_stage(start: Start, kind: str):
    async with start() as run, run.ws() as socket:
        await run.fault(kind, stage="subscribed")
        await send(socket, "subscribe", "ZZ.NONE")
        async with asyncio.timeout(5):
            await (await socket.ping())
        await send(socket, "subscribe", "T.AAPL")
        assert (await receive(socket))[0]["status"] == "success"
        assert (await ended(socket)).rcvd is None or kind == "close"


async def test_an_ending_that_waits_is_stopped_by_the_reset(start: Start):
    async with start() as run, run.ws(params="T.AAPL") as socket:
        await run.fault("abrupt", after_s=0.05)
        await run.control("reset_faults")
        await run.fault("close", after_s=0.1, code=4000)
        assert (await ended(socket)).rcvd.code == 4000  # and not cut without a close frame before


async def test_abrupt_has_no_close_frame(start: Start):
    async with start() as run, run.ws(params="T.AAPL") as socket:
        await run.fault("abrupt")
        assert (await ended(socket)).rcvd is None
        assert (await run.control("counts"))["connections"][0]["ended_by"] == "fault"


async def test_abrupt_on_one_connection_spares_the_other(start: Start):
    business = {"key": "sandbox-business", "params": "T.AAPL"}
    async with start() as run, run.ws(**business) as one, run.ws(**business) as two:
        ids = [connection["id"] for connection in await run.control("connections")]
        await run.fault("abrupt", scope=f"conn:{ids[0]}")
        assert (await ended(one)).rcvd is None
        await run.control("jump", 0.1)
        assert len(await receive(two)) == 1


async def test_nightly_drop_follows_virtual_time(start: Start):
    async with start() as run, run.ws(params="T.AAPL") as socket:
        await run.fault("nightly_drop", at="11:00")
        await run.control("jump", 29 * 60, deliver=False)
        async with asyncio.timeout(5):
            await (await socket.ping())
        await run.control("jump", 60, deliver=False)
        assert (await ended(socket)).rcvd is None


async def test_latency_delays_frames_and_keeps_their_order(start: Start):
    async with start() as run, run.ws(params="T.AAPL") as socket:
        await run.fault("latency", scope="stocks", latency_ms=100, jitter_ms=90, seed=2)
        before = time.monotonic()
        for _ in range(5):
            await run.control("jump", 0.1)
        items = await receive_n(socket, 5)
        assert time.monotonic() - before >= 0.01
        assert prices(items) == sorted(prices(items))


async def test_slicer_on_a_socket_loses_nothing(start: Start):
    async with start() as run, run.ws(params="T.AAPL") as socket:
        await run.fault("slicer", scope="ws", size_bytes=7)
        await run.control("jump", 2)
        assert len(await receive_n(socket, 20)) == 20


async def test_upstream_black_hole_swallows_what_the_client_says(start: Start):
    async with start() as run, run.ws() as socket:
        await run.fault("timeout", scope="ws", direction="up")
        await send(socket, "subscribe", "T.AAPL")
        await run.control("reset_faults")  # what was swallowed cannot be mended: the connection ends
        assert (await ended(socket)).rcvd is None
        assert (await run.control("counts"))["ws"]["stocks"]["subscribe_params"] == 0


async def test_black_hole_downstream_counts_nothing_as_sent_and_ends_with_the_reset(start: Start):
    async with start() as run, run.ws(params="T.AAPL") as socket:
        await run.fault("timeout", scope="ws")
        await run.control("jump", 1)
        assert (await run.control("counts"))["ws"]["stocks"]["events"] == 0
        await run.control("reset_faults")
        assert (await ended(socket)).rcvd is None


async def test_limit_data_cuts_within_a_frame_and_counts_only_whole_ones(start: Start):
    async with start() as run, run.ws(params="T.AAPL") as socket:
        await run.fault("limit_data", scope="ws", limit_bytes=400)
        for _ in range(5):
            await run.control("jump", 0.1)
        received = []
        with contextlib.suppress(ConnectionClosed):
            while True:
                received += await receive(socket)
        assert 0 < len(received) < 5
        assert (await run.control("counts"))["ws"]["stocks"]["events"] == len(received)


async def test_reset_peer_on_a_socket(start: Start):
    async with start() as run:
        reader, writer = await asyncio.open_connection("127.0.0.1", run.port)
        writer.write(
            b"GET /stocks HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        assert b"101" in await reader.readuntil(b"\r\n\r\n")
        await run.fault("reset_peer", scope="ws")
        greeting = asyncio.create_task(reader.read())
        with pytest.raises(ConnectionResetError):
            await greeting
        writer.close()


async def test_bandwidth_on_a_socket(start: Start):
    async with start() as run, run.ws(params="T.AAPL") as socket:
        await run.fault("bandwidth", scope="ws", rate_bytes_s=20_000)
        before = time.monotonic()
        await run.control("jump", 5)
        items = await receive_n(socket, 50)
        size = len(json.dumps(items, separators=(",", ":")))
        assert time.monotonic() - before >= size / 20_000 * 0.9


async def test_down_decides_once_for_each_connection(start: Start):
    async with start() as run:
        await run.fault("down", scope="ws", probability=0.5, seed=4)
        outcomes = []
        for _ in range(12):
            try:
                async with run.ws() as socket:
                    await run.fault("mute", scope="indices", name="other")
                    await run.control("remove_fault", "other")
                    await socket.ping()
                    await send(socket, "subscribe", "T.AAPL")
                    assert (await receive(socket))[0]["status"] == "success"
                outcomes.append(True)
            except InvalidMessage:
                outcomes.append(False)
        book = FaultBook()
        book.add({"kind": "down", "scope": "ws", "probability": 0.5, "seed": 4})
        assert outcomes == [book.draw(Down, {"ws"}) is None for _ in range(12)]
        assert set(outcomes) == {True, False}
