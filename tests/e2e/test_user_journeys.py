"""What a newcomer does on the first day: a script, a notebook, several threads, pandas, a type checker, and mistakes."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import polars as pl
import pytest
from nbclient import NotebookClient

import massive_lab as ml
from massive_lab.errors import (
    FrameInvariantError,
    InvalidRequest,
    MassiveLabError,
    SubscriptionFailed,
    Timeout,
    Unauthorized,
    UnknownSymbol,
)
from massive_lab.sandbox.process import SandboxProcess

ROOT = Path(__file__).resolve().parents[2]
DAY, NEXT = "2018-12-18", "2018-12-19"
PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess(seed=7) as process:
        process.control.pause()
        yield process


@pytest.fixture
def lab(sandbox: SandboxProcess) -> Iterator[ml.Lab[pl.DataFrame]]:
    with ml.connect("sandbox", sandbox=sandbox, progress=False) as lab:
        yield lab


def test_the_readme_as_a_script_with_warnings_as_errors_says_nothing() -> None:
    script = """
        import massive_lab as ml
        with ml.connect("sandbox") as lab, lab.live(["AAPL", "I:SPX"]) as live:
            bars = lab.bars(["AAPL", "I:SPX"], "5m", "2018-12-18", "2018-12-19")
            bars.with_columns(ml.ema("close", period=20), ml.rsi("close", period=14)).tail(2)
            assert lab.regime(as_of="2018-12-18").label == "risk_off"
            live.wait_live(timeout=30)
            for trade in live.trades("AAPL"):
                assert trade.price > 0
                break
            assert live.trades("AAPL").frame().width and live.topics().height == 5
            ml.check(bars)
            x = ml.indicators.apply(bars, ["ema_20", "rsi_14", "atr_14", "macd_12_26_9"])
            assert sum(1 for _ in ml.replay(bars)) == bars.height == x.height
            assert lab.load_report().failed == 0
        """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_notebook_whose_own_loop_is_running(sandbox: SandboxProcess) -> None:
    urls = {name: getattr(sandbox, name) for name in ("rest_url", "ws_url", "control_url")}
    control = f"SandboxControl({urls['control_url']!r})"
    source = f"""
        import massive_lab as ml
        from massive_lab.sandbox.client import SandboxControl
        lab = ml.connect("sandbox", sandbox={urls!r})
        # %%
        import asyncio
        assert asyncio.get_running_loop().is_running()
        assert lab.bars("AAPL", "5m", "2018-12-18", "2018-12-19").height
        # %%
        live = lab.live("AAPL").wait_live(30)
        waiting = asyncio.ensure_future(anext(live.trades()))
        await asyncio.sleep(0)
        step = asyncio.create_task(asyncio.to_thread({control}.jump, 60))
        assert (await waiting).symbol == "AAPL"
        await step
        # %%
        async with ml.aconnect("sandbox", sandbox={urls!r}) as other:
            assert (await other.bars("AAPL", "1d", "2018-12-10", "2018-12-15")).height == 5
        # %%
        lab.close()
        import threading
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("massive_lab")]
        """
    cells = textwrap.dedent(source).split("# %%")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    assert [output for cell in notebook.cells for output in cell.outputs if output.output_type == "stream"] == []


def test_threads_share_a_client_and_get_the_same(lab: ml.Lab[pl.DataFrame]) -> None:
    frames: list[pl.DataFrame] = []
    start = threading.Barrier(6)

    def load() -> None:
        start.wait()
        frames.append(lab.bars(["AAPL", "MSFT"], "5m", DAY, NEXT))

    threads = [threading.Thread(target=load) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert len(frames) == 6
    assert all(frame.equals(frames[0]) for frame in frames)


def test_pandas_all_the_way(sandbox: SandboxProcess) -> None:
    with ml.connect("sandbox", sandbox=sandbox, frame="pandas", progress=False) as lab:
        bars = lab.bars(["AAPL", "I:SPX"], "5m", DAY, NEXT)
        assert isinstance(bars, pd.DataFrame)
        assert isinstance(lab.bars("AAPL", "1d", DAY, NEXT, frame="polars"), pl.DataFrame)
        ml.check(bars)
        x = ml.indicators.apply(bars, ["ema_20", "atr_14"])
        assert isinstance(x, pd.DataFrame)
        assert sum(1 for _ in ml.replay(bars)) == len(x)
        assert lab.bars("AAPL", "1m", "2018-12-15", "2018-12-17").empty


def test_every_way_to_name_symbols_gives_the_same(lab: ml.Lab[pl.DataFrame]) -> None:
    expected = lab.bars(["AAPL", "MSFT"], "1d", DAY, NEXT)
    names = ["MSFT", "AAPL", "MSFT"]
    for given in (names, tuple(names), set(names), pl.Series(names), pd.Series(names), (name for name in names)):
        assert lab.bars(given, "1d", DAY, NEXT).equals(expected)  # type: ignore[arg-type]


def test_six_hundred_symbols(lab: ml.Lab[pl.DataFrame]) -> None:
    contracts = lab.contracts("I:SPX")["contract"].to_list()[:600]
    before = lab.load_report().requests
    assert lab.snapshot(contracts)["symbol"].to_list() == sorted(contracts)
    assert lab.load_report().requests - before == 3


@pytest.mark.parametrize(
    ("symbol", "hint"), [("aapl", "'AAPL'"), ("C:EURUSD", "Only stocks"), ("O:AAPL190118C115", "YYMMDD")]
)
def test_a_mistyped_symbol_is_told_what_to_write(lab: ml.Lab[pl.DataFrame], symbol: str, hint: str) -> None:
    for use in (lambda: lab.bars(symbol, "1d", DAY, NEXT), lambda: lab.live([symbol]), lambda: lab.chain(symbol)):
        with pytest.raises(UnknownSymbol) as caught:
            use()
        assert hint in str(caught.value)


def test_a_closed_market_is_not_an_unknown_symbol(lab: ml.Lab[pl.DataFrame]) -> None:
    with pytest.raises(UnknownSymbol, match="market was closed"):
        lab.open_close("AAPL", "2018-12-15")
    with pytest.raises(UnknownSymbol, match="spelling"):
        lab.open_close("NOSUCH", "2018-12-15")
    assert lab.bars("AAPL", "1m", "2018-12-15", "2018-12-17").is_empty()


def test_errors_and_frames_survive_pickling(lab: ml.Lab[pl.DataFrame]) -> None:
    with pytest.raises(UnknownSymbol) as caught:
        lab.bars("NOSUCH", "1d", DAY, NEXT)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again), vars(again)) == (UnknownSymbol, str(caught.value), vars(caught.value))
    frame = lab.bars("AAPL", "1d", DAY, NEXT)
    assert pickle.loads(pickle.dumps(frame)).equals(frame)
    with pytest.raises(TypeError, match="Secret"):
        pickle.dumps(lab)


@pytest.mark.parametrize("indicators", [None, 3, "ema_20", ["nope_3"], ["ema_0"], [None]])
def test_bad_indicators_are_refused(lab: ml.Lab[pl.DataFrame], indicators: Any) -> None:
    with pytest.raises(InvalidRequest):
        ml.indicators.apply(lab.bars("AAPL", "5m", DAY, NEXT), indicators)


def test_odd_indicator_arguments(lab: ml.Lab[pl.DataFrame]) -> None:
    bars = lab.bars("AAPL", "5m", DAY, NEXT)
    assert ml.indicators.apply(bars, ["ema_20", "ema_20"]).columns == [*bars.columns, "ema_20"]
    with pytest.raises(InvalidRequest, match="not a column"):
        ml.ema(None, period=3)  # type: ignore[arg-type]
    for broken, rule in ((bars.reverse(), "sorted"), (bars.with_columns(high=pl.col("low") - 1), "ohlc")):
        with pytest.raises(FrameInvariantError) as caught:
            ml.check(broken)
        assert caught.value.rule == rule


def test_clients_and_feeds_share_one_subscription(sandbox: SandboxProcess) -> None:
    control = sandbox.control
    control.reset_counts()
    with (
        ml.connect("sandbox", sandbox=sandbox) as one,
        ml.connect("sandbox", sandbox=sandbox) as two,
        one.live(["AAPL", "MSFT"], ["T"]) as first,
        two.live(["AAPL", "AAPL"], ["T"]) as second,
    ):
        first.wait_live(PATIENCE_S)
        second.wait_live(PATIENCE_S)
        counted = control.counts()["ws"]["stocks"]
        assert (counted["opened"], counted["subscribe_params"]) == (1, 2)
        rows = second.topics()
        assert rows["topic"].to_list() == ["T.AAPL"]
        assert rows["duplicates_avoided"].to_list() == [1]
        first.close()
        with pytest.raises(Timeout):
            second.trades().get(timeout=0)
        control.jump(60)
        assert second.trades().frame().height > 0


def test_a_refused_key_ends_waiting_and_reading(sandbox: SandboxProcess) -> None:
    with ml.connect("sandbox", sandbox=sandbox, api_key="nobody") as lab, lab.live("AAPL") as live:
        with pytest.raises(Unauthorized):
            live.wait_live()
        with pytest.raises((Unauthorized, SubscriptionFailed)):
            live.trades().get(timeout=PATIENCE_S)
        assert any(isinstance(error, Unauthorized) for error in live.errors)


def test_a_reader_keeps_its_session_and_client(sandbox: SandboxProcess) -> None:
    reader = ml.connect("sandbox", sandbox=sandbox).live("AAPL", "T").trades()
    gc.collect()
    got: list[str] = []
    thread = threading.Thread(target=lambda: got.append(reader.get(timeout=PATIENCE_S).symbol))
    thread.start()
    while thread.is_alive():
        sandbox.control.jump(5)
    assert got == ["AAPL"]


def test_readers_in_other_loops_and_threads_end_with_the_feed(
    lab: ml.Lab[pl.DataFrame], sandbox: SandboxProcess
) -> None:
    live = lab.live(["AAPL"], "T").wait_live(PATIENCE_S)
    ended: list[int] = []
    reading = threading.Barrier(3)

    def in_a_thread() -> None:
        reader = live.trades()
        reading.wait()
        ended.append(sum(1 for _ in reader))

    async def in_a_loop() -> None:
        reader = live.trades()
        await asyncio.to_thread(reading.wait)
        ended.append(sum([1 async for _ in reader]))

    threads = [threading.Thread(target=in_a_thread), threading.Thread(target=lambda: asyncio.run(in_a_loop()))]
    for thread in threads:
        thread.start()
    reading.wait()
    live.close()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert ended == [0, 0]


def test_no_key_anywhere(
    sandbox: SandboxProcess, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    canary = "canary" + os.urandom(8).hex()
    sandbox.control.add_account(canary)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MASSIVE_REST_URL", sandbox.rest_url)
    monkeypatch.setenv("MASSIVE_WS_URL", sandbox.ws_url)
    seen: list[str] = []

    def refused(use: Any) -> None:
        with pytest.raises(MassiveLabError) as caught:
            use()
        error = caught.value
        trace = traceback.TracebackException.from_exception(error, capture_locals=True)
        # The locals of the library's frames: those of the test hold the canary of course.
        trace.stack[:] = [frame for frame in trace.stack if "massive_lab" in Path(frame.filename).parts]
        seen.extend([repr(error), str(error), repr(vars(error)), *trace.format()])

    with caplog.at_level(1):
        for key in (canary, canary[:-1] + "X"):
            monkeypatch.setenv("MASSIVE_API_KEY", key)
            with ml.connect(progress=False) as lab, lab.live("AAPL") as live:
                seen += [repr(lab), repr(lab.settings), repr(vars(lab)), repr(vars(lab._session))]
                if key == canary:
                    lab.bars("AAPL", "1d", DAY, NEXT)
                    live.wait_live(PATIENCE_S)
                else:
                    refused(lambda live=live: live.wait_live(PATIENCE_S))
                refused(lambda lab=lab: lab.bars("NOSUCH", "1d", DAY, NEXT))
                seen += [repr(live), repr(live.errors), str(live.status())]
        for key in (canary + "\n", canary + "é"):
            refused(lambda key=key: ml.connect(api_key=key))
            refused(lambda key=key: ml.connect("sandbox", api_key=key))
    assert logging.getLogger("httpx2").isEnabledFor(logging.DEBUG) or caplog.records
    assert canary[:-1] not in caplog.text
    assert [text for text in seen if canary[:-1] in text] == []


def test_user_code_type_checks(tmp_path: Path) -> None:
    script = """
        import polars as pl
        import massive_lab as ml


        def main() -> None:
            with ml.connect("sandbox") as lab, lab.live(["AAPL"]) as live:
                typed: ml.Lab[pl.DataFrame] = lab
                frame: pl.DataFrame = typed.bars(["AAPL"], "5m", "2018-12-18", "2018-12-19")
                close: float = next(iter(ml.replay(ml.indicators.apply(frame, ["ema_20"])))).close
                for trade in live.trades("AAPL"):
                    price: float = trade.price + close
                    print(price, lab.regime().label.upper(), lab.load_report().requests + 1)


        async def amain() -> None:
            async with ml.aconnect("sandbox") as lab:
                frame: pl.DataFrame = await lab.chain("AAPL", option_type="call")
                print(frame)
                async for quote in lab.live("AAPL").quotes():
                    print(quote.bid_price)
        """
    path = tmp_path / "user.py"
    path.write_text(textwrap.dedent(script))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--cache-dir", str(tmp_path), str(path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stdout
