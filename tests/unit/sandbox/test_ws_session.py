from __future__ import annotations

import asyncio
import json

import pytest
from websockets.asyncio.client import connect

from massive_lab.sandbox.ws.session import MAX_CONNECTIONS_TEXT
from tests.unit.sandbox.conftest import Start, ended, receive, receive_n, said, send

pytestmark = pytest.mark.asyncio

NO_ACCESS = "Your plan doesn't include websocket access. Visit https://massive.com/pricing to upgrade."


def confirmed(*params: str) -> list[dict[str, str]]:
    return [said("success", f"subscribed to: {param}") for param in params]


async def test_connected_comes_at_once_and_alone_then_auth_success_in_a_frame_of_its_own(start: Start):
    async with start() as run, connect(f"{run.ws_url}/stocks") as socket:
        assert await receive(socket) == [said("connected", "Connected Successfully")]
        await send(socket, "auth", "sandbox")
        assert await receive(socket) == [said("auth_success", "authenticated")]


async def test_the_upgrade_says_sandbox(start: Start):
    async with start() as run, connect(f"{run.ws_url}/stocks") as socket:
        assert socket.response.headers["X-Massive-Lab"] == "SANDBOX"
        assert "Sec-WebSocket-Extensions" not in socket.response.headers


@pytest.mark.parametrize(("key", "message"), [("wrong", "authentication failed"), ("sandbox-basic", NO_ACCESS)])
async def test_a_refused_key_is_told_and_cut_without_a_close_frame(start: Start, key: str, message: str):
    async with start() as run, run.ws(key=None) as socket:
        await send(socket, "auth", key)
        assert await receive(socket) == [said("auth_failed", message)]
        assert (await ended(socket)).rcvd is None
        counts = await run.control("counts")
    assert counts["ws"]["stocks"]["auth_failed"] == 1
    assert counts["connections"][0]["ended_by"] == "auth_failed"


async def test_a_silent_client_is_sent_away(start: Start):
    async with start(auth_timeout_s=0.05) as run, run.ws(key=None) as socket:
        assert await receive(socket) == [said("auth_timeout", "No authentication request received.")]
        assert (await ended(socket)).rcvd.code == 1008


async def test_messages_that_arrive_early_are_taken_in_order(start: Start):
    async with start() as run, connect(f"{run.ws_url}/stocks") as socket:
        await send(socket, "auth", "sandbox")
        await send(socket, "subscribe", "T.AAPL")
        assert [item["status"] for item in await receive_n(socket, 3)] == ["connected", "auth_success", "success"]


async def test_every_param_is_confirmed_by_a_status_of_its_own(start: Start):
    async with start() as run, run.ws() as socket:
        await send(socket, "subscribe", "T.AAPL, Q.AAPL,A.*")
        assert await receive_n(socket, 3) == confirmed("T.AAPL", "Q.AAPL", "A.*")


async def test_what_the_plan_lacks_is_refused_without_a_name_and_the_rest_confirmed(start: Start):
    async with start() as run, run.ws(key="sandbox-developer", delayed=True) as socket:
        await send(socket, "subscribe", "Q.AAPL,T.AAPL")
        assert await receive_n(socket, 2) == [said("error", "not authorized"), *confirmed("T.AAPL")]
        counts = (await run.control("counts"))["ws"]["stocks"]
    assert (counts["subscribe_params"], counts["confirmed"], counts["denied"]) == (2, 1, 1)


async def test_a_delayed_plan_gets_nothing_on_the_real_time_host(start: Start):
    async with start() as run, run.ws(key="sandbox-starter") as socket:
        await send(socket, "subscribe", "AM.AAPL")
        assert await receive(socket) == [said("error", "not authorized")]


async def test_an_unknown_prefix_and_a_held_param_are_not_answered(start: Start):
    async with start() as run, run.ws(params="T.AAPL") as socket:
        await send(socket, "subscribe", "ZZ.AAPL,T.AAPL,nonsense")
        await send(socket, "subscribe", "T.MSFT")
        assert await receive(socket) == confirmed("T.MSFT")
        counts = (await run.control("counts"))["ws"]["stocks"]
    assert (counts["subscribe_params"], counts["confirmed"], counts["ignored"]) == (5, 2, 3)


@pytest.mark.parametrize("symbol", ["NOSUCH", "I:SPX", "%%"])
async def test_an_unknown_ticker_is_confirmed_and_silent(start: Start, symbol: str):
    async with start() as run, run.ws(params=f"T.{symbol},T.AAPL") as socket:
        await run.control("jump", 1)
        assert {item["sym"] for item in await receive_n(socket, 10)} == {"AAPL"}


