"""No trade lost, for as long as you like: ``python -m soak.live [--seconds 600] [--rate 50000]``.

A server in a process of its own sends numbered trades of 50 symbols over loopback. They go through the socket, the hub, a
rolling table and two readers: an iterator in a thread, and a callback. Each checks that every symbol's numbers go up by
one, from the first to the last that the server says it sent. A line a minute: events/s, how late an event reached the
iterator (p50 and p99), resident memory, events dropped. Exit status 1 when anything is missing, came twice or out of order.
"""

from __future__ import annotations

import argparse
import multiprocessing
import signal
import statistics
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

from massive_lab.clock import SystemClock
from massive_lab.config import Secret, Settings
from massive_lab.decode.stream import Trade
from massive_lab.live.policy import Policy
from massive_lab.live.read.mailbox import EVENT_BYTES
from massive_lab.live.read.reader import Reader
from massive_lab.live.session import Live
from massive_lab.schema.symbols import parse_many
from massive_lab.telemetry import Telemetry
from massive_lab.transports.runner import Runner
from soak.server import SYMBOLS
from soak.server import main as serve

LINE_S = 60.0
GROWTH = 1.5
"""Resident memory at the end, as a multiple of that once the tables are full: more is a leak. What a machine that stood still
made wait in the two mailboxes comes on top, for an allocator does not give it back."""


