"""REST of the gateway against a vendor of one's own: what goes up, what comes back, what is refused."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from typing import Any

import pytest
from aiohttp import web

from massive_lab.clock import ManualClock
from massive_lab.config import Secret
from massive_lab.gateway.tokens import TokenRule

KEY = "canary-key-0123456789"
DESK, OTHER = "canary-desk-0123456789", "canary-other-0123456789"
TRADES = "/v3/trades/AAPL"

pytestmark = pytest.mark.asyncio


# what goes up


async def test_only_the_key_and_nothing_of_the_client_goes_up(serve: Any, vendor: Any, ask: Any) -> None:
    gateway = await serve()
    sent = {
        "Cookie": "c=1",
        "X_Forwarded_For": "1.2.3.4",
        "X_Forwarded_Host": "evil.example",
        "Forwarded": "host=evil.example",
        "User_Agent": "curl",
        "X_Massive_Edge_ID": "edge",
        "Connection": "close, X-Hop",
        "X_Hop": "1",
        "Via": "1.1 x",
        "Referer": "http://evil.example",
    }
    assert (await ask(gateway.url, TRADES, **sent)).status == 200
    (seen,) = vendor.seen
    assert seen.headers.keys() == {"host", "authorization", "accept", "accept-encoding", "user-agent", "connection"}
    assert seen.headers["authorization"] == f"Bearer {KEY}"
    assert seen.headers["host"] == vendor.url.removeprefix("http://")
    assert "evil" not in str(seen)
    assert DESK not in str(seen)


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        (TRADES, {"Authorization": f"Bearer {DESK}"}),
        (TRADES, {"authorization": f"bearer {DESK}"}),
        (TRADES, {"x-massive-proxy-token": DESK}),
        (f"{TRADES}?apiKey={DESK}", {}),
        (f"{TRADES}?APIKEY={DESK}", {}),
        (f"{TRADES}?apiKey={DESK}", {"Authorization": f"Bearer {DESK}"}),
    ],
    ids=["bearer", "lower case", "proxy header", "apiKey", "APIKEY", "twice the same"],
)
async def test_the_token_may_come_in_every_usual_way(
    serve: Any, vendor: Any, ask: Any, target: str, headers: dict[str, str]
) -> None:
    gateway = await serve()
    assert (await ask(gateway.url, target, token=None, **headers)).status == 200
    assert vendor.seen[0].target == TRADES


@pytest.mark.parametrize(
    ("token", "text"),
    [(None, "API Key was not provided"), ("wrong", "Unknown API Key"), (DESK + "x", "Unknown API Key")],
    ids=["none", "wrong", "longer"],
)
async def test_who_has_no_token_gets_401(serve: Any, vendor: Any, ask: Any, token: str | None, text: str) -> None:
    gateway = await serve()
    answer = await ask(gateway.url, TRADES, token=token)
    told = json.loads(answer.body)
    assert (answer.status, told["status"], told["error"]) == (401, "ERROR", text)
    assert told["request_id"] == answer.headers["x-request-id"]
    assert vendor.seen == []


async def test_two_tokens_that_differ_are_none(serve: Any, vendor: Any, ask: Any) -> None:
    gateway = await serve()
    assert (await ask(gateway.url, f"{TRADES}?apiKey={OTHER}")).status == 401
    assert vendor.seen == []


async def test_unknown_parameters_go_up_as_they_came(serve: Any, vendor: Any, ask: Any) -> None:
    gateway = await serve()
    query = "limit=5&options=%3Cobject+at+0x7f%3E&timestamp.gte=1&x=a%2Cb&empty="
    assert (await ask(gateway.url, f"{TRADES}?{query}&apiKey={DESK}")).status == 200
    assert vendor.seen[0].target == f"{TRADES}?{query}"


async def test_a_base_that_ends_in_a_slash_works(serve: Any, vendor: Any, ask: Any) -> None:
    gateway = await serve()
    assert (await ask(gateway.url, f"/{TRADES}")).status == 200
    assert vendor.seen[0].target == TRADES
    assert (await ask(gateway.url, f"//{vendor.url.removeprefix('http://')}{TRADES}")).status == 404


# what comes back


async def test_a_body_without_addresses_is_the_vendor_s_own_bytes(serve: Any, vendor: Any, ask: Any) -> None:
    gateway = await serve()
    packed = gzip.compress(b'{"results":{"p":1.1000,"t":1545145200000000001}}' * 100, 9, mtime=7)
    vendor.will(packed, Content_Encoding="gzip")
    kept = await ask(gateway.url, "/v2/last/trade/AAPL", Accept_Encoding="gzip")
    assert kept.headers["content-encoding"] == "gzip"
    assert kept.body == packed
    plain = await ask(gateway.url, "/v2/last/trade/AAPL")
    assert "content-encoding" not in plain.headers
    assert plain.body == gzip.decompress(packed)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("accepts", ["identity", "gzip"])
async def test_addresses_are_rewritten_and_everything_else_kept(
    serve: Any, vendor: Any, ask: Any, packed: bool, accepts: str
) -> None:
    gateway = await serve()
    page = '{"results":[{"p":1.10,"x":"%s"}], "next_url": "%s/v3/trades/AAPL?cursor=abc&apiKey=zzz"}'
    body = (page % ("y" * 2_000, vendor.url)).encode()
    vendor.will(gzip.compress(body) if packed else body, **({"Content_Encoding": "gzip"} if packed else {}))
    answer = await ask(gateway.url, TRADES, Accept_Encoding=accepts)
    inside = gzip.decompress(answer.body) if "content-encoding" in answer.headers else answer.body
    assert inside.decode() == (page % ("y" * 2_000, gateway.url)).replace("&apiKey=zzz", "")
    assert ("content-encoding" in answer.headers) == (packed and accepts == "gzip")


async def test_the_last_page_keeps_its_compressed_bytes(serve: Any, vendor: Any, ask: Any) -> None:
    gateway = await serve()
    packed = gzip.compress(b'{"results":[]}' * 100)
    vendor.will(packed, Content_Encoding="gzip")
    assert (await ask(gateway.url, TRADES, Accept_Encoding="gzip")).body == packed


async def test_the_public_address_is_the_one_that_was_called_or_the_one_configured(
    serve: Any, vendor: Any, ask: Any
) -> None:
    vendor.will(f'{{"next_url":"{vendor.url}/v3/x?cursor=1"}}'.encode())
    called = await ask((await serve()).url, TRADES, Host="gw.desk.example:8480")
    assert called.body == b'{"next_url":"http://gw.desk.example:8480/v3/x?cursor=1"}'
    configured = await ask((await serve(public_url="https://data.desk.example")).url, TRADES, Host="anything.example")
    assert configured.body == b'{"next_url":"https://data.desk.example/v3/x?cursor=1"}'


@pytest.mark.parametrize("body", [b'{"next_url":"https://evil.example/v3/x"}', b'{"next_url":"//evil.example"}'])
async def test_a_page_of_another_host_is_no_answer(serve: Any, vendor: Any, ask: Any, body: bytes) -> None:
    gateway = await serve()
    vendor.will(body)
    answer = await ask(gateway.url, TRADES)
    assert answer.status == 502
    assert b"evil" not in answer.raw


# errors keep their meaning

NOT_ENTITLED = b'{"status":"NOT_AUTHORIZED","request_id":"v","message":"You are not entitled to this data."}'


@pytest.mark.parametrize(
    ("status", "body", "becomes", "passed"),
    [
        (400, b'{"status":"ERROR","error":"The parameter"}', 400, True),
        (401, b'{"status":"ERROR","error":"Unknown API Key"}', 502, False),
        (403, NOT_ENTITLED, 403, True),
        (404, b'{"status":"NOT_FOUND"}', 404, True),
        (429, b'{"status":"ERROR","error":"exceeded"}', 429, True),
        (301, b"{}", 502, False),
        (500, b'{"error":"x"}', 502, False),
        (502, b'{"error":"x"}', 502, False),
        (503, b'{"error":"x"}', 503, False),
        (504, b'{"error":"x"}', 504, False),
    ],
)
async def test_a_status_of_the_vendor(
    serve: Any, vendor: Any, ask: Any, status: int, body: bytes, becomes: int, passed: bool
) -> None:
    gateway = await serve()
    vendor.will(body, status, Retry_After="7", Location="http://evil.example/")
    answer = await ask(gateway.url, TRADES)
    assert answer.status == becomes
    assert (answer.body == body) == passed
    assert answer.headers["retry-after"] == "7"
    assert answer.headers["x-upstream-request-id"] == "vendor1"
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])
    assert "location" not in answer.headers
    assert len(vendor.seen) == 1  # clients repeat by themselves


@pytest.mark.parametrize("status", [200, 404, 504])
async def test_html_never_reaches_a_client(serve: Any, vendor: Any, ask: Any, status: int) -> None:
    gateway = await serve()

    async def reply(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status, text="<html><script>alert(1)</script>", content_type="text/html")

    vendor.reply = reply
    answer = await ask(gateway.url, TRADES)
    assert answer.status == {200: 502, 404: 404, 504: 504}[status]
    assert b"<" not in answer.body
    assert answer.headers["content-type"] == "application/json"


async def test_a_vendor_that_hangs_is_504_and_one_that_is_gone_502(serve: Any, vendor: Any, ask: Any) -> None:
    never = asyncio.Event()

    async def hang(_: web.BaseRequest) -> web.StreamResponse:
        await never.wait()
        return web.Response()

    async def cut(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100", "Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(b'{"results":')
        assert request.transport is not None
        request.transport.abort()
        return response

    gateway = await serve(upstream={"timeout_s": 0.2})
    vendor.reply = hang
    assert (await ask(gateway.url, TRADES)).status == 504
    never.set()
    vendor.reply = cut
    gateway = await serve()  # a patient one: what is cut must not be late instead
    answer = await ask(gateway.url, TRADES)
    assert (answer.status, json.loads(answer.body)["error"]) == (
        502,
        "The upstream could not be reached, or its answer broke off",
    )
    gone = await serve(upstream={"rest_url": "http://127.0.0.1:9"})
    assert (await ask(gone.url, TRADES)).status == 502


@pytest.mark.parametrize(
    "body", [gzip.compress(b"x" * 1000)[:-9], b"no gzip at all", b""], ids=["cut", "other", "empty"]
)
async def test_a_damaged_body_is_no_answer_for_who_must_read_it(serve: Any, vendor: Any, ask: Any, body: bytes) -> None:
    gateway = await serve()
    vendor.will(body, Content_Encoding="gzip")
    assert (await ask(gateway.url, TRADES)).status == (502 if body else 200)


# asked once


async def test_identical_requests_at_once_are_one(serve: Any, vendor: Any, ask: Any) -> None:
    gateway = await serve()
    release = asyncio.Event()

    async def slow(_: web.BaseRequest) -> web.StreamResponse:
        await release.wait()
        return vendor.json(b'{"results":[1]}')

    vendor.reply = slow
    asks = [asyncio.create_task(ask(gateway.url, TRADES)) for _ in range(20)]
    while gateway._rest.n_active < 20:  # noqa: ASYNC110  the sockets decide
        await asyncio.sleep(0)
    release.set()
    answers = await asyncio.gather(*asks)
    assert len(vendor.seen) == 1
    assert {answer.body for answer in answers} == {b'{"results":[1]}'}
    assert len({answer.headers["x-request-id"] for answer in answers}) == 20
    assert 'massive_gateway_spared_requests_total{source="shared"} 19.0' in gateway.metrics.text()


async def test_code_lists_and_what_the_vendor_calls_public_are_kept(serve: Any, vendor: Any, ask: Any) -> None:
    clock = ManualClock(1_700_000_000_000_000_000)
    gateway = await serve(gateway_clock=clock)
    for _ in range(3):
        assert (await ask(gateway.url, "/v3/reference/exchanges?asset_class=stocks")).status == 200
    assert len(vendor.seen) == 1
    clock.advance(900)
    await ask(gateway.url, "/v3/reference/exchanges?asset_class=stocks")
    assert len(vendor.seen) == 2
    for _ in range(2):
        await ask(gateway.url, TRADES)
    assert len(vendor.seen) == 4


# limits


async def test_the_limit_is_exact_at_its_boundary(serve: Any, vendor: Any, ask: Any) -> None:
    clock = ManualClock(1_700_000_000_000_000_000)
    gateway = await serve(gateway_clock=clock, calls_per_minute_token=3, calls_per_minute_total=5)
    for _ in range(2):
        assert (await ask(gateway.url, TRADES)).status == 200
    clock.advance(10.5)
    assert (await ask(gateway.url, TRADES)).status == 200
    refused = await ask(gateway.url, TRADES)
    assert (refused.status, refused.headers["retry-after"]) == (429, "50")
    assert json.loads(refused.body)["status"] == "ERROR"
    # Other spellings of the same token and path are the same call.
    for target in (f"{TRADES}?apiKey={DESK}", "/v3/trades/%41APL", "/api/massive/v3/trades/AAPL", f"/{TRADES}"):
        assert (await ask(gateway.url, target, token=None, x_massive_proxy_token=DESK)).status == 429
    # The other token has calls of its own until the total is reached.
    assert [(await ask(gateway.url, TRADES, token=OTHER)).status for _ in range(3)] == [200, 200, 429]
    clock.advance(49.499_999_999)
    assert (await ask(gateway.url, TRADES)).status == 429
    clock.advance(0.000_000_001)
    assert [(await ask(gateway.url, TRADES)).status for _ in range(3)] == [200, 200, 429]
    assert len(vendor.seen) == 7


async def test_a_token_may_have_a_limit_of_its_own(serve: Any, ask: Any) -> None:
    gateway = await serve(tokens=(TokenRule("desk", Secret(DESK), calls_per_minute=1),))
    assert [(await ask(gateway.url, TRADES)).status for _ in range(2)] == [200, 429]


# methods, browsers


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "get", "PROPFIND"])
async def test_other_methods_are_refused(serve: Any, vendor: Any, ask: Any, method: str) -> None:
    gateway = await serve()
    answer = await ask(gateway.url, TRADES, method=method)
    assert answer.status in (400, 405)
    assert method == "get" or answer.headers["allow"] == "GET, OPTIONS"
    assert vendor.seen == []


async def test_pages_of_listed_origins_may_call(serve: Any, vendor: Any, ask: Any) -> None:
    gateway = await serve(web_origins=("https://desk.example",))
    asked = {"Access_Control_Request_Method": "GET", "Access_Control_Request_Headers": "x-massive-proxy-token"}
    good = await ask(gateway.url, TRADES, method="OPTIONS", token=None, Origin="https://desk.example", **asked)
    assert (good.status, good.headers["access-control-allow-origin"]) == (204, "https://desk.example")
    assert "access-control-allow-credentials" not in good.headers
    bad = await ask(gateway.url, TRADES, method="OPTIONS", token=None, Origin="https://desk.example.evil", **asked)
    assert bad.status == 403
    assert "access-control-allow-origin" not in bad.headers
    for origin, allowed in (("https://desk.example", True), ("https://evil.example", False), ("null", False)):
        answer = await ask(gateway.url, TRADES, Origin=origin)
        assert ("access-control-allow-origin" in answer.headers) == allowed
        assert "Origin" in answer.headers["vary"]
    refused = await ask(gateway.url, TRADES, token="wrong", Origin="https://desk.example")
    assert refused.headers["access-control-allow-origin"] == "https://desk.example"
    assert len(vendor.seen) == 3


@pytest.mark.parametrize("target", [TRADES, "/nothing", "/stocks", "/api/massive/openapi.json"])
async def test_every_answer_has_the_security_headers(serve: Any, ask: Any, target: str) -> None:
    gateway = await serve(sandbox=True)
    for token in (DESK, None):
        headers = (await ask(gateway.url, target, token=token)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["x-massive-lab"] == "SANDBOX"
        assert "python" not in headers.get("server", "").lower()


# tokens for one connection


async def test_a_socket_token_is_for_one_cluster(serve: Any, ask: Any) -> None:
    gateway = await serve()
    answer = await ask(gateway.url, "/api/massive/ws-token", method="POST", body=b'{"cluster":"options"}')
    told = json.loads(answer.body)
    assert (answer.status, told["cluster"], told["expires_in"]) == (200, "options", 300)
    assert told["url"] == f"{gateway.ws_url}/ws/options"
    now_s = gateway.sockets.clock.now_ns() / 1e9
    assert gateway.book.check(told["token"], "stocks", now_s).reason == "other cluster"
    assert gateway.book.check(told["token"], "options", now_s).name == "desk"
    assert gateway.book.check(told["token"], "options", now_s).reason == "reused"
    assert (await ask(gateway.url, TRADES, token=told["token"])).status == 401
    by_query = await ask(gateway.url, "/api/massive/ws-token?cluster=stocks", method="POST")
    assert json.loads(by_query.body)["cluster"] == "stocks"


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", {}, 400),
        (b"{}", {}, 400),
        (b'{"cluster":"crypto"}', {}, 400),
        (b'{"cluster":"stocks","x":1}', {}, 400),
        (b"[" * 4000, {}, 400),
        (b'{"cluster":' * 300, {}, 400),
        (b"\xff\xfe", {}, 400),
        (b'"' + b"x" * 5000 + b'"', {}, 413),
        (gzip.compress(b'{"cluster":"stocks"}'), {"Content_Encoding": "gzip"}, 415),
        (b'{"cluster":"indices"}', {}, 404),
    ],
    ids=["empty", "no field", "other", "more", "deep list", "deep object", "bytes", "large", "packed", "not served"],
)
async def test_a_body_that_is_none_gives_no_token(
    serve: Any, ask: Any, body: bytes, headers: dict[str, str], status: int
) -> None:
    gateway = await serve(clusters=("stocks", "options"))
    answer = await ask(gateway.url, "/api/massive/ws-token", method="POST", body=body, **headers)
    assert answer.status == status
    assert b"token" not in answer.body or status == 400
    assert answer.headers["content-type"] == "application/json"


async def test_a_token_without_the_cluster_gets_no_socket_token(serve: Any, ask: Any) -> None:
    gateway = await serve(tokens=(TokenRule("desk", Secret(DESK), clusters=("stocks",)),))
    answer = await ask(gateway.url, "/api/massive/ws-token?cluster=options", method="POST")
    assert (answer.status, json.loads(answer.body)["status"]) == (403, "NOT_AUTHORIZED")


# our own words for the vendor's paths


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            "stocks/bars?ticker=AAPL&timeframe=5m&from=2025-01-02&to=2025-01-03",
            "/v2/aggs/ticker/AAPL/range/5/minute/2025-01-02/2025-01-03",
        ),
        (
            "indices/bars?ticker=I:SPX&timespan=day&from=2025-01-02&to=2025-01-03&limit=9",
            "/v2/aggs/ticker/I:SPX/range/1/day/2025-01-02/2025-01-03?limit=9",
        ),
        ("options/chain?underlying=I:SPX&limit=250", "/v3/snapshot/options/I:SPX?limit=250"),
        ("options/contracts?underlying=I:SPX", "/v3/reference/options/contracts?underlying_ticker=SPX"),
        ("indices?tickers=I:SPX,I:VIX", "/v3/snapshot/indices?ticker.any_of=I%3ASPX%2CI%3AVIX"),
        ("v3/trades/AAPL?limit=1", "/v3/trades/AAPL?limit=1"),
    ],
    ids=["bars", "index bars", "chain", "contracts", "indices", "any"],
)
async def test_our_routes_ask_the_vendor(serve: Any, vendor: Any, ask: Any, ours: str, theirs: str) -> None:
    gateway = await serve()
    assert (await ask(gateway.url, f"/api/massive/{ours}", token=None, x_massive_proxy_token=DESK)).status == 200
    assert vendor.seen[0].target == theirs
