"""Send a gateway what no client should: `python fuzz/fuzz_gateway.py [--count N] [--seed S]`.

Bounded by count, not by time, and repeatable by seed. A real gateway on the loopback interface stands before a scripted vendor
that answers everything with 200. Whatever the bytes of a request, of a WebSocket frame or of a control message, there is no
answer of 500 or more, no hang, no log record of an error, no mark of the request in an answer or in the log, and nothing goes
up but GET for a path on the list, without the client's credential, and subscriptions to topics that exist. After every batch a
plain request is asked. The parsers (of upstream frames, of control messages, of request targets) are given mutated bytes
directly as well.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import re
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from aiohttp import WSMsgType, web
from fuzz_decode import mutate

from massive_lab.config import Secret, Settings
from massive_lab.decode.stream import StreamDecoder
from massive_lab.gateway import rest
from massive_lab.gateway.admission import Admission
from massive_lab.gateway.app import Gateway
from massive_lab.gateway.config import GatewaySettings
from massive_lab.gateway.control import Ask, Bad, read_control, topics_of
from massive_lab.gateway.paths import Refusal, Upstream, route
from massive_lab.gateway.tokens import TokenRule
from massive_lab.gateway.vendor import TEMPLATES
from massive_lab.live.topics import CLUSTERS, Topic

KEY, SECRET, TOKEN = "canary-key-0123456789", "canary-secret-0123456789-0123456789", "canary-desk-0123456789"
MARK = "zq<Zq7>qz"
"""In no path, topic or answer; where it comes back, something of the request was repeated."""
BATCH = 128
HANG_S = 15.0
QUIET_S = 0.25
CLOSE_CODES = frozenset((1000, 1002, 1003, 1007, 1008, 1009, 1012))

METHODS = ("GET",) * 30 + ("POST", "POST", "OPTIONS", "HEAD", "PUT", "CONNECT", "get", "TRACE", "GET\t", MARK)
TARGETS = (
    "/v2/aggs/ticker/AAPL/range/1/minute/2025-06-02/2025-06-03?limit=5",
    "/v3/trades/AAPL?timestamp.gte=2025-06-02&apiKey=" + TOKEN,
    "/v3/snapshot/options/I%3ASPX?cursor=YXA9",
    "/v3/reference/options/contracts?underlying_ticker=SPX",
    "/v1/marketstatus/now",
    "/api/massive/stocks/bars?ticker=AAPL&timeframe=5m&from=2025-01-02&to=2025-01-03",
    "/api/massive/options/chain?underlying=SPY",
    "/api/massive/indices?tickers=I:SPX,I:VIX",
    "/api/massive/v3/quotes/AAPL",
    "/api/massive/ws-token?cluster=stocks",
    "/api/massive/openapi.json",
    "/stocks",
    "/ws/options?token=x",
    "http://elsewhere.example/v3/trades/AAPL",
    "//elsewhere.example/v3/trades/AAPL",
    "*",
)
INSERTS = (
    *("..", "%2e%2e", "%252e", "/", "//", "%2f", "\\", "%5c", "@", "#", "?", "&", "=", ";", "%", "%00", "%0d%0a", ":", "\t"),
    *("é", "\x00", "\r\n", " ", MARK, "&apiKey=x", "&token=x", "a" * 9_000, "http://", "[::1]", "%zz", "%c0%af", "\ud83d\ude00"),
)  # fmt: skip
HANDSHAKE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)
HEADERS = (
    "Content-Length: 0",
    "Content-Length: 5",
    "Content-Length: -1",
    "Content-Length: 5, 5",
    "Content-Length: 99999999999999999999",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding: \x0bchunked",
    "Host: elsewhere.example",
    "Host: " + MARK,
    "Host:",
    "X-Forwarded-Host: elsewhere.example",
    "Connection: close",
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Upgrade: h2c",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Version: " + MARK,
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    "Sec-WebSocket-Key: " + MARK,
    "Sec-WebSocket-Extensions: permessage-deflate; " + MARK,
    "Sec-WebSocket-Protocol: " + MARK,
    "Expect: 100-continue",
    "Expect: " + MARK,
    "Content-Encoding: gzip",
    "Accept-Encoding: gzip;q=" + MARK,
    "Accept-Encoding: gzip",
    "Origin: https://elsewhere.example",
    "Origin: " + MARK,
    "Access-Control-Request-Method: GET",
    "Access-Control-Request-Headers: " + MARK,
    "Range: bytes=0-5",
    "Cookie: " + MARK,
    "x-massive-proxy-token: " + TOKEN,
    "x-massive-proxy-token: " + MARK,
    "Authorization: Basic " + MARK,
    "X-Request-Id: " + MARK,
    " folded: " + MARK,
    MARK,
    "Long: " + "a" * 10_000,
)
BODIES = (
    b"",
    b"hello",
    b'{"cluster":"stocks"}',
    b'{"cluster":"zq<Zq7>qz"}',
    b"[" * 3_000,
    b"5\r\nhello\r\n0\r\n\r\n",
    b"ffffffffffffffffff\r\n",
    b"5;zq<Zq7>qz\r\nhello\r\n0\r\nX: zq<Zq7>qz\r\n\r\n",
    b"0\r\n\r\nGET /v3/secret HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\xff\xfe{",
)
CONTROLS = (
    b'{"action":"subscribe","params":"T.AAPL,AM.*,Q.MSFT"}',
    b'{"action":"unsubscribe","params":"T.AAPL"}',
    b'{"action":"subscribe","params":"V.I:SPX,T.O:SPY251219C00650000,zq<Zq7>qz,T.zq<Zq7>qz"}',
    b'{"action":"auth","params":"zq<Zq7>qz"}',
    b'{"action":"zq<Zq7>qz","params":"T.AAPL"}',
    b'{"action":"subscribe","params":["T.AAPL"]}',
    b'{"action":"subscribe","params":"' + b"," * 25_000 + b'"}',
    b"[" * 5_000,
    b"null",
    b"",
)
EVENTS = (
    b'[{"ev":"T","sym":"AAPL","x":4,"i":"52","z":3,"p":114.125,"s":100,"c":[14,41],"t":1536036818784,"q":3681328},'
    b'{"ev":"Q","sym":"MSFT","bx":4,"bp":114.125,"bs":100,"ax":7,"ap":114.128,"as":160,"c":0,"t":1536036818784,"z":3},'
    b'{"ev":"AM","sym":"GTE","v":4110,"av":9470157,"op":0.4372,"vw":0.4488,"o":0.4488,"c":0.4486,"h":0.4489,"l":0.4486,'
    b'"a":0.4352,"z":685,"s":1610144640000,"e":1610144700000},{"ev":"V","val":3988.5,"T":"I:SPX","t":1678220098130},'
    b'{"ev":"status","status":"success","message":"subscribed to: T.AAPL"},{"ev":"ZZ"}]'
)
_ALLOWED = [re.compile(re.sub(r"\\\{\w+\\\}", "[A-Za-z0-9.:_=-]+", re.escape(each))) for each in TEMPLATES.values()]
_PLAIN = re.compile(r"[!-~]+")


class Finding(Exception):
    """A promise that was not kept."""


@dataclass
class Vendor:
    """Answers everything, and objects to what should not have come."""

    findings: list[str] = field(default_factory=list)
    n_asked: int = 0

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.n_asked += 1
        sent = f"{request.raw_path}\n" + "\n".join(f"{name}: {value}" for name, value in request.headers.items())
        if TOKEN in sent or MARK in "".join(request.headers.values()):
            self.findings.append(f"the client's own went up: {sent!r}")
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._stream(request)
        path = request.raw_path.partition("?")[0]
        if request.method != "GET" or request.can_read_body or not any(each.fullmatch(path) for each in _ALLOWED):
            self.findings.append(f"not on the list: {request.method} {request.raw_path!r}")
        if ".." in path or not _PLAIN.fullmatch(request.raw_path):
            self.findings.append(f"not plain: {request.raw_path!r}")
        return web.json_response({"status": "OK", "results": []})

    async def _stream(self, request: web.BaseRequest) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        cluster = request.path.strip("/")
        if cluster not in CLUSTERS:
            self.findings.append(f"not a cluster: {request.raw_path!r}")
        await socket.send_str('[{"ev":"status","status":"connected","message":"Connected Successfully"}]')
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                continue
            asked = json.loads(message.data)
            if asked["action"] == "auth":
                await socket.send_str('[{"ev":"status","status":"auth_success","message":"authenticated"}]')
                continue
            word = {"subscribe": "subscribed", "unsubscribe": "unsubscribed"}[asked["action"]]
            for wire in asked["params"].split(","):
                try:
                    Topic.parse(next(each for each in CLUSTERS if each == cluster), wire)
                except Exception:  # noqa: BLE001  whatever is wrong with it
                    self.findings.append(f"no topic of {cluster}: {wire!r}")
                status = {"ev": "status", "status": "success", "message": f"{word} to: {wire}"}
                await socket.send_str(json.dumps([status]))
        return socket


class Ear(logging.Handler):
    """Hears the gateway's log as it would be written."""

    def __init__(self, findings: list[str]) -> None:
        super().__init__()
        self.findings = findings

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.endswith(".aiohttp"):
            return  # silent where the gateway runs: it quotes requests
        text = f"{record.getMessage()} {record.__dict__.get('fields', '')} {record.exc_info or ''}"
        if record.levelno >= logging.ERROR:
            self.findings.append(f"logged: {text!r}")
        if any(word in text for word in (MARK, KEY, SECRET, TOKEN)):
            self.findings.append(f"in the log: {text!r}")


