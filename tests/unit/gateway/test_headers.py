"""Origins, credentials, and which headers pass in which direction."""

from __future__ import annotations

import pytest

from massive_lab.config import Secret
from massive_lab.gateway.headers import (
    SECURITY,
    Cors,
    canonical_origin,
    credential,
    new_request_id,
    public_base,
    to_client,
    to_upstream,
)

ORIGIN = "https://desk.example"
CORS = Cors([ORIGIN, "http://localhost:3000"])
TRICKS = [
    "null",
    "*",
    "",
    "https://desk.example.evil.example",
    "https://evildesk.example",
    "https://evil.example/desk.example",
    "https://desk.example/",
    "https://desk.example:443",
    "https://desk.example:8443",
    "http://desk.example",
    "HTTPS://DESK.EXAMPLE",
    "https://desk.example.",
    "https://desk.example@evil.example",
    "https://evil.example#desk.example",
    "https://desk.example, https://evil.example",
    " https://desk.example",
    "https://desk.example\r\nX: y",
    "desk.example",
    "file://",
    "chrome-extension://desk.example",
    "https://desk_example",
    "https://desk.example%00.evil.example",
    "https://sub.desk.example",
    "https://[::1]",
    "http://localhost",
    "http://localhost:30000",
    "http://127.0.0.1:3000",
]


@pytest.mark.parametrize("origin", TRICKS, ids=range(len(TRICKS)))
def test_an_origin_that_is_not_on_the_list_is_nobody(origin: str) -> None:
    assert CORS.answer(origin) == {"Vary": "Origin"}
    assert not CORS.may_upgrade([origin])
    preflight = CORS.preflight(origin, "GET", "authorization")
    assert preflight.status == 403
    assert not [name for name in preflight.headers if name.startswith("Access-Control")]


@pytest.mark.parametrize("origin", [ORIGIN, "http://localhost:3000"], ids=["tls", "port"])
def test_an_origin_on_the_list_is_answered_by_its_name(origin: str) -> None:
    assert CORS.answer(origin)["Access-Control-Allow-Origin"] == origin
    assert CORS.answer(origin)["Vary"] == "Origin"
    assert CORS.may_upgrade([origin])


@pytest.mark.parametrize(
    ("method", "asked", "allowed", "status"),
    [
        ("GET", None, "GET", 204),
        ("GET", "authorization", "GET", 204),
        ("GET", "X-Massive-Proxy-Token, Accept", "GET", 204),
        ("POST", "content-type,x-massive-proxy-token", "POST", 204),
        ("POST", None, "GET", 403),
        ("GET", None, "POST", 403),
        ("DELETE", None, "GET", 403),
        ("get", None, "GET", 403),
        ("*", None, "GET", 403),
        ("GET", "x-forwarded-for", "GET", 403),
        ("GET", "authorization, cookie", "GET", 403),
        ("GET", "*", "GET", 403),
    ],
)
def test_preflights(method: str, asked: str | None, allowed: str, status: int) -> None:
    preflight = CORS.preflight(ORIGIN, method, asked, allowed=allowed)
    assert preflight.status == status
    assert ("Access-Control-Allow-Origin" in preflight.headers) is (status == 204)
    assert preflight.headers["Vary"].startswith("Origin, ")
    if status == 204:
        assert preflight.headers["Access-Control-Allow-Methods"] == allowed


def test_options_without_an_origin_says_what_is_allowed_and_grants_nothing() -> None:
    preflight = CORS.preflight(None, None)
    assert (preflight.status, preflight.headers["Allow"]) == (204, "GET, OPTIONS")
    assert not [name for name in preflight.headers if name.startswith("Access-Control")]


def test_nothing_ever_allows_credentials_or_everybody() -> None:
    answers = [CORS.answer(each) for each in (*TRICKS, ORIGIN, None)]
    answers += [dict(CORS.preflight(each, "GET").headers) for each in (*TRICKS, ORIGIN, None)]
    assert not any("Access-Control-Allow-Credentials" in each for each in answers)
    assert not any("*" in value for each in answers for value in each.values())


def test_without_an_origin_it_is_no_browser_and_two_are_a_trick() -> None:
    assert CORS.may_upgrade([])
    assert not CORS.may_upgrade([ORIGIN, ORIGIN])
    assert not CORS.may_upgrade([ORIGIN, "https://evil.example"])
    assert Cors().may_upgrade([])
    assert not Cors().may_upgrade([ORIGIN])


@pytest.mark.parametrize(
    "bad",
    [
        "*",
        "null",
        "",
        "desk.example",
        "https://",
        "https://desk.example/app",
        "https://desk.example?x",
        "https://me@desk.example",
        "https://desk.example:0",
        "https://desk.example:99999",
        "https://*.desk.example",
        "https://desk.example\n",
        "https://dësk.example",
        "ws://desk.example",
        "https://[::1",
        "https://a,https://b",
        "https://-desk.example",
    ],
)
def test_what_is_no_origin_is_refused_at_start(bad: str) -> None:
    assert canonical_origin(bad) is None
    with pytest.raises(ValueError, match="an origin is"):
        Cors([ORIGIN, bad])


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        ("HTTPS://Desk.Example", "https://desk.example"),
        ("http://desk.example:80/", "http://desk.example"),
        ("https://desk.example:80", "https://desk.example:80"),
        ("http://[::1]:3000", "http://[::1]:3000"),
    ],
)
def test_origins_are_kept_as_browsers_send_them(given: str, canonical: str) -> None:
    assert canonical_origin(given) == canonical


