from __future__ import annotations

import json
import random
import threading

import pytest

from massive_lab import telemetry as t
from massive_lab.clock import SystemClock
from massive_lab.config import Secret
from massive_lab.errors import ClosedError, InvalidRequest
from massive_lab.live import registry
from massive_lab.live.capture.format import Kind
from massive_lab.live.capture.reader import Capture, verify
from massive_lab.live.capture.record import Recording
from massive_lab.live.capture.redact import Redactor
from massive_lab.live.capture.replay import Replay
from massive_lab.live.policy import Policy
from massive_lab.live.session import Live
from massive_lab.schema.symbols import parse_many
from massive_lab.telemetry import Telemetry
from massive_lab.transports.runner import Runner

WAIT_S = 30.0
KEY = "test-key"


class Bench:
    """Live sessions of one client on a scripted server."""

    def __init__(self, served) -> None:
        self.server, self.settings, self.runner = served
        self.telemetry = Telemetry()
        self._told: list[t.Event] = []
        self._came = threading.Condition()
        self.telemetry.add(self._hear)
        self.n_pushed = 0

    def _hear(self, event: t.Event) -> None:
        with self._came:
            self._told.append(event)
            self._came.notify_all()

    def wait(self, condition) -> None:
        with self._came:
            assert self._came.wait_for(lambda: condition(self._told), WAIT_S), self._told[-10:]

    def live(self, symbols, channels=("T",), **changes) -> Live:
        policy = Policy().with_(**changes)
        return Live(
            self.settings, self.runner, self.telemetry, SystemClock(), None, parse_many(symbols), channels, policy=policy
        )

    def record(self, path) -> Recording:
        return Recording(path, self.settings, self.runner)

    def push(self, *events, raw=None) -> None:
        """Send, and wait until it was heard."""
        n = len([event for event in self._told if isinstance(event, t.FrameReceived)])
        self.server.thread.call(self.server.push(*events, raw=raw))
        self.wait(lambda told: len([event for event in told if isinstance(event, t.FrameReceived)]) > n)

    def trade(self, symbol="AAPL", price=100.0, **more) -> None:
        self.n_pushed += 1
        ms = 1_750_000_000_000 + self.n_pushed
        self.push({"ev": "T", "sym": symbol, "t": ms, "p": price, "s": 10, "q": self.n_pushed, **more})

    def drop(self) -> None:
        async def abort() -> None:
            self.server.connections[-1].transport.abort()

        self.server.thread.call(abort())


@pytest.fixture
def bench(served) -> Bench:
    return Bench(served)


def plain(path) -> bytes:
    return json.dumps(Capture(path).header).encode() + b"".join(record.payload for record in Capture(path))


def test_a_session_with_a_drop_in_it_is_replayed_to_the_same_tables_and_twice_to_the_same_bytes(bench, tmp_path):
    with bench.record(tmp_path / "a") as recording:
        live = bench.live(["AAPL", "MSFT"], ("T", "Q", "AM")).wait_live(WAIT_S)
        for i in range(5):
            bench.trade("AAPL", 100.0 + i)
            bench.trade("MSFT", 200.0 + i)
        bench.push({"ev": "Q", "sym": "AAPL", "t": 1_750_000_000_500, "bp": 1.0, "bs": 2, "ap": 3.0, "as": 4})
        bench.push({"ev": "AM", "sym": "AAPL", "s": 1_750_000_020_000, "e": 1_750_000_080_000, "o": 1, "h": 2, "l": 1, "c": 2})
        bench.push(raw="{nonsense")
        bench.drop()
        bench.wait(lambda told: any(isinstance(event, t.Reconnected) for event in told))
        bench.wait(lambda told: sum(isinstance(event, t.TopicConfirmed) for event in told) == 12)
        bench.trade("AAPL", 300.0)
        frames = {kind: getattr(live, kind)().frame() for kind in ("trades", "quotes", "bars")}
        gaps, status = live.gaps(), live.status()
        live.close()
    assert recording.summary is not None
    assert recording.summary.is_complete
    replay = Replay(tmp_path / "a")
    for kind, frame in frames.items():
        assert replay.frame(kind).equals(frame), kind
        assert frame.height > 0
    assert replay.frame("trades", "MSFT").height == 5
    assert replay.gaps.select("topic", "start", "end", "cause").equals(gaps.select("topic", "start", "end", "cause"))
    same = ("cluster", "state", "frames", "events", "bytes", "quarantined", "reconnects", "sent")
    assert replay.status.select(same).equals(status.select(same))
    assert Replay(tmp_path / "a").sha256 == replay.sha256 == replay.run().sha256
    assert [(type(e).__name__, e.symbol, e.ts_recv) for e in replay.events if e.symbol == "MSFT"] == [
        ("Trade", "MSFT", ts) for ts in frames["trades"].filter(symbol="MSFT")["ts_recv"].to_physical()
    ]
    assert len(list(replay.events)) == replay.n_events == 13
    told = [type(event).__name__ for event in replay.telemetry]
    assert told.count("Reconnected") == told.count("EventQuarantined") == 1


