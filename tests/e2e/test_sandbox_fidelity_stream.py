"""The sandbox's stream against what is known of the vendor's, against its own REST side, and against a second process."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from massive_lab.sandbox import SandboxProcess
from tests.e2e.wire import (
    BARS,
    CALL,
    NS,
    SNAPSHOTS,
    ask,
    client_frame,
    get,
    local,
    raw_socket,
    read_to_end,
    wire,
)

CONNECTED = b'[{"ev":"status","status":"connected","message":"Connected Successfully"}]'
REFUSED = b'[{"ev":"status","status":"auth_failed","message":"authentication failed"}]'


def test_the_handshake_byte_by_byte(sandbox: SandboxProcess) -> None:
    with raw_socket(sandbox, "stocks") as raw:
        # As some clients do: everything at once, before anything was read.
        raw.sendall(client_frame({"action": "auth", "params": "wrong"}))
        raw.sendall(client_frame({"action": "subscribe", "params": "T.AAPL"}))
        head, _, frames = read_to_end(raw).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"X-Massive-Lab: SANDBOX" in head
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
    # Two frames of text, uncompressed, and then the end of TCP without a close frame.
    assert frames == b"".join(bytes([0x81, len(text)]) + text for text in (CONNECTED, REFUSED))


def test_early_messages_are_taken_in_order(sandbox: SandboxProcess) -> None:
    with raw_socket(sandbox, "indices") as raw:
        raw.sendall(client_frame({"action": "auth", "params": "sandbox"}))
        raw.sendall(client_frame({"action": "subscribe", "params": "V.I:SPX, ZZ.I:SPX,AM.*"}))
        raw.sendall(client_frame({"action": "unsubscribe", "params": "AM.*"}))
        raw.sendall(bytes([0x88, 0x82, 0, 0, 0, 0, 0x03, 0xE8]))
        frames = read_to_end(raw).partition(b"\r\n\r\n")[2]
    texts = re.findall(rb"\[.*?\](?=\x81|\x88|$)", frames, re.DOTALL)
    assert [json.loads(text)[0]["status"] for text in texts] == ["connected", "auth_success", "success", "success"]
    assert [item["message"] for item in json.loads(texts[2])] == ["subscribed to: V.I:SPX", "subscribed to: AM.*"]
    assert json.loads(texts[3])[0]["message"] == "unsubscribed to: AM.*"
    assert frames.endswith(b"\x88\x02\x03\xe8")


def test_one_status_a_param_and_silence_where_the_vendor_is_silent(sandbox: SandboxProcess) -> None:
    with wire(sandbox, "stocks") as client:
        assert client.subscribe("T.AAPL,A.AAPL,AM.AAPL,T.NOSUCH") == [
            ("success", f"subscribed to: {param}") for param in ("T.AAPL", "A.AAPL", "AM.AAPL", "T.NOSUCH")
        ]
        assert client.subscribe("ZZ.AAPL,AS.AAPL,V.I:SPX,T.AAPL") == []
        assert client.subscribe("LV.AAPL,FMV.AAPL,Q.MSFT") == [
            ("error", "not authorized"),
            ("error", "not authorized"),
            ("success", "subscribed to: Q.MSFT"),
        ]
        client.send("unsubscribe", "A.AAPL,A.MSFT")
        assert [item["message"] for item in client.all()] == ["unsubscribed to: A.AAPL"]
        client.jump(65)
        assert {item["ev"] + "." + item["sym"] for item in client.events()} == {"T.AAPL", "AM.AAPL", "Q.MSFT"}


def test_the_thousand_and_first_option_quote(sandbox: SandboxProcess) -> None:
    contracts = get(sandbox, "/v3/reference/options/contracts?underlying_ticker=SPY&limit=1000")["results"]
    names = [f"Q.{row['ticker']}" for row in contracts]
    assert len(names) == 1000
    with wire(sandbox, "options") as client:
        assert client.subscribe(",".join(names)) == [("success", f"subscribed to: {name}") for name in names]
        over = client.subscribe(f"Q.{CALL},T.{CALL},Q.*")
        assert [status for status, _ in over] == ["error", "success", "error"]
        assert CALL not in over[0][1]
        client.send("unsubscribe", names[0])
        client.all()
        assert client.subscribe(f"Q.{CALL}") == [("success", f"subscribed to: Q.{CALL}")]


def test_one_connection_too_many(sandbox: SandboxProcess) -> None:
    for victim in ("oldest", "newest"):
        sandbox.control.add_account(f"one-{victim}", plan="advanced", victim=victim)
        with (
            wire(sandbox, "stocks", key=f"one-{victim}") as first,
            wire(sandbox, "stocks", key=f"one-{victim}") as second,
        ):
            dead, alive = (first, second) if victim == "oldest" else (second, first)
            (told,) = dead.frame()
            assert (told["ev"], told["status"]) == ("status", "max_connections")
            assert told["message"] == (
                "Maximum number of websocket connections exceeded. You have reached the connection limit for your "
                "account. Please contact support at https://polygon.io/contact to increase your limit."
            )
            with pytest.raises(ConnectionClosed) as closed:
                dead.frame()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1008
            with wire(sandbox, "indices", key=f"one-{victim}"):  # clusters count apart
                assert alive.subscribe("T.AAPL") == [("success", "subscribed to: T.AAPL")]


def test_trades_and_quotes_are_the_rows_of_rest(sandbox: SandboxProcess) -> None:
    with wire(sandbox, "stocks") as client:
        client.subscribe("T.AAPL,Q.AAPL")
        start, end = client.jump(90)
        events = client.events()
    window = f"timestamp.gte={start}&timestamp.lt={end}&order=asc&limit=50000"
    rows = get(sandbox, f"/v3/trades/AAPL?{window}")["results"]
    trades = [event for event in events if event["ev"] == "T"]
    assert len(trades) > 10
    names = {
        "i": "id",
        "p": "price",
        "s": "size",
        "ds": "decimal_size",
        "x": "exchange",
        "z": "tape",
        "c": "conditions",
    }
    stamps = {"t": "sip_timestamp", "pt": "participant_timestamp", "trft": "trf_timestamp"}
    names |= {"q": "sequence_number", "trfi": "trf_id"}
    for event, row in zip(trades, rows, strict=True):
        assert set(event) == {"ev", "sym"} | {w for w, name in (names | stamps).items() if name in row}
        assert {name: event[w] for w, name in names.items() if w in event} == {
            name: row[name] for name in names.values() if name in row
        }
        assert all(event[w] == row[name] // 1_000_000 for w, name in stamps.items() if w in event)
    rows = get(sandbox, f"/v3/quotes/AAPL?{window}")["results"]
    names = {"bp": "bid_price", "bs": "bid_size", "bx": "bid_exchange", "q": "sequence_number", "z": "tape"}
    names |= {"ap": "ask_price", "as": "ask_size", "ax": "ask_exchange"}
    for event, row in zip([event for event in events if event["ev"] == "Q"], rows, strict=True):
        assert {name: event[w] for w, name in names.items()} == {name: row[name] for name in names.values()}
        assert event["t"] == row["sip_timestamp"] // 1_000_000
        assert ([event["c"]] if "c" in event else None, event.get("i")) == (
            row.get("conditions"),
            row.get("indicators"),
        )


def test_option_ticks_are_the_rows_of_rest(sandbox: SandboxProcess) -> None:
    spot = get(sandbox, "/v2/last/trade/SPY")["results"]["p"]
    listed = "/v3/reference/options/contracts?underlying_ticker=SPY&expiration_date=2018-12-21&limit=1000"
    near = sorted(get(sandbox, listed)["results"], key=lambda row: abs(row["strike_price"] - spot))[:6]
    names = [row["ticker"] for row in near]
    with wire(sandbox, "options") as client:
        client.subscribe(",".join(f"{prefix}.{name}" for name in names for prefix in "TQ"))
        start, end = client.jump(180)
        events = client.events()
    assert {frozenset(event) - {"c"} for event in events} == {
        frozenset(("ev", "sym", "x", "p", "s", "t", "q")),
        frozenset(("ev", "sym", "bx", "ax", "bp", "ap", "bs", "as", "t", "q")),
    }
    fields = {
        "T": {"p": "price", "s": "size", "x": "exchange", "q": "sequence_number"},
        "Q": {"bp": "bid_price", "ap": "ask_price", "bs": "bid_size", "as": "ask_size", "q": "sequence_number"},
    }
    for name in names:
        for prefix, kind in (("T", "trades"), ("Q", "quotes")):
            window = f"timestamp.gte={start}&timestamp.lt={end}&order=asc&limit=50000"
            rows = get(sandbox, f"/v3/{kind}/{name}?{window}")["results"]
            mine = [event for event in events if (event["ev"], event["sym"]) == (prefix, name)]
            assert [(event["t"], *(event[w] for w in fields[prefix])) for event in mine] == [
                (row["sip_timestamp"] // 1_000_000, *(row[f] for f in fields[prefix].values())) for row in rows
            ]


def test_streamed_bars_end_as_the_bars_of_rest(sandbox: SandboxProcess) -> None:
    with wire(sandbox, "stocks") as client:
        client.subscribe("AM.*,A.AAPL")
        start, _ = client.jump(1500)
        events = client.events()
        client.send("unsubscribe", "A.AAPL")
        client.all()
        _, end = client.jump(960)  # beyond this no late print changes a streamed bar
        events += client.events()
        assert client.largest < 1_000_000
    final: dict[tuple[str, str, int], dict[str, Any]] = {}
    n_again = 0
    base = {"ev", "sym", "v", "dv", "av", "dav", "vw", "o", "c", "h", "l", "a", "z", "s", "e"}
    for event in events:
        assert base <= set(event) <= base | {"op"}
        width = 60_000 if event["ev"] == "AM" else 1_000
        assert (event["e"] - event["s"], event["s"] % width) == (width, 0)
        assert (float(event["dv"]), float(event["dav"])) == (event["v"], event["av"])
        n_again += (event["ev"], event["sym"], event["s"]) in final
        final[event["ev"], event["sym"], event["s"]] = event
    assert n_again > 0  # revisions replace what was sent before
    first, last = start // 1_000_000 + 60_000, end // 1_000_000 - 960_000 - 120_000
    n_equal = 0
    for name, timespan in (("AM", "minute"), ("A", "second")):
        for symbol in ("AAPL",) if name == "A" else ("AAPL", "SPY", "NATH"):
            bars = get(sandbox, BARS.format(symbol, 1, timespan, first, last) + "?limit=50000").get("results", [])
            bars = [bar for bar in bars if first <= bar["t"] < last]
            mine = {s: e for (ev, sym, s), e in final.items() if (ev, sym) == (name, symbol) and first <= s < last}
            assert sorted(mine) == [bar["t"] for bar in bars]
            for bar in bars:
                event = mine[bar["t"]]
                assert [event[field] for field in ("o", "h", "l", "c", "v", "vw")] == [
                    *(bar["o"], bar["h"], bar["l"], bar["c"], bar["v"], bar["vw"])
                ]
                n_equal += 1
    assert n_equal > 60


def test_index_values_make_the_bars_of_rest(sandbox: SandboxProcess) -> None:
    with wire(sandbox, "indices") as client:
        client.subscribe("V.I:SPX,AM.I:SPX,AM.*")
        client.jump(60 - sandbox.control.status()["now_ns"] / NS % 60)  # to a whole minute
        client.events()
        start, _ = client.jump(185)
        events = client.events()
    values = [event for event in events if event["ev"] == "V"]
    assert {frozenset(event) for event in values} == {frozenset(("ev", "val", "T", "t"))}
    bars = [event for event in events if event["ev"] == "AM"]
    assert {frozenset(event) for event in bars} == {frozenset(("ev", "sym", "op", "o", "c", "h", "l", "s", "e"))}
    # A wildcard and a single topic together bring each event once.
    assert len({(event["sym"], event["s"]) for event in bars}) == len(bars)
    first = start // 1_000_000
    found = get(sandbox, BARS.format("I:SPX", 1, "minute", first, first + 179_999))["results"]
    assert [bar["t"] for bar in found] == [first, first + 60_000, first + 120_000]
    for bar in found:
        inside = [event["val"] for event in values if bar["t"] <= event["t"] < bar["t"] + 60_000]
        assert (bar["o"], bar["h"], bar["l"], bar["c"]) == (inside[0], max(inside), min(inside), inside[-1])
        (streamed,) = [event for event in bars if (event["sym"], event["s"]) == ("I:SPX", bar["t"])]
        assert {name: streamed[name] for name in "ohlc"} == {name: bar[name] for name in "ohlc"}
    snapshot = get(sandbox, "/v3/snapshot/indices?ticker.any_of=I:SPX")["results"][0]
    assert (snapshot["value"], snapshot["last_updated"] // 1_000_000) == (values[-1]["val"], values[-1]["t"])


def test_whole_market_frames_stay_small_and_nothing_comes_twice(sandbox: SandboxProcess) -> None:
    with wire(sandbox, "stocks") as client:
        client.subscribe("T.*,T.AAPL,Q.*")
        client.jump(60)
        events = client.events()
        assert len(events) > 500
        assert client.largest < 1_000_000
        keys = [(event["ev"], event["sym"], event["q"]) for event in events]
        assert len(set(keys)) == len(keys)
        assert len({event["sym"] for event in events}) > 30
        client.send("unsubscribe", "T.*")
        client.all()
        client.jump(60)
        left = {(event["ev"], event["sym"]) for event in client.events()}
        assert {symbol for kind, symbol in left if kind == "T"} == {"AAPL"}


def test_one_seed_is_one_market_whatever_was_asked_before(sandbox: SandboxProcess) -> None:
    """A sandbox with a history, and one that starts at this moment: the same bytes, the same frames."""
    moment = "2018-12-24T12:59:00"
    targets = [
        *("/v3/trades/SPY?limit=200", "/v3/quotes/AAPL?limit=200", "/v3/snapshot/options/SPY?limit=20"),
        *("/v3/snapshot/indices", f"{SNAPSHOTS}/tickers?tickers=AAPL,NATH", "/v1/marketstatus/now"),
        BARS.format("AAPL", 1, "minute", "2018-12-21", "2018-12-24"),
    ]

    def seen(process: SandboxProcess) -> tuple[list[bytes], list[str]]:
        base = process.rest_url.encode()
        with connect(f"{process.ws_url}/stocks", compression=None) as client:
            for action, params in (("auth", "sandbox"), ("subscribe", "T.AAPL,Q.SPY,A.*,AM.*")):
                client.recv(30)
                client.send(json.dumps({"action": action, "params": params}))
            client.recv(30)
            process.control.jump(90)
            client.send(json.dumps({"action": "subscribe", "params": "T.NOSUCH"}))
            frames = [str(client.recv(30))]
            while "NOSUCH" not in frames[-1]:
                frames.append(str(client.recv(30)))
        return [ask(process, target)[2].replace(base, b"BASE") for target in targets], frames

    sandbox.control.jump_to(moment, deliver=False)
    with SandboxProcess(seed=7, paused=True, start=moment) as fresh:
        assert seen(sandbox) == seen(fresh)
        # Christmas Eve: a minute and a half have passed, and the market has closed at one.
        now = get(fresh, "/v1/marketstatus/now")
        assert (now["market"], now["earlyHours"], now["afterHours"]) == ("extended-hours", False, True)
        row = get(fresh, "/v3/snapshot?ticker.any_of=AAPL")["results"][0]
        assert row["market_status"] == "late_trading"
        fresh.control.jump_to("2018-12-25T11:00:00", deliver=False)
        now = get(fresh, "/v1/marketstatus/now")
        assert (now["market"], now["exchanges"]["nyse"]) == ("closed", "closed")
        (bar,) = get(fresh, "/v2/aggs/ticker/AAPL/prev")["results"]
        assert local(bar["t"]) == "2018-12-24 13:00:00"
        assert ask(fresh, "/v1/open-close/AAPL/2018-12-25")[0] == 404
        fresh.control.jump_to("2018-12-26T03:45:00", deliver=False)
        row = get(fresh, f"{SNAPSHOTS}/tickers/AAPL")["ticker"]
        assert (row["day"]["v"], row["todaysChange"], row["prevDay"]["c"]) == (0, 0, bar["c"])
        assert get(fresh, "/v1/marketstatus/now")["market"] == "closed"
        fresh.control.jump_to("2018-12-26T08:00:00", deliver=False)
        now = get(fresh, "/v1/marketstatus/now")
        assert (now["market"], now["earlyHours"]) == ("extended-hours", True)
