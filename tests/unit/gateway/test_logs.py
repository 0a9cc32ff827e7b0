"""No key and no token in anything that leaves the process: logs, answers, metrics, tracebacks, reprs."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any, Literal

import pytest

from massive_lab.config import Secret
from massive_lab.gateway.logs import Blotter, configure, log, tell

KEY = "canary-key-0123456789"
SECRET = "canary-secret-0123456789-0123456789"
DESK, OTHER = "canary-desk-0123456789", "canary-other-0123456789"
GUESS = "canary-guess-0123456789"


@pytest.fixture(params=["text", "json"])
def captured(request: pytest.FixtureRequest) -> Iterator[tuple[io.StringIO, Blotter]]:
    """All that is logged, down to the smallest, through the gateway's filter."""
    form: Literal["text", "json"] = request.param
    stream, blotter = io.StringIO(), Blotter()
    loggers = [logging.getLogger(name) for name in ("massive_lab", "aiohttp", "asyncio")]
    before = [(each.level, each.propagate) for each in loggers]
    handler = configure(form, stream, blotter, sandbox=True, level=logging.DEBUG)
    yield stream, blotter
    for each, (level, propagate) in zip(loggers, before, strict=True):
        each.removeHandler(handler)
        each.setLevel(level)
        each.propagate = propagate


@pytest.mark.asyncio
async def test_canaries_are_nowhere(
    captured: tuple[io.StringIO, Blotter],
    serve: Any,
    vendor: Any,
    ask: Any,
    send: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream, blotter = captured
    gateway = await serve(gateway_blotter=blotter, calls_per_minute_token=6)
    # What the vendor could do wrong: the key in an address, a body that breaks off, a refusal.
    vendor.will(f'{{"next_url":"{vendor.url}/v3/x?cursor=1&apiKey={KEY}"}}'.encode())
    answers = [await ask(gateway.url, f"/v3/trades/AAPL?apiKey={DESK}")]
    vendor.will(b"{}", 401)
    answers.append(await ask(gateway.url, f"/v3/trades/AAPL?token={OTHER}&x={GUESS}"))
    vendor.will(b"no gzip", Content_Encoding="gzip")
    answers.append(await ask(gateway.url, "/v3/trades/AAPL"))
    # What a client could do wrong.
    answers += [
        await ask(gateway.url, f"/v3/trades/AAPL?apiKey={GUESS}", token=None),
        await ask(gateway.url, f"/{GUESS}", token=GUESS),
        await ask(gateway.url, f"http://{GUESS}/"),
        await ask(gateway.url, "/api/massive/ws-token", method="POST", body=b'{"cluster":"' + GUESS.encode() + b'"}'),
        await ask(gateway.url, "/stocks", Upgrade="websocket", Cookie=GUESS),
        await send(gateway.url, f"GET / HTTP/1.1\r\n{GUESS}\x00\r\nAuthorization: Bearer {DESK}\r\n\r\n".encode()),
        await send(gateway.url, f"{GUESS} / HTTP/1.1\r\nAuthorization: Bearer {DESK}\r\n\r\n".encode()),
    ]
    # What we could do wrong: an error whose text holds everything.
    original = gateway._vendor.fetch

    async def broken(target: str, endpoint: str) -> Any:
        raise RuntimeError(f"{target} {endpoint} {KEY} {DESK} {SECRET} apiKey={GUESS}")

    monkeypatch.setattr(gateway._vendor, "fetch", broken)
    answers.append(await ask(gateway.url, "/v3/trades/AAPL", Accept="text/html"))
    assert answers[-1].status == 500
    monkeypatch.setattr(gateway._vendor, "fetch", original)
    answers += [await ask(gateway.url, "/v3/trades/AAPL") for _ in range(3)]
    assert answers[-1].status == 429
    answers.append(await ask(gateway.admin_url, "/metrics", token=None))
    await gateway.drain()

    told = stream.getvalue()
    assert "RuntimeError" in told, "the traceback is there"
    everywhere = [
        told,
        repr(vars(gateway)),
        repr(gateway.settings),
        *(answer.raw.decode("latin-1") for answer in answers),
    ]
    for text in everywhere:
        for canary in (KEY, SECRET, DESK, OTHER, GUESS):
            assert canary not in text
    assert "AAPL" not in told.replace("v3/trades/AAPL trades", "")  # but in the error made up above
    if told.startswith("{"):
        assert all(json.loads(line)["data"] == "SANDBOX" for line in told.splitlines())


def test_a_traceback_is_one_text_or_one_field(captured: tuple[io.StringIO, Blotter]) -> None:
    stream, blotter = captured
    blotter.learn([Secret(KEY)])
    try:
        raise ValueError(f"with {KEY}\nand a second line")
    except ValueError:
        log.exception("failed", extra={"fields": {"token_of": "desk", "n": 1, "key": KEY}})
    told = stream.getvalue()
    assert KEY not in told
    assert "ValueError: with <secret>" in told
    if told.startswith("{"):
        (line,) = map(json.loads, told.splitlines())
        assert (line["event"], line["n"], line["key"], line["level"]) == ("failed", 1, "<secret>", "ERROR")


def test_what_a_client_writes_cannot_forge_a_line(captured: tuple[io.StringIO, Blotter]) -> None:
    stream, _ = captured
    tell("request", client="desk\n2026-01-01 INFO ready", other="\x1b[31m\u2028x")
    told = stream.getvalue()
    assert len(told.splitlines()) == 1
    assert "\x1b" not in told


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("GET /x?apiKey=abc123&limit=5", "GET /x?apiKey=<secret>&limit=5"),
        ("Authorization: Bearer abc123 x", "Authorization: Bearer <secret> x"),
        ("{'x-massive-proxy-token': 'abc123'}", "{'x-massive-proxy-token': '<secret>'}"),
        ("token=abc123", "token=<secret>"),
        ("no secret here: 12", "no secret here: 12"),
    ],
)
def test_what_stands_where_a_credential_stands_is_blotted_out(text: str, clean: str) -> None:
    assert Blotter().clean(text) == clean


def test_a_blotter_knows_the_longer_secret_first_and_shows_none() -> None:
    blotter = Blotter([Secret("12345678"), Secret("1234567890"), Secret("short")])
    assert blotter.clean("1234567890 12345678 short") == "<secret> <secret> short"
    assert repr(blotter) == "Blotter(2 secrets)"
