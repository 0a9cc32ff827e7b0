"""The gateway's WebSocket: the vendor's protocol on real sockets, before a scripted upstream."""

from __future__ import annotations

import asyncio
import json
import socket as plain
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
import pytest_asyncio
from websockets.exceptions import ConnectionClosed, InvalidStatus

from massive_lab.config import Secret
from massive_lab.decode.stream import Trade
from massive_lab.gateway.admission import Admission
from massive_lab.gateway.tokens import Refused, TokenRule
from tests.unit.gateway.sockets_bench import (
    AUTHENTICATED,
    CONNECTED,
    INDICES_ONLY,
    NARROW,
    RULES,
    TOKEN,
    Gate,
    gate_to,
    quote,
    scripted,
    success,
    trade,
)
from tests.unit.live.conftest import FakeRest, Upstream, status, until

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with scripted() as server:
        yield server


@pytest_asyncio.fixture
async def gate(upstream: Upstream) -> AsyncIterator[Gate]:
    async with gate_to(upstream.url) as served:
        yield served


# ---- the protocol


async def test_handshake_is_two_frames_and_each_param_is_confirmed(gate: Gate, upstream: Upstream) -> None:
    talk = await gate.talk()
    await talk.log_in()
    await talk.say("subscribe", "T.AAPL, Q.AAPL,AM.*")
    got = await talk.until(lambda item: item == success("subscribed to: AM.*"))
    assert {item["message"] for item in got} == {f"subscribed to: {wire}" for wire in ("T.AAPL", "Q.AAPL", "AM.*")}
    await talk.say("unsubscribe", "T.AAPL,AM.MSFT")
    assert await talk.frame() == [success("unsubscribed to: T.AAPL")]


async def test_what_comes_early_is_accepted(gate: Gate) -> None:
    talk = await gate.talk()
    # As other clients of the vendor do: nothing is read first.
    await talk.say("auth", TOKEN)
    await talk.say("subscribe", "T.AAPL")
    assert await talk.frame() == [CONNECTED]
    assert await talk.frame() == [AUTHENTICATED]
    assert await talk.frame() == [success("subscribed to: T.AAPL")]


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("no-such-token-0123456789", "authentication failed"),
        ("", "authentication failed"),
        ("t\u00f6ken", "authentication failed"),
        (INDICES_ONLY, "Your plan doesn't include websocket access."),
    ],
    ids=["unknown", "empty", "not ASCII", "other cluster"],
)
async def test_a_refused_token_is_told_on_the_open_socket_and_sent_away_for_good(
    gate: Gate, upstream: Upstream, token: str, message: str
) -> None:
    talk = await gate.talk()
    assert await talk.frame() == [CONNECTED]
    await talk.say("auth", token)
    await talk.say("subscribe", "T.AAPL")
    assert await talk.frame() == [{"ev": "status", "status": "auth_failed", "message": message}]
    assert await talk.close_code() == 1000
    assert not upstream.connections
    assert gate.sockets.n_clients == 0


async def test_a_subscribe_without_authentication_is_refused(gate: Gate, upstream: Upstream) -> None:
    talk = await gate.talk()
    assert await talk.frame() == [CONNECTED]
    await talk.say("subscribe", "T.AAPL")
    assert (await talk.frame())[0]["status"] == "auth_required"
    assert not upstream.connections


async def test_who_does_not_authenticate_is_sent_away(upstream: Upstream) -> None:
    async with gate_to(upstream.url, auth_s=0.05) as gate:
        talk = await gate.talk()
        await talk.frame()
        assert (await talk.frame())[0]["status"] == "auth_timeout"
        assert await talk.close_code() == 1000
        assert ("auth_refused", "timeout") in gate.noted


