from __future__ import annotations

import asyncio
import json
import pickle

import pytest

from massive_lab.decode.pages import Page, paginate, read_page
from massive_lab.errors import (
    ConnectionLost,
    DecodeError,
    IncompletePagination,
    NotEntitled,
    RateLimited,
    Unauthorized,
    UnknownSymbol,
    UpstreamError,
)

FIRST = "/v3/trades/AAPL?limit=2"


def body(rows: list[object], next_url: str | None = None, **more: object) -> bytes:
    found: dict[str, object] = {"status": "OK", "request_id": "r1", "results": rows, **more}
    if next_url is not None:
        found["next_url"] = next_url
    return json.dumps(found).encode()


def read(text: bytes) -> Page:
    return read_page(text, endpoint="trades")


def test_page_says_what_the_envelope_says():
    page = read(body([1, 2], "https://elsewhere.example/v3/trades/AAPL?cursor=YQ&limit=2", count=2))
    assert (page.request_id, page.status, page.n_rows) == ("r1", "OK", 2)
    assert page.next_path == "/v3/trades/AAPL?cursor=YQ&limit=2"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://api.massive.com/v3/x?apiKey=SECRET&cursor=a", "/v3/x?cursor=a"),
        ("https://api.massive.com/v3/x?cursor=a&APIKEY=SECRET", "/v3/x?cursor=a"),
        ("https://api.massive.com/v3/x?apiKey=SECRET", "/v3/x"),
        (
            "http://127.0.0.1:8080/v2/aggs/ticker/I:SPX/range/1/day/1/2?cursor=a=b",
            "/v2/aggs/ticker/I:SPX/range/1/day/1/2?cursor=a=b",
        ),
        ("/v3/x?cursor=a#part", "/v3/x?cursor=a"),
    ],
)
def test_next_path_has_no_host_and_no_key(url: str, path: str):
    assert read(body([1], url)).next_path == path


@pytest.mark.parametrize(
    "url",
    [
        "",
        "cursor=a",
        "https://api.massive.com",
        "https://h//evil.example/x",
        "//evil.example/x",
        "ftp://h/x",
        "https://h/a b",
        "https://h/a\\b",
        "https://h/\n",
    ],
)
def test_next_url_that_is_no_page_is_refused(url: str):
    with pytest.raises(DecodeError, match="next_url"):
        read(body([1], url))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"results":[1}',
        b'{"results":[01]}',
        b'{"results":[1]} x',
        b'{"results":[1],"next_url":5}',
        b'{"results":[1],"status":1}',
        b'\xff{"results":[]}',
    ],
)
def test_bad_json_and_wrong_types_raise(text: bytes):
    with pytest.raises(DecodeError) as found:
        read(text)
    assert found.value.endpoint == "trades"
    assert str(found.value).endswith("excerpt.")


@pytest.mark.parametrize(
    ("envelope", "kind"),
    [
        ({"status": "ERROR", "error": "Something broke"}, UpstreamError),
        ({"status": "ERROR", "error": "Unknown API Key"}, Unauthorized),
        ({"status": "ERROR", "error": "You've exceeded the maximum requests per minute"}, RateLimited),
        ({"status": "NOT_AUTHORIZED", "message": "You are not entitled to this data."}, NotEntitled),
        ({"status": "NOT_FOUND", "message": "Ticker not found."}, UnknownSymbol),
        ({"error": "no status at all"}, UpstreamError),
    ],
)
def test_error_body_behind_a_200_is_that_error(envelope: dict[str, str], kind: type[Exception]):
    with pytest.raises(kind) as found:
        read(json.dumps({"request_id": "r9", **envelope}).encode())
    assert type(found.value) is kind
    assert found.value.request_id == "r9"
    assert (envelope.get("error") or envelope["message"]) in str(found.value)


def test_rows_may_be_missing_only_where_the_envelope_counts_them_to_zero():
    assert read(b'{"queryCount":0,"resultsCount":0,"status":"OK"}').n_rows == 0
    assert read(b'{"queryCount":12,"resultsCount":0,"results":null}').n_rows == 0
    for text in (b'{"status":"OK"}', b'{"resultsCount":3}', b'{"status":"OK","results":null}', b"{}"):
        with pytest.raises(DecodeError, match="no 'results'"):
            read(text)


