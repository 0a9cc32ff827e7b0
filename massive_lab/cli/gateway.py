"""``massive-lab gateway``: check the settings, serve until SIGTERM or Ctrl-C, drain, end."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import resource
import signal
import sys
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from massive_lab.config import Secret, Settings, read_settings
from massive_lab.errors import InvalidRequest
from massive_lab.gateway.config import GatewayConfigError, GatewaySettings, read_gateway_settings
from massive_lab.gateway.logs import Blotter, configure, tell

if TYPE_CHECKING:
    from massive_lab.gateway.app import Gateway

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    """Serve; 0 after a clean end, 2 when the settings are wrong (all of it on stderr) or a port cannot be had."""
    given = {"HOST": options.host, "PORT": options.port, "ADMIN_PORT": options.admin_port, "BUS": options.bus}
    environ = {**os.environ, **{f"MASSIVE_GATEWAY_{name}": text for name, text in given.items() if text is not None}}
    try:
        settings = read_gateway_settings(environ, sandbox=options.sandbox is not None)
        if options.drain is not None:
            settings = dataclasses.replace(settings, drain_s=options.drain)
    except GatewayConfigError as error:
        print(f"massive-lab gateway: {error}", file=sys.stderr)
        return 2
    label = "SANDBOX: " if settings.sandbox else ""
    if options.check:
        print(f"{label}the settings are complete: {len(settings.tokens)} tokens, {', '.join(settings.clusters)}")
        return 0
    with contextlib.ExitStack() as stack:
        upstream = _upstream(options.sandbox, environ, stack)
        blotter = Blotter()
        handler = configure(options.log, sys.stderr, blotter, sandbox=settings.sandbox)
        stack.callback(handler.flush)
        _raise_file_limit()
        return asyncio.run(_serve(settings, upstream, blotter, options.ready_fd, tied=options.tied))


def _upstream(sandbox: str | None, environ: dict[str, str], stack: contextlib.ExitStack) -> Settings:
    if sandbox is None:
        return read_settings(environ)
    from massive_lab.sandbox.accounts import DEFAULT_KEY
    from massive_lab.sandbox.process import SandboxProcess

    if sandbox == "start":
        process = stack.enter_context(SandboxProcess())
        rest_url, ws_url = process.rest_url, process.ws_url
    else:
        if urlsplit(sandbox).scheme != "http":
            raise InvalidRequest("--sandbox is not an address such as http://127.0.0.1:9090.")
        rest_url, ws_url = sandbox, sandbox.replace("http", "ws", 1)
    return Settings(api_key=Secret(DEFAULT_KEY), rest_url=rest_url, ws_url=ws_url, sandbox=True)


async def _serve(
    settings: GatewaySettings, upstream: Settings, blotter: Blotter, ready_fd: int | None, *, tied: bool
) -> int:
    from massive_lab.gateway.app import Gateway

    loop = asyncio.get_running_loop()
    stops = asyncio.Semaphore(0)
    gateway = Gateway(settings, upstream, blotter=blotter)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stops.release)
    loop.add_signal_handler(signal.SIGHUP, gateway.reload_tokens)
    if tied:
        loop.add_reader(sys.stdin.fileno(), _read_stdin, loop, stops)
    await gateway.start()
    try:
        _announce(gateway, ready_fd)
        await stops.acquire()
        await _drain(gateway, stops)
    finally:
        await gateway.close()
    return 0


async def _drain(gateway: Gateway, stops: asyncio.Semaphore) -> None:
    draining = asyncio.create_task(gateway.drain())
    impatient = asyncio.create_task(stops.acquire())
    await asyncio.wait((draining, impatient), return_when=asyncio.FIRST_COMPLETED)
    if not draining.done():
        tell("stopping at once: asked twice")
    for task in (draining, impatient):
        task.cancel()
    await asyncio.gather(draining, impatient, return_exceptions=True)
    if not draining.cancelled() and (error := draining.exception()) is not None:
        raise error


def _announce(gateway: Gateway, ready_fd: int | None) -> None:
    if ready_fd is not None:
        addresses = {"url": gateway.url, "ws_url": gateway.ws_url, "admin_url": gateway.admin_url}
        os.write(ready_fd, json.dumps(addresses).encode() + b"\n")
        os.close(ready_fd)


def _read_stdin(loop: asyncio.AbstractEventLoop, stops: asyncio.Semaphore) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        loop.remove_reader(sys.stdin.fileno())
        stops.release()


def _raise_file_limit() -> None:
    """A socket is a file, and the usual soft limit is 1,024 of them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError) as error:
            # Not every system lets a process go up to what it says is the most. Fewer clients are better than none.
            tell("the limit of open files cannot be raised", level=logging.WARNING, limit=soft, kind=type(error).__name__)
