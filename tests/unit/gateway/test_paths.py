"""Which requests reach the vendor, in which words; and what becomes of the addresses in its answers."""

from __future__ import annotations

import json
import re
from urllib.parse import quote

import pytest

from massive_lab.config import Secret
from massive_lab.gateway.paths import Local, Refusal, Upstream, foreign_cursor, rewrite_urls, route
from massive_lab.gateway.vendor import TEMPLATES
from massive_lab.schema.endpoints import ENDPOINTS

# payloads none of which may reach an upstream

HOSTS = [
    "evil.example",
    "127.0.0.1",
    "127.0.0.1:8481",
    "[::1]",
    "[::ffff:7f00:1]",
    "169.254.169.254",
    "2130706433",
    "0x7f.1",
    "localhost",
]
ABSOLUTE = [
    form.format(host)
    for host in HOSTS
    for form in ("http://{}/v3/snapshot", "https://{}/", "//{}/v3/snapshot", "{}:443")
]
TRAVERSAL = [
    prefix + step * times + end
    for prefix in ("/v3/trades/", "/v2/aggs/ticker/", "/api/massive/")
    for step in (
        "../",
        "..%2f",
        "%2e%2e/",
        "%2E%2E%2F",
        ".%2e/",
        "..%5c",
        "..\\",
        "%252e%252e%252f",
        "..;/",
        "..%00/",
        "%c0%ae%c0%ae/",
        "....//",
    )
    for times, end in ((1, "v3/snapshot"), (3, "etc/passwd"))
]
CONTROLS = [
    f"/v3/trades/{text}"
    for text in (
        "AAPL%00",
        "AAPL%0d%0aHost:%20evil.example",
        "AAPL%0a",
        "AAPL%09",
        "AAPL%7f",
        "AAPL\r\nX: y",
        "AAPL\n",
        "A APL",
        "AAPL\t",
        "AAPL\0",
        "AAPL\x7f",
        "AAPL\x85",
        "ÄAPL",
        "AAPL\u2028",
        "AAPL%20HTTP/1.1",
        "\uff21APL",
        "AAPL%e2%80%ae",
    )
]
SHAPES = [
    "",
    " ",
    "*",
    "/",
    "//",
    "///",
    "/.",
    "/..",
    "/./v3/snapshot",
    "/v3/./snapshot",
    "/v3//snapshot",
    "//v3/snapshot",
    "/v3/snapshot/",
    "/v3/snapshot//",
    "/v3/snapshot;x=1",
    "/v3/snapshot;/",
    "/v3/snapshot%2f",
    "/v3%2fsnapshot",
    "/v3%2Ftrades%2FAAPL",
    "/v3\\snapshot",
    "\\v3\\snapshot",
    "/\\evil.example/v3",
    "/%5cevil.example",
    "/@evil.example",
    "/v3/trades/@evil.example",
    "/v3/trades/a%40evil.example",
    "@evil.example/",
    ":80/v3/snapshot",
    "v3/snapshot",
    "?x",
    "#",
    "/v3/snapshot#",
    "/v3/snapshot#@evil.example",
    "/v3/snapshot?x#y",
    "/V3/snapshot",
    "/v3/Snapshot",
    "/v3/SNAPSHOT",
    "/%563/snapshot2",
    "/v3/snapsho%",
    "/v3/trades/%",
    "/v3/trades/%4",
    "/v3/trades/%zz",
    "/v3/trades/%u0041",
    "/v3/trades/%2541APL",
    "/v3/trades/AAPL%252f..",
    "/v3/trades/AAPL%2f..%2f..",
    "/v3/trades/AAPL/..",
    "/v3/trades/",
    "/v3/trades",
    "/v3/trades/AAPL/extra",
    "/v3/trades/..AAPL",
    "/v3/trades/A..B",
    "/v3/trades/.AAPL",
    "/v3/trades/-AAPL",
    "/v3/trades/*",
    "/v3/trades/$(id)",
    "/v3/trades/`id`",
    "/v3/trades/{{7*7}}",
    "/v3/trades/<script>",
    '/v3/trades/"',
    "/v3/trades/'",
    "/v3/trades/A|B",
    "/v3/trades/A,B",
    "/v3/trades/A!",
    "/v3/trades/~root",
    "/v3/trades/" + "A" * 129,
    "/v3/trades/http:",
    "/v3/trades/http://evil.example",
    "/v3/trades/http:%2f%2fevil.example",
    "/http://evil.example/v3/snapshot",
    "/https:/evil.example",
    "/v1",
    "/v9/snapshot",
    "/vX/../v3/snapshot",
    "/admin",
    "/metrics",
    "/healthz",
    "/readyz",
    "/favicon.ico",
    "/robots.txt",
    "/.env",
    "/.git/config",
    "/%2eenv",
    "/etc/passwd",
    "/latest/meta-data/",
    "/api",
    "/api/",
    "/api/massive",
    "/api/massive/",
    "/api/massive//v3/snapshot",
    "/API/massive/v3/snapshot",
    "/api/Massive/v3/snapshot",
    "/api/massive/api/massive/v3/snapshot",
    "/api/massive/http://evil.example",
    "/api/massive//evil.example",
    "/api/massive/@evil.example",
    "/api/massive/%2f%2fevil.example",
    "/api/massive/stocks",
    "/api/massive/forex/bars?ticker=C:EURUSD",
    "/api/massive/stocks/chain",
    "/api/massive/options/Chain",
    "/forex",
    "/crypto",
    "/futures",
    "/futures/cme",
    "/stocks/",
    "/Stocks",
    "/ws",
    "/ws/",
    "/ws/forex",
    "/ws/stocks/",
    "/ws/../stocks",
    "/ws%2fstocks",
    "/v2/aggs/ticker/AAPL/range/1/day/2025-01-02",
    "/v2/aggs/ticker/AAPL/range/1/day/2025-01-02/2025-01-03/x",
    "/v2/aggs/ticker//prev",
    "/v2/aggs/ticker/AAPL%3f/prev",
    "/v2/aggs/ticker/AAPL%23/prev",
    "/v2/aggs/ticker/A%26B/prev",
    "/v2/aggs/ticker/A%3BB/prev",
    "/v1/conversion/USD/EUR",
    "/v3/snapshot?x=%",
    "/v3/snapshot?x=%zz",
    "/v3/snapshot?x=%00",
    "/v3/snapshot?x=%0d%0aHost:evil",
    "/v3/snapshot?x=a b",
    "/v3/snapshot?x=\\",
    "/v3/snapshot?x=\r\nHost:%20evil.example",
    "/v3/snapshot?x=ä",
    "/v3/snapshot?x=<b>",
    "/v3/snapshot?x=\x00",
    "/v3/snapshot?apiKey=a&apiKey=b",
    "/v3/snapshot?token=a&TOKEN=b",
    "/v3/snapshot?" + "a&" * 1001,
    "/v3/snapshot?x=" + "a" * 20_000,
    "/" + "a/" * 9_000,
    "/" + "../" * 5_000,
    "/api/massive/stocks/bars?ticker=..%2f..&timeframe=1d&from=2025-01-02&to=2025-01-03",
    "/api/massive/stocks/bars?ticker=AAPL&timeframe=1d/..&from=2025-01-02&to=2025-01-03",
    "/api/massive/stocks/bars?ticker=AAPL&timeframe=1d&from=../..&to=2025-01-03",
    "/api/massive/stocks/bars?ticker=AAPL&timeframe=1d&from=2025-01-02&to=%2e%2e%2fx",
    "/api/massive/stocks/bars?ticker=AAPL&timeframe=1d&from=2025-01-02&to=2025-01-03%3fx",
    "/api/massive/stocks/bars?ticker=AAPL%3Fx&timeframe=1d&from=2025-01-02&to=2025-01-03",
    "/api/massive/stocks/bars?ticker=AAPL%2Fx&timeframe=1d&from=2025-01-02&to=2025-01-03",
    "/api/massive/stocks/bars?ticker=BRK/B&timeframe=1d&from=2025-01-02&to=2025-01-03",
    "/api/massive/stocks/bars?ticker=AAPL&multiplier=1%2f..&timespan=day&from=2025-01-02&to=2025-01-03",
    "/api/massive/options/chain?underlying=..%2f..%2fv3",
    "/api/massive/options/chain?underlying=//evil.example",
    "/api/massive/options/chain?underlying=http:%2f%2fevil.example",
    "/api/massive/options/contracts?underlying=SPY%26expired=true",
    "/api/massive/indices?tickers=I:SPX%26apiKey=x",
    "/api/massive/indices?tickers=I:SPX/..",
    "/api/massive/indices?tickers=//evil.example",
]
PAYLOADS = list(dict.fromkeys((*ABSOLUTE, *TRAVERSAL, *CONTROLS, *SHAPES)))