def test_recording_may_begin_in_the_middle_and_the_replay_starts_from_the_same_state(bench, tmp_path):
    symbols = [f"{a}{b}" for a in "ABCDEF" for b in "BCDE"]
    live = bench.live([*symbols, "AAPL"], ("T", "A"), batch_topics=7).wait_live(WAIT_S)
    wild = bench.runner.call(_open_wild(bench))
    bench.wait(lambda told: any(isinstance(e, t.TopicConfirmed) and e.topic == "T.*" for e in told))
    bench.trade("AAPL", 1.0)
    before = live.trades().frame().height
    with bench.record(tmp_path / "a"):
        bench.trade("AAPL", 2.0)
        bench.trade("AB", 3.0)
        bench.trade("ZZZZ", 4.0)
        frame = live.trades().frame()
        topics = live.status()["topics"].to_list()
    marked = [record for record in Capture(tmp_path / "a") if record.synthesized]
    assert {record.kind for record in marked} == {Kind.READER_OPENED, Kind.SOCKET_OPENED, Kind.FRAME_IN}
    replay = Replay(tmp_path / "a")
    # The session's own table has no wildcard; the table of the replay is of all that was read.
    assert replay.frame("trades").filter(replay.frame("trades")["symbol"] != "ZZZZ").equals(frame[before:])
    assert replay.frame("trades", "ZZZZ").height == 1
    assert (replay.status["state"].to_list(), replay.status["topics"].to_list()) == (["live"], topics)
    assert not [event for event in replay.telemetry if isinstance(event, t.SubscriptionDenied)]
    assert wild.is_open
    live.close()


async def _open_wild(bench):
    from massive_lab.live.topics import Topic

    (hub,) = registry.hubs(bench.settings)
    return hub.open(Topic.parse("stocks", "T.*"), [])


def test_recording_may_begin_while_the_socket_is_down(bench, tmp_path):
    live = bench.live(["AAPL"]).wait_live(WAIT_S)
    bench.trade("AAPL", 1.0)
    bench.server.refuse_upgrade = 503
    bench.drop()
    bench.wait(lambda told: any(isinstance(e, t.FeedStateChanged) and e.state == "connecting" for e in told[-8:]))
    with bench.record(tmp_path / "a"):
        bench.server.refuse_upgrade = None
        bench.wait(lambda told: any(isinstance(event, t.Reconnected) for event in told))
        bench.wait(lambda told: sum(isinstance(event, t.TopicConfirmed) for event in told) == 2)
        bench.trade("AAPL", 2.0)
        frame = live.trades().frame()
    replay = Replay(tmp_path / "a")
    assert replay.frame("trades").equals(frame[-1:])
    assert replay.status["reconnects"].to_list() == [1]
    assert replay.gaps["topic"].to_list() == ["T.AAPL"]
    live.close()


def test_a_feed_that_is_closed_and_opened_again_is_two_hubs_in_one_capture(bench, tmp_path):
    with bench.record(tmp_path / "a") as recording:
        heights = []
        for price in (1.0, 2.0):
            with bench.live(["AAPL"]) as live:
                live.wait_live(WAIT_S)
                bench.trade("AAPL", price)
                heights.append(live.trades().frame().height)
    assert recording.summary.by_kind["hub"] == recording.summary.by_kind["hub_closed"] == 2
    replay = Replay(tmp_path / "a")
    assert heights == [1, 1]
    assert replay.frame("trades")["price"].to_list() == [1.0, 2.0]
    assert replay.status.height == 2


