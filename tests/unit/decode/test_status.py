from __future__ import annotations

import json
import pickle

import pytest

from massive_lab.decode.status import error_from
from massive_lab.errors import MassiveLabError, NotEntitled, RateLimited, Unauthorized, UnknownSymbol, UpstreamError

LIMIT = "You've exceeded the maximum requests per minute, please wait or upgrade your subscription to continue."


def answer(status: int, body: object = b"", headers: dict[str, str] | None = None) -> MassiveLabError:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return error_from(status, text, headers or {}, endpoint="aggs_range", symbol="AAPL")


@pytest.mark.parametrize(
    ("status", "body", "kind", "told"),
    [
        (
            400,
            {"status": "ERROR", "error": "The parameter 'to' cannot be a time that occurs before 'from'"},
            UpstreamError,
            "cannot be a time",
        ),
        (401, {"status": "ERROR", "error": "API Key was not provided"}, Unauthorized, "not provided"),
        (401, {"status": "ERROR", "error": "Unknown API Key"}, Unauthorized, "Unknown API Key"),
        (401, b"", Unauthorized, "no explanation"),
        (
            403,
            {"status": "NOT_AUTHORIZED", "message": "You are not entitled to this data."},
            NotEntitled,
            "not entitled",
        ),
        (
            403,
            {"status": "NOT_AUTHORIZED", "message": "Your plan doesn't include this data timeframe."},
            NotEntitled,
            "narrow the range",
        ),
        (404, {"status": "NOT_FOUND", "message": "Ticker not found."}, UnknownSymbol, "Ticker not found"),
        (404, {"status": "ERROR", "message": "Options contract was not found"}, UnknownSymbol, "Options contract"),
        (404, {"status": "ERROR", "error": "This endpoint is deprecated"}, UpstreamError, "deprecated"),
        (404, b"404 page not found", UpstreamError, "404 page not found"),
        (429, {"status": "ERROR", "error": LIMIT}, RateLimited, "exceeded the maximum"),
        (500, {"status": "ERROR", "error": "boom"}, UpstreamError, "boom"),
        (
            504,
            b"<html>\r\n<head><title>504 Gateway Time-out</title></head><body><h1>x</h1></body></html>",
            UpstreamError,
            "504 Gateway Time-out",
        ),
        (502, b"<html><body><h1>Bad  Gateway</h1></body>", UpstreamError, "Bad Gateway"),
        (503, b"\xff\xfe", UpstreamError, "HTTP 503"),
        (500, b"[1, 2]", UpstreamError, "[1, 2]"),
        (
            500,
            {"status": ["odd"], "error": {"code": 3}, "message": 7, "request_id": 5},
            UpstreamError,
            "no explanation",
        ),
        (418, b"", UpstreamError, "refused"),
    ],
)
def test_status_to_error(status: int, body: object, kind: type[MassiveLabError], told: str):
    error = answer(status, body)
    assert type(error) is kind
    assert told in str(error)
    assert error.hint
    assert str(error).endswith(error.hint)
    assert (error.endpoint, error.symbol) == ("aggs_range", "AAPL")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    if isinstance(error, UpstreamError):
        assert error.status == status


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT", "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:27:00 GMT", "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 0.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT"}, None),
        ({"Retry-After": "Wed, 41 Oct 2026 07:28:30 GMT", "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({"Retry-After": "Wed, 21 Foo 2026 07:28:30 GMT", "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None):
    error = answer(429, {"status": "ERROR"}, headers)
    assert isinstance(error, RateLimited)
    assert error.retry_after_s == seconds


def test_request_id_from_body_or_header():
    assert answer(500, {"request_id": "a"}, {"X-Request-Id": "b"}).request_id == "a"
    assert answer(500, b"", {"X-Request-Id": "b"}).request_id == "b"


def test_long_texts_are_cut_and_keys_removed():
    error = answer(400, {"error": "bad url https://h/x?apiKey=SECRET&a=1, Bearer SECRET " + "y" * 1000})
    assert "SECRET" not in str(error)
    assert len(error.message) < 250