def test_there_are_more_than_two_hundred_payloads() -> None:
    assert len(PAYLOADS) > 250


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_a_payload_reaches_no_upstream_and_is_not_reflected(payload: str) -> None:
    for method in ("GET", "POST", "OPTIONS", "CONNECT"):
        answer = route(method, payload)
        assert not isinstance(answer, Upstream)
        if method == "GET":
            assert isinstance(answer, Refusal)
            assert answer.status in {400, 404, 405, 414}
            assert "evil" not in repr(answer)
            assert ".." not in repr(answer)


@pytest.mark.parametrize(
    "method",
    ["POST", "PUT", "PATCH", "DELETE", "HEAD", "TRACE", "CONNECT", "get", "Get", "GET ", "", "PROPFIND", "GET\r\nX: y"],
)
def test_only_get_reads(method: str) -> None:
    answer = route(method, "/v3/trades/AAPL")
    assert answer == Refusal(405, "The method is not allowed", (("Allow", "GET, OPTIONS"),))
    assert isinstance(route(method, "/nothing/here"), Refusal)


# what does reach it

SAMPLES = {
    "symbol": "AAPL",
    "multiplier": "1",
    "timespan": "day",
    "start": "2025-01-02",
    "end": "1735884000000",
    "date": "2025-01-02",
    "underlying": "I:SPX",
    "contract": "O:SPY251219C00650000",
    "direction": "gainers",
    "domain": "YXBwbGUuY29t",
    "file": "2022-01-10_logo.svg",
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_vendor_path_is_served_at_the_root_and_below_the_prefix(name: str) -> None:
    path = TEMPLATES[name].format_map(SAMPLES)
    assert route("GET", path) == Upstream(path, name)
    assert route("GET", f"/api/massive{path}?x=1") == Upstream(f"{path}?x=1", name)
    assert route("OPTIONS", path) == Local("preflight", methods="GET")


def test_the_names_and_paths_of_the_library_are_all_there() -> None:
    assert ENDPOINTS.items() <= TEMPLATES.items()


@pytest.mark.parametrize(
    "spelled", ["O:SPY251219C00650000", "O%3ASPY251219C00650000", "O%3aSPY251219C00650000", "%4F:SPY251219C00650000"]
)
def test_every_encoding_of_a_path_goes_up_as_one(spelled: str) -> None:
    assert route("GET", f"/v3/trades/{spelled}") == Upstream("/v3/trades/O:SPY251219C00650000", "trades")


@pytest.mark.parametrize(
    "query",
    [
        "limit=5",
        "ticker.any_of=I%3ASPX%2CI%3AVIX",
        "strike_price.gte=5&strike_price.lt=6",
        "x",
        "x=",
        "=x",
        "&",
        "a=1&a=2&b",
        "a=1&&b=2",
        "q=a+b%20c",
        "options=%3Cobject%20at%200x7f%3E",
        "cursor=YXA9MiZhcz0mbGltaXQ9Mg==",
        "cursor=a-_b",
        "a=%c3%a4",
        "x=http://evil.example",
        "x=//evil.example/../..",
        "apikeys=1",
        "xapiKey=1",
        "tokens=1",
        "a=?b/c:d@e",
        "a[]=1",
        "as_of=2025-01-02",
        "a={}|^",
    ],
)
def test_a_query_without_credentials_goes_up_byte_for_byte(query: str) -> None:
    assert route("GET", f"/v3/snapshot?{query}") == Upstream(f"/v3/snapshot?{query}", "snapshot")


@pytest.mark.parametrize(
    ("query", "left", "key"),
    [
        ("apiKey=canary", "", "canary"),
        ("apiKey=canary&limit=5", "?limit=5", "canary"),
        ("limit=5&apiKey=canary", "?limit=5", "canary"),
        ("a=%2C&apiKey=canary&b=%2c", "?a=%2C&b=%2c", "canary"),
        ("APIKEY=canary", "", "canary"),
        ("api%4bey=canary", "", "canary"),
        ("%61%70%69%4B%65%79=c%61nary", "", "canary"),
        ("apiKey=canary&apikey=canary", "", "canary"),
        ("apiKey=", "", None),
        ("apiKey", "", None),
        ("token=canary&x=1", "?x=1", None),
        ("access_token=canary", "", None),
        ("api_key=canary", "", None),
        ("X-Massive-Proxy-Token=canary&x", "?x", None),
        ("Authorization=canary", "", None),
    ],
)
def test_credentials_leave_the_query(query: str, left: str, key: str | None) -> None:
    answer = route("GET", f"/v3/snapshot?{query}")
    assert answer == Upstream(f"/v3/snapshot{left}", "snapshot", None if key is None else Secret(key))
    assert "canary" not in repr(answer)


# the gateway's own


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        ("/stocks", Local("ws", "stocks")),
        ("/options?apiKey=canary", Local("ws", "options", Secret("canary"))),
        ("/indices", Local("ws", "indices")),
        ("/ws/stocks?token=canary", Local("ws", "stocks", None, Secret("canary"))),
        ("/ws/options?%74oken=canary&x=1", Local("ws", "options", None, Secret("canary"))),
        ("/api/massive/openapi.json", Local("openapi")),
    ],
)
def test_local_answers(target: str, answer: Local) -> None:
    assert route("GET", target) == answer
    assert "canary" not in repr(route("GET", target))
    refused = route("POST", target)
    assert isinstance(refused, Refusal)
    assert refused.status == 405