async def test_an_ephemeral_token_of_the_address_opens_one_connection_to_its_cluster(gate: Gate) -> None:
    grant = gate.tokens.find(TOKEN, gate.sockets.clock.now_ns() / 1e9)
    assert not isinstance(grant, Refused)
    token = gate.tokens.mint(grant, "stocks", gate.sockets.clock.now_ns() / 1e9)
    assert isinstance(token, Secret)
    wrong = await gate.talk(f"/ws/indices?token={token.reveal()}")
    assert await wrong.frame() == [CONNECTED]
    assert (await wrong.frame())[0]["status"] == "auth_failed"
    first = await gate.talk(f"/ws/stocks?token={token.reveal()}")
    assert [await first.frame(), await first.frame()] == [[CONNECTED], [AUTHENTICATED]]
    await first.subscribe("T.AAPL")
    again = await gate.talk(f"/ws/stocks?token={token.reveal()}")
    assert await again.frame() == [CONNECTED]
    assert (await again.frame())[0]["status"] == "auth_failed"
    assert await again.close_code() == 1000
    # A proxy token lives long: it has no place in an address.
    plain_token = await gate.talk(f"/ws/stocks?token={TOKEN}")
    await plain_token.frame()
    assert (await plain_token.frame())[0]["status"] == "auth_failed"


async def test_topics_beyond_the_grant_are_refused_one_by_one(gate: Gate, upstream: Upstream) -> None:
    talk = await gate.client(token=NARROW)
    await talk.say("subscribe", "T.AAPL,T.MSFT,T.*,AM.*")
    got = await talk.until(lambda item: item == success("subscribed to: AM.*"))
    assert [item for item in got if item["status"] == "error"] == [status("error", "not authorized")] * 2
    assert upstream.held[0] == {"T.AAPL", "AM.*"}


# ---- one upstream for all


async def test_many_clients_are_one_connection_and_one_subscription(gate: Gate, upstream: Upstream) -> None:
    clients = [await gate.client("T.AAPL") for _ in range(5)]
    await clients[0].subscribe("T.MSFT")
    assert (len(upstream.connections), upstream.held[0]) == (1, {"T.AAPL", "T.MSFT"})
    assert gate.sockets.clusters["stocks"].fanout.n_groups == 2
    await upstream.push(trade(1), trade(2, "MSFT"), trade(3))
    assert await clients[0].frame() == [trade(1), trade(2, "MSFT"), trade(3)]
    for client in clients[1:]:
        assert await client.frame() == [trade(1), trade(3)]
    await clients[0].say("unsubscribe", "T.MSFT")
    assert await clients[0].frame() == [success("unsubscribed to: T.MSFT")]
    await until(lambda: upstream.held[0] == {"T.AAPL"})


async def test_the_upstream_is_closed_after_the_last_client_and_opened_for_the_next(upstream: Upstream) -> None:
    async with gate_to(upstream.url, idle_s=0.05) as gate:
        first, second = await gate.client("T.AAPL"), await gate.client("T.AAPL")
        await first.socket.close()
        await until(lambda: gate.sockets.n_clients == 1)
        assert gate.sockets.clusters["stocks"].hub is not None
        await second.socket.close()
        await until(lambda: gate.sockets.clusters["stocks"].hub is None)
        await until(lambda: upstream.connections[0].close_code is not None)
        await gate.client("T.AAPL")
        assert len(upstream.connections) == 2


async def test_topics_wait_until_the_upstream_has_authenticated_us(upstream: Upstream) -> None:
    upstream.refuse_upgrade = 503
    async with gate_to(upstream.url) as gate:
        talk = await gate.client()
        await talk.say("subscribe", "T.AAPL")
        await until(lambda: gate.sockets.clusters["stocks"].hub is not None)
        await until(lambda: len(gate.sockets.clusters["stocks"].hub.errors) >= 2)  # type: ignore[union-attr]
        upstream.refuse_upgrade = None
        await talk.until(lambda item: item == success("subscribed to: T.AAPL"))