# credentials


@pytest.mark.parametrize(
    ("headers", "key", "found"),
    [
        ([], None, None),
        ([("Authorization", "Bearer abc")], None, "abc"),
        ([("authorization", "bearer  abc ")], None, "abc"),
        ([("X-Massive-Proxy-Token", "abc")], None, "abc"),
        ([], "abc", "abc"),
        ([("Authorization", "Bearer abc")], "abc", "abc"),
        ([("Authorization", "Bearer abc"), ("X-Massive-Proxy-Token", "abc")], None, "abc"),
        ([("Authorization", "Basic abc"), ("X-Massive-Proxy-Token", "def")], None, "def"),
        ([("Authorization", "Basic abc")], None, None),
        ([("Authorization", "Bearer abc"), ("Authorization", "Bearer def")], None, None),
        ([("Authorization", "Bearer abc")], "def", None),
        ([("X-Massive-Proxy-Token", "")], None, None),
        ([("X-Massive-Proxy-Token", "")], "abc", None),
        ([("Authorization", "Bearer")], None, None),
        ([("Authorization", "Bearer a b")], None, None),
        ([("Authorization", "Bearer a\x00b")], None, None),
        ([("Cookie", "token=abc"), ("X-Api-Key", "abc")], None, None),
    ],
)
def test_one_credential_or_none(headers: list[tuple[str, str]], key: str | None, found: str | None) -> None:
    got = credential(headers, None if key is None else Secret(key))
    assert got == (None if found is None else Secret(found))
    assert "abc" not in repr(got)


def test_a_mapping_will_do() -> None:
    assert credential({"Authorization": "Bearer abc"}) == Secret("abc")


# both directions


def test_nothing_of_the_client_goes_up() -> None:
    assert to_upstream() == {"Accept-Encoding": "gzip"}


def test_few_headers_of_the_vendor_come_back_and_ours_are_on_every_answer() -> None:
    upstream = {
        "content-type": "application/json; charset=utf-8",
        "RETRY-AFTER": "7",
        "X-Request-Id": "theirs",
        "Server": "nginx",
        "Set-Cookie": "a=b",
        "Access-Control-Allow-Origin": "*",
        "Connection": "close",
        "Transfer-Encoding": "chunked",
        "Content-Encoding": "gzip",
        "Content-Length": "1",
        "Location": "https://elsewhere.example",
        "Cache-Control": "public",
        "Strict-Transport-Security": "max-age=1",
        "X-Polygon-Cluster-Name": "c",
        "Authorization": "Bearer canary",
    }
    assert to_client(upstream, "ours") == {
        **SECURITY,
        "Content-Type": "application/json; charset=utf-8",
        "Retry-After": "7",
        "X-Upstream-Request-Id": "theirs",
        "X-Request-Id": "ours",
    }


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("text/html", "application/octet-stream"),
        ("TEXT/HTML; charset=utf-8", "application/octet-stream"),
        ("application/javascript", "application/octet-stream"),
        ("application/xhtml+xml", "application/octet-stream"),
        ("text/csv", "text/csv"),
        ("image/svg+xml", "image/svg+xml"),
        ("application/json\r\nX: y", "application/json"),
        ("x" * 300, "application/json"),
    ],
    ids=["html", "html-charset", "script", "xhtml", "csv", "svg", "split", "long"],
)
def test_no_answer_is_something_a_browser_would_run(given: str, sent: str) -> None:
    headers = to_client({"Content-Type": given}, "id")
    assert headers["Content-Type"] == sent
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in headers["Content-Security-Policy"]


def test_request_ids_are_ours_and_differ() -> None:
    assert new_request_id(bytes) == "0" * 32
    assert len({new_request_id() for _ in range(100)}) == 100


@pytest.mark.parametrize(
    ("host", "base"),
    [
        ("gw", "http://gw"),
        ("GW.desk.example:8480", "http://GW.desk.example:8480"),
        ("[::1]:8480", "http://[::1]:8480"),
        ("", None),
        ("gw/x", None),
        ("gw@evil.example", None),
        ("gw?x", None),
        ("gw#x", None),
        ('gw"', None),
        ("gw\\evil", None),
        ("gw evil", None),
        ("gw\r\nX: y", None),
        ("gw:http", None),
        ("gw:123456", None),
        ("gw,evil.example", None),
        ("a" * 300, None),
    ],
    ids=range(16),
)
def test_the_host_a_client_names_must_be_one(host: str, base: str | None) -> None:
    assert public_base("http", host) == base
    assert public_base("http", host, "https://data.desk.example/") == "https://data.desk.example"
    assert public_base("javascript", host) is None
