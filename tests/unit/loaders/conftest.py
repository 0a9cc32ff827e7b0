"""A real HTTP server on loopback whose answers a test writes down, and a session that talks to it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest

from massive_lab.config import Secret, Settings
from massive_lab.loaders.session import Session
from massive_lab.telemetry import Event
from massive_lab.transports.runner import Runner

Answer = tuple[int, Any]


class Server:
    """Answers from a function of path and query; remembers what was asked."""

    def __init__(self) -> None:
        self.answer: Callable[[str, dict[str, str]], Answer] = lambda path, query: (404, {"status": "NOT_FOUND"})
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.keys: list[str | None] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                path, query = unquote(parts.path), dict(parse_qsl(parts.query))
                outer.asked.append((path, query))
                outer.keys.append(self.headers.get("Authorization"))
                status, body = outer.answer(path, query)
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.send_header("X-Request-Id", f"r{len(outer.asked)}")
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                return

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class Desk:
    """A session on a loop thread of its own, called from the test's thread."""

    def __init__(self, url: str, **changes: Any) -> None:
        self.runner = Runner("test-io")
        plan = changes.pop("plan", None)
        settings = Settings(api_key=Secret("canary-key"), rest_url=url, max_attempts=1).with_(**changes)
        self.session = Session(settings, plan=plan, progress=False)
        self.events: list[Event] = []
        self.session.telemetry.add(self.events.append)

    def run(self, work: Any) -> Any:
        return self.runner.call(work, timeout=60)

    def close(self) -> None:
        self.run(self.session.aclose())
        self.runner.close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def desk(server: Server) -> Iterator[Desk]:
    desk = Desk(server.url)
    yield desk
    desk.close()
