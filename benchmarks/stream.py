"""From the bytes of a WebSocket frame to a table, against the official client on the same frames in the same run.

Ours: typed decoding, the memory of what was delivered (for the stitch after a gap), routing, counting, a rolling table, and
at the end the table as Polars: what waits is converted before the clock stops. Theirs: ``json.loads`` and the client's own
`parse`, into a deque; and a second time with a Polars frame made of that deque at the end, column by column, which is the
fastest plain way there is. All see every event; the prices are compared before anything is timed.

Then: the same frames over a loopback socket; through a mailbox to a reader that takes each event; the last 100,000 ticks as
a frame; the time from the server's send to the user's thread; the memory of 1,000 topics.

Run: ``python benchmarks/stream.py [--frames 10000] [--rounds 5]``
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import random
import statistics
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
from massive.websocket import parse
from massive.websocket.models import Market
from websockets.asyncio.client import connect as plain_connect
from websockets.asyncio.server import serve

from massive_lab.clock import SystemClock
from massive_lab.config import Secret
from massive_lab.live.hub import Hub
from massive_lab.live.read.mailbox import Mailbox
from massive_lab.live.read.tables import RollingTable
from massive_lab.live.topics import Topic, kind_of
from massive_lab.transports.runner import Runner
from massive_lab.transports.websocket import connect

TARGET = 5.0
EVENTS_A_FRAME = 10
_log = logging.getLogger("benchmark")
_SYMBOLS = ("AAPL", "MSFT", "SPY", "NVDA", "TSLA", "AMD", "META", "QQQ")


def event(channel: str, rng: random.Random, i: int) -> dict[str, object]:
    symbol, price = rng.choice(_SYMBOLS), round(rng.uniform(100, 500), 2)
    ms = 1_750_000_000_000 + i
    if channel == "T":
        return {
            "ev": "T", "sym": symbol, "x": rng.randrange(1, 20), "i": str(rng.randrange(10**6)), "z": 3, "p": price,
            "s": rng.randrange(1, 500), "c": [14, 41], "t": ms, "q": 3_681_328 + i,
        }  # fmt: skip
    if channel == "Q":
        return {
            "ev": "Q", "sym": symbol, "bx": 4, "bp": price, "bs": 100, "ax": 7, "ap": price + 0.01, "as": 160, "c": 0,
            "i": [604], "t": ms, "q": 50_385_480 + i, "z": 3,
        }  # fmt: skip
    return {
        "ev": "A", "sym": symbol, "v": 4110, "av": 9_470_157, "op": 0.4372, "vw": price, "o": price, "c": price,
        "h": price, "l": price, "a": price, "z": 685, "s": 1_750_000_000_000 + i * 1_000, "e": 1_750_000_001_000 + i * 1_000,
    }  # fmt: skip


def make_frames(channels: str, n: int) -> list[bytes]:
    rng = random.Random(7)
    frames = []
    for i in range(n):
        items = [event(rng.choice(channels), rng, i * EVENTS_A_FRAME + k) for k in range(EVENTS_A_FRAME)]
        frames.append(json.dumps(items, separators=(",", ":")).encode())
    return frames


def make_hub(channels: str, max_rows: int = 200_000) -> tuple[Hub, dict[str, RollingTable]]:
    """A hub whose feed never starts: frames are handed to it as the socket's reader would."""
    hub = Hub("stocks", "ws://127.0.0.1:1/stocks", Secret("none"), clock=SystemClock())
    tables = {channel: RollingTable(kind_of(channel), max_rows=max_rows) for channel in channels}
    hub.tasks.start = lambda *_, **__: None  # type: ignore[assignment, return-value]
    hub.gaps.is_online = True
    for channel, table in tables.items():
        for symbol in _SYMBOLS:
            hub.open(Topic("stocks", channel, symbol), [table])
    return hub, tables


def ours(frames: list[bytes], channels: str) -> dict[str, RollingTable]:
    hub, tables = make_hub(channels)
    for frame in frames:
        hub.frame(frame)
    for table in tables.values():
        table.frame()
    return tables


def theirs(frames: list[bytes]) -> deque[object]:
    kept: deque[object] = deque(maxlen=200_000)
    for frame in frames:
        kept.extend(parse(json.loads(frame), _log, Market.Stocks))
    return kept


def theirs_as_frame(frames: list[bytes]) -> pl.DataFrame:
    kept = theirs(frames)
    by_type: dict[type, list[object]] = {}
    for item in kept:
        by_type.setdefault(type(item), []).append(item)
    made = [
        pl.DataFrame({name: [getattr(item, name) for item in items] for name in vars(items[0])}, strict=False)
        for items in by_type.values()
    ]
    return made[0]


