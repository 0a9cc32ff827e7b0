"""The live system end to end, against the official client and the bare WebSocket library on the same server in the same run.

A server in a process of its own speaks the vendor's wire over loopback. Three clients connect to it one after the other, each
with its own handshake, and each event is handed to a function of the user's: ours through the hub, a rolling table and a
reader; the official `WebSocketClient`; and `websockets` with ``json.loads``. Before anything is timed, the prices that each
hands over are compared. Then: events for each second of the client's processor time when the server sends as fast as it can
(the server is slower than the fastest client, so the wall would measure the server); latency from the server's send to the user's
function at a steady pace; and what 1,000 topics hold in memory.

Run: ``python -m benchmarks.live [--frames 2000] [--rounds 5]``
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import multiprocessing
import statistics
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from massive import WebSocketClient
from websockets.asyncio.client import connect as plain_connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from massive_lab.clock import SystemClock
from massive_lab.config import Secret
from massive_lab.live.hub import Hub
from massive_lab.live.read.mailbox import Mailbox
from massive_lab.live.read.tables import RollingTable
from massive_lab.live.readers import Listener
from massive_lab.live.topics import Topic

SYMBOLS = ("AAPL", "MSFT", "SPY", "NVDA", "TSLA", "AMD", "META", "QQQ")
A_FRAME = 10
PACE_S = 0.005
N_TOPICS = 1_000
# At ten events a frame the socket library takes about half of our time: without it, the ratio is that of benchmarks/stream.py.
TARGET = 2.0


def make_frame(k: int, ns: int) -> bytes:
    events = []
    for i in range(k * A_FRAME, (k + 1) * A_FRAME):
        symbol = SYMBOLS[i % len(SYMBOLS)]
        price = 100 + i % 9_973 / 100
        events.append(
            f'{{"ev":"T","sym":"{symbol}","x":4,"i":"{i}","z":3,"p":{price},"s":100,"c":[14,41],'
            f'"t":{ns // 10**6},"pt":{ns},"q":{i}}}'
        )
    return ("[" + ",".join(events) + "]").encode()


def server(pipe: Connection) -> None:
    asyncio.run(_serve(pipe))


async def _serve(pipe: Connection) -> None:
    """After each subscription to all symbols, one run; how many frames and how fast is the key that the client shows."""
    made = [make_frame(k, 1_750_000_000_000_000_000 + k) for k in range(20_000)]

    async def talk(connection: ServerConnection) -> None:
        n_frames, pace_s, held = 0, 0.0, set()
        await _say(connection, ("connected", "Connected Successfully"))
        with suppress(ConnectionClosed):
            async for text in connection:
                message = json.loads(text)
                if message["action"] == "auth":
                    n, pace = message["params"].split(":")
                    n_frames, pace_s = int(n), float(pace)
                    await _say(connection, ("auth_success", "authenticated"))
                elif message["action"] == "subscribe":
                    wires = message["params"].split(",")
                    held.update(wires)
                    await _say(connection, *(("success", f"subscribed to: {wire}") for wire in wires))
                    if len(held) == len(SYMBOLS):
                        start = time.perf_counter()
                        for k in range(n_frames):
                            if pace_s:
                                await asyncio.sleep(max(0.0, start + k * pace_s - time.perf_counter()))
                            await connection.send(make_frame(k, time.time_ns()) if pace_s else made[k], text=True)

    async with serve(talk, "127.0.0.1", 0, compression=None, ping_interval=None) as running:
        pipe.send(next(iter(running.sockets)).getsockname()[1])
        with suppress(EOFError):
            await asyncio.get_running_loop().run_in_executor(None, pipe.recv)


async def _say(connection: ServerConnection, *statuses: tuple[str, str]) -> None:
    await connection.send(json.dumps([{"ev": "status", "status": name, "message": text} for name, text in statuses]))


class Taker:
    """The user's function: prices, when the first and the last came, and how late each was."""

    def __init__(self, n: int) -> None:
        self.prices: list[float] = []
        self.late: list[int] = []
        self.first = self.last = 0.0
        self.done = asyncio.Event()
        self._n = n

    def take(self, price: float, sent_ns: int) -> None:
        if not self.prices:
            self.first = time.process_time()
        self.prices.append(price)
        self.late.append(time.time_ns() - sent_ns)
        if len(self.prices) == self._n:
            self.last = time.process_time()
            self.done.set()

    @property
    def rate(self) -> float:
        return len(self.prices) / (self.last - self.first)


