from __future__ import annotations

import asyncio
import http.client

import pytest
from websockets.exceptions import ConnectionClosed

from massive_lab._version import __version__
from massive_lab.errors import ConnectionLost, InvalidRequest
from massive_lab.sandbox import SandboxControl
from massive_lab.sandbox.clock import parse_moment
from massive_lab.sandbox.scenarios import SCENARIOS
from tests.unit.sandbox.conftest import Start, ended, raw_get, receive

pytestmark = pytest.mark.asyncio


async def test_status(start: Start):
    async with start(seed=11) as run:
        status = await run.control("status")
        assert status["label"] == "SANDBOX"
        assert (status["version"], status["seed"], status["port"]) == (__version__, 11, run.port)
        assert status["now_ns"] == parse_moment("2018-12-19T10:30:00")
        assert (status["paused"], status["speed"]) == (True, 1.0)


async def test_the_clock(start: Start):
    async with start() as run:
        began = (await run.control("status"))["now_ns"]
        assert await run.control("jump", 2.5) == began + 2_500_000_000
        assert await run.control("jump_to", "2018-12-19T11:00:00") == parse_moment("2018-12-19T11:00:00")
        later = parse_moment("2018-12-20T11:00:00")
        assert await run.control("jump_to", later) == later
        assert await run.control("speed", 1000) == later
        assert await run.control("resume") >= later
        paused = await run.control("pause")
        assert paused > later
        assert (await run.control("status"))["now_ns"] == paused


@pytest.mark.parametrize(
    ("verb", "args"),
    [("jump", [-1]), ("jump_to", ["2017-01-01"]), ("jump_to", ["never"]), ("speed", [0]), ("speed", [-2])],
)
async def test_what_the_clock_refuses(start: Start, verb: str, args: list):
    async with start() as run:
        with pytest.raises(InvalidRequest):
            await run.control(verb, *args)


async def test_a_long_jump_must_say_whether_it_delivers(start: Start):
    async with start() as run, run.ws(params="T.AAPL"):
        with pytest.raises(InvalidRequest, match="deliver=false"):
            await run.control("jump", 4_000)


async def test_faults_come_and_go(start: Start):
    async with start() as run:
        one = await run.fault("mute", scope="T.AAPL", probability=0.5, seed=3, count=2)
        two = await run.fault("latency", direction="up", latency_ms=1, name="slow/up")
        assert (one, two) == ("mute-1", "slow/up")
        assert [fault["id"] for fault in await run.control("faults")] == [one, two]
        await run.control("remove_fault", two)
        with pytest.raises(InvalidRequest, match="slow/up"):
            await run.control("remove_fault", two)
        await run.control("reset_faults")
        assert await run.control("faults") == []
        assert await run.fault("mute") == "mute-1"
        with pytest.raises(InvalidRequest, match="no fault kind"):
            await run.fault("gremlins")
        kinds = await run.control("kinds")
        assert kinds["latency"]["parameters"] == {"latency_ms": 100.0, "jitter_ms": 0.0}
        assert kinds["latency"]["directions"] == ["down", "up"]


async def test_connections_are_listed_and_closed_by_hand(start: Start):
    async with start() as run, run.ws(params="T.AAPL") as one, run.ws("indices") as two:
        listed = await run.control("connections")
        assert [(c["id"], c["cluster"], c["account"], c["stage"], c["held"]) for c in listed] == [
            (1, "stocks", "sandbox", "subscribed", ["T.AAPL"]),
            (2, "indices", "sandbox", "authenticated", []),
        ]
        await run.control("close_connection", 1, code=4002, reason="by hand")
        await run.control("close_connection", 2, abrupt=True)
        for socket, code in ((one, 4002), (two, None)):
            with pytest.raises(ConnectionClosed) as caught:
                await receive(socket)
            assert (caught.value.rcvd and caught.value.rcvd.code) == code
        with pytest.raises(InvalidRequest):
            await run.control("close_connection", 7)


async def test_accounts_are_added(start: Start):
    async with start() as run:
        await run.control("add_account", "fresh", plans={"stocks": "basic"}, victim="newest")
        answers = [await raw_get(run.port, "/v3/trades/A", ["Authorization: Bearer fresh"]) for _ in range(6)]
        assert [answer.split()[1] for answer in answers] == [b"200"] * 5 + [b"429"]
        with pytest.raises(InvalidRequest):
            await run.control("add_account", "fresh", plan="gold")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/nowhere", "", 404),
        ("DELETE", "/status", "", 405),
        ("POST", "/faults", "{", 400),
        ("POST", "/faults", "[]", 400),
        ("POST", "/clock", "{}", 400),
        ("POST", "/clock", '{"jump_s":"far"}', 400),
        ("POST", "/clock", '{"pause":true,"resume":true}', 400),
        ("POST", "/connections/x/close", "{}", 404),
    ],
)
async def test_refusals_are_json(start: Start, method: str, path: str, body: str, status: int):
    async with start() as run:

        def ask() -> tuple[int, bytes]:
            connection = http.client.HTTPConnection(run.control_url.removeprefix("http://"), timeout=5)
            connection.request(method, path, body)
            response = connection.getresponse()
            answer = response.status, response.read()
            connection.close()
            return answer

        got, text = await asyncio.to_thread(ask)
        assert got == status
        assert text.startswith(b'{"error": ')


async def test_nobody_at_the_address():
    with pytest.raises(ConnectionLost, match="No sandbox answers"):
        SandboxControl("http://127.0.0.1:9", timeout_s=2).status()
    with pytest.raises(InvalidRequest):
        SandboxControl("127.0.0.1:9")


async def test_the_drop_scenario_follows_virtual_time(start: Start):
    assert {"calm", "drop", "rough"} <= set(SCENARIOS)
    async with start(scenario="drop") as run:
        async with run.ws(params="T.AAPL") as socket:
            await run.control("jump", 19.9)
            assert await receive(socket)
            await run.control("jump", 0.2)
            assert (await ended(socket)).rcvd is None
        with pytest.raises(ConnectionRefusedError):
            await raw_get(run.port, "/v3/trades/A")
        await run.control("jump", 5)
        while await run.control("faults"):
            pass
        async with run.ws(params="T.AAPL"):
            pass


async def test_every_scenario_plays_to_its_end(start: Start):
    for name in SCENARIOS:
        async with start(scenario=name) as run:
            await run.control("jump", 3_600)
            while await run.control("faults") and name == "drop":
                pass
            assert not run.sandbox.failed.done()