class Checker:
    """Follows the numbers of each symbol."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.numbers: dict[str, int] = {}
        self.n = 0
        self.faults: list[str] = []
        self.n_faults = 0
        self.lags: deque[float] = deque(maxlen=200_000)
        self.worst_ms = 0.0

    def take(self, trade: Trade) -> None:
        self.n += 1
        last, number = self.numbers.get(trade.symbol, 0), trade.sequence or 0
        if number != last + 1:
            self.n_faults += 1
            if len(self.faults) < 20:
                self.faults.append(f"{self.name}: {trade.symbol} {last} -> {number}")
        self.numbers[trade.symbol] = number
        if not self.n % 64:
            lag_ms = (time.time_ns() - (trade.participant or 0)) / 1e6
            self.lags.append(lag_ms)
            self.worst_ms = max(self.worst_ms, lag_ms)


def rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4_096 / 2**20


def run(seconds: float, rate: int) -> int:
    here, there = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    server = context.Process(target=serve, args=(there, rate), name="soak-server")
    server.start()
    there.close()  # the server's: should it die, waiting for its word ends
    stop = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        return _soak(here, seconds, rate, stop)
    finally:
        signal.signal(signal.SIGINT, before)
        here.close()
        server.join(10)
        if server.is_alive():
            server.kill()
            server.join()


def _soak(pipe: Any, seconds: float, rate: int, stop: threading.Event) -> int:
    port = pipe.recv()
    settings = Settings(Secret("soak"), ws_url=f"ws://127.0.0.1:{port}")
    policy = Policy(table_rows=200_000, mailbox_events=4 * rate, mailbox_bytes=None)
    symbols = parse_many(SYMBOLS)
    iterated, called, early = Checker("iterator"), Checker("callback"), Checker("table")
    with Runner("soak") as runner:
        live = Live(settings, runner, Telemetry(), SystemClock(), None, symbols, ("T",), policy=policy)
        reader, other = live.trades(), live.trades()
        callback = other.on(called.take)
        thread = threading.Thread(target=_read, args=(reader, iterated), name="soak-iterator")
        thread.start()
        live.wait_live(30.0)
        while live.topics()["readers"].to_list() != [3] * len(SYMBOLS):  # the session, the iterator, the callback
            time.sleep(0.01)
        pipe.send("go")
        print(f"{len(SYMBOLS)} symbols, {rate:,} events/s asked for, {seconds:g} s; SYNTHETIC trades over loopback", flush=True)
        full_mb = _watch(live, iterated, called, reader, other, seconds, stop)
        pipe.send("stop")
        report = pipe.recv()
        _drain(report["sent"], (iterated, called))
        dropped = reader.n_dropped + other.n_dropped
        frame = live.trades().frame()
        for symbol, number in frame.select("symbol", "sequence").iter_rows():
            last = early.numbers.get(symbol)
            if last is not None and number != last + 1:
                early.n_faults += 1
                early.faults.append(f"table: {symbol} {last} -> {number}")
            early.numbers[symbol] = number
        early.n = frame.height
        live.close()
        thread.join(30)
        callback.close()
        pipe.send("done")
    waited_mb = sum(checker.worst_ms for checker in (iterated, called)) / 1e3 * rate * EVENT_BYTES[Trade] / 2**20
    return _verdict(report, (iterated, called, early), dropped, rss_mb(), full_mb, waited_mb)


def _read(reader: Reader[Trade], checker: Checker) -> None:
    for trade in reader:
        checker.take(trade)


def _watch(
    live: Live, iterated: Checker, called: Checker, reader: Any, other: Any, seconds: float, stop: threading.Event
) -> float:
    start = line_at = time.monotonic()
    n_before, full_mb = 0, 0.0
    while (elapsed := time.monotonic() - start) < seconds and not stop.is_set():
        stop.wait(min(LINE_S - (time.monotonic() - line_at), seconds - elapsed, 1.0))
        if elapsed > min(20.0, seconds / 2) and not full_mb:
            full_mb = rss_mb()  # the tables are full: from here on nothing may grow
        if time.monotonic() - line_at >= LINE_S or time.monotonic() - start >= seconds or stop.is_set():
            span, line_at = time.monotonic() - line_at, time.monotonic()
            lags = sorted(iterated.lags) or [0.0]
            iterated.lags.clear()
            status = live.status().row(0, named=True)
            print(
                f"{time.monotonic() - start:7.0f} s  {(iterated.n - n_before) / span:9,.0f} events/s  "
                f"lag p50 {statistics.median(lags):7.1f} ms  p99 {lags[int(len(lags) * 0.99)]:7.1f} ms  "
                f"rss {rss_mb():6.0f} MB  drops {reader.n_dropped + other.n_dropped}  "
                f"faults {iterated.n_faults + called.n_faults}  quarantined {status['quarantined']}",
                flush=True,
            )
            n_before = iterated.n
    return full_mb


def _drain(sent: dict[str, int], checkers: tuple[Checker, ...]) -> None:
    """What was sent is on its way: until it is there, or nothing comes any more."""
    n_sent, idle_s, n_seen = sum(sent.values()), 0.0, -1
    while any(checker.n < n_sent for checker in checkers) and idle_s < 10.0:
        n_now = sum(checker.n for checker in checkers)
        idle_s = 0.0 if n_now != n_seen else idle_s + 0.1
        n_seen = n_now
        time.sleep(0.1)


def _verdict(
    report: dict[str, Any],
    checkers: tuple[Checker, ...],
    dropped: int,
    end_mb: float,
    full_mb: float,
    waited_mb: float,
) -> int:
    sent = report["sent"]
    wrong = [fault for checker in checkers for fault in checker.faults]
    for checker in checkers:
        ends = {symbol: (number, checker.numbers.get(symbol)) for symbol, number in sent.items()}
        wrong += [f"{checker.name}: {s} ends at {b} of {a}" for s, (a, b) in ends.items() if a != b]
    if dropped:
        wrong.append(f"{dropped} events dropped")
    if full_mb and end_mb > GROWTH * full_mb + waited_mb:
        wrong.append(f"memory grew from {full_mb:.0f} to {end_mb:.0f} MB")
    n_sent = sum(sent.values())
    got = ", ".join(f"{checker.name} {checker.n:,}" for checker in checkers)
    print(f"sent {n_sent:,}; {got}; the server was behind its pace by {report['behind_s']:.2f} s at most")
    print(f"memory {full_mb:.0f} MB with full tables, {end_mb:.0f} MB at the end; at most {waited_mb:.0f} MB waited to be read")
    for line in wrong[:20]:
        print(f"  {line}")
    print("verdict: no trade lost" if n_sent and not wrong else "verdict: LOST or wrong")
    return 0 if n_sent and not wrong else 1


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--rate", type=int, default=50_000)
    options = parser.parse_args(argv)
    return run(options.seconds, options.rate)


if __name__ == "__main__":
    sys.exit(main())