async def test_unsubscribe_is_confirmed_and_ends_the_events(start: Start):
    async with start() as run, run.ws(params="T.AAPL,T.MSFT") as socket:
        await send(socket, "unsubscribe", "T.AAPL,T.NEVER")
        assert await receive(socket) == [said("success", "unsubscribed to: T.AAPL")]
        await run.control("jump", 1)
        assert {item["sym"] for item in await receive_n(socket, 10)} == {"MSFT"}


async def test_before_auth_a_subscription_is_not_authorized(start: Start):
    async with start() as run, run.ws(key=None) as socket:
        await send(socket, "subscribe", "T.AAPL")
        assert await receive(socket) == [said("error", "not authorized")]


@pytest.mark.parametrize("text", ["{", "[]", '{"action":"dance","params":""}', '{"action":"auth"}'])
async def test_a_message_that_is_none_is_an_error_status(start: Start, text: str):
    async with start() as run, run.ws(key=None) as socket:
        await socket.send(text)
        (item,) = await receive(socket)
    assert (item["status"], item["message"].split(":")[0]) == ("error", "invalid message")


async def test_option_quotes_have_no_wildcard_and_end_at_a_thousand(start: Start):
    async with start() as run, run.ws("options") as socket:
        await send(socket, "subscribe", "Q.*")
        assert await receive(socket) == [said("error", "not authorized")]
        params = [f"Q.O:SPY251219C{strike:08d}" for strike in range(1_001)]
        await send(socket, "subscribe", ",".join(params))
        items = await receive_n(socket, 1_001)
        assert items[:-1] == confirmed(*params[:-1])
        assert items[-1]["status"] == "error"
        assert "SPY" not in items[-1]["message"]
        await send(socket, "unsubscribe", params[0])
        await send(socket, "subscribe", params[-1])
        assert (await receive_n(socket, 2))[1:] == confirmed(params[-1])


@pytest.mark.parametrize(("victim", "n_dead"), [("oldest", 0), ("newest", 1)])
async def test_one_connection_too_many_ends_the_victim_with_1008(start: Start, victim: str, n_dead: int):
    async with start() as run:
        await run.control("add_account", "k", victim=victim)
        async with run.ws(key="k", params="T.AAPL") as first, run.ws(key="k", delayed=True) as second:
            sockets = [first, second]
            dead = sockets.pop(n_dead)
            assert await receive(dead) == [said("max_connections", MAX_CONNECTIONS_TEXT)]
            assert (await ended(dead)).rcvd.code == 1008
            await send(sockets[0], "subscribe", "T.MSFT")
            assert await receive(sockets[0]) == confirmed("T.MSFT")


async def test_clusters_and_accounts_are_counted_apart_and_business_has_three(start: Start):
    async with (
        start() as run,
        run.ws("stocks") as a,
        run.ws("indices") as b,
        run.ws("stocks", key="sandbox-business") as c,
        run.ws("stocks", key="sandbox-business") as d,
    ):
        for socket in (a, b, c, d):
            await send(socket, "subscribe", "AM.X")
            assert await receive(socket) == confirmed("AM.X")


async def test_a_random_victim_is_the_same_in_every_run(start: Start):
    async def victims() -> list[int]:
        ids = []
        async with start(seed=3) as run:
            await run.control("add_account", "k", victim="random")
            for _ in range(4):
                async with run.ws(key="k") as one, run.ws(key="k") as two:
                    dead = await asyncio.wait(
                        {asyncio.create_task(ended(s), name=str(i)) for i, s in enumerate((one, two))},
                        return_when=asyncio.FIRST_COMPLETED,
                    )
                    ids += [int(task.get_name()) for task in dead[0]]
                    for task in dead[1]:
                        task.cancel()
        return ids

    first = await victims()
    assert first == await victims()
    assert set(first) == {0, 1}


async def test_pings_are_answered_and_a_close_is_echoed(start: Start):
    async with start() as run, run.ws() as socket:
        async with asyncio.timeout(10):
            await (await socket.ping(b"here"))
        await socket.close(4001, "bye")
        assert socket.close_code == 4001


async def test_binary_frames_are_read_as_text(start: Start):
    async with start() as run, run.ws(key=None) as socket:
        await socket.send(json.dumps({"action": "auth", "params": "sandbox"}).encode())
        assert await receive(socket) == [said("auth_success", "authenticated")]


async def test_auth_once_more_is_an_error_and_the_session_goes_on(start: Start):
    async with start() as run, run.ws() as socket:
        await send(socket, "auth", "sandbox")
        assert await receive(socket) == [said("error", "already authenticated")]
        await send(socket, "subscribe", "T.AAPL")
        assert await receive(socket) == confirmed("T.AAPL")


async def test_quotes_are_not_on_the_delayed_host(start: Start):
    async with start() as run, run.ws(delayed=True) as socket:
        await send(socket, "subscribe", "Q.AAPL,LULD.AAPL,AM.AAPL")
        assert await receive(socket) == [said("error", "not authorized")] * 2 + confirmed("AM.AAPL")
