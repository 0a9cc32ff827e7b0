"""Two gateway processes that share one upstream over a real NATS: one connection at the vendor, no row lost with the leader."""

from __future__ import annotations

import datetime as dt
import os
import signal
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import polars as pl
import pytest

import massive_lab as ml
from massive_lab.gateway.process import GatewayProcess
from massive_lab.sandbox import SandboxProcess
from tests.e2e.nats_server import NatsServer

WAIT_S = 60.0
SYMBOLS = ["SPY", "AAPL"]
TOKEN = "desk-0123456789abcdef"


def until(condition: Callable[[], object], what: str, tell: Callable[[], object] = str) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, f"it never came true: {what} ({tell()})"
        time.sleep(0.05)


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path / "store")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def vendor() -> Iterator[SandboxProcess]:
    with SandboxProcess(seed=11, paused=True) as sandbox:
        yield sandbox


def leads(gateway: GatewayProcess) -> bool:
    with urllib.request.urlopen(f"{gateway.admin_url}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    (line,) = [line for line in text.splitlines() if line.startswith("massive_gateway_bus_led_clusters ")]
    return float(line.split()[1]) == 1


def prints(frame: pl.DataFrame) -> Counter[tuple]:
    return Counter(frame.select("symbol", pl.col("ts_sip").dt.epoch("ms"), "price", "size").rows())


def test_a_killed_leader_costs_no_row_and_the_vendor_sees_one_connection(
    vendor: SandboxProcess, nats: NatsServer
) -> None:
    def upstreams() -> int:
        return sum(each["open"] and each["cluster"] == "stocks" for each in vendor.control.connections())

    with ExitStack() as stack:
        direct = stack.enter_context(ml.connect("sandbox", sandbox=vendor))
        gateways = [
            stack.enter_context(
                GatewayProcess(sandbox=vendor.rest_url, tokens={"desk": TOKEN}, arguments=("--bus", nats.url))
            )
            for _ in range(2)
        ]
        labs = [stack.enter_context(ml.connect(gateway.url, token=TOKEN)) for gateway in gateways]
        lives = [lab.live(SYMBOLS, ["T"]).wait_live(WAIT_S) for lab in labs]
        vendor.control.jump(30.0)
        until(lambda: all(live.trades().frame().height for live in lives), "both replicas serve")
        assert upstreams() == 1
        leader = [leads(gateway) for gateway in gateways].index(True)
        kept, survivor = lives[1 - leader], gateways[1 - leader]

        os.kill(gateways[leader].pid, signal.SIGKILL)
        vendor.control.jump(30.0)  # nobody at the vendor's end hears this
        until(lambda: leads(survivor) and upstreams() == 1, "the other leads")
        until(lambda: kept.status()["serving"].to_list() == ["stream"], "the stream is back", kept.status)

        vendor.control.jump(30.0)  # the stitch looks for the end of a gap in what is streamed after it

        def caught_up() -> bool:
            frame = kept.trades().frame()
            start, end = frame["ts_sip"].min(), frame["ts_sip"].max()
            return prints(frame) == prints(direct.trades(SYMBOLS, _ms(start), _ms(end) + dt.timedelta(milliseconds=1)))

        until(caught_up, "every print of the history, once", kept.gaps)
        assert set(kept.trades().frame()["source"]) >= {"stream", "backfill"}


def _ms(moment: dt.datetime) -> dt.datetime:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