def through_a_mailbox(frames: list[bytes], channels: str) -> int:
    """The same with a reader that takes every event, as an iterator does."""
    hub, _ = make_hub(channels)
    box = Mailbox("benchmark")
    for channel in channels:
        for symbol in _SYMBOLS:
            hub.open(Topic("stocks", channel, symbol), [box])
    n = 0
    for number, frame in enumerate(frames):
        hub.frame(frame)
        if not number % 10:
            for _ in range(len(box)):
                box.get(0)
                n += 1
    return n


def seconds(work: Callable[[], object]) -> float:
    gc.collect()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


class Compared(NamedTuple):
    """Medians over the rounds; ratios are medians of the rounds' own ratios, for other load falls on both sides alike."""

    ours: float
    theirs: float
    framed: float
    """Theirs, with a frame at the end."""
    ratio: float
    ratio_framed: float
    spread: tuple[float, float]
    """Smallest and largest ratio."""


def compare(frames: list[bytes], channels: str, rounds: int) -> Compared:
    ours(frames[:200], channels)
    theirs_as_frame(frames[:200])
    works = (lambda: ours(frames, channels), lambda: theirs(frames), lambda: theirs_as_frame(frames))
    taken = [tuple(seconds(work) for work in works) for _ in range(rounds)]
    n = len(frames) * EVENTS_A_FRAME / 1e6
    mine, other, framed = (n / statistics.median(side) for side in zip(*taken, strict=True))
    ratios = sorted(b / a for a, b, _ in taken)
    ratio_framed = statistics.median(c / a for a, _, c in taken)
    return Compared(mine, other, framed, statistics.median(ratios), ratio_framed, (ratios[0], ratios[-1]))