async def ours(port: int, n_frames: int, pace_s: float) -> Taker:
    taker = Taker(n_frames * A_FRAME)
    hub = Hub("stocks", f"ws://127.0.0.1:{port}/stocks", Secret(f"{n_frames}:{pace_s}"), clock=SystemClock())
    table, box = RollingTable("trades", max_rows=200_000), Mailbox("benchmark", limit=10**7)
    for symbol in SYMBOLS:
        hub.open(Topic("stocks", "T", symbol), [table, box], Listener())

    async def read() -> None:
        while (event := await box.aget()) is not None:
            taker.take(event.price, event.participant)  # type: ignore[union-attr, arg-type]

    reading = asyncio.create_task(read())
    await taker.done.wait()
    await hub.aclose()
    box.close()
    await reading
    assert table.frame().height == min(200_000, n_frames * A_FRAME)
    return taker


class Batches:
    """A sink as the hub knows them: a frame's events at once, as the official client hands them over."""

    def __init__(self, taker: Taker) -> None:
        self.inbox: list[Any] = []
        self._taker = taker

    def flush(self) -> int:
        take = self._taker.take
        for event in self.inbox:
            take(event.price, event.participant)
        self.inbox.clear()
        return 0


async def routed(port: int, n_frames: int, pace_s: float) -> Taker:
    taker = Taker(n_frames * A_FRAME)
    hub = Hub("stocks", f"ws://127.0.0.1:{port}/stocks", Secret(f"{n_frames}:{pace_s}"), clock=SystemClock())
    sink = Batches(taker)
    for symbol in SYMBOLS:
        hub.open(Topic("stocks", "T", symbol), [sink], Listener())
    await taker.done.wait()
    await hub.aclose()
    return taker


async def official(port: int, n_frames: int, pace_s: float) -> Taker:
    taker = Taker(n_frames * A_FRAME)
    client = WebSocketClient(
        api_key=f"{n_frames}:{pace_s}", feed=f"127.0.0.1:{port}", market="stocks", secure=False,
        subscriptions=[f"T.{symbol}" for symbol in SYMBOLS],
    )  # fmt: skip

    async def take(messages: list[Any]) -> None:
        for message in messages:
            # The client does not know the field of the exact time; the milliseconds are what it gives.
            taker.take(message.price, message.timestamp * 10**6)

    running = asyncio.create_task(client.connect(take))
    await taker.done.wait()
    await client.close()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return taker


async def bare(port: int, n_frames: int, pace_s: float) -> Taker:
    taker = Taker(n_frames * A_FRAME)
    async with plain_connect(f"ws://127.0.0.1:{port}/stocks", compression=None) as socket:
        await socket.recv()
        await socket.send(json.dumps({"action": "auth", "params": f"{n_frames}:{pace_s}"}))
        await socket.recv()
        params = ",".join(f"T.{symbol}" for symbol in SYMBOLS)
        await socket.send(json.dumps({"action": "subscribe", "params": params}))
        while not taker.done.is_set():
            for event in json.loads(await socket.recv(decode=False)):
                if event["ev"] == "T":
                    taker.take(event["p"], event["pt"])
    return taker


SIDES: dict[str, Callable[[int, int, float], Any]] = {
    "decoded and routed": routed,
    "and a reader, a table": ours,
    "official": official,
    "websockets + json": bare,
}


