"""``connect("http://gateway", token=...)``: what it reads, what it asks, and whom it believes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import massive_lab as ml
from massive_lab.config import ProxyToken, read_gateway_address
from massive_lab.errors import ConfigError, ConnectionLost, InvalidRequest

TOKEN = "canary-token-0123456789"
DOCUMENT = json.dumps({"openapi": "3.1.0", "info": {"title": "a gateway"}})


class Peer(ThreadingHTTPServer):
    """Answers every GET alike, and remembers who asked what."""

    def __init__(self) -> None:
        self.status, self.body, self.label = 200, DOCUMENT, ""
        self.asked: list[tuple[str, str | None]] = []
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Peer

    def do_GET(self) -> None:
        peer = self.server
        peer.asked.append((self.path, self.headers.get("Authorization")))
        body = peer.body.encode()
        self.send_response(peer.status)
        self.send_header("Content-Length", str(len(body)))
        if peer.label:
            self.send_header("X-Massive-Lab", peer.label)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
        pass


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("MASSIVE_API_KEY", "MASSIVE_PROXY_TOKEN", "MASSIVE_REST_URL", "MASSIVE_WS_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("url", "rest", "ws"),
    [
        ("http://gw:8480", "http://gw:8480", "ws://gw:8480"),
        ("https://data.desk.example/", "https://data.desk.example", "wss://data.desk.example"),
        ("HTTPS://gw", "https://gw", "wss://gw"),
        ("http://[::1]:8480", "http://[::1]:8480", "ws://[::1]:8480"),
    ],
)
def test_both_addresses_come_from_one(url: str, rest: str, ws: str) -> None:
    settings = read_gateway_address(url, token=TOKEN, environ={})
    assert (settings.rest_url, settings.ws_url) == (rest, ws)
    assert isinstance(settings.api_key, ProxyToken)
    assert "canary" not in repr(settings)


@pytest.mark.parametrize(
    "url",
    [
        "http://", "http://gw/path", "http://user:canary-pass@gw", "http://gw?x=1", "http://gw#x", "http://gw:0", "http://gw gw",
        "http://gw:port", "ws://gw",
    ],
)  # fmt: skip
def test_an_address_that_is_none_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigError, match="not usable") as caught:
        read_gateway_address(url, token=TOKEN, environ={})
    assert "canary" not in str(caught.value)


def test_the_token_comes_from_the_argument_the_environment_or_the_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MASSIVE_PROXY_TOKEN=of-the-file\n")
    cases = [("given", {"MASSIVE_PROXY_TOKEN": "of-env"}, "given"), (None, {"MASSIVE_PROXY_TOKEN": "of-env"}, "of-env")]
    for token, environ, expected in [*cases, (None, {}, "of-the-file")]:
        assert read_gateway_address("http://gw", token=token, environ=environ).api_key.reveal() == expected


def test_a_key_is_never_sent_to_a_gateway_in_place_of_a_token(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASSIVE_API_KEY", "canary-key")
    with pytest.raises(ConfigError, match="MASSIVE_PROXY_TOKEN"):
        ml.connect(peer.url)
    assert peer.asked == []


@pytest.mark.parametrize("token", ["", "two words", "line\n", "\u00fc"])
def test_a_malformed_token_is_refused_before_anything_is_sent(token: str, peer: Peer) -> None:
    with pytest.raises(ConfigError, match="token"):
        ml.connect(peer.url, token=token)
    assert peer.asked == []


@pytest.mark.parametrize(
    ("target", "more"),
    [
        (None, {"token": TOKEN}),
        ("sandbox", {"token": TOKEN}),
        ("http://gw", {"token": TOKEN, "api_key": "canary-key"}),
        ("http://gw", {"token": TOKEN, "sandbox": {"rest_url": "http://127.0.0.1:9", "ws_url": "ws://127.0.0.1:9"}}),
    ],
    ids=["no address", "sandbox", "key and token", "sandbox and token"],
)
def test_arguments_that_do_not_go_together_are_refused(target: str | None, more: dict) -> None:
    with pytest.raises(InvalidRequest, match="gateway") as caught:
        ml.connect(target, **more)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(("label", "synthetic"), [("SANDBOX", True), ("", False), ("else", False)])
def test_the_gateway_says_whether_its_data_are_synthetic(label: str, synthetic: bool, peer: Peer) -> None:
    peer.label = label
    with ml.connect(peer.url, token=TOKEN) as lab:
        assert lab.settings.sandbox is synthetic
        for shown in (repr(lab), repr(lab.live)):
            assert ("SANDBOX" in shown) is synthetic
            assert "canary" not in shown
    assert peer.asked == [("/api/massive/openapi.json", f"Bearer {TOKEN}")]


def test_the_async_client_asks_as_well(peer: Peer) -> None:
    import asyncio

    peer.label = "SANDBOX"

    async def use() -> bool:
        async with ml.aconnect(peer.url, token=TOKEN, frame="pandas") as lab:
            return lab.settings.sandbox

    assert asyncio.run(use()) is True


@pytest.mark.parametrize(
    ("status", "body"),
    [(404, "{}"), (200, "<html>"), (200, "[]"), (200, "{}"), (200, ""), (401, DOCUMENT)],
    ids=["no such path", "a page", "a list", "another document", "nothing", "refused"],
)
def test_what_is_no_gateway_is_told_so(status: int, body: str, peer: Peer) -> None:
    peer.status, peer.body = status, body
    with pytest.raises(ConfigError, match=f"is not a gateway: HTTP {status}") as caught:
        ml.connect(peer.url, token=TOKEN)
    assert "massive-lab gateway" in caught.value.hint
    assert "canary" not in str(caught.value)


def test_nobody_at_the_address_is_a_lost_connection_and_leaves_no_thread() -> None:
    before = threading.active_count()
    with pytest.raises(ConnectionLost):
        ml.connect("http://127.0.0.1:9", token=TOKEN, max_attempts=1)
    assert threading.active_count() == before


def test_a_refused_token_is_called_a_token(peer: Peer) -> None:
    with ml.connect(peer.url, token=TOKEN) as lab:
        peer.status, peer.body = 401, '{"status":"ERROR","request_id":"r","error":"Unknown API Key"}'
        with pytest.raises(ml.Unauthorized) as caught:
            lab.market_status()
    assert "MASSIVE_PROXY_TOKEN" in caught.value.hint
    assert "MASSIVE_API_KEY" not in str(caught.value)
    assert "canary" not in str(caught.value)


def test_another_token_stays_a_token(peer: Peer) -> None:
    with ml.connect(peer.url, token=TOKEN) as lab:
        lab.live.retry("another-token-0123456789")
        assert isinstance(lab.settings.api_key, ProxyToken)


@pytest.mark.parametrize(
    ("more", "calls"),
    [({}, 1_200), ({"calls_per_minute": 600}, 600), ({"calls_per_minute": None}, None), ({"plan": "basic"}, 5)],
    ids=["usual", "less", "no limit", "plan"],
)
def test_the_client_paces_itself_as_a_gateway_counts(more: dict, calls: int | None, peer: Peer) -> None:
    with ml.connect(peer.url, token=TOKEN, **more) as lab:
        assert lab.settings.calls_per_minute == calls
