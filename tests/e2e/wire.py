"""Raw HTTP and WebSocket of the fidelity tests: bytes and JSON, nothing decoded by massive_lab."""

from __future__ import annotations

import base64
import datetime as dt
import http.client
import itertools
import json
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from zoneinfo import ZoneInfo

from websockets.sync.client import ClientConnection, connect

from massive_lab.sandbox import SandboxProcess

NEW_YORK = ZoneInfo("America/New_York")
CHICAGO = ZoneInfo("America/Chicago")
NS = 1_000_000_000
BARS = "/v2/aggs/ticker/{}/range/{}/{}/{}/{}"
MINUTES = BARS.format("AAPL", 1, "minute", "2018-12-18", "2018-12-18")
SNAPSHOTS = "/v2/snapshot/locale/us/markets/stocks"
CALL = "O:AAPL181221C00115000"


def ask(
    sandbox: SandboxProcess,
    target: str,
    *,
    key: str | None = "sandbox",
    method: str = "GET",
    headers: dict[str, str] | None = None,
) -> tuple[int, dict[str, str], bytes]:
    """One request whose bytes are those given."""
    connection = http.client.HTTPConnection(sandbox.rest_url.removeprefix("http://"), timeout=60)
    connection.putrequest(method, target.removeprefix(sandbox.rest_url), skip_accept_encoding=True)
    sent = {} if key is None else {"Authorization": f"Bearer {key}"}
    for name, value in {**sent, **(headers or {})}.items():
        connection.putheader(name, value)
    connection.endheaders()
    response = connection.getresponse()
    answer = response.status, dict(response.getheaders()), response.read()
    connection.close()
    return answer


def get(sandbox: SandboxProcess, target: str, *, key: str = "sandbox") -> Any:
    status, headers, body = ask(sandbox, target, key=key)
    assert (status, headers["Content-Type"]) == (200, "application/json"), (target, body[:300])
    return json.loads(body)


def pages(sandbox: SandboxProcess, target: str) -> list[Any]:
    """All pages of a list, each `next_url` followed as it is."""
    out = [get(sandbox, target)]
    while "next_url" in out[-1]:
        assert out[-1]["next_url"].startswith(f"{sandbox.rest_url}/")
        out.append(get(sandbox, out[-1]["next_url"]))
    return out


def rows_of(found: Sequence[Any]) -> list[Any]:
    return list(itertools.chain.from_iterable(page.get("results", []) for page in found))


def cursor_of(url: str) -> dict[str, str]:
    """The cursor of a `next_url`, which holds nothing else."""
    (pair,) = parse_qsl(urlsplit(url).query, strict_parsing=True)
    assert pair[0] == "cursor"
    assert "=" not in pair[1]
    text = base64.urlsafe_b64decode(pair[1] + "=" * (-len(pair[1]) % 4)).decode()
    return dict(parse_qsl(text, keep_blank_values=True, strict_parsing=True))


def local(stamp_ms: int, zone: ZoneInfo = NEW_YORK) -> str:
    return dt.datetime.fromtimestamp(stamp_ms / 1000, zone).strftime("%Y-%m-%d %H:%M:%S")


class Wire:
    """A WebSocket client that knows nothing but frames."""

    def __init__(self, sandbox: SandboxProcess, open_socket: ClientConnection, key: str) -> None:
        self.sandbox = sandbox
        self.socket = open_socket
        self.largest = 0
        self._n = 0
        assert self.frame() == [{"ev": "status", "status": "connected", "message": "Connected Successfully"}]
        self.send("auth", key)
        assert self.frame() == [{"ev": "status", "status": "auth_success", "message": "authenticated"}]

    def send(self, action: str, params: str) -> None:
        self.socket.send(json.dumps({"action": action, "params": params}))

    def frame(self) -> list[dict[str, Any]]:
        text = self.socket.recv(30)
        self.largest = max(self.largest, len(text))
        found = json.loads(text)
        assert isinstance(found, list)
        return found

    def all(self) -> list[dict[str, Any]]:
        """Everything sent so far: up to the confirmation of a topic that has no events."""
        self._n += 1
        self.send("subscribe", f"AM.NOSUCH{self._n}")
        last = {"ev": "status", "status": "success", "message": f"subscribed to: AM.NOSUCH{self._n}"}
        out: list[dict[str, Any]] = []
        while last not in out:
            out += self.frame()
        out.remove(last)
        return out

    def subscribe(self, params: str) -> list[tuple[str, str]]:
        self.send("subscribe", params)
        return [(item["status"], item["message"]) for item in self.all()]

    def events(self) -> list[dict[str, Any]]:
        out = self.all()
        assert all(item["ev"] != "status" for item in out)
        return out

    def jump(self, seconds: float) -> tuple[int, int]:
        """Let virtual time pass; returns both ends of it."""
        start = self.sandbox.control.status()["now_ns"]
        return start, self.sandbox.control.jump(seconds)


@contextmanager
def wire(sandbox: SandboxProcess, cluster: str, *, key: str = "sandbox") -> Iterator[Wire]:
    with connect(f"{sandbox.ws_url}/{cluster}", compression=None, max_size=1_000_000) as open_socket:
        yield Wire(sandbox, open_socket, key)


def raw_socket(sandbox: SandboxProcess, cluster: str) -> socket.socket:
    host, port = sandbox.ws_url.removeprefix("ws://").split(":")
    raw = socket.create_connection((host, int(port)), 30)
    lines = [
        *(f"GET /{cluster} HTTP/1.1", f"Host: {host}:{port}", "Upgrade: websocket", "Connection: Upgrade"),
        *("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"),
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
    ]
    raw.sendall("\r\n".join([*lines, "", ""]).encode())
    return raw


def client_frame(message: dict[str, str]) -> bytes:
    data = json.dumps(message).encode()
    assert len(data) < 126
    return bytes([0x81, 0x80 | len(data), 0, 0, 0, 0]) + data


def read_to_end(raw: socket.socket) -> bytes:
    out = b""
    # What the sandbox has not read when it cuts the line makes the end a reset instead of a FIN.
    with suppress(ConnectionResetError):
        while data := raw.recv(65536):
            out += data
    return out
