"""The library against a gateway: every feature as it is directly, over real sockets and a process of its own.

The sandbox behind it counts what reaches it, and has a second account, so that a direct client may watch the same market.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import massive_lab as ml
from massive_lab.errors import NotEntitled, SubscriptionFailed, Unauthorized
from massive_lab.gateway.process import GatewayProcess
from massive_lab.live.registry import n_hubs
from massive_lab.sandbox import SandboxProcess

WAIT_S = 30.0
DESK = "canary-desk-0123456789"
NARROW = "canary-narrow-0123456789"
STOCKS_ONLY = "canary-stocks-0123456789"
TOKENS = f"""
[tokens.desk]
token = "{DESK}"
[tokens.narrow]
token = "{NARROW}"
topics = ["T.AAPL"]
[tokens.stocks]
token = "{STOCKS_ONLY}"
clusters = ["stocks"]
"""
TRADE = ("ms", "price", "size", "exchange")


@pytest.fixture(scope="module")
def tokens_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gateway") / "tokens.toml"
    path.write_text(TOKENS)
    return path


@pytest.fixture(scope="module")
def gateway(sandbox: SandboxProcess, tokens_file: Path) -> Iterator[GatewayProcess]:
    with GatewayProcess(
        sandbox=sandbox.rest_url, tokens={}, environ={"MASSIVE_GATEWAY_TOKENS_FILE": str(tokens_file)}
    ) as process:
        yield process
        log = process.log()
    assert "endpoint=openapi" in log
    assert "canary" not in log


@pytest.fixture
def lab(sandbox: SandboxProcess, gateway: GatewayProcess) -> Iterator[ml.Lab]:
    sandbox.control.reset_faults()
    with ml.connect(gateway.url, token=DESK, progress=False) as lab:
        yield lab
    assert n_hubs() == 0


@pytest.fixture
def direct(sandbox: SandboxProcess) -> Iterator[ml.Lab]:
    sandbox.control.add_account("beside", plan="advanced")
    with ml.connect("sandbox", sandbox=sandbox, api_key="beside", progress=False) as lab:
        yield lab


def until(condition: Callable[[], object]) -> None:
    """Bounded by turns; between them the sockets move on."""
    loop = asyncio.new_event_loop()
    try:
        for _ in range(6_000):
            if condition():
                return
            loop.run_until_complete(asyncio.sleep(0.005))
    finally:
        loop.close()
    raise AssertionError("the condition never came true")


def upstream_is_idle(sandbox: SandboxProcess) -> bool:
    return not any(each["open"] for each in sandbox.control.connections() if each["account"] == "sandbox")


def cut(sandbox: SandboxProcess, cluster: str) -> None:
    for connection in sandbox.control.connections():
        if connection["cluster"] == cluster and connection["account"] == "sandbox" and connection["open"]:
            sandbox.control.close_connection(connection["id"], abrupt=True)


def prints(frame: pl.DataFrame, columns: tuple[str, ...] = TRADE) -> Counter[tuple[object, ...]]:
    return Counter(frame.with_columns(ms=pl.col("ts_sip").dt.epoch("ms")).select(columns).rows())


# REST

LOADS: dict[str, Callable[[ml.Lab], Any]] = {
    "day bars": lambda lab: lab.bars(["AAPL", "I:SPX"], "1d", "2018-12-03", "2018-12-15"),
    "minute bars over pages": lambda lab: lab.bars("AAPL", "1m", "2018-11-19", "2018-12-15"),
    "trades over pages": lambda lab: lab.trades("AAPL", "2018-12-18T10:00:00-05:00", "2018-12-18T10:10:00-05:00"),
    "quotes": lambda lab: lab.quotes("AAPL", "2018-12-18T10:00:00-05:00", "2018-12-18T10:01:00-05:00"),
    "last trade": lambda lab: lab.last("AAPL"),
    "last quote": lambda lab: lab.last("AAPL", kind="quote"),
    "snapshot": lambda lab: lab.snapshot(["AAPL", "I:SPX", "NOSUCH"], errors="keep"),
    "indices": lambda lab: lab.indices(["I:SPX", "I:VIX"]),
    "chain over pages": lambda lab: lab.chain("SPY"),
    "chain of an index": lambda lab: lab.chain("I:SPX", option_type="call"),
    "contracts": lambda lab: lab.contracts("AAPL", strike=(110, 120)),
    "server indicator": lambda lab: lab.server_indicator("AAPL", "macd", "2018-12-10", "2018-12-15"),
    "market status": lambda lab: lab.market_status(),
    "holidays": lambda lab: lab.holidays(),
    "tickers": lambda lab: lab.tickers(market="stocks"),
    "exchanges": lambda lab: lab.exchanges(asset_class="options"),
    "conditions": lambda lab: lab.conditions(asset_class="stocks"),
    "regime": lambda lab: lab.regime(as_of="2018-12-18").history,
}


@pytest.mark.parametrize("name", LOADS)
def test_every_loader_gives_what_it_gives_directly(name: str, lab: ml.Lab, direct: ml.Lab) -> None:
    through = LOADS[name](lab)
    assert through.equals(LOADS[name](direct))
    assert through.height > 0


def test_the_errors_are_those_of_the_vendor(lab: ml.Lab, direct: ml.Lab) -> None:
    for call in (
        lambda lab: lab.snapshot(["NOSUCH"]),
        lambda lab: lab.bars("AAPL", "1d", "2018-12-10", "2018-12-01"),
        lambda lab: lab.chain("NOSUCH"),
    ):
        with pytest.raises(ml.MassiveLabError) as wanted:
            call(direct)
        with pytest.raises(type(wanted.value)) as found:
            call(lab)
        assert type(found.value) is type(wanted.value)
        assert found.value.message == wanted.value.message


def test_all_that_shows_the_client_says_sandbox_and_nothing_says_the_token(lab: ml.Lab) -> None:
    live = lab.live(["AAPL"])
    for thing in (lab, live, lab.live):
        assert "SANDBOX" in repr(thing)
        assert "canary" not in repr(thing)
    assert "canary" not in repr(lab.settings)


def test_the_async_client_and_pandas_work_through_it(gateway: GatewayProcess) -> None:
    async def load() -> int:
        async with ml.aconnect(gateway.url, token=DESK, frame="pandas") as lab:
            assert lab.settings.sandbox
            return len(await lab.bars("AAPL", "1d", "2018-12-10", "2018-12-15"))

    assert asyncio.run(load()) == 5


# tokens


def test_a_wrong_token_is_called_a_token(gateway: GatewayProcess) -> None:
    with ml.connect(gateway.url, token="canary-wrong-0123456789") as lab:
        with pytest.raises(Unauthorized) as by_rest:
            lab.market_status()
        with pytest.raises(Unauthorized) as by_socket:
            lab.live(["AAPL"]).wait_live(WAIT_S)
    for caught in (by_rest, by_socket):
        assert "MASSIVE_PROXY_TOKEN" in caught.value.hint
        assert "API_KEY" not in str(caught.value)
        assert "canary" not in str(caught.value)


def test_another_token_is_taken_up_without_losing_what_was_asked_for(gateway: GatewayProcess) -> None:
    with ml.connect(gateway.url, token="canary-wrong-0123456789") as lab:
        live = lab.live(["AAPL"], channels=("T",))
        with pytest.raises(Unauthorized):
            live.wait_live(WAIT_S)
        lab.live.retry(DESK)
        live.wait_live(WAIT_S)
        assert lab.market_status().height > 0


def test_what_a_token_may_not_have_is_refused_and_the_rest_comes(gateway: GatewayProcess) -> None:
    with ml.connect(gateway.url, token=NARROW) as lab:
        lab.live(["AAPL"], channels=("T",)).wait_live(WAIT_S)
        with pytest.raises(SubscriptionFailed, match="MSFT"):
            lab.live(["MSFT"], channels=("T",)).wait_live(WAIT_S)
    with ml.connect(gateway.url, token=STOCKS_ONLY) as lab, pytest.raises(NotEntitled, match="gateway"):
        lab.live(["I:SPX"], channels=("V",)).wait_live(WAIT_S)


def test_a_token_that_is_taken_back_ends_what_it_opened_and_a_new_one_goes_on(
    sandbox: SandboxProcess, gateway: GatewayProcess, tokens_file: Path
) -> None:
    successor = "canary-successor-0123456789"
    with ml.connect(gateway.url, token=NARROW, progress=False) as lab:
        live = lab.live(["AAPL"], channels=("T",)).wait_live(WAIT_S)
        try:
            tokens_file.write_text(TOKENS.replace(NARROW, successor))
            gateway.reload()
            # The socket is opened again, and then the token is refused.
            until(lambda: "refused the token" in str(live.status()["last_error"][0]))
            with pytest.raises(Unauthorized, match="token"):
                live.wait_live(WAIT_S)
            with pytest.raises(Unauthorized):
                lab.market_status()
            lab.live.retry(successor)
            live.wait_live(WAIT_S)
            n_before = live.trades().frame().height
            sandbox.control.jump(60.0)
            until(lambda: live.trades().frame().height > n_before)
        finally:
            tokens_file.write_text(TOKENS)
            gateway.reload()


# live


def test_the_stream_is_row_for_row_that_of_a_direct_client(
    sandbox: SandboxProcess, lab: ml.Lab, direct: ml.Lab
) -> None:
    contract = direct.chain("SPY")["contract"][0]
    asked: dict[str, Any] = {"symbols": ["AAPL", "SPY", "I:SPX", contract], "channels": ("T", "Q", "V", "A", "AM")}
    feeds = [each.live(**asked).wait_live(WAIT_S) for each in (lab, direct)]
    sandbox.control.jump(180.0)

    def tables(feed: Any) -> dict[str, pl.DataFrame]:
        bars = {channel: feed.bars(channel=channel).frame() for channel in ("A", "AM")}
        ticks = {"T": feed.trades().frame(), "Q": feed.quotes().frame(), "V": feed.values().frame()}
        # Clusters have a socket each, and which comes first is chance.
        return {name: frame.drop("ts_recv").sort("symbol", maintain_order=True) for name, frame in (ticks | bars).items()}

    until(lambda: all(frame.equals(tables(feeds[1])[name]) for name, frame in tables(feeds[0]).items()))
    through = tables(feeds[0])
    assert {name for name, frame in through.items() if frame.height} == {"T", "Q", "V", "A", "AM"}
    assert {source for frame in through.values() for source in frame["source"]} == {"stream"}
    assert feeds[0].errors == ()


def test_an_outage_behind_the_gateway_is_polled_then_filled_and_the_socket_stays(
    sandbox: SandboxProcess, lab: ml.Lab, direct: ml.Lab
) -> None:
    live = lab.live(["SPY"], channels=("T",)).wait_live(WAIT_S)
    sandbox.control.jump(60.0)
    until(lambda: live.trades().frame().height)
    fault = sandbox.control.add_fault("refuse_upgrade", scope="stocks")
    cut(sandbox, "stocks")
    until(lambda: live.status()["serving"][0] == "poll")
    sandbox.control.jump(40.0)
    until(lambda: "poll" in live.trades().frame()["source"])
    # A topic asked for meanwhile waits for the gateway, and is not given up.
    late = lab.live(["AAPL"], channels=("T",))
    sandbox.control.remove_fault(fault)
    until(lambda: live.status()["serving"][0] == "stream")
    late.wait_live(WAIT_S)
    sandbox.control.jump(60.0)
    until(lambda: "backfill" in live.trades().frame()["source"])

    def whole() -> bool:
        frame = live.trades().frame()
        first, last = frame["ts_sip"].min(), frame["ts_sip"].max()
        inside = frame.filter(pl.col("ts_sip").dt.truncate("1ms") < pl.lit(last).dt.truncate("1ms"))
        history = direct.trades("SPY", first, last)
        return prints(inside) == prints(history.filter(pl.col("ts_sip").dt.truncate("1ms") < pl.lit(last).dt.truncate("1ms")))

    until(whole)
    status = live.status()
    assert status["reconnects"][0] == 0
    assert status["polls"][0] == 0
    assert live.gaps().is_empty()
    assert any("gateway" in str(error) for error in live.errors)
    # What REST brought the gateway keeps its nanoseconds.
    fine = live.trades().frame().filter(source="backfill")["ts_sip"].dt.epoch("ns") % 1_000_000
    assert (fine != 0).any()


def test_a_gateway_that_was_away_costs_no_row(sandbox: SandboxProcess, direct: ml.Lab) -> None:
    tokens = {"desk": DESK}
    first = GatewayProcess(sandbox=sandbox.rest_url, tokens=tokens)
    port = first.url.rpartition(":")[2]
    try:
        with ml.connect(first.url, token=DESK, progress=False) as lab:
            live = lab.live(["SPY"], channels=("T",)).wait_live(WAIT_S)
            sandbox.control.jump(60.0)
            until(lambda: live.trades().frame().height)
            first.close()
            until(lambda: live.status()["state"][0] != "live")
            sandbox.control.jump(40.0)
            with GatewayProcess(
                sandbox=sandbox.rest_url, tokens=tokens, environ={"MASSIVE_GATEWAY_PORT": port}
            ) as second:
                assert second.url == first.url
                until(lambda: live.topics()["state"].to_list() == ["confirmed"])
                sandbox.control.jump(60.0)
                until(lambda: live.gaps()["state"].to_list() == ["filled"])
                frame = live.trades().frame()
                begin, end = frame["ts_sip"].min(), frame["ts_sip"].max()
                history = direct.trades("SPY", begin, end)
                assert prints(frame.filter(pl.col("ts_sip") < end)) == prints(history)
                live.close()
    finally:
        first.close()


def test_a_session_through_it_is_recorded_and_played_again(
    sandbox: SandboxProcess, lab: ml.Lab, tmp_path: Path
) -> None:
    path = tmp_path / "session.mlcap"
    with lab.live.record(path):
        live = lab.live(["AAPL", "I:SPX"], channels=("T", "V")).wait_live(WAIT_S)
        sandbox.control.jump(30.0)
        until(lambda: live.trades().frame().height and live.values().frame().height)
        live.close()
        frames = {"trades": live.trades().frame(), "values": live.values().frame()}
    replay = ml.replay(path).run()
    assert replay.is_sandbox
    for name, frame in frames.items():
        assert replay.frame(name).equals(frame)
    assert b"canary" not in path.read_bytes()


def test_the_macro_context_works_through_it(sandbox: SandboxProcess, lab: ml.Lab, direct: ml.Lab) -> None:
    with lab.live.macro() as macro:
        macro.wait_live(WAIT_S)
        assert "SANDBOX" in repr(macro)
        sandbox.control.jump(5.0)
        symbols = ["I:SPX", "I:NDX", "I:VIX"]
        wanted = direct.indices(symbols).select("symbol", pl.col("ts_updated").dt.epoch("ms")).rows()

        def told() -> list[tuple[object, ...]]:
            return macro.frame().select("symbol", pl.col("ts_event").dt.epoch("ms")).rows()

        until(lambda: sorted(told()) == sorted(wanted))


# two kernels

KERNEL = """
import json, sys, time
import massive_lab as ml
url, token, *symbols = json.loads(sys.argv[1])
with ml.connect(url, token=token, progress=False) as lab:
    live = lab.live(symbols, channels=("T", "AM")).wait_live(60.0)
    print("live", flush=True)
    wanted = json.loads(sys.stdin.readline())
    for _ in range(6_000):
        frames = [live.trades().frame(), live.bars().frame()]
        if [frame.height for frame in frames] == wanted:
            break
        time.sleep(0.005)
    sums = [frame.drop("ts_recv", "conditions", strict=False).hash_rows(seed=1).sum() for frame in frames]
    print(json.dumps([[frame.height for frame in frames], [str(each) for each in sums], "SANDBOX" in repr(live)]), flush=True)