async def test_a_refused_topic_is_told_to_those_who_asked_for_it(gate: Gate, upstream: Upstream) -> None:
    upstream.denied.add("Q.AAPL")
    asked, other = await gate.client("T.AAPL"), await gate.client("T.AAPL")
    await asked.say("subscribe", "Q.AAPL")
    told = await asked.frame()
    assert [item["status"] for item in told] == ["subscription_failed"]
    assert "Q.AAPL" in told[0]["message"]
    assert "not authorized" in told[0]["message"]
    await upstream.push(trade(1))
    assert await asked.frame() == [trade(1)]
    assert await other.frame() == [trade(1)]


async def test_clients_stay_through_an_outage_and_are_told(gate: Gate, upstream: Upstream) -> None:
    talk, idle = await gate.client("T.AAPL"), await gate.client()
    port = upstream.port
    await upstream.stop()
    await talk.until(lambda item: item.get("status") == "upstream_lost")
    late = await gate.client()
    await late.say("subscribe", "T.MSFT")
    assert (await late.frame())[0]["status"] == "upstream_lost"
    await upstream.start(port)
    await talk.until(lambda item: item.get("status") == "upstream_restored")
    await late.until(lambda item: item == success("subscribed to: T.MSFT"))
    await until(lambda: upstream.held[-1] == {"T.AAPL", "T.MSFT"})
    await upstream.push(trade(1))
    assert await talk.until(lambda item: item == trade(1))
    assert idle.socket.close_code is None
    assert [item["status"] for frame in talk.frames for item in frame if item.get("status") == "success"] == ["success"]


async def test_polled_values_are_forwarded_and_marked(upstream: Upstream) -> None:
    rest = FakeRest()
    rest.rows["AAPL"] = {"trade_price": 7.5, "trade_size": 3.0, "ts_trade": 1_750_000_100 * 10**9}
    async with gate_to(upstream.url, poller=rest) as gate:
        talk = await gate.client("T.AAPL")
        await upstream.push(trade(1))
        port = upstream.port
        await upstream.stop()
        got = await talk.until(lambda item: item.get("src") == "poll")
        assert got[-1] == {"ev": "T", "sym": "AAPL", "t": 1_750_000_100_000, "p": 7.5, "s": 3, "src": "poll"}
        assert "upstream_polling" in [item.get("status") for frame in talk.frames for item in frame]
        await upstream.start(port)
        await talk.until(lambda item: item.get("status") == "upstream_restored")


async def test_an_upstream_that_refuses_is_said_so_and_tried_again(upstream: Upstream) -> None:
    upstream.auth_answer = [status("auth_failed", "authentication failed")]
    async with gate_to(upstream.url) as gate:
        desk = gate.sockets.clusters["stocks"]
        desk._upstream = type(desk._upstream)(**{**_fields(desk._upstream), "retry_s": 0.05})
        talk = await gate.client()
        await talk.say("subscribe", "T.AAPL")
        await talk.until(lambda item: item.get("status") == "upstream_refused")
        upstream.auth_answer = [AUTHENTICATED]
        await talk.until(lambda item: item == success("subscribed to: T.AAPL"))