def memory() -> tuple[float, float]:
    """KB a topic: a hub of 1,000 topics with a reader each, confirmed; and after 100 events of each, with their tables."""

    async def measure() -> tuple[float, float]:
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        hub = Hub("stocks", "ws://127.0.0.1:1/stocks", Secret("none"), clock=SystemClock())
        hub.tasks.start = lambda *_, **__: None  # type: ignore[assignment, return-value]
        symbols = [f"{chr(65 + i // 676)}{chr(65 + i // 26 % 26)}{chr(65 + i % 26)}" for i in range(N_TOPICS)]
        table = RollingTable("trades", max_rows=200_000)
        for symbol in symbols:
            hub.open(Topic("stocks", "T", symbol), [table, Mailbox(symbol, limit=10)], Listener())
        gc.collect()
        idle = tracemalloc.get_traced_memory()[0] - before
        for k in range(100):
            ms = 1_750_000_000_000 + k
            hub.frame(json.dumps([{"ev": "T", "sym": s, "p": 1.0, "s": 1, "t": ms, "q": k + 1} for s in symbols]).encode())
        assert table.frame().height == 100 * N_TOPICS
        gc.collect()
        loaded = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        return idle / N_TOPICS / 1e3, loaded / N_TOPICS / 1e3

    return asyncio.run(measure())


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):8.1f} ({min(values):.1f} to {max(values):.1f})"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(argv)
    logging.getLogger("WebSocketClient").setLevel(logging.CRITICAL)
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=server, args=(there,), daemon=True)
    process.start()
    try:
        return _compare(here.recv(), options.frames, options.rounds)
    finally:
        here.send("stop")
        process.join(10)
        process.kill()


def _compare(port: int, n_frames: int, rounds: int) -> int:
    prices = {name: asyncio.run(side(port, 200, 0.0)).prices for name, side in SIDES.items()}
    assert all(found == prices["official"] for found in prices.values()), "the clients do not hand over the same prices"

    print(f"socket to the user's function, {n_frames} frames x {A_FRAME} events, server in another process")
    print(f"median (range) of {rounds}, the clients taking turns\n{'':22}{'thousand events/CPU s':>28}")
    rates: dict[str, list[float]] = {name: [] for name in SIDES}
    for _ in range(rounds):
        for name, side in SIDES.items():
            gc.collect()
            rates[name].append(asyncio.run(side(port, n_frames, 0.0)).rate / 1e3)
    for name, found in rates.items():
        print(f"{name:22}{_spread(found):>28}")

    print(f"\nlatency at {A_FRAME / PACE_S:,.0f} events/s, server's send to the user's function, ms, median of {rounds}")
    print(f"{'':22}{'p50':>10}{'p99':>10}")
    for name, side in SIDES.items():
        runs = [sorted(asyncio.run(side(port, 200, PACE_S)).late) for _ in range(rounds)]
        p50, p99 = (statistics.median(run[int(len(run) * q)] for run in runs) / 1e6 for q in (0.5, 0.99))
        note = "   (from the millisecond the wire states, so up to 1 ms too much)" if name == "official" else ""
        print(f"{name:22}{p50:10.3f}{p99:10.3f}{note}")

    found = [memory() for _ in range(3)]
    idle, loaded = (statistics.median(side) for side in zip(*found, strict=True))
    print(f"\n{N_TOPICS:,} topics with a reader each: {idle:.1f} KB a topic, {loaded:.1f} KB after 100 events of each")

    ratio = statistics.median(a / b for a, b in zip(*(rates[name] for name in ("decoded and routed", "official")), strict=True))
    word = "met" if ratio >= TARGET else "MISSED"
    print(f"\ndecoded and routed, against the official client: {ratio:.1f}x, target {TARGET:g}x: {word}")
    return 0 if ratio >= TARGET else 1


if __name__ == "__main__":
    raise SystemExit(main())