"""


def test_two_kernels_with_the_same_fifty_symbols_cost_one_upstream(
    sandbox: SandboxProcess, gateway: GatewayProcess, direct: ml.Lab
) -> None:
    until(lambda: upstream_is_idle(sandbox))
    symbols = direct.chain("SPY")["contract"].to_list()[:50]
    assert len(set(symbols)) == 50
    sandbox.control.reset_counts()
    command = [sys.executable, "-c", KERNEL, json.dumps([gateway.url, DESK, *symbols])]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as one, subprocess.Popen(command, **pipes) as other:
        kernels = (one, other)
        assert [kernel.stdout.readline() for kernel in kernels] == ["live\n"] * 2
        sandbox.control.jump(120.0)
        counted = sandbox.control.counts()["ws"]["options"]
        n_trades = sum(n for topic, n in counted["topics"].items() if topic.startswith("T."))
        n_bars = sum(n for topic, n in counted["topics"].items() if topic.startswith("AM."))
        told = []
        for kernel in kernels:
            out, _ = kernel.communicate(json.dumps([n_trades, n_bars]) + "\n", timeout=90)
            told.append(json.loads(out))
    assert n_trades > 0
    assert told[0] == told[1]
    assert told[0][0] == [n_trades, n_bars]
    assert told[0][2] is True
    assert (counted["opened"], counted["authenticated"]) == (1, 1)
    assert counted["subscribe_params"] == counted["confirmed"] == 2 * 50
    assert counted["ignored"] == counted["denied"] == 0
    until(lambda: upstream_is_idle(sandbox))