def _fields(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


# ---- bytes


async def test_the_vendors_bytes_are_forwarded_as_they_are(gate: Gate, upstream: Upstream) -> None:
    both, one = await gate.client("T.AAPL", "Q.AAPL"), await gate.client("Q.AAPL")
    own = '{"ev":"Q","sym":"AAPL","t":1750000000002,"\u00e9":"\u20ac"}'
    raw = '[{"ev":"T","sym":"AAPL","t":1750000000001,"p":5.50,"ds":"0.1","zz":{"deep":[1,2]}}, ' + own + "]"
    await upstream.push(raw=raw)
    assert await both.socket.recv() == raw
    assert await one.socket.recv() == f"[{own}]"


async def test_a_frame_with_statuses_and_damage_brings_its_events(gate: Gate, upstream: Upstream) -> None:
    talk = await gate.client("T.AAPL")
    await upstream.push(status("success", "something else"), trade(1))
    assert await talk.frame() == [trade(1)]
    await upstream.push(raw=json.dumps([{"ev": "T", "sym": "AAPL"}, trade(2)]))
    (found,) = await talk.frame()
    assert {name: found[name] for name in ("ev", "sym", "p", "q")} == {"ev": "T", "sym": "AAPL", "p": 5.25, "q": 2}
    assert not [name for name in found if name.startswith("-")]
    await upstream.push(raw=b'[{"ev":"T","sym":"AAPL","t":1750000000005,"p":1,"u":"\xff"}]')
    await upstream.push(trade(6))
    assert (await talk.until(lambda item: item.get("q") == 6))[-1] == trade(6)


# ---- bad input


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        "[]",
        "null",
        "[" * 200_000,
        '{"action":"subscribe","params":' + '{"a":' * 50_000 + "1" + "}" * 50_000 + "}",
        '{"action":"drop tables"}',
        '{"action":"subscribe","params":["T.AAPL"]}',
        '{"action":"subscribe","params":" , ,"}',
        '{"action":"subscribe"}',
        '{"action":["subscribe"],"params":"T.AAPL"}',
        '{"action":"subscribe","params":"' + "T.A," * 100_000 + '"}',
        '{"action":"subscribe","params":"ZZ.AAPL,LULD.AAPL,T,.,*,T.,T.' + "A" * 100 + ',V.I:SPX"}',
        '{"action":"unsubscribe","params":"\\u0000.\\u0000"}',
    ],
    ids=[
        "nothing", "no JSON", "array", "null", "deep array", "deep object", "unknown action", "list", "blanks",
        "no params", "action is a list", "topics without end", "unknown channels", "zeros",
    ],
)  # fmt: skip
async def test_what_makes_no_sense_is_answered(gate: Gate, upstream: Upstream, text: str) -> None:
    talk = await gate.client()
    await talk.socket.send(text)
    (answer,) = await talk.frame()
    assert answer["status"] == "error"
    assert "AAPL" not in answer["message"] or "such as" in answer["message"]
    await talk.subscribe("T.AAPL")
    await upstream.push(trade(1))
    assert await talk.frame() == [trade(1)]


async def test_what_cannot_be_a_message_ends_the_connection_with_a_code(gate: Gate) -> None:
    huge = await gate.client()
    with suppress(ConnectionClosed):  # it may learn while it still sends
        await huge.socket.send('{"action":"subscribe","params":"' + "T.AAPL," * 1_000_000 + '"}')
    assert await huge.close_code() == 1009
    not_text = await gate.client()
    await not_text.socket.send(b"\xff\xfe{", text=True)
    assert await not_text.close_code() == 1007
    endless = await gate.client()
    for _ in range(100):
        await endless.socket.send("?")
    with pytest.raises(ConnectionClosed):
        await endless.until(lambda item: False)
    assert await endless.close_code() == 1000
    await gate.client("T.AAPL")


async def test_a_peer_that_sends_garbage_or_hangs_up_harms_nobody(gate: Gate, upstream: Upstream) -> None:
    talk = await gate.client("T.AAPL")
    for tail in (b"\xff" * 100, b"", b"\x81"):
        with plain.create_connection(("127.0.0.1", gate.port)) as raw:
            raw.sendall(
                b"GET /stocks HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n" + tail
            )
            await asyncio.sleep(0)
    await until(lambda: gate.sockets.n_clients == 1)
    await upstream.push(trade(1))
    assert await talk.frame() == [trade(1)]