def test_a_token_for_a_connection_is_posted_for() -> None:
    path = "/api/massive/ws-token"
    assert route("POST", path) == Local("ws_token")
    assert route("POST", f"{path}?cluster=options&apiKey=k") == Local("ws_token", "options", Secret("k"))
    assert route("OPTIONS", path) == Local("preflight", methods="POST")
    assert route("GET", path) == Refusal(405, "The method is not allowed", (("Allow", "POST, OPTIONS"),))
    for bad in ("forex", "", "stocks&cluster=options"):
        refused = route("POST", f"{path}?cluster={bad}")
        assert isinstance(refused, Refusal)
        assert refused.status == 400


@pytest.mark.parametrize(
    ("target", "up"),
    [
        (
            "stocks/bars?ticker=AAPL&timeframe=5m&from=2025-01-02&to=2025-01-03",
            "/v2/aggs/ticker/AAPL/range/5/minute/2025-01-02/2025-01-03",
        ),
        (
            "stocks/bars?symbol=BRK.B&timespan=day&start=1735800000000&end=1735884000000",
            "/v2/aggs/ticker/BRK.B/range/1/day/1735800000000/1735884000000",
        ),
        (
            "indices/bars?ticker=I%3ASPX&multiplier=15&timespan=minute&from=2025-01-02&to=2025-01-03&sort=desc&limit=50000",
            "/v2/aggs/ticker/I:SPX/range/15/minute/2025-01-02/2025-01-03?sort=desc&limit=50000",
        ),
        (
            "options/bars?adjusted=false&ticker=O:SPY251219C00650000&timeframe=1mo&from=2025-01-02&to=2025-01-03&x=%2C",
            "/v2/aggs/ticker/O:SPY251219C00650000/range/1/month/2025-01-02/2025-01-03?adjusted=false&x=%2C",
        ),
        (
            "options/chain?underlying=I:SPX&strike_price.gte=5000&limit=250",
            "/v3/snapshot/options/I:SPX?strike_price.gte=5000&limit=250",
        ),
        ("options/chain?underlying_ticker=SPY", "/v3/snapshot/options/SPY"),
        (
            "options/contracts?underlying=I:SPX&expired=true",
            "/v3/reference/options/contracts?underlying_ticker=SPX&expired=true",
        ),
        ("options/contracts?underlying_ticker=SPX", "/v3/reference/options/contracts?underlying_ticker=SPX"),
        ("options/contracts", "/v3/reference/options/contracts"),
        ("indices?tickers=I:SPX,I:VIX,I:SPX", "/v3/snapshot/indices?ticker.any_of=I%3ASPX%2CI%3AVIX"),
        ("indices?ticker.any_of=I%3ANDX&limit=250", "/v3/snapshot/indices?ticker.any_of=I%3ANDX&limit=250"),
    ],
    ids=range(11),
)
def test_our_words_for_the_vendors_paths(target: str, up: str) -> None:
    sign = "&" if "?" in target else "?"
    answer = route("GET", f"/api/massive/{target}{sign}apiKey=canary")
    assert isinstance(answer, Upstream)
    assert (answer.target, answer.key) == (up, Secret("canary"))
    assert route("GET", up) == Upstream(up, answer.endpoint)