async def over_socket(frames: list[bytes], channels: str) -> tuple[float, float, float]:
    """M events/s from a loopback socket: ours, the plain library with the official parsing, and the plain library alone."""

    async def feed(connection: object) -> None:
        for frame in frames:
            await connection.send(frame)  # type: ignore[attr-defined]
        await connection.wait_closed()  # type: ignore[attr-defined]

    n = len(frames) * EVENTS_A_FRAME
    async with serve(feed, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
        url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/x"
        hub, tables = make_hub(channels)
        mine = await connect(url)
        start = time.perf_counter()
        for _ in frames:
            hub.frame(await mine.recv())
        for table in tables.values():
            table.frame()
        first = n / (time.perf_counter() - start) / 1e6
        await mine.close()
        kept: deque[object] = deque(maxlen=200_000)
        async with plain_connect(url, compression=None) as other:
            start = time.perf_counter()
            for _ in frames:
                kept.extend(parse(json.loads(await other.recv()), _log, Market.Stocks))
            second = n / (time.perf_counter() - start) / 1e6
        async with plain_connect(url, compression=None) as bare:
            start = time.perf_counter()
            for _ in frames:
                await bare.recv()
            third = n / (time.perf_counter() - start) / 1e6
    return first, second, third


def latencies_us(n_frames: int, gap_s: float) -> list[float]:
    """From the server's send to the return of a blocking ``get`` in the user's thread, for each frame of 10 trades, sorted.

    The server, the loop thread and the reader are three threads of one process.
    """
    frames = make_frames("T", n_frames)
    sent: list[float] = []
    hub, _ = make_hub("T")
    box = Mailbox("latency")
    for symbol in _SYMBOLS:
        hub.open(Topic("stocks", "T", symbol), [box])

    async def feed(connection: Any) -> None:
        for frame in frames:
            await asyncio.sleep(gap_s)
            sent.append(time.perf_counter())
            await connection.send(frame)
        await connection.wait_closed()

    async def serving() -> Any:
        return await serve(feed, "127.0.0.1", 0, compression=None, ping_interval=None)

    async def read(url: str) -> None:
        socket = await connect(url)
        for _ in frames:
            hub.frame(await socket.recv())
        await socket.close()

    async def stop(server: Any) -> None:
        server.close()
        await server.wait_closed()

    with Runner("benchmark-server") as upstream, Runner("benchmark-io") as io:
        server = upstream.call(serving())
        reading = io.submit(read(f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/x"))
        took = []
        for number in range(n_frames):
            for place in range(EVENTS_A_FRAME):
                box.get(30.0)
                if not place:
                    took.append((time.perf_counter() - sent[number]) * 1e6)
        reading.finished.wait(30.0)
        upstream.call(stop(server))
    return sorted(took)


def megabytes() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def memory_of_topics(n_topics: int, n_rows: int) -> tuple[float, float]:
    """Megabytes that the topics cost before any event, and in all once their table is full."""
    before = megabytes()
    hub, _ = make_hub("")
    table = RollingTable("trades", max_rows=n_rows)
    symbols = [f"S{i}" for i in range(n_topics)]
    for symbol in symbols:
        hub.open(Topic("stocks", "T", symbol), [table])
    opened = megabytes() - before
    for start in range(0, 2 * n_rows, EVENTS_A_FRAME):
        row = {"ev": "T", "x": 4, "z": 3, "p": 100.25, "s": 100, "c": [14, 41]}
        items = [
            {**row, "sym": symbols[i % n_topics], "i": str(i), "t": 1_750_000_000_000 + i, "q": i}
            for i in range(start, start + EVENTS_A_FRAME)
        ]
        hub.frame(json.dumps(items).encode())
    assert table.frame().height == n_rows
    gc.collect()
    return opened, megabytes() - before


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(argv)
    n_frames, rounds = options.frames, options.rounds

    check = make_frames("T", 200)
    prices = ours(check, "T")["T"].frame()["price"].to_list()
    assert prices == [trade.price for trade in theirs(check)], "the two sides do not read the same prices"
    assert prices == theirs_as_frame(check)["price"].to_list(), "the two frames do not hold the same prices"

    print(f"bytes to table, {n_frames} frames x {EVENTS_A_FRAME} events, median of {rounds}, M events/s")
    print(f"{'':6}{'ours':>8}{'official':>10}{'ratio':>8}{'smallest, largest':>20}{'official + frame':>18}{'ratio':>8}")
    ratios = {}
    for name, channels in (("T", "T"), ("Q", "Q"), ("A", "A"), ("mix", "TQA")):
        got = compare(make_frames(channels, n_frames), channels, rounds)
        ratios[name] = got.ratio
        low, high = got.spread
        print(
            f"{name:6}{got.ours:8.2f}{got.theirs:10.3f}{got.ratio:7.1f}x{f'{low:.1f}x, {high:.1f}x':>20}"
            f"{got.framed:18.3f}{got.ratio_framed:7.1f}x"
        )

    frames = make_frames("TQA", n_frames)
    pairs = [asyncio.run(over_socket(frames, "TQA")) for _ in range(rounds)]
    mine, other, bare = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b, _ in pairs)
    print(f"\nloopback socket in front, server in the same process, mix: {mine:.2f} against {other:.3f}, {ratio:.1f}x")
    print(f"the bare socket library, reading and nothing else: {bare:.2f}")

    taken = [seconds(lambda: through_a_mailbox(frames, "TQA")) for _ in range(rounds)]
    per_event = n_frames * EVENTS_A_FRAME / statistics.median(taken) / 1e6
    print(f"through the tables and a mailbox to a reader that takes each event, mix: {per_event:.2f} M events/s")

    hub, tables = make_hub("T", max_rows=100_000)
    table = tables["T"]
    coming = make_frames("T", 12_000 + 11 * rounds)
    for frame in coming[:12_000]:
        hub.frame(frame)
    times = []
    for number in range(rounds + 1):
        for frame in coming[12_000 + 10 * number : 12_010 + 10 * number]:
            hub.frame(frame)
        start = time.perf_counter()
        frame_now = table.frame()
        times.append((time.perf_counter() - start) * 1e3)
    assert frame_now.height == 100_000
    print(
        f"100,000 ticks to Polars, all {frame_now.width} columns, 100 new ones since the last read: "
        f"{statistics.median(times[1:]):.2f} ms, {times[0]:.2f} ms the first time"
    )

    took = latencies_us(1_000, 0.002)
    p50, p99 = took[len(took) // 2], took[len(took) * 99 // 100]
    print(f"server's send to the user's thread, 5,000 trades/s: p50 {p50:.0f} us, p99 {p99:.0f} us")

    opened, full = memory_of_topics(1_000, 200_000)
    print(
        f"1,000 topics: {opened:.1f} MB; after 400,000 trades, 200,000 of them kept and read as a frame: {full:.0f} MB"
    )

    worst = min(ratios.values())
    print(f"\nsmallest ratio {worst:.1f}x, target {TARGET:g}x: {'met' if worst >= TARGET else 'MISSED'}")
    return 0 if worst >= TARGET else 1


if __name__ == "__main__":
    raise SystemExit(main())