def test_a_topic_that_is_refused_is_refused_again(bench, tmp_path):
    bench.server.denied = {"T.MSFT"}
    with bench.record(tmp_path / "a"):
        live = bench.live(["AAPL", "MSFT"])
        bench.wait(lambda told: any(isinstance(event, t.SubscriptionDenied) for event in told))
        bench.trade("AAPL", 2.0)
        live.close()
    replay = Replay(tmp_path / "a")
    (denied,) = [event for event in replay.telemetry if isinstance(event, t.SubscriptionDenied)]
    assert (denied.topic, denied.reason) == ("T.MSFT", "not authorized")
    assert replay.frame("trades")["symbol"].to_list() == ["AAPL"]


def test_no_key_is_in_the_file_whoever_says_it(bench, tmp_path):
    new = "another-key/of.mine"
    bench.server.greeting = [{"ev": "status", "status": "connected", "message": f"hello {KEY}"}]
    with bench.record(tmp_path / "a"):
        live = bench.live(["AAPL"]).wait_live(WAIT_S)
        bench.trade("AAPL", 1.0, i=f"{KEY}{KEY}")
        bench.push(raw=f"not json, but {KEY}")
        bench.runner.call(registry.retry(bench.settings, Secret(new)))
        bench.wait(lambda told: any(isinstance(event, t.Reconnected) for event in told))
        live.wait_live(WAIT_S)
        bench.wait(lambda told: sum(isinstance(event, t.TopicConfirmed) for event in told) == 2)
        for echo in (new, new.replace("/", "\\/"), new.replace("/", "%2F")):
            bench.push(raw=f'[{{"ev":"status","status":"note","message":"you said {echo}"}}]')
        bench.trade("AAPL", 2.0)
        live.close()
    assert [m["params"] for m in bench.server.messages if m["action"] == "auth"] == [KEY, new]
    whole = plain(tmp_path / "a") + (tmp_path / "a").read_bytes()
    for form in (KEY, new, "another-key", "of.mine"):
        assert form.encode() not in whole
    replay = Replay(tmp_path / "a")
    assert replay.frame("trades")["trade_id"].to_list() == ["*" * 2 * len(KEY), None]
    assert verify(tmp_path / "a").by_kind["frame_out"] >= 4


class Interrupted:
    """A runner whose first call is cut off by Ctrl-C, when its work is done and before anybody knows."""

    def __init__(self, runner: Runner, meanwhile) -> None:
        self._runner = runner
        self._meanwhile = [meanwhile]

    def call(self, coro):
        result = self._runner.call(coro)
        if self._meanwhile:
            self._meanwhile.pop()()
            raise KeyboardInterrupt
        return result


@pytest.mark.parametrize("left", [[], ["a"]], ids=["nothing", "a_file_that_came_into_being"])
def test_ctrl_c_while_recording_begins_leaves_nothing_that_listens_and_no_file_of_its_own(bench, tmp_path, left):
    live = bench.live(["AAPL"]).wait_live(WAIT_S)
    hub = live.core.leases["stocks"].hub

    def meanwhile():
        for name in left:
            (tmp_path / name).write_text("mine")

    with pytest.raises(KeyboardInterrupt):
        Recording(tmp_path / "a", bench.settings, Interrupted(bench.runner, meanwhile))
    assert hub.taps == []
    assert bench.runner.call(_n_watchers()) == 0
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "mine") for name in left]
    live.close()


async def _n_watchers() -> int:
    return len(registry._here().watchers)


def test_a_key_too_short_to_be_told_from_data_is_not_recorded_with(bench, tmp_path):
    bench.settings = bench.settings.with_(api_key=Secret("A"))
    with pytest.raises(InvalidRequest, match="cannot be told from data"):
        bench.record(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["", 7, None, b""], ids=repr)
def test_what_names_no_file_is_refused(bench, path):
    with pytest.raises(InvalidRequest, match="not the name of a file"):
        bench.record(path)


