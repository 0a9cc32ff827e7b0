"""Fan-out: events delivered a second and how late they are, through our gateway and through two plain relays.

The upstream, the relay and the clients are three processes. The upstream sends trades, ten to a frame. For the rate it is a
closed loop: at most 32 frames are on their way to the slowest client; the clock stops when every client has every event. For
the latency it sends at a steady pace, each frame marked with its time. All clients subscribe everything; in the row ``half``
every second one wants one half of the symbols and the others the other half, which the raw relay cannot do.

``none`` is one client on the upstream itself: what is later than that is added by the relay. Every client checks that it got
each event of its topics once and in order. Rates are given by the wall, and by the relay's own processor time, which other
load on the machine does not touch.

Run: ``python -m benchmarks.gateway.fanout [--rounds 3]``
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import re
import statistics
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from benchmarks.gateway.relays import RELAYS, SYMBOLS, TOKEN, run_relay, say

A_FRAME = 10
WINDOW = 32
PACE_S = 0.02
CASES: dict[str, tuple[int, int, bool]] = {
    # clients, frames, half
    "1 client": (1, 3_000, False),
    "10 clients": (10, 1_500, False),
    "100 clients": (100, 300, False),
    "100, half": (100, 300, True),
    "1,000 clients": (1_000, 60, False),
}
PACED_FRAMES = 150
_SPAWN = multiprocessing.get_context("spawn")
_NUMBERS = re.compile(rb'"q": ?(\d+)')
_STAMP = re.compile(rb'"pt": ?(\d+)')


def make_frame(k: int, ns: int) -> bytes:
    events = [
        f'{{"ev":"T","sym":"{SYMBOLS[i % len(SYMBOLS)]}","x":4,"i":"{i}","z":3,"p":{100 + i % 9_973 / 100},"s":100,'
        f'"c":[14,41],"t":{ns // 10**6},"pt":{ns},"q":{i}}}'
        for i in range(k * A_FRAME, (k + 1) * A_FRAME)
    ]
    return ("[" + ",".join(events) + "]").encode()


# ---- the upstream


def run_upstream(pipe: Connection, seen: Synchronized[int]) -> None:
    asyncio.run(_upstream(pipe, seen))


async def _upstream(pipe: Connection, seen: Synchronized[int]) -> None:
    holders: list[ServerConnection] = []

    async def talk(connection: ServerConnection) -> None:
        held: set[str] = set()
        await say(connection, ("connected", "Connected Successfully"))
        with suppress(ConnectionClosed):
            async for text in connection:
                message = json.loads(text)
                if message["action"] == "auth":
                    await say(connection, ("auth_success", "authenticated"))
                    continue
                wires = message["params"].split(",")
                word = "un" if message["action"] == "unsubscribe" else ""
                await say(connection, *(("success", f"{word}subscribed to: {wire}") for wire in wires))
                held = held - set(wires) if word else held | set(wires)
                if len(held) == len(SYMBOLS) and connection not in holders:
                    holders.append(connection)
                elif len(held) < len(SYMBOLS) and connection in holders:
                    holders.remove(connection)
        if connection in holders:
            holders.remove(connection)

    async with serve(talk, "127.0.0.1", 0, compression=None, ping_interval=None) as running:
        pipe.send(next(iter(running.sockets)).getsockname()[1])
        loop = asyncio.get_running_loop()
        with suppress(EOFError):
            while (job := await loop.run_in_executor(None, pipe.recv)) is not None:
                while not holders:  # noqa: ASYNC110  another process connects
                    await asyncio.sleep(0.001)
                await _send(holders[-1], seen, *job)


async def _send(holder: ServerConnection, seen: Synchronized[int], n_frames: int, pace_s: float) -> None:
    start = time.perf_counter()
    made = [] if pace_s else [make_frame(k, 1_750_000_000_000_000_000) for k in range(n_frames)]
    for k in range(n_frames):
        if pace_s:
            await asyncio.sleep(max(0.0, start + k * pace_s - time.perf_counter()))
            await holder.send(make_frame(k, time.time_ns()), text=True)
        else:
            while k - seen.value >= WINDOW:  # noqa: ASYNC110  another process counts
                await asyncio.sleep(0.0002)
            await holder.send(made[k], text=True)


# ---- the clients


class Client(asyncio.Protocol):
    """The least that reads a WebSocket: what it costs is not ours to measure."""

    def __init__(self, load: Load, wires: list[str]) -> None:
        self._load = load
        self._wires = wires
        self._buffer = bytearray()
        self._is_open = False
        self._n_confirmed = 0
        self.payloads: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(
            b"GET /stocks HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        for action, params in (("auth", TOKEN), ("subscribe", ",".join(self._wires))):
            payload = json.dumps({"action": action, "params": params}).encode()
            size = bytes((0x80 | len(payload),)) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
            transport.write(b"\x81" + size + bytes(4) + payload)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        at = 0
        if not self._is_open:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self._is_open, at = True, end + 4
        while len(buffer) - at >= 2:
            size, head = buffer[at + 1], 2
            if size == 126:
                size, head = int.from_bytes(buffer[at + 2 : at + 4], "big"), 4
            elif size == 127:
                size, head = int.from_bytes(buffer[at + 2 : at + 10], "big"), 10
            if len(buffer) - at < head + size:
                break
            self._frame(bytes(buffer[at + head : at + head + size]), buffer[at])
            at += head + size
        del buffer[:at]

    def _frame(self, payload: bytes, first: int) -> None:
        if first != 0x81:
            return
        if self._n_confirmed < len(self._wires):
            self._n_confirmed += payload.count(b'"subscribed to')
            if self._n_confirmed == len(self._wires):
                self._load.confirmed()
            return
        now = time.time_ns()
        self.payloads.append(payload)
        self._load.got(self, payload, now)

    def check(self, n_frames: int) -> int:
        """Each event of its topics, once and in order; how many those are."""
        own = {SYMBOLS.index(wire.partition(".")[2]) for wire in self._wires}
        expected = [i for i in range(n_frames * A_FRAME) if i % len(SYMBOLS) in own]
        found = [int(number) for payload in self.payloads for number in _NUMBERS.findall(payload)]
        if found != expected:
            raise AssertionError(f"a client got {len(found)} events of {len(expected)}, or not in order")
        return len(found)


class Load:
    """All clients of one run."""

    def __init__(self, n_clients: int, n_frames: int, is_half: bool, pace_s: float, seen: Synchronized[int]) -> None:
        self._pace_s = pace_s
        self._seen = seen
        self._n_frames = n_frames
        # A frame holds events for everybody.
        self._due = n_frames * n_clients
        self._slowest = [n_clients] * n_frames
        self._frames: dict[Client, int] = {}
        self._n_waiting = n_clients
        self.ready = asyncio.Event()
        self.done = asyncio.Event()
        self.late: list[int] = []
        self.last = 0.0
        halves = [SYMBOLS[::2], SYMBOLS[1::2]]
        self.clients = [
            Client(self, [f"T.{symbol}" for symbol in (halves[number % 2] if is_half else SYMBOLS)])
            for number in range(n_clients)
        ]

    def confirmed(self) -> None:
        self._n_waiting -= 1
        if not self._n_waiting:
            self.ready.set()

    def got(self, client: Client, payload: bytes, now: int) -> None:
        k = self._frames.get(client, 0)
        self._frames[client] = k + 1
        if self._pace_s and (found := _STAMP.search(payload)):
            self.late.append(now - int(found[1]))
        self._slowest[k] -= 1
        if not self._slowest[k]:
            self._seen.value = k + 1
        self._due -= 1
        if not self._due:
            self.last = time.time()
            self.done.set()


def run_load(port: int, case: tuple[int, int, bool, float], pipe: Connection, seen: Synchronized[int]) -> None:
    asyncio.run(_load(port, case, pipe, seen))


async def _load(port: int, case: tuple[int, int, bool, float], pipe: Connection, seen: Synchronized[int]) -> None:
    n_clients, n_frames, is_half, pace_s = case
    load = Load(n_clients, n_frames, is_half, pace_s, seen)
    loop = asyncio.get_running_loop()
    for number, client in enumerate(load.clients):
        if number >= 40:
            await asyncio.sleep(0.012)  # the gateway lets 100 a second in
        await loop.create_connection(lambda client=client: client, "127.0.0.1", port)  # type: ignore[misc]
    async with asyncio.timeout(60):
        await load.ready.wait()
    pipe.send("ready")
    async with asyncio.timeout(300):
        await load.done.wait()
    n_events = sum(client.check(n_frames) for client in load.clients)
    for client in load.clients:
        client.transport.abort()
    pipe.send((load.last, n_events, load.late))


# ---- a run


@dataclass(frozen=True, slots=True)
class Result:
    wall_s: float
    cpu_s: float
    n_events: int
    late: list[int]


def cpu_of(pid: int) -> float:
    """Processor time of a process so far, seconds; `/proc` counts it in ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_kb(pid: int) -> float:
    """Memory of a process, KiB."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024


class Bench:
    """An upstream, and one relay before it."""

    def __init__(self, name: str) -> None:
        self._seen: Any = _SPAWN.Value("q", 0)
        self._upstream, far = _SPAWN.Pipe()
        self._processes = [_SPAWN.Process(target=run_upstream, args=(far, self._seen), daemon=True)]
        self._processes[0].start()
        self.port = self._upstream.recv()
        self.relay = self._processes[0]
        if name != "none":
            self._pipe, far = _SPAWN.Pipe()
            self.relay = _SPAWN.Process(target=run_relay, args=(name, f"ws://127.0.0.1:{self.port}", far), daemon=True)
            self._processes.append(self.relay)
            self.relay.start()
            self.port = self._pipe.recv()

        assert self.relay.pid is not None
        self._kb = resident_kb(self.relay.pid)
        self.kb_a_client = 0.0

    def run(self, n_clients: int, n_frames: int, is_half: bool, pace_s: float = 0.0) -> Result:
        self._seen.value = 0
        pipe, far = _SPAWN.Pipe()
        case = n_clients, n_frames, is_half, pace_s
        load = _SPAWN.Process(target=run_load, args=(self.port, case, far, self._seen), daemon=True)
        load.start()
        far.close()
        assert pipe.recv() == "ready"
        assert self.relay.pid is not None
        cpu, start = cpu_of(self.relay.pid), time.time()
        self._upstream.send((n_frames, pace_s))
        last, n_events, late = pipe.recv()
        cpu = cpu_of(self.relay.pid) - cpu
        self.kb_a_client = (resident_kb(self.relay.pid) - self._kb) / n_clients
        load.join()
        return Result(last - start, cpu, n_events, late)

    def close(self) -> None:
        self._upstream.send(None)
        if len(self._processes) > 1:
            self._pipe.send(None)
        for process in self._processes:
            process.join(10)
            process.kill()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--case", choices=CASES, action="append")
    arguments = parser.parse_args()
    rounds = arguments.rounds
    rates: dict[tuple[str, str], float] = {}
    columns = f"{'events/s, wall':>18}{'events/s, own cpu':>20}{'p50 ms':>9}{'p99 ms':>9}{'KiB each':>9}"
    print(f"{'':14}{'relay':>9}{columns}   (latency at {1 / PACE_S:.0f} frames/s, a tenth of it at 1,000)")
    for case, (n_clients, n_frames, is_half) in CASES.items():
        if arguments.case and case not in arguments.case:
            continue
        for name in ("none", *RELAYS):
            if (name == "none" and n_clients > 1) or (name == "raw" and is_half):
                continue
            bench = Bench(name)
            try:
                runs = [bench.run(n_clients, n_frames, is_half) for _ in range(rounds)]
                crowd = max(1, n_clients // 100)
                late = sorted(bench.run(n_clients, PACED_FRAMES // crowd, is_half, PACE_S * crowd).late)
            finally:
                bench.close()
            wall = statistics.median(run.n_events / run.wall_s for run in runs)
            own = sum(run.n_events for run in runs) / max(0.01, sum(run.cpu_s for run in runs))
            rates[case, name] = own
            p50, p99 = (late[int(len(late) * part)] / 1e6 for part in (0.5, 0.99))
            text = "" if name == "none" else f"{own:,.0f}"
            memory = f"{bench.kb_a_client:9.1f}" if n_clients >= 1_000 else ""
            print(f"{case:14}{name:>9}{wall:18,.0f}{text:>20}{p50:9.2f}{p99:9.2f}{memory}", flush=True)
    for case in ("10 clients", "100 clients", "1,000 clients"):
        if (case, "naive") not in rates:
            continue
        ours, raw, naive = (rates[case, name] for name in ("gateway", "raw", "naive"))
        print(f"{case}: {ours / raw:.2f} of the raw relay (target: 0.5), {ours / naive:.1f} times the naive one (target: 5)")


if __name__ == "__main__":
    main()
