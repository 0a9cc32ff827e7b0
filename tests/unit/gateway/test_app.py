"""A whole gateway: its admin port, how it drains and ends, and how its tokens change."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from massive_lab.clock import ManualClock
from massive_lab.config import Secret, Settings
from massive_lab.errors import ConfigError
from massive_lab.gateway.app import Gateway
from massive_lab.gateway.config import GatewaySettings
from massive_lab.gateway.tokens import TokenRule

DESK = "canary-desk-0123456789"
TRADES = "/v3/trades/AAPL"

pytestmark = pytest.mark.asyncio


async def test_health_and_metrics_are_on_the_admin_port_only(serve: Any, vendor: Any, ask: Any) -> None:
    gateway = await serve(sandbox=True)
    for path, status in (("/healthz", 200), ("/readyz", 200), ("/metrics", 200), ("/", 404), (TRADES, 404)):
        answer = await ask(gateway.admin_url, path, token=None)
        assert answer.status == status
        assert answer.headers["x-massive-lab"] == "SANDBOX"
        assert (await ask(gateway.url, path if path != TRADES else "/healthz", token=DESK)).status == 404
    assert (await ask(gateway.admin_url, "/metrics", token=None)).headers["content-type"].startswith("text/plain")
    assert (await ask(gateway.admin_url, "/metrics", method="POST", token=None)).status == 405
    assert (await ask(gateway.admin_url, "/healthz", method="HEAD", token=None)).body == b""
    assert vendor.seen == []


async def test_a_drain_answers_what_is_under_way_and_lets_nobody_in(serve: Any, vendor: Any, ask: Any) -> None:
    gateway = await serve()
    asked, release = asyncio.Event(), asyncio.Event()

    async def slow(_: web.BaseRequest) -> web.StreamResponse:
        asked.set()
        await release.wait()
        return web.Response(body=b'{"results":[1]}', content_type="application/json")

    vendor.reply = slow
    parts = urlsplit(gateway.url)
    idle_reader, idle_writer = await asyncio.open_connection(parts.hostname, parts.port)
    under_way = asyncio.create_task(ask(gateway.url, TRADES, Connection="keep-alive"))
    await asked.wait()
    draining = asyncio.create_task(gateway.drain())
    assert await idle_reader.read() == b""  # an idle connection is closed at once
    idle_writer.close()
    ready = await ask(gateway.admin_url, "/readyz", token=None)
    assert (ready.status, ready.body) == (503, b"draining\n")
    assert (await ask(gateway.admin_url, "/healthz", token=None)).status == 200
    with pytest.raises(OSError, match="Connect call failed"):
        await ask(gateway.url, TRADES)
    assert not draining.done()
    release.set()
    answer = await under_way
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    await draining


async def test_a_drain_ends_when_its_time_is_over(serve: Any, vendor: Any, ask: Any) -> None:
    gateway = await serve(drain_s=0.2)
    asked, never = asyncio.Event(), asyncio.Event()

    async def hang(_: web.BaseRequest) -> web.StreamResponse:
        asked.set()
        await never.wait()
        return web.Response()

    vendor.reply = hang
    under_way = asyncio.create_task(ask(gateway.url, TRADES))
    await asked.wait()
    await gateway.drain()
    await gateway.close()
    answer = await under_way
    assert answer.status == 503
    never.set()


async def test_after_the_end_nothing_is_left_running(serve: Any, ask: Any) -> None:
    before = asyncio.all_tasks()
    gateway = await serve()
    await ask(gateway.url, TRADES)
    await gateway.close()
    await gateway.close()
    left = {task for task in asyncio.all_tasks() - before if not task.done()}
    # Connections of the vendor's own server may still be ending.
    assert not {task for task in left if "massive_lab" in str(task.get_coro())}


async def test_a_port_in_use_is_an_error_that_leaves_nothing_open(serve: Any, vendor: Any) -> None:
    gateway = await serve()
    port = urlsplit(gateway.admin_url).port
    settings = GatewaySettings(
        tokens=(TokenRule("desk", Secret(DESK)),), secret=Secret("s" * 32), port=0, admin_port=port or 0
    )
    second = Gateway(settings, Settings(api_key=Secret("k"), rest_url=vendor.url))
    with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}"):
        await second.start()


async def test_an_ipv6_host_is_written_with_brackets(serve: Any, ask: Any) -> None:
    gateway = await serve(host="::1")
    assert gateway.url.startswith("http://[::1]:")
    assert (await ask(gateway.url, TRADES)).status == 200


async def test_a_changed_file_changes_the_tokens(serve: Any, ask: Any, tmp_path: Path) -> None:
    clock = ManualClock(1_700_000_000_000_000_000)
    file = tmp_path / "tokens.toml"
    file.write_text(f'[tokens.desk]\ntoken = "{DESK}"\n')
    gateway = await serve(tokens_file=file, gateway_clock=clock)
    assert (await ask(gateway.url, TRADES)).status == 200

    async def look() -> None:
        # The watch sleeps on the gateway's clock: it looks once in two of its seconds.
        n_sleeping = clock.n_sleeping
        clock.advance(2.0)
        while clock.n_sleeping < n_sleeping:  # noqa: ASYNC110  it lies down again when it has looked
            await asyncio.sleep(0)

    replaced = tmp_path / "new.toml"
    replaced.write_text('[tokens.desk]\ntoken = "second-0123456789"\n')
    os.replace(replaced, file)  # noqa: PTH105  as editors do
    await look()
    assert (await ask(gateway.url, TRADES)).status == 401
    assert (await ask(gateway.url, TRADES, token="second-0123456789")).status == 200

    for text in ("nonsense =", '[tokens.desk]\ntoken = "canary-key-0123456789"\n', "", None):
        if text is None:
            file.unlink()
        else:
            file.write_text(text)
        await look()
        assert (await ask(gateway.url, TRADES, token="second-0123456789")).status == 200
        assert (await ask(gateway.url, TRADES, token="canary-key-0123456789")).status == 401
    assert 'massive_gateway_token_rotations_total{outcome="failed"} 4.0' in gateway.metrics.text()


async def test_tokens_of_a_variable_are_not_read_again(serve: Any) -> None:
    gateway = await serve()
    assert gateway.reload_tokens() is False
