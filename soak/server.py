"""The upstream of the soak, in a process of its own: numbered trades at a steady rate, as the vendor frames them.

The same trades go to every connection that holds all topics; `q` counts on for each symbol from 1, so that whoever reads can
tell what is missing.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

__all__ = ["SYMBOLS", "main"]

SYMBOLS = tuple(f"S{chr(65 + i // 26)}{chr(65 + i % 26)}" for i in range(50))
TICK_S = 0.01


def main(pipe: Connection, rate: int) -> None:
    """Publish from "go" to "stop", then send back the last number of each symbol and how far behind the pace was."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then tells us
    asyncio.run(_serve(pipe, rate))


async def _serve(pipe: Connection, rate: int) -> None:
    upstream = _Upstream(rate)
    async with serve(upstream.talk, "127.0.0.1", 0, compression=None, ping_interval=None, max_queue=16) as server:
        pipe.send(next(iter(server.sockets)).getsockname()[1])
        producer = asyncio.create_task(upstream.produce())
        loop = asyncio.get_running_loop()
        # Nothing but the end, or the death of the parent, comes over the pipe.
        with suppress(EOFError):
            while (word := await loop.run_in_executor(None, pipe.recv)) != "stop":
                upstream.is_going = word == "go"
        upstream.is_stopping = True
        await producer
        with suppress(BrokenPipeError):
            pipe.send({"sent": upstream.numbers, "behind_s": upstream.behind_s})
        with suppress(EOFError):
            await loop.run_in_executor(None, pipe.recv)


class _Upstream:
    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.is_going = False
        self.is_stopping = False
        self.behind_s = 0.0
        self.numbers = dict.fromkeys(SYMBOLS, 0)
        self._holders: dict[ServerConnection, set[str]] = {}

    async def talk(self, connection: ServerConnection) -> None:
        await _say(connection, [("connected", "Connected Successfully")])
        try:
            async for text in connection:
                message = json.loads(text)
                if message["action"] == "auth":
                    await _say(connection, [("auth_success", "authenticated")])
                    continue
                wires = message["params"].split(",")
                is_on = message["action"] == "subscribe"
                await _say(connection, [("success", f"{'' if is_on else 'un'}subscribed to: {wire}") for wire in wires])
                held = self._holders.setdefault(connection, set())
                (held.update if is_on else held.difference_update)(wire.partition(".")[2] for wire in wires)
        except ConnectionClosed:
            pass
        finally:
            self._holders.pop(connection, None)

    async def produce(self) -> None:
        """Frames of all symbols, at an even pace; a pace that cannot be kept is measured, not made up for by bursts."""
        start, n_done = time.monotonic(), 0
        while not self.is_stopping:
            ready = [connection for connection, held in self._holders.items() if len(held) == len(SYMBOLS)]
            if not ready or not self.is_going:
                start, n_done = time.monotonic(), 0
                await asyncio.sleep(TICK_S)
                continue
            due = int((time.monotonic() - start) * self.rate)
            if n_done < due:
                frame = self._frame(min(due - n_done, self.rate // 20))
                n_done += frame.count(b'"ev"')
                for connection in ready:
                    with suppress(ConnectionClosed):
                        await connection.send(frame, text=True)
            self.behind_s = max(self.behind_s, (time.monotonic() - start) - n_done / self.rate)
            await asyncio.sleep(max(0.0, (n_done / self.rate) + TICK_S - (time.monotonic() - start)))

    def _frame(self, n: int) -> bytes:
        ns = time.time_ns()
        ms, numbers = ns // 10**6, self.numbers
        per = max(1, n // len(SYMBOLS))
        parts: list[str] = []
        for symbol in SYMBOLS:
            first = numbers[symbol] + 1
            numbers[symbol] += per
            head = f'{{"ev":"T","sym":"{symbol}","x":4,"z":3,"s":100,"c":[14,41],"t":{ms},"pt":{ns},"p":'
            parts += [f'{head}{100 + q % 97}.25,"q":{q},"i":"{q}"}}' for q in range(first, first + per)]
        return ("[" + ",".join(parts) + "]").encode()


async def _say(connection: Any, statuses: list[tuple[str, str]]) -> None:
    await connection.send(json.dumps([{"ev": "status", "status": name, "message": text} for name, text in statuses]))
