"""A small count of each fuzz run; `make fuzz` does the large ones."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import random
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

FUZZ = Path(__file__).resolve().parents[2] / "fuzz"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FUZZ))
    return importlib.import_module("fuzz_gateway")


def test_mutated_answers_are_decoded_or_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(str(FUZZ))
    monkeypatch.setattr("sys.argv", ["fuzz_decode", "--count", "100", "--seed", "1"])
    assert importlib.import_module("fuzz_decode").main() == 0
    assert capsys.readouterr().out.startswith("100 answers: ")


def test_a_gateway_survives_mutated_requests_and_frames(load: ModuleType) -> None:
    outcomes: Counter[str] = asyncio.run(load.run(128, 1))
    assert {"http 200", "http 400", "parsed", "socket pong"} <= set(outcomes)
    assert outcomes["asked upstream"] > 0


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\nX: zq<Zq7>qz\r\n\r\n", b"x"])
def test_the_fuzz_objects_to_an_answer_that_repeats_the_request_and_to_none(
    load: ModuleType, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(load, "HANG_S", 0.2)

    ended = asyncio.Event()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = await reader.read(1_000)
        if len(body) > 1:
            writer.write(b"HTTP/1.1 400 Bad\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        with contextlib.suppress(ConnectionError):
            await reader.read()
            writer.close()
            await writer.wait_closed()
        ended.set()

    async def attempt() -> None:
        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            try:
                await load.try_request(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", sent)
            finally:
                await ended.wait()

    with pytest.raises(load.Finding, match=r"repeated|no answer"):
        asyncio.run(attempt())


def test_a_step_draws_the_same_bytes_again(load: ModuleType) -> None:
    assert load.make_request(random.Random("7/1")) == load.make_request(random.Random("7/1"))
    assert load.make_talk(random.Random("7/2")) == load.make_talk(random.Random("7/2"))
