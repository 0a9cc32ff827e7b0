"""``python -m massive_lab.sandbox``, and the body of ``massive-lab sandbox``."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence

from massive_lab.errors import ConfigError
from massive_lab.sandbox.control import Control
from massive_lab.sandbox.scenarios import SCENARIOS
from massive_lab.sandbox.server import Options, Sandbox

__all__ = ["main"]

_DEFAULT = Options()


def main(argv: Sequence[str] | None = None) -> int:
    """Run a sandbox until Ctrl-C, SIGTERM or ``POST /shutdown``.

    Returns
    -------
    int
        0 after a clean end, 2 when it could not start (one line on stderr says why).
    """
    parser = _parser()
    asked = parser.parse_args(argv)
    options = Options(
        port=asked.port,
        delayed_port=asked.delayed_port,
        control_port=asked.control_port,
        seed=asked.seed,
        start=asked.start,
        speed=asked.speed,
        paused=asked.paused,
        density=asked.density,
        scenario=asked.scenario,
        max_buffer_bytes=asked.max_buffer_bytes,
        auth_timeout_s=asked.auth_timeout,
    )
    try:
        asyncio.run(_run(options, asked.ready_fd, tied=asked.tied))
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:  # before the handlers stood
        return 0
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="massive-lab sandbox", description="A local, synthetic Massive. Everything it serves is made up."
    )
    parser.add_argument("--port", type=int, default=_DEFAULT.port, help="REST and WebSocket (0: any free one)")
    parser.add_argument("--delayed-port", type=int, default=_DEFAULT.delayed_port, help="the feed 15 minutes behind")
    parser.add_argument("--control-port", type=int, default=_DEFAULT.control_port, help="faults, clock, counts")
    parser.add_argument("--seed", type=int, default=_DEFAULT.seed)
    parser.add_argument("--start", default=_DEFAULT.start, help="virtual time, ISO, New York (default %(default)s)")
    parser.add_argument("--speed", type=float, default=_DEFAULT.speed, help="virtual seconds per real second")
    parser.add_argument("--paused", action="store_true", help="start with virtual time standing still")
    parser.add_argument("--density", type=float, default=_DEFAULT.density, help="how lively the market is")
    parser.add_argument("--scenario", default=_DEFAULT.scenario, help=f"one of {', '.join(SCENARIOS)}")
    parser.add_argument("--max-buffer-bytes", type=int, default=_DEFAULT.max_buffer_bytes, help=argparse.SUPPRESS)
    parser.add_argument("--auth-timeout", type=float, default=_DEFAULT.auth_timeout_s, help=argparse.SUPPRESS)
    parser.add_argument("--ready-fd", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--tied", action="store_true", help=argparse.SUPPRESS)
    return parser


async def _run(options: Options, ready_fd: int | None, *, tied: bool) -> None:
    sandbox = Sandbox(options)
    stop = asyncio.Event()
    control = Control(sandbox, stop.set)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if tied:
        loop.add_reader(sys.stdin.fileno(), _read_stdin, loop, stop)
    try:
        await sandbox.start()
        await control.start()
        _announce(sandbox, control, ready_fd)
        sandbox.failed.add_done_callback(lambda _: stop.set())
        await stop.wait()
        if sandbox.failed.done():
            await sandbox.failed
    finally:
        await sandbox.stop()
        await control.stop()


def _announce(sandbox: Sandbox, control: Control, ready_fd: int | None) -> None:
    ports = {"port": sandbox.port, "delayed_port": sandbox.delayed_port, "control_port": control.port}
    if ready_fd is not None:
        os.write(ready_fd, json.dumps(ports).encode() + b"\n")
        os.close(ready_fd)
    host = sandbox.options.host
    sys.stdout.write(
        f"SANDBOX: synthetic data, seed {sandbox.options.seed}, scenario {sandbox.options.scenario}\n"
        f"  REST       http://{host}:{sandbox.port}\n"
        f"  WebSocket  ws://{host}:{sandbox.port}/stocks /options /indices\n"
        f"  delayed    ws://{host}:{sandbox.delayed_port}/stocks /options /indices\n"
        f"  control    http://127.0.0.1:{control.port}/status\n"
        "Ctrl-C ends it.\n"
    )
    sys.stdout.flush()


def _read_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        loop.remove_reader(sys.stdin.fileno())
        stop.set()


if __name__ == "__main__":
    sys.exit(main())