@pytest.mark.parametrize(
    "target",
    [
        "stocks/bars",
        "stocks/bars?ticker=AAPL",
        "stocks/bars?ticker=AAPL&timeframe=5m",
        "stocks/bars?ticker=AAPL&timeframe=5m&from=2025-01-02",
        "stocks/bars?ticker=I:SPX&timeframe=5m&from=2025-01-02&to=2025-01-03",
        "indices/bars?ticker=SPX&timeframe=5m&from=2025-01-02&to=2025-01-03",
        "stocks/bars?ticker=AAPL&ticker=MSFT&timeframe=5m&from=2025-01-02&to=2025-01-03",
        "stocks/bars?ticker=AAPL&timeframe=5x&from=2025-01-02&to=2025-01-03",
        "stocks/bars?ticker=AAPL&timeframe=5m&timespan=day&from=2025-01-02&to=2025-01-03",
        "stocks/bars?ticker=AAPL&multiplier=0&timespan=day&from=2025-01-02&to=2025-01-03",
        "stocks/bars?ticker=AAPL&timespan=fortnight&from=2025-01-02&to=2025-01-03",
        "options/chain",
        "options/chain?underlying=",
        "options/chain?underlying=O:SPY251219C00650000",
        "options/contracts?underlying=spy",
        "indices",
        "indices?tickers=",
        "indices?tickers=SPX",
        "indices?tickers=I:SPX,",
        "indices?tickers=" + ",".join(f"I:A{n}" for n in range(251)),
    ],
    ids=range(20),
)
def test_what_cannot_be_mapped_is_said_in_words_of_ours(target: str) -> None:
    answer = route("GET", f"/api/massive/{target}")
    assert isinstance(answer, Refusal)
    assert answer.status == 400
    assert route("OPTIONS", f"/api/massive/{target}") == Local("preflight", methods="GET")