def test_closing_twice_gives_the_same_summary_and_a_loop_that_has_ended_does_no_harm(served, tmp_path):
    _, settings, _ = served
    runner = Runner("test-ended")
    recording = Recording(tmp_path / "a", settings, runner)
    runner.close()
    assert recording.close() is recording.close()
    assert verify(tmp_path / "a").n_records == 0
    assert "complete" in repr(recording)
    with pytest.raises(ClosedError):
        Recording(tmp_path / "b", settings, runner)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    replay = Replay(tmp_path / "a")
    assert (replay.n_events, replay.status.height, replay.frame("quotes").height) == (0, 0, 0)
    assert list(replay.events) == []


def test_the_redactor_finds_a_key_in_every_form_and_leaves_the_length():
    redact = Redactor(Secret('ke"y/+%'))
    encoded = ("?k=ke%22y%2F%2B%25", "?k=ke%22y%2f%2b%25", "/ke%22y/%2B%25")
    for text in ('x ke"y/+% y', '{"m":"ke\\"y/+%"}', '{"m":"ke\\"y\\/+%"}', *encoded):
        out = redact(text.encode())
        assert len(out) == len(text)
        assert b"*******" in out
        assert b"ke" not in out


@pytest.mark.parametrize("seed", range(8))
def test_whatever_happens_in_a_session_its_replay_has_the_same_tables(bench, tmp_path, seed):
    chance = random.Random(seed)
    symbols = ["AAPL", "MSFT", "SPY"]
    others: list[Live] = []
    n_drops = 0
    with bench.record(tmp_path / "a"):
        # It reads everything from beginning to end, whatever the others do.
        patience = {"linger_s": 0.01, "backoff_base_s": 0.01, "stable_s": 0.0}
        witness = bench.live(symbols, ("T", "AM"), **patience).wait_live(WAIT_S)
        for _ in range(30):
            what = chance.choice(["trade", "trade", "trade", "bar", "nonsense", "open", "close", "drop"])
            if what == "trade":
                bench.trade(chance.choice(symbols), round(chance.uniform(1, 999), 2), i=chance.choice([None, "x1", 7]))
            elif what == "bar":
                start = 1_750_000_000_000 + 60_000 * chance.randrange(3)
                prices = {"o": 1, "h": 2, "l": 1, "c": chance.random()}
                bench.push({"ev": "AM", "sym": "SPY", "s": start, "e": start + 60_000, **prices})
            elif what == "nonsense":
                bench.push(raw=chance.choice(["{", "[[]]", '[{"ev":"T","sym":"AAPL"}]', '[{"ev":"ZZ"}]']))
            elif what == "open":
                channels = chance.choice([("T",), ("Q",), ("T", "Q")])
                others.append(bench.live(chance.sample(symbols, 2), channels).wait_live(WAIT_S))
            elif what == "close" and others:
                others.pop(chance.randrange(len(others))).close()
            elif what == "drop":
                n_drops += 1
                bench.drop()
                n = n_drops
                bench.wait(lambda told, n=n: sum(isinstance(event, t.Reconnected) for event in told) == n)
                wanted = {topic.wire for live in (witness, *others) for topic in live.core.topics}
                bench.wait(lambda told, wanted=wanted: _confirmed_since_the_last_return(told) >= wanted)
        frames = {"trades": witness.trades().frame(), "bars": witness.bars().frame()}
        counts = witness.status().select("frames", "events", "bytes", "quarantined", "unknown", "reconnects").rows()
        for live in (*others, witness):
            live.close()
    replay = Replay(tmp_path / "a")
    for kind, frame in frames.items():
        assert replay.frame(kind).equals(frame), kind
    assert replay.status.select("frames", "events", "bytes", "quarantined", "unknown", "reconnects").rows() == counts
    assert replay.sha256 == Replay(tmp_path / "a").sha256


def _confirmed_since_the_last_return(told) -> set[str]:
    last = max(i for i, event in enumerate(told) if isinstance(event, t.Reconnected))
    return {event.topic for event in told[last:] if isinstance(event, t.TopicConfirmed)}
