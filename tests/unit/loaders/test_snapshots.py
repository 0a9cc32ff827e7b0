from __future__ import annotations

import pytest

from massive_lab.errors import InvalidRequest, NotEntitled, UnknownSymbol
from massive_lab.loaders import snapshots

SESSION = dict.fromkeys(("change", "change_percent", "open", "high", "low", "close", "previous_close"), 1.0)


def answer(path, query):
    rows = []
    for symbol in query["ticker.any_of"].split(","):
        if symbol == "NOSUCH":
            rows.append({"ticker": symbol, "error": "NOT_FOUND", "message": "Ticker not found."})
        elif symbol == "DENIED":
            rows.append({"ticker": symbol, "error": "NOT_ENTITLED", "message": "Not entitled to this ticker."})
        elif symbol != "LOST":
            kind = "indices" if symbol.startswith("I:") else "stocks"
            rows.append({"ticker": symbol, "type": kind, "session": SESSION, "value": 2.0})
    return 200, {"status": "OK", "request_id": "q", "results": rows}


def test_one_call_serves_250_symbols(server, desk) -> None:
    server.answer = answer
    symbols = [f"A{chr(65 + i // 26 % 26)}{chr(65 + i % 26)}{chr(65 + i // 676)}" for i in range(501)]
    frame = desk.run(snapshots.snapshot(desk.session, symbols))
    assert frame.height == 501
    assert sorted(len(query["ticker.any_of"].split(",")) for _, query in server.asked) == [1, 250, 250]


@pytest.mark.parametrize(
    ("symbol", "error"), [("NOSUCH", UnknownSymbol), ("DENIED", NotEntitled), ("LOST", UnknownSymbol)]
)
def test_bad_rows_raise_unless_they_are_kept(server, desk, symbol, error) -> None:
    server.answer = answer
    with pytest.raises(error) as caught:
        desk.run(snapshots.snapshot(desk.session, ["AAPL", symbol]))
    assert caught.value.symbol == symbol
    kept = desk.run(snapshots.snapshot(desk.session, ["AAPL", symbol], errors="keep"))
    assert "AAPL" in kept["symbol"]


def test_indices_of_another_class_are_refused(server, desk) -> None:
    with pytest.raises(InvalidRequest, match="belongs to stocks"):
        desk.run(snapshots.indices(desk.session, ["I:SPX", "AAPL"]))
    assert server.asked == []


def test_the_poller_leaves_error_rows_out(server, desk) -> None:
    server.answer = answer
    frame = desk.run(snapshots.SnapshotPoller(desk.session).poll("stocks", ["AAPL", "NOSUCH"]))
    assert frame["symbol"].to_list() == ["AAPL"]


def test_an_unknown_error_rule_is_refused(server, desk) -> None:
    with pytest.raises(InvalidRequest, match="keep"):
        desk.run(snapshots.snapshot(desk.session, "AAPL", errors="ignore"))