# addresses in answers

UP, GW = "https://api.massive.com", "http://gw:8480"


def test_every_address_of_the_vendor_becomes_ours_and_every_other_byte_stays() -> None:
    body = b"""{ "next_url" :\t"https://api.massive.com/v3/x?cursor=YQ%3D%3D&b=1",
      "results":{"underlying":{"url":"https://api.massive.com/v2/aggs/ticker/I:SPX/range/1/day/1/2?limit=66"},
      "branding":{"icon_url":"https://api.massive.com/v1/i.png","logo_url":"https://api.polygon.io/v1/l.svg"},
      "homepage_url":"https://api.massive.com/home","url":"https://www.nyse.com", "n":1.230e+05,"t":1735884000000000001}}"""
    expected = body.replace(b'"https://api.massive.com/v', b'"http://gw:8480/v').replace(
        b"https://api.polygon.io/v", b"http://gw:8480/v"
    )
    assert rewrite_urls(body, UP, GW) == expected
    assert rewrite_urls(body, UP + "/", GW + "/") == expected
    assert not foreign_cursor(body, UP)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (r"https:\/\/api.massive.com\/v3\/x?a=1", r"http://gw:8480\/v3\/x?a=1"),
        (r"https:\u002f\u002Fapi.massive.com/v3?a=1\u0026b=\u003c", r"http://gw:8480/v3?a=1\u0026b=\u003c"),
        ("HTTPS://API.massive.COM/v3", "http://gw:8480/v3"),
        ("https://api.massive.com:443/v3", "http://gw:8480/v3"),
        ("http://api.massive.com/v3", "http://gw:8480/v3"),
        ("https://api.massive.com?x", "http://gw:8480?x"),
        ("https://api.massive.com", "http://gw:8480"),
        ("https://api.massive.com/v3?x=https://evil.example/", "http://gw:8480/v3?x=https://evil.example/"),
        (r"https://api.massive.com/v3?q=\"a\\", r"http://gw:8480/v3?q=\"a\\"),
        ("https://api.massive.com/v3?apiKey=canary&cursor=x", "http://gw:8480/v3?cursor=x"),
        ("https://api.massive.com/v3?cursor=x&apiKey=canary", "http://gw:8480/v3?cursor=x"),
        (r"https://api.massive.com/v3?a=1\u0026apiKey=canary\u0026b=2", r"http://gw:8480/v3?a=1\u0026b=2"),
        ("https://api.massive.com/v3?api%4bey=canary", "http://gw:8480/v3"),
        (r"https://api.massive.com/v3?\u0061piKey=canary", "http://gw:8480/v3"),
        ("/v3/x?cursor=1", "/v3/x?cursor=1"),
        ("", ""),
    ],
    ids=range(16),
)
def test_any_spelling_of_the_vendors_address(value: str, expected: str) -> None:
    body = f'{{"a":1,"next_url":"{value}","b":[]}}'.encode()
    assert rewrite_urls(body, UP, GW) == f'{{"a":1,"next_url":"{expected}","b":[]}}'.encode()
    assert not foreign_cursor(body, UP)


