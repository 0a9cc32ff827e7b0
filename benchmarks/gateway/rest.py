"""REST: requests answered a second, and what the gateway adds to an answer, against the same sandbox asked directly.

The sandbox, the gateway (the command itself, with its log) and the load are processes of their own; where nginx is installed,
a fourth way goes through it as a plain proxy with kept-alive connections. Every way is first asked the same requests, and its
bodies must equal the sandbox's, but for the host in addresses. Then the ways take turns, round by round: for the rate sixteen
connections ask as fast as they are answered, for the latency one does. Each request of a run is another one (a parameter that
the sandbox ignores numbers them), so that nothing is shared, but in the way ``same``: there all ask the gateway one question
at once, which it asks upstream once for those that wait.

Added latency is the difference to the direct way of the same round. Figures are medians of the rounds, the spread is their
least and greatest. The last line is the memory that a WebSocket client costs which has authenticated and waits.

Run: ``python -m benchmarks.gateway.rest [--rounds 5]``
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import itertools
import multiprocessing
import re
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.gateway.fanout import resident_kb
from massive_lab.gateway.process import GatewayProcess
from massive_lab.sandbox.process import SandboxProcess

CASES: dict[str, tuple[str, int]] = {
    # target, requests in a run
    "status, 0.4 kB": ("/v1/marketstatus/now?", 2_000),
    "trades, 23 kB": ("/v3/trades/AAPL?limit=100", 800),
    "chain, 170 kB": ("/v3/snapshot/options/SPY?limit=250", 100),
}
N_CONNECTIONS = 16
N_IDLE = 1_000
_ORIGIN = re.compile(rb"http://127\.0\.0\.1:\d+")
_SPAWN = multiprocessing.get_context("spawn")
_NGINX = """
daemon off; master_process off; worker_processes 1; pid {place}/pid; error_log {place}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000; gzip off; types {{ }}
  client_body_temp_path {place}/a; proxy_temp_path {place}/b; fastcgi_temp_path {place}/c;
  uwsgi_temp_path {place}/d; scgi_temp_path {place}/e; proxy_buffers 16 64k;
  upstream sandbox {{ server {sandbox}; keepalive 64; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://sandbox; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host {sandbox}; }}
  }}
}}
"""  # noqa: E501  the words of a configuration


@dataclass(frozen=True, slots=True)
class Way:
    """Where requests go, and the credential that is good there."""

    url: str
    token: str


# ---- the load


class Asker:
    """One connection that is kept: the least that reads HTTP. What it costs is in every way the same."""

    def __init__(self, way: Way) -> None:
        self._netloc = urlsplit(way.url).netloc
        self._rest = f" HTTP/1.1\r\nHost: {self._netloc}\r\nAuthorization: Bearer {way.token}\r\nAccept-Encoding: gzip\r\n\r\n"

    async def open(self) -> None:
        host, _, port = self._netloc.partition(":")
        self._reader, self._writer = await asyncio.open_connection(host, int(port), limit=1 << 20)

    async def ask(self, target: str) -> tuple[bytes, bytes]:
        """Head in lower case, and body as sent."""
        self._writer.write(f"GET {target}{self._rest}".encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        if b" 200 " not in head[:16]:
            raise AssertionError(f"{target}: {head.splitlines()[0].decode()}")
        if b"transfer-encoding: chunked" not in head:
            size = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
            return head, await self._reader.readexactly(size)
        body = bytearray()
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            body += (await self._reader.readexactly(size + 2))[:-2]
        await self._reader.readuntil(b"\r\n")
        return head, bytes(body)

    def close(self) -> None:
        self._writer.close()


def run_load(pipe: Connection) -> None:
    """Do one job after the other until told None."""
    while (job := pipe.recv()) is not None:
        pipe.send(asyncio.run(_load(*job)))


async def _load(way: Way, targets: list[str], n_connections: int) -> tuple[float, list[float]]:
    """Seconds for all, and of each."""
    askers = [Asker(way) for _ in range(n_connections)]
    for asker in askers:
        await asker.open()
    waiting = iter(targets)
    took: list[float] = []

    async def work(asker: Asker) -> None:
        for target in waiting:
            began = time.perf_counter()
            await asker.ask(target)
            took.append(time.perf_counter() - began)

    start = time.perf_counter()
    await asyncio.gather(*(work(asker) for asker in askers))
    elapsed = time.perf_counter() - start
    for asker in askers:
        asker.close()
    assert len(took) == len(targets)
    return elapsed, took


async def bodies(way: Way, targets: list[str]) -> list[bytes]:
    """What is answered, inflated, the hosts of addresses aside."""
    asker = Asker(way)
    await asker.open()
    found = []
    for target in targets:
        head, body = await asker.ask(target)
        found.append(_ORIGIN.sub(b"", gzip.decompress(body) if b"content-encoding: gzip" in head else body))
    asker.close()
    return found


def run_idle(url: str, token: str, pipe: Connection) -> None:
    asyncio.run(_idle(url, token, pipe))


async def _idle(url: str, token: str, pipe: Connection) -> None:
    host, _, port = urlsplit(url).netloc.partition(":")
    payload = b'{"action":"auth","params":"%s"}' % token.encode()
    writers = []
    for _ in range(N_IDLE):
        await asyncio.sleep(0.012)  # the gateway lets 100 a second in
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"GET /stocks HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        writer.write(bytes((0x81, 0x80 | len(payload))) + bytes(4) + payload)
        await reader.readuntil(b"auth_success")
        writers.append(writer)
    pipe.send(len(writers))
    pipe.recv()
    for writer in writers:
        writer.transport.abort()


# ---- the ways


@contextmanager
def nginx(program: str, sandbox: Way) -> Iterator[Way]:
    """A plain proxy before the sandbox, as small as it gets."""
    with socket.socket() as free, tempfile.TemporaryDirectory() as place:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        settings = Path(place, "nginx.conf")
        settings.write_text(_NGINX.format(place=place, port=port, sandbox=urlsplit(sandbox.url).netloc), encoding="utf-8")
        child = subprocess.Popen([program, "-p", place, "-e", f"{place}/error.log", "-c", str(settings)])
        try:
            for _ in range(200):
                with socket.socket() as knock:
                    if not knock.connect_ex(("127.0.0.1", port)):
                        break
                time.sleep(0.05)
            else:
                raise RuntimeError(f"nginx did not start: {Path(place, 'error.log').read_text(encoding='utf-8')}")
            yield Way(f"http://127.0.0.1:{port}", sandbox.token)
        finally:
            child.terminate()
            child.wait(10)


def show(values: list[float], unit: float = 1.0, form: str = ",.0f") -> str:
    middle, least, greatest = (format(unit * f(values), form) for f in (statistics.median, min, max))
    return f"{middle} ({least} to {greatest})"


def measure(case: str, ways: dict[str, Way], pipe: Connection, rounds: int) -> None:
    target, n_requests = CASES[case]
    number = itertools.count()
    rates: dict[str, list[float]] = {}
    added: dict[str, tuple[list[float], list[float]]] = {}

    def fresh(n: int) -> list[str]:
        return [f"{target}&run={next(number)}" for _ in range(n)]

    def load(name: str, targets: list[str], n_connections: int) -> tuple[float, list[float]]:
        pipe.send((ways[name], targets, n_connections))
        answer: tuple[float, list[float]] = pipe.recv()
        return answer

    asked = fresh(5)
    expected = asyncio.run(bodies(ways["direct"], asked))
    for name, way in ways.items():
        if asyncio.run(bodies(way, asked)) != expected:
            raise AssertionError(f"{case}: through {name} the bodies differ")
        load(name, fresh(N_CONNECTIONS), N_CONNECTIONS)
    for turn in range(rounds):
        order = list(ways)
        order = order[turn % len(order) :] + order[: turn % len(order)]
        late: dict[str, tuple[float, float]] = {}
        for name in order:
            elapsed, _ = load(name, fresh(n_requests), N_CONNECTIONS)
            rates.setdefault(name, []).append(n_requests / elapsed)
            took = sorted(load(name, fresh(max(100, n_requests // 4)), 1)[1])
            late[name] = took[len(took) // 2], took[int(len(took) * 0.99)]
        elapsed, _ = load("gateway", [fresh(1)[0]] * n_requests, N_CONNECTIONS)
        rates.setdefault("same", []).append(n_requests / elapsed)
        for name in order:
            for part, values in enumerate(added.setdefault(name, ([], []))):
                values.append(late[name][part] - (0.0 if name == "direct" else late["direct"][part]))
    for name, found in rates.items():
        p50, p99 = (show(values, 1e3, ".2f") for values in added[name]) if name in added else ("", "")
        print(f"{case:16}{name:>9}{show(found):>28}{p50:>26}{p99:>26}", flush=True)


def idle_kb(gateway: GatewayProcess) -> float:
    """What one client of `N_IDLE` takes, KiB."""
    before = resident_kb(gateway.pid)
    pipe, far = _SPAWN.Pipe()
    clients = _SPAWN.Process(target=run_idle, args=(gateway.url, gateway.token, far), daemon=True)
    clients.start()
    far.close()
    assert pipe.recv() == N_IDLE
    after = resident_kb(gateway.pid)
    pipe.send(None)
    clients.join()
    return (after - before) / N_IDLE


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    limits = dict.fromkeys(("MASSIVE_GATEWAY_CALLS_PER_MINUTE", "MASSIVE_GATEWAY_CALLS_PER_MINUTE_TOTAL"), "1000000")
    pipe, far = _SPAWN.Pipe()
    load = _SPAWN.Process(target=run_load, args=(far,), daemon=True)
    load.start()
    far.close()
    with ExitStack() as stack:
        sandbox = stack.enter_context(SandboxProcess(seed=7, paused=True))
        gateway = stack.enter_context(GatewayProcess(sandbox=sandbox.rest_url, environ=limits))
        ways = {"direct": Way(sandbox.rest_url, sandbox.key), "gateway": Way(gateway.url, gateway.token)}
        program = shutil.which("nginx")
        if program is None:
            print("nginx is not installed (Debian: apt-get install nginx-light): its rows are left out")
        else:
            ways["nginx"] = stack.enter_context(nginx(program, ways["direct"]))
        print(
            f"SANDBOX; {N_CONNECTIONS} connections for the rate, one for the latency; {arguments.rounds} rounds in turns:"
            " median (least to greatest)\nfor direct the latency itself, for the others what they add to it"
        )
        print(f"{'':16}{'way':>9}{'requests/s':>28}{'p50 ms':>26}{'p99 ms':>26}")
        for case in CASES:
            measure(case, ways, pipe, arguments.rounds)
        pipe.send(None)
        load.join()
        print(f"an idle WebSocket client takes {idle_kb(gateway):.1f} KiB ({N_IDLE:,} of them)")


if __name__ == "__main__":
    main()