def test_rows_under_another_name():
    assert read_page(b'{"tickers":[1],"count":1}', endpoint="snapshot_stocks", results="tickers").n_rows == 1
    with pytest.raises(DecodeError, match="no 'tickers'"):
        read_page(b'{"results":[1]}', endpoint="snapshot_stocks", results="tickers")


def test_excerpt_of_a_broken_body_holds_no_key():
    text = b'{"results":[1],"next_url":"https://h/x?apiKey=SECRETSECRET"' + b" " * 30 + b"!"
    with pytest.raises(DecodeError) as found:
        read(text)
    assert "SECRET" not in found.value.excerpt + str(found.value) + repr(
        pickle.loads(pickle.dumps(found.value)).__dict__
    )


def test_paging_ends_on_the_explicit_last_page():
    steps = paginate(FIRST, endpoint="trades")
    assert next(steps) == FIRST
    assert steps.send(body([1], "https://h/v3/trades/AAPL?cursor=b")) == "/v3/trades/AAPL?cursor=b"
    assert steps.send(body([], "https://h/v3/trades/AAPL?cursor=c")) == "/v3/trades/AAPL?cursor=c"
    assert steps.send(body([], "https://h/v3/trades/AAPL?cursor=d")) == "/v3/trades/AAPL?cursor=d"
    with pytest.raises(StopIteration) as end:
        steps.send(body([2]))
    assert [json.loads(page.body)["results"] for page in end.value.value] == [[1], [], [], [2]]


def test_first_page_broken_raises_its_cause():
    steps = paginate(FIRST, endpoint="trades")
    next(steps)
    with pytest.raises(DecodeError):
        steps.send(b"{")
    steps = paginate(FIRST, endpoint="trades")
    next(steps)
    with pytest.raises(ConnectionLost, match="cut"):
        steps.throw(ConnectionLost("cut"))


@pytest.mark.parametrize(
    "bad", [b'{"results":[1,', b"", b'{"status":"ERROR","error":"x","request_id":"r7"}', b'{"status":"OK"}']
)
def test_broken_later_page_keeps_the_good_ones(bad: bytes):
    steps = paginate(FIRST, endpoint="trades")
    next(steps)
    steps.send(body([1], "https://h/p2"))
    with pytest.raises(IncompletePagination, match="Page 2 failed after 1 good") as found:
        steps.send(bad)
    assert found.value.n_pages == 1
    assert [json.loads(page.body)["results"] for page in found.value.partial] == [[1]]
    assert isinstance(found.value.__cause__, (DecodeError, UpstreamError))
    assert found.value.endpoint == "trades"


def test_failed_fetch_of_a_later_page():
    steps = paginate(FIRST, endpoint="trades")
    next(steps)
    steps.send(body([1], "https://h/p2"))
    with pytest.raises(IncompletePagination, match="cut") as found:
        steps.throw(ConnectionLost("cut", symbol="AAPL", request_id="r5"))
    assert (found.value.symbol, found.value.request_id) == ("AAPL", "r5")
    assert isinstance(found.value.__cause__, ConnectionLost)


@pytest.mark.parametrize("kind", [asyncio.CancelledError, KeyboardInterrupt, GeneratorExit])
def test_cancellation_passes_through(kind: type[BaseException]):
    steps = paginate(FIRST, endpoint="trades")
    next(steps)
    steps.send(body([1], "https://h/p2"))
    with pytest.raises(kind):
        steps.throw(kind())


@pytest.mark.parametrize("back_to", [FIRST, "/p2"])
def test_loop_raises_and_keeps_every_page(back_to: str):
    steps = paginate(FIRST, endpoint="trades")
    next(steps)
    steps.send(body([1], "https://h/p2"))
    with pytest.raises(IncompletePagination, match="already read") as found:
        steps.send(body([2], f"https://h{back_to}"))
    assert found.value.n_pages == 2


def test_page_that_points_to_itself():
    steps = paginate(FIRST, endpoint="trades")
    next(steps)
    with pytest.raises(IncompletePagination, match="already read") as found:
        steps.send(body([1], f"https://h{FIRST}"))
    assert found.value.n_pages == 1


def test_same_rows_again_under_another_cursor():
    steps = paginate(FIRST, endpoint="trades")
    next(steps)
    steps.send(body([1], "https://h/p2"))
    with pytest.raises(IncompletePagination, match="repeats the rows") as found:
        steps.send(body([1], "https://h/p3", request_id="r2"))
    assert found.value.n_pages == 1