FOREIGN = [
    "https://evil.example/v3",
    "https://api.massive.com.evil.example/v3",
    "https://evil.example/api.massive.com",
    "//evil.example/v3",
    "https://api.massive.com@evil.example/v3",
    r"https://api.massive.com\u0040evil.example/v3",
    r"https://api.massive.com\\@evil.example",
    "https://me@api.massive.com/v3",
    "https://api.massive.com:8443/v3",
    "https://xapi.massive.com/v3",
    "https:///api.massive.com/v3",
    "javascript:alert(1)",
    "ftp://api.massive.com/v3",
    "https:api.massive.com/v3",
    r"\/\/evil.example",
    r"\/\\evil.example",
    " https://evil.example",
    r"https://api.massive.com\t.evil.example",
    "https://[::1]/v3",
    "https://[::1/v3",
    "gopher://127.0.0.1/",
    "https://api.massive.com%2eevil.example/",
    "evil.example",
    "https://api.massive.com:port/v3",
    r"h\u0074tps://api.massive.com/v3",
]


@pytest.mark.parametrize("value", FOREIGN, ids=range(len(FOREIGN)))
def test_a_cursor_of_another_host_is_removed_with_its_comma(value: str) -> None:
    bodies = {
        '{"a":1,"next_url":"%s","b":2}': '{"a":1,"b":2}',
        '{"a":1, "next_url" : "%s" }': '{"a":1 }',
        '{"next_url":"%s"}': "{}",
        '{"next_url":"%s",\n"a":1}': '{\n"a":1}',
        '[{"a":{"next_url":"%s"},"b":[]}]': '[{"a":{},"b":[]}]',
        '{"a":1,"next_url":"%s","next_url":"%s"}': '{"a":1}',
        '{"\\u006eext_url":"%s","a":1}': '{"a":1}',
    }
    for body, expected in bodies.items():
        raw = body.replace("%s", value).encode()
        assert foreign_cursor(raw, UP)
        assert rewrite_urls(raw, UP, GW) == expected.encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"404 page not found",
        b"<html>https://api.massive.com</html>",
        b'{"next_url":null}',
        b'{"next_url":7}',
        b'{"a":"https://api.massive.com/v3"}',
        b'{"my_next_url":"https://api.massive.com/"}',
        b'{"next_url2":"https://api.massive.com/"}',
        rb'{"text":"\"next_url\":\"https://api.massive.com/v3\""}',
        rb'{"a\"next_url":"https://api.massive.com/v3"}',
        b'["next_url","https://api.massive.com/v3"]',
        b'{"url":"https://evil.example/"}',
        b'{"next_url":"https://api.massive.com/v3',
        b'"next_url',
        b'url":"',
        b'\xff\xfe{"a":1}',
        rb'{"a":"\\","b":"\u0061"}',
        b'{"Next_url":"https://api.massive.com/"}',
    ],
    ids=range(20),
)
def test_what_has_no_such_address_is_the_same_object(body: bytes) -> None:
    assert rewrite_urls(body, UP, GW) is body
    assert not foreign_cursor(body, UP)