# ---- requests


def make_request(draw: random.Random) -> bytes:
    target = draw.choice(TARGETS)
    method = "POST" if "ws-token" in target and draw.random() < 0.8 else draw.choice(METHODS)
    for _ in range(draw.choice((0, 0, 0, 1, 1, 2))):
        at = draw.randrange(draw.choice((0, max(0, target.find("?")))), len(target) + 1)
        target = target[:at] + draw.choice(INSERTS) + target[at:]
    version = draw.choice(("HTTP/1.1",) * 30 + ("HTTP/1.0", "HTTP/2.0", "HTTP/9.9", MARK, ""))
    lines = [f"{method} {target} {version}"]
    if draw.random() < 0.9:
        lines.append("Host: gateway")
    if draw.random() < 0.8:
        lines.append(f"Authorization: Bearer {TOKEN}")
    if target.endswith("/stocks") or "/ws/" in target:
        lines += [each for each in HANDSHAKE if draw.random() < 0.93]
    lines += draw.choices(HEADERS, k=draw.choice((0, 0, 0, 1, 1, 2, 4)))
    body = draw.choice(BODIES) if draw.random() < 0.25 else b""
    if body and draw.random() < 0.6:
        lines.append(f"Content-Length: {len(body)}")
    if draw.random() < 0.02:
        lines += [f"X-{i}: {i}" for i in range(200)]
    end = draw.choice(("\r\n",) * 60 + ("\n", "\r"))
    data = (end.join(lines) + end * 2).encode("utf-8", "surrogatepass") + body
    return mutate(data, draw) if draw.random() < 0.15 else data


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and everything of the first final answer; 0 when the connection was closed without one."""
    whole = b""
    while True:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            return 0, whole + error.partial
        whole += head
        status = int(head.split(b" ", 2)[1])
        if status == 101 or status >= 200:
            break
    size = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    if size is None and status not in (101, 204, 304):
        raise Finding(f"an answer without a length: {head!r}")
    try:
        async with asyncio.timeout(QUIET_S):
            whole += await (reader.read(65_536) if size is None else reader.readexactly(int(size[1])))
    except TimeoutError:
        pass  # to HEAD there is no body; a WebSocket waits
    except asyncio.IncompleteReadError as error:
        whole += error.partial
    return status, whole


async def try_request(url: str, data: bytes) -> str:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1 << 22)
    try:
        writer.write(data)
        async with asyncio.timeout(HANG_S):
            status, whole = await read_answer(reader)
    except TimeoutError:
        raise Finding("no answer and no end") from None
    except ConnectionError:
        return "reset"
    finally:
        writer.transport.abort()
    if status >= 500:
        raise Finding(f"answered {status}: {whole[:500]!r}")
    for word in (MARK, KEY, SECRET, TOKEN):
        if word.encode() in whole:
            raise Finding(f"repeated: {whole[:1_000]!r}")
    return f"{status}" if status else "closed"


# ---- frames


def make_frame(payload: bytes, opcode: int = 1, first: int = 0x80, mask: int = 0x80) -> bytes:
    size = len(payload)
    head = bytes((mask | size,)) if size < 126 else bytes((mask | 126,)) + size.to_bytes(2, "big")
    if size >= 65_536:
        head = bytes((mask | 127,)) + size.to_bytes(8, "big")
    # A mask of zeros leaves the payload as it is.
    return bytes((first | opcode,)) + head + (bytes(4) if mask else b"") + payload


def make_talk(draw: random.Random) -> tuple[bytes, bool]:
    """Frames, and whether they are whole, so that the ping behind them must be answered unless the connection ends."""
    frames = []
    if draw.random() < 0.8:
        frames.append(make_frame(b'{"action":"auth","params":"%s"}' % TOKEN.encode()))
    for _ in range(draw.randint(1, 5)):
        payload = draw.choice(CONTROLS)
        if draw.random() < 0.5:
            payload = mutate(payload, draw)
        kind = draw.random()
        if kind < 0.6:
            frames.append(make_frame(payload, draw.choice((1, 1, 1, 2))))
        elif kind < 0.7:
            half = len(payload) // 2
            frames += [make_frame(payload[:half], 1, 0), make_frame(b"", 9), make_frame(payload[half:], 0)]
        elif kind < 0.8:
            frames.append(make_frame(payload[:125], draw.choice((8, 9, 10))))
        else:
            opcode, first = draw.randrange(16), draw.choice((0, 0x80, 0xC0, 0xF0))
            frames.append(make_frame(payload, opcode, first, draw.choice((0, 0x80, 0x80))))
    data, is_whole = b"".join(frames), True
    if draw.random() < 0.2:
        data, is_whole = mutate(data, draw), False
    if draw.random() < 0.05:
        data, is_whole = data + b"\x81\xff" + draw.choice((1 << 20, 1 << 40, 1 << 63)).to_bytes(8, "big"), False
    return data + make_frame(b"still there", 9), is_whole


async def try_talk(url: str, cluster: str, data: bytes, is_whole: bool) -> str:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1 << 22)
    try:
        writer.write("\r\n".join((f"GET /{cluster} HTTP/1.1", "Host: gateway", *HANDSHAKE, "", "")).encode())
        async with asyncio.timeout(HANG_S):
            head = await reader.readuntil(b"\r\n\r\n")
        if b" 101 " not in head[:20]:
            raise Finding(f"not let in: {head!r}")
        writer.write(data)
        async with asyncio.timeout(HANG_S if is_whole else QUIET_S):
            return await _listen(reader)
    except TimeoutError:
        if is_whole:
            raise Finding("neither a pong nor an end") from None
        return "waits"
    except (ConnectionError, asyncio.IncompleteReadError):
        return "cut"
    finally:
        writer.transport.abort()


async def _listen(reader: asyncio.StreamReader) -> str:
    while True:
        first, size = await reader.readexactly(2)
        if size in (126, 127):
            size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8), "big")
        payload = await reader.readexactly(size)
        if first == 0x8A:
            if payload == b"still there":
                return "pong"
        elif first == 0x88:
            code = int.from_bytes(payload[:2], "big")
            if (payload and code not in CLOSE_CODES) or MARK.encode() in payload:
                raise Finding(f"closed with {payload!r}")
            return f"close {code}"
        elif first == 0x81:
            if any(word.encode() in payload for word in (MARK, KEY, SECRET, TOKEN)):
                raise Finding(f"repeated: {payload[:500]!r}")
            if not all(each["ev"] == "status" for each in json.loads(payload)):
                raise Finding(f"not asked for: {payload[:500]!r}")
        elif first != 0x89:
            raise Finding(f"no frame of a server: {first:02x}")


# ---- parsers


def check_stream(data: bytes) -> None:
    decoder = StreamDecoder()
    n_read = len(decoder.decode(data))
    if n_read + len(decoder.take_faults()) + sum(decoder.unknown.values()) == 0 and b"[]" not in data:
        raise Finding("lost without a word")


def check_control(data: bytes) -> None:
    control = read_control(data)
    if isinstance(control, Bad) and MARK in control.text:
        raise Finding(f"repeated: {control.text}")
    if isinstance(control, Ask):
        topics = [each for cluster in CLUSTERS for each in topics_of(cluster, control.wires)]
        if len(topics) != len(CLUSTERS) * len(control.wires):
            raise Finding(f"{len(control.wires)} texts, {len(topics)} verdicts")
        if any(topic is not None and MARK in topic.wire for topic in topics):
            raise Finding("the mark is a topic")


def check_target(data: bytes) -> None:
    where = route("GET", data.decode("latin-1"))
    if isinstance(where, Refusal) and MARK in where.message:
        raise Finding(f"repeated: {where.message}")
    if isinstance(where, Upstream):
        path = where.target.partition("?")[0]
        if ".." in path or not _PLAIN.fullmatch(where.target) or not any(each.fullmatch(path) for each in _ALLOWED):
            raise Finding(f"not on the list: {where.target!r}")


Parser = tuple[tuple[bytes, ...], Callable[[bytes], None]]
PARSERS: tuple[Parser, ...] = (
    ((EVENTS,), check_stream),
    (CONTROLS, check_control),
    (tuple(target.encode() for target in TARGETS), check_target),
)


# ---- the run


async def run(count: int, seed: int) -> Counter[str]:
    """`count` mutations: half of them requests, a tenth conversations, the others for the parsers."""
    outcomes: Counter[str] = Counter()
    vendor = Vendor()
    findings = vendor.findings
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: findings.append(f"unhandled: {context}"))
    ear = Ear(findings)
    log = logging.getLogger("massive_lab.gateway")
    before = log.level, rest._POST_S
    logs = log, logging.getLogger("aiohttp.websocket")
    for each in logs:
        each.addHandler(ear)
    log.setLevel(logging.DEBUG)
    rest._POST_S = 0.3
    server = web.Server(vendor.handle, access_log=None, max_line_size=32_768)
    listener = await loop.create_server(server, "127.0.0.1", 0)
    address = f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    many = 1_000_000
    gateway = Gateway(
        GatewaySettings(
            (TokenRule("desk", Secret(TOKEN)),),
            Secret(SECRET),
            port=0,
            admin_port=0,
            calls_per_minute_token=many,
            calls_per_minute_total=many,
        ),
        Settings(Secret(KEY), rest_url=f"http://{address}", ws_url=f"ws://{address}"),
        head_s=0.3,
    )
    for edge in gateway._edges:
        edge.silent_s = 0.3
    gateway.sockets._admission = Admission(many, many, many)  # who comes too fast is another matter
    await gateway.start()
    try:
        for start in range(0, count, BATCH):
            steps = range(start, min(count, start + BATCH))
            draws = [random.Random(f"{seed}/{step}") for step in steps]
            outcomes.update(await asyncio.gather(*(_step(gateway.url, draw) for draw in draws)))
            if findings:
                raise Finding(f"seed {seed}, steps {steps}: {findings[0]}")
            plain = f"GET /v1/marketstatus/now HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
            if (found := await try_request(gateway.url, plain.encode())) != "200":
                raise Finding(f"seed {seed}, after {steps}: a plain request is answered with {found}")
        async with asyncio.timeout(HANG_S):
            while gateway.sockets.n_clients or gateway._rest.n_active:  # noqa: ASYNC110  nobody tells
                await asyncio.sleep(0.01)
        if any(word in gateway.metrics.text() for word in (MARK, KEY, SECRET, TOKEN)):
            raise Finding("in the metrics")
    finally:
        await gateway.close()
        listener.close()
        await server.shutdown(0.5)
        for each in logs:
            each.removeHandler(ear)
        log.setLevel(before[0])
        rest._POST_S = before[1]
    if findings:
        raise Finding(f"seed {seed}, at the end: {findings[0]}")
    outcomes["asked upstream"] = vendor.n_asked
    return outcomes


async def _step(url: str, draw: random.Random) -> str:
    kind, data = draw.random(), b""
    try:
        if kind < 0.5:
            data = make_request(draw)
            return f"http {await try_request(url, data)}"
        if kind < 0.6:
            cluster = draw.choice(CLUSTERS)
            data, is_whole = make_talk(draw)
            return f"socket {await try_talk(url, cluster, data, is_whole)}"
        sources, check = draw.choice(PARSERS)
        data = mutate(draw.choice(sources), draw)
        check(data)
        return "parsed"
    except Exception as error:
        error.add_note(f"sent: {data[:3_000]!r}")
        raise


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    try:
        outcomes: Any = asyncio.run(run(args.count, args.seed))
    except Exception as error:  # noqa: BLE001 - whatever is raised is what is looked for
        notes = "\n".join(getattr(error, "__notes__", ()))
        print(f"finding: seed {args.seed}: {type(error).__name__}: {error}\n{notes}")
        return 1
    print(f"{args.count} mutations: {dict(sorted(outcomes.items()))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