async def test_too_many_topics_for_one_client(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("massive_lab.gateway.ws.MAX_TOPICS", 3)
    talk = await gate.client("T.A", "T.B", "T.C")
    await talk.say("subscribe", "T.A,T.D")
    assert (await talk.frame())[0]["status"] == "error"
    await talk.subscribe("T.B")


async def test_a_long_list_is_one_upstream_subscription_and_leaves_nothing(upstream: Upstream) -> None:
    async with gate_to(upstream.url, idle_s=0.05) as gate:
        wires = [f"T.{first}{second}{third}" for first in "ABCDEFGHIJ" for second in "KLMNOPQRST" for third in "ABCDEFGH"]
        first, second = await gate.client(*wires), await gate.client(*wires[::2])
        desk = gate.sockets.clusters["stocks"]
        assert (desk.n_topics, upstream.held[0]) == (800, set(wires))
        await first.socket.close()
        await until(lambda: desk.n_topics == 400)
        # Wanted again before the hub was told of the end, or after: it makes no difference.
        again = await gate.client(*wires[1::2])
        await upstream.push(*(trade(number, wire[2:]) for number, wire in enumerate(wires)))
        assert [item["q"] for item in await again.frame()] == list(range(1, 800, 2))
        assert [item["q"] for item in await second.frame()] == list(range(0, 800, 2))
        assert not upstream.double
        await again.socket.close()
        await second.socket.close()
        await until(lambda: desk.hub is None)
        assert (desk.n_topics, desk.fanout.n_groups) == (0, 0)


async def test_more_option_quotes_than_a_connection_may_hold_fail_for_who_asked(upstream: Upstream) -> None:
    async with gate_to(upstream.url) as gate:
        quotes = [f"Q.O:SPY251219C{strike:08d}" for strike in range(1_000, 1_001_000, 1_000)]
        first, second = await gate.talk("/options"), await gate.talk("/options")
        for talk in (first, second):
            await talk.log_in()
        await first.subscribe(*quotes)
        await second.say("subscribe", f"{quotes[0]},Q.O:SPY251219P00650000,Q.*")
        got: list[dict[str, Any]] = []
        while len(got) < 3:
            got += await second.frame()
        assert sorted(item["status"] for item in got) == ["error", "subscription_failed", "success"]
        (failed,) = [item for item in got if item["status"] == "subscription_failed"]
        assert "P00650000" in failed["message"]


async def test_the_answers_to_the_longest_list_fit_the_client_and_call_nobody_slow(upstream: Upstream) -> None:
    async with gate_to(upstream.url, queue_bytes=256 * 1024) as gate:
        # What the official client takes for a frame.
        talk = await gate.talk(max_size=1_000_000)
        await talk.log_in(NARROW)
        await talk.say("subscribe", ",".join(f"Q.X{number}" for number in range(19_999)) + ",AM.SPY")
        n_refused = 0
        while n_refused < 19_999:
            n_refused += len([item for item in await talk.frame() if item["message"] == "not authorized"])
        assert n_refused == 19_999
        await talk.until(lambda item: item == success("subscribed to: AM.SPY"))
        assert not gate.sockets.closed


# ---- the door


async def test_a_foreign_page_is_not_let_in(upstream: Upstream) -> None:
    async with gate_to(upstream.url, web_origins=("https://desk.example",)) as gate:
        for origin in ("https://evil.example", "null", "https://desk.example.evil.example"):
            with pytest.raises(InvalidStatus) as refused:
                await gate.talk(origin=origin)
            assert refused.value.response.status_code == 403
        assert await (await gate.talk(origin="https://desk.example")).frame() == [CONNECTED]


async def test_hundreds_who_come_at_once_are_let_in_in_order(upstream: Upstream) -> None:
    # 20 at once, then 400 a second; 250 may wait, the others are told when to come back.
    async with gate_to(upstream.url, admission=Admission(400.0, 20, 250)) as gate:

        answers: list[tuple[int, int]] = []

        async def come() -> str:
            try:
                talk = await gate.talk(open_timeout=30)
            except InvalidStatus as error:
                answers.append((error.response.status_code, int(error.response.headers["Retry-After"])))
                return "later"
            await talk.log_in()
            await talk.subscribe("T.AAPL")
            return "in"

        found = await asyncio.gather(*(come() for _ in range(400)))
        assert found.count("in") >= 250
        assert gate.sockets.n_clients == found.count("in")
        assert gate.noted.count(("not_admitted", "stocks")) == found.count("later")
        assert all(code == 503 and seconds >= 1 for code, seconds in answers)
        assert len(upstream.connections) == 1


async def test_a_stopping_gateway_sends_everybody_away_to_come_back(gate: Gate, upstream: Upstream) -> None:
    clients = [await gate.client("T.AAPL") for _ in range(3)]
    await gate.sockets.drain(0.1)
    assert [await client.close_code() for client in clients] == [1012] * 3
    with pytest.raises(InvalidStatus) as refused:
        await gate.talk()
    assert refused.value.response.status_code == 503


async def test_codes_that_a_client_makes_up_are_one_label(gate: Gate) -> None:
    for code in (3001, 4000, 4999):
        talk = await gate.talk()
        await talk.frame()
        await talk.socket.close(code)
    await until(lambda: gate.sockets.n_clients == 0)
    assert gate.sockets.closed == {3000: 3}
    assert {label for what, label in gate.noted if what == "closed"} == {"3000"}


# ---- tokens that end


async def test_a_revoked_token_ends_its_connections_and_no_other(gate: Gate, upstream: Upstream) -> None:
    desk, narrow = await gate.client("T.AAPL"), await gate.client("T.AAPL", token=NARROW)
    gate.tokens.revoke("narrow")
    assert (await narrow.frame())[0]["status"] == "auth_failed"
    assert await narrow.close_code() == 1000
    await upstream.push(trade(1))
    assert await desk.frame() == [trade(1)]


async def test_a_narrowed_token_loses_its_topics(gate: Gate, upstream: Upstream) -> None:
    talk = await gate.client("T.AAPL", "Q.AAPL")
    gate.tokens.rotate([TokenRule("desk", Secret(TOKEN), topics=("Q.*",)), *RULES[1:]])
    assert [item["status"] for item in await talk.frame()] == ["subscription_failed"]
    await upstream.push(trade(1), quote(2))
    assert await talk.frame() == [quote(2)]


async def test_an_expired_token_ends_its_connections(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("massive_lab.gateway.ws._SWEEP_S", 0.02)
    async with gate_to(upstream.url) as gate:
        talk = await gate.client("T.AAPL")
        now = gate.sockets.clock.now_ns() / 1e9
        gate.tokens.rotate([TokenRule("desk", Secret(TOKEN), expires_s=now + 0.2), *RULES[1:]])
        await talk.until(lambda item: item.get("status") == "auth_failed")
        assert await talk.close_code() == 1000


# ---- slow readers


async def test_a_client_that_never_reads_harms_nobody(upstream: Upstream) -> None:
    async with gate_to(upstream.url, queue_bytes=256 * 1024) as gate:
        others = [await gate.client("T.AAPL") for _ in range(20)]
        deaf = plain.socket()
        deaf.setsockopt(plain.SOL_SOCKET, plain.SO_RCVBUF, 4096)
        deaf.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(deaf, ("127.0.0.1", gate.port))
        await loop.sock_sendall(
            deaf,
            b"GET /stocks HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n" + _masked(f'{{"action":"auth","params":"{TOKEN}"}}')
            + _masked('{"action":"subscribe","params":"T.AAPL"}'),
        )  # fmt: skip
        await until(lambda: gate.sockets.n_of("stocks") == 21 and len(_wanting(gate, "T.AAPL")) == 21)
        largest = n_sent = 0
        counts = [0] * len(others)

        async def read(number: int) -> None:
            while counts[number] < 1_500 * 20:
                counts[number] += len(await others[number].frame())

        readers = [asyncio.create_task(read(number)) for number in range(len(others))]
        for _ in range(1_500):
            await upstream.push(*(trade(n_sent + each) for each in range(20)))
            n_sent += 20
            largest = max(largest, gate.sockets.n_waiting_bytes)
            # All share one loop here: nobody else may fall behind for want of a turn.
            await until(lambda n_sent=n_sent: min(counts) >= n_sent - 400)  # type: ignore[misc]
        await asyncio.gather(*readers)
        assert counts == [n_sent] * 20
        for number in (0, 19):
            numbers = [item["q"] for frame in others[number].frames for item in frame if item["ev"] == "T"]
            assert numbers == list(range(n_sent))
        await until(lambda: gate.sockets.n_clients == 20)
        assert gate.sockets.closed == {1008: 1}
        # One client's bound, its transport's, and what the readers had not taken yet; 3 MB were sent to each.
        assert largest < 21 * (64 * 1024 + 8192) + 256 * 1024
        deaf.close()


def _wanting(gate: Gate, wire: str) -> list[Any]:
    return [peer for peer in gate.sockets._peers if wire in peer.topics]


def _masked(text: str) -> bytes:
    data = text.encode()
    assert len(data) < 126
    return bytes((0x81, 0x80 | len(data))) + bytes(4) + data


async def test_a_slow_reader_gets_every_trade_and_the_newest_quote(upstream: Upstream) -> None:
    async with gate_to(upstream.url, queue_bytes=64 * 1024 * 1024, queue_age_s=600.0) as gate:
        # Nothing is read from the socket while `max_queue` frames wait.
        talk = await gate.talk(max_queue=1)
        await talk.log_in()
        await talk.subscribe("T.AAPL", "Q.AAPL")
        (peer,) = gate.sockets._peers
        sent = 0
        while peer.outbox.n_conflated < 1_000:
            await upstream.push(*(quote(sent + each) if each % 2 else trade(sent + each) for each in range(500)))
            sent += 500
            await until(lambda sent=sent: gate.sockets.counts("stocks").events == sent)  # type: ignore[misc]
        await upstream.push(quote(sent), trade(sent + 1))
        got = await talk.until(lambda item: item.get("q") == sent + 1)
        got = [item for frame in talk.frames for item in frame]
        assert [item["q"] for item in got if item["ev"] == "T"] == [*range(0, sent, 2), sent + 1]
        quotes = [item["q"] for item in got if item["ev"] == "Q"]
        assert quotes == sorted(quotes)
        assert len(quotes) < sent // 2
        if quotes[-1] != sent:
            await talk.until(lambda item: item == quote(sent))


async def test_a_long_gap_is_filled_without_calling_anybody_slow(upstream: Upstream) -> None:
    async with gate_to(upstream.url) as gate:
        talk = await gate.client("T.AAPL")
        late = [Trade("AAPL", number, 5.0, sequence=number, trade_id="x" * 100, source="backfill") for number in range(20_000)]
        desk = gate.sockets.clusters["stocks"]
        assert desk._sink is not None
        desk._sink.inbox.extend(late)
        desk._sink.flush()
        got = await talk.until(lambda item: item.get("q") == 19_999)
        assert [item["q"] for item in got] == list(range(20_000))
        assert not gate.sockets.closed


async def test_what_waits_too_long_ends_the_connection(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("massive_lab.gateway.ws._SWEEP_S", 0.02)
    async with gate_to(upstream.url, queue_bytes=64 * 1024 * 1024, queue_age_s=0.1) as gate:
        talk = await gate.talk(max_queue=1)
        await talk.log_in()
        await talk.subscribe("T.AAPL")
        (peer,) = gate.sockets._peers
        sent = 0
        while not peer.is_closing:
            await upstream.push(*(trade(sent + each) for each in range(500)))
            sent += 500
        await until(lambda: gate.sockets.n_clients == 0)
        assert gate.sockets.closed == {1008: 1}