@pytest.mark.parametrize("spelled", [r"next\u005furl", r"\u006e\u0065\u0078\u0074\u005F\u0075\u0072\u006C", "next_url"])
def test_keys_are_found_however_they_are_spelled(spelled: str) -> None:
    body = f'{{"{spelled}":"https://api.massive.com/v3","x":"\\u0061"}}'
    assert rewrite_urls(body.encode(), UP, GW) == body.replace(UP, GW).encode()


def test_an_upstream_below_a_path_and_on_a_port() -> None:
    up = "http://127.0.0.1:8080/sandbox"
    body = b'{"next_url":"http://127.0.0.1:8080/sandbox/v3?cursor=1"}'
    assert rewrite_urls(body, up, "https://gw/x") == b'{"next_url":"https://gw/x/v3?cursor=1"}'
    for value in (b"http://127.0.0.1:8080/sandbox2/v3", b"http://127.0.0.1:8080/v3", b"http://127.0.0.1/sandbox/v3"):
        assert rewrite_urls(b'{"next_url":"%s"}' % value, up, "https://gw/x") == b"{}"


@pytest.mark.parametrize("bad", ['http://gw"', "http://gw\\", "http://g w", "http://gw\n", "http://gẅ", "http://gw<"])
def test_a_public_address_that_would_break_the_json_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="JSON string"):
        rewrite_urls(b"{}", UP, bad)


def test_a_rewritten_address_leads_back_to_the_same_question() -> None:
    target = (
        "/v2/aggs/ticker/O:SPY251219C00650000/range/1/minute/1735800000000/2025-01-03?cursor=bGltaXQ9MiZzb3J0PWFzYw"
    )
    body = json.dumps({"next_url": UP + target, "results": [{"t": 1}]}).encode()
    address = json.loads(rewrite_urls(body, UP, GW))["next_url"]
    assert route("GET", address.removeprefix(GW)) == Upstream(target, "aggs_range")
    assert route("GET", re.sub(":", quote(":"), address.removeprefix(GW))) == Upstream(target, "aggs_range")
