"""The live system against the sandbox over real sockets, with the sandbox's own counts as referee."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import polars as pl
import pytest

import massive_lab as ml
from massive_lab import telemetry as t
from massive_lab.errors import SubscriptionFailed
from massive_lab.live.registry import n_hubs
from massive_lab.sandbox.process import SandboxProcess
from tests.e2e.ear import Ear

WAIT_S = 30.0


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess(seed=7, paused=True) as process:
        yield process


@pytest.fixture
def lab(sandbox: SandboxProcess) -> Iterator[ml.Lab]:
    sandbox.control.reset_faults()
    sandbox.control.reset_counts()
    with ml.connect("sandbox", sandbox=sandbox) as lab:
        yield lab
    assert n_hubs() == 0
    assert not [c for c in sandbox.control.connections() if c["open"]]


@pytest.fixture
def ear(lab: ml.Lab) -> Ear:
    ear = Ear()
    lab.telemetry.add(ear)
    return ear


def served(sandbox: SandboxProcess) -> Counter[tuple[str, str]]:
    clusters = sandbox.control.counts()["ws"]
    return Counter({(name, topic): n for name, cluster in clusters.items() for topic, n in cluster["topics"].items()})


def cut(sandbox: SandboxProcess, cluster: str, **how: object) -> None:
    for connection in sandbox.control.connections():
        if connection["cluster"] == cluster and connection["open"]:
            sandbox.control.close_connection(connection["id"], **how)


def test_three_clusters_and_every_event_served_is_counted_here_too(sandbox, lab, ear):
    contract = lab.chain("SPY")["contract"][0]
    live = lab.live(["AAPL", "SPY", "I:SPX", contract], channels=("T", "Q", "V", "A", "AM")).wait_live(WAIT_S)
    assert "SANDBOX" in repr(live)
    sandbox.control.jump(180.0)
    ear.wait(lambda: ear.by_topic() == served(sandbox))
    counts = sandbox.control.counts()["ws"]
    assert sorted(counts) == ["indices", "options", "stocks"]
    for cluster, count in counts.items():
        frames = [event for event in ear.of(t.FrameReceived) if event.cluster == cluster]
        assert len(frames) == count["frames"]
        assert sum(frame.n_bytes for frame in frames) == count["sent_bytes"]
        sent = [topic for e in ear.of(t.WireSent) if e.cluster == cluster and e.action == "subscribe" for topic in e.topics]
        assert len(sent) == len(set(sent)) == count["subscribe_params"]
    trades = live.trades("AAPL").frame()
    assert trades.height == ear.by_topic()["stocks", "T.AAPL"] > 0
    assert trades["sequence"].is_sorted()
    bars = live.bars("AAPL").frame()
    assert not bars.select("symbol", "ts_event").is_duplicated().any()
    assert live.values().frame().height > 0
    assert live.errors == ()


@pytest.mark.parametrize("how", [{"code": 1000}, {"code": 1001}, {"code": 1011}, {"abrupt": True}], ids=str)
def test_after_every_end_the_same_topics_are_back_and_nothing_is_told_twice(how, sandbox, lab, ear):
    live = lab.live(["AAPL", "SPY"]).wait_live(WAIT_S)
    sandbox.control.jump(30.0)
    ear.wait(lambda: ear.by_topic() == served(sandbox))
    cut(sandbox, "stocks", **how)
    ear.wait(lambda: ear.of(t.Reconnected))
    live.wait_live(WAIT_S)
    ear.wait(lambda: len(ear.of(t.TopicConfirmed)) == 12)
    sandbox.control.jump(30.0)
    ear.wait(lambda: ear.by_topic() == served(sandbox))
    streamed = live.trades().frame().filter(source="stream")
    assert not streamed.select("symbol", "sequence").is_duplicated().any()
    assert sandbox.control.counts()["ws"]["stocks"]["ignored"] == 0
    assert live.gaps()["topic"].to_list() == live.topics()["topic"].to_list()


def test_a_lost_socket_is_polled_by_one_call_for_all_and_the_stream_takes_over_again(sandbox, lab, ear):
    live = lab.live(["AAPL", "SPY"]).wait_live(WAIT_S)
    sandbox.control.jump(30.0)
    fault = sandbox.control.add_fault("refuse_upgrade", scope="stocks")
    cut(sandbox, "stocks", abrupt=True)
    ear.wait(lambda: ear.of(t.PollTick))
    (started,) = ear.of(t.FallbackStarted)
    assert started.n_topics == 4
    assert ear.of(t.PollTick)[0].n_symbols == 2
    assert live.status()["state"].to_list() == ["polling"]
    newest = live.trades("AAPL").last
    assert newest is not None
    sandbox.control.jump(120.0)
    ear.wait(lambda: len(ear.of(t.PollTick)) >= 2)
    polled = live.quotes().frame().filter(source="poll")
    assert polled.height > 0
    assert set(polled["symbol"]) <= {"AAPL", "SPY"}
    sandbox.control.remove_fault(fault)
    ear.wait(lambda: ear.of(t.FallbackStopped))
    ear.wait(lambda: len(ear.of(t.TopicConfirmed)) == 12)
    n_polls = len(ear.of(t.PollTick))
    sandbox.control.jump(60.0)
    ear.wait(lambda: ear.by_topic() == served(sandbox))
    assert len(ear.of(t.PollTick)) == n_polls
    trades = live.trades().frame()
    assert not trades.select("symbol", pl.col("ts_sip").dt.epoch("ms"), "price", "size").filter(
        trades["source"] == "poll"
    ).is_duplicated().any()
    assert sandbox.control.counts()["rest"]["endpoints"]["snapshot"]["requests"] == n_polls


def test_one_topic_outside_the_plan_is_named_and_the_others_flow(sandbox, lab, ear):
    sandbox.control.add_fault("not_authorized", scope="Q.AAPL")
    live = lab.live(["AAPL"])
    with pytest.raises(SubscriptionFailed) as caught:
        live.wait_live(WAIT_S)
    assert caught.value.topic == "Q.AAPL"
    assert live.topics()["topic"].to_list() == ["T.AAPL", "AM.AAPL"]
    sandbox.control.jump(60.0)
    ear.wait(lambda: ear.by_topic()["stocks", "T.AAPL"] and ear.by_topic() == served(sandbox))
    assert [event.topic for event in ear.of(t.SubscriptionDenied)] == ["Q.AAPL"]


def test_malformed_frames_cost_themselves_and_nothing_else(sandbox, lab, ear):
    live = lab.live(["AAPL"]).wait_live(WAIT_S)
    sandbox.control.add_fault("malformed", scope="stocks", count=3)
    sandbox.control.jump(60.0)
    ear.wait(lambda: ear.of(t.EventQuarantined))
    sandbox.control.reset_faults()
    before = ear.by_topic()["stocks", "T.AAPL"]
    sandbox.control.jump(60.0)
    ear.wait(lambda: ear.by_topic()["stocks", "T.AAPL"] > before)
    assert ear.of(t.Reconnected) == []
    assert live.status()["state"].to_list() == ["live"]


def test_another_owner_of_the_cluster_makes_us_step_down_to_polling_without_a_storm(sandbox, lab, ear):
    live = lab.live(["AAPL"]).wait_live(WAIT_S)
    sandbox.control.add_fault("max_connections", scope="stocks")
    cut(sandbox, "stocks", abrupt=True)
    ear.wait(lambda: any(event.state == "evicted" for event in ear.of(t.FeedStateChanged)))
    ear.wait(lambda: ear.of(t.PollTick))
    opened = sandbox.control.counts()["ws"]["stocks"]["opened"]
    ear.wait(lambda: len(ear.of(t.PollTick)) >= 2)
    assert sandbox.control.counts()["ws"]["stocks"]["opened"] == opened
    assert live.status()["state"].to_list() == ["evicted"]
    assert "Evicted" in [type(error).__name__ for error in live.errors]
    assert lab.live.outages()["end"].to_list()[-1] is None
    sandbox.control.reset_faults()
    lab.live.retry()
    ear.wait(lambda: len(ear.of(t.TopicConfirmed)) == 6)
    assert live.wait_live(WAIT_S).status()["state"].to_list() == ["live"]
    assert lab.live.outages().select("cause", "attempts").row(0)[1] >= 1
