from __future__ import annotations

import json

import polars as pl
import pytest

from massive_lab.decode.lines import read_flat

WIRE = {"a": pl.Float64, "b": pl.Int64, "s": pl.String, "c": pl.List(pl.Int64)}
ROW = {"a": 1.5, "b": 7, "s": "x", "c": [1, 2]}


def page(rows: list[dict[str, object]] | str, tail: str = "") -> bytes:
    text = rows if isinstance(rows, str) else json.dumps(rows, separators=(",", ":"))
    return f'{{"status":"OK","results":{text},"request_id":"r"{tail}}}'.encode()


def fill(row: dict[str, object]) -> list[dict[str, object]]:
    """A page long enough for the quick way, with one odd row in it."""
    return [*(ROW for _ in range(300)), row, ROW]


def test_a_plain_page_is_read():
    found = read_flat(page(fill({"b": 2**62 + 1, "a": 3})), WIRE, endpoint="trades")
    assert found is not None
    frame = found
    assert frame.schema == pl.Schema(WIRE)
    assert frame.row(300) == (3.0, 2**62 + 1, None, None)
    assert frame.row(301) == (1.5, 7, "x", [1, 2])


@pytest.mark.parametrize(
    "row",
    [
        {"a": 1, "new": 2},
        {"a": None},
        {"a": "1.5"},
        {"a": True},
        {"a": {"b": 1}},
        {"b": 1.0},
        {"b": 1.5},
        {"b": 2**63},
        {"s": 5},
        {"s": True},
        {"s": "a:b"},
        {"s": 'say "x"'},
        {"s": "a},{b"},
        {"c": 5},
        {"c": ["x"]},
        {},
    ],
)
def test_what_is_not_proven_is_left_to_the_exact_way(row: dict[str, object]):
    found = read_flat(page(fill(row)), WIRE, endpoint="trades")
    if row == {}:  # a row without fields is a row all the same
        assert found is not None
        assert found.row(300) == (None, None, None, None)
    else:
        assert found is None


def plain(n: int = 300) -> str:
    return json.dumps([ROW] * n, separators=(",", ":"))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        page([ROW]),  # too short to be worth it
        page(json.dumps([ROW] * 300)),  # spaces between rows
        page(plain().replace('{"a":1.5', '{"a":1.5,"a":2.5', 1)),  # one key twice
        page(plain().replace("1.5", "01.5", 1)),
        page(plain().replace("1.5", "1.", 1)),
        page(plain().replace("1.5", "1e400", 1)),
        page(plain().replace("1.5", "NaN", 1)),
        page(plain().replace("},{", "}{", 1)),
        page(plain().replace("},{", "},,{", 1)),
        page(plain())[:-20],
        page(plain()) + b"x",
        page(plain(), ',"results":[]'),  # the last of two wins, and it is the other
        page(plain(), ',"results":[{"a":1}]'),
        b'{"inner":' + page(plain()) + b',"results":[]}',
        b'{"mark":["rows are read apart"],' + page(plain())[1:],
        page(plain(), ',"status":"ERROR"'),
    ],
)
def test_pages_that_are_not_plain(body: bytes):
    assert read_flat(body, WIRE, endpoint="trades") is None
