"""From the bytes of a WebSocket frame to a table, against the official client on the same frames in the same run.

Ours: typed decoding, routing, counting, a rolling table, and at the end the table as Polars: what waits is converted
before the clock stops. Theirs: ``json.loads`` and the client's own `parse`, into a deque. Both see every event; the prices
are compared before anything is timed. A second table sends the frames over a loopback socket first, and a third reads the
last 100,000 ticks as a frame.

Run: ``python benchmarks/stream.py [--frames 2000] [--rounds 5]``
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import random
import statistics
import time
from collections import deque
from collections.abc import Callable

from massive.websocket import parse
from massive.websocket.models import Market
from websockets.asyncio.client import connect as plain_connect
from websockets.asyncio.server import serve

from massive_lab.clock import SystemClock
from massive_lab.config import Secret
from massive_lab.live.hub import Hub
from massive_lab.live.tables import RollingTable
from massive_lab.live.topics import Topic, kind_of
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


def seconds(work: Callable[[], object]) -> float:
    gc.collect()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


async def compare(frames: list[bytes], channels: str, rounds: int) -> tuple[float, float, float]:
    """M events/s of both, and the median of the rounds' ratios.

    The two sides take turns, so that other load on the machine falls on both.
    """
    ours(frames[:200], channels)
    theirs(frames[:200])
    pairs = [(seconds(lambda: ours(frames, channels)), seconds(lambda: theirs(frames))) for _ in range(rounds)]
    n = len(frames) * EVENTS_A_FRAME / 1e6
    mine, other = (n / statistics.median(side) for side in zip(*pairs, strict=True))
    return mine, other, statistics.median(b / a for a, b in pairs)


async def over_socket(frames: list[bytes], channels: str) -> tuple[float, float]:
    """M events/s from a loopback socket: ours, then the plain library with the official parsing."""

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
    return first, second


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args(argv)

    check = make_frames("T", 200)
    prices = ours(check, "T")["T"].frame()["price"].to_list()
    assert prices == [trade.price for trade in theirs(check)], "the two sides do not read the same prices"

    print(f"bytes to table, {options.frames} frames x {EVENTS_A_FRAME} events, median of {options.rounds}, M events/s")
    print(f"{'':6}{'ours':>8}{'official':>10}{'ratio':>8}")
    ratios = {}
    for name, channels in (("T", "T"), ("Q", "Q"), ("A", "A"), ("mix", "TQA")):
        frames = make_frames(channels, options.frames)
        mine, other, ratios[name] = asyncio.run(compare(frames, channels, options.rounds))
        print(f"{name:6}{mine:8.2f}{other:10.3f}{ratios[name]:7.1f}x")

    mine, other = asyncio.run(over_socket(make_frames("TQA", options.frames), "TQA"))
    print(f"\nloopback socket in front, server in the same process, mix: {mine:.2f} against {other:.3f}, {mine / other:.1f}x")

    hub, tables = make_hub("T", max_rows=100_000)
    table = tables["T"]
    for frame in make_frames("T", 12_000):
        hub.frame(frame)
    times = []
    for _ in range(options.rounds):
        hub.frame(check[0])
        start = time.perf_counter()
        frame_now = table.frame()
        times.append((time.perf_counter() - start) * 1e3)
    assert frame_now.height == 100_000
    print(
        f"100,000 ticks to Polars, all {frame_now.width} columns: {statistics.median(times):.2f} ms, "
        f"{times[0]:.2f} ms the first time"
    )

    worst = min(ratios.values())
    print(f"\nsmallest ratio {worst:.1f}x, target {TARGET:g}x: {'met' if worst >= TARGET else 'MISSED'}")
    return 0 if worst >= TARGET else 1


if __name__ == "__main__":
    raise SystemExit(main())
