from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from massive_lab.errors import InvalidRequest
from massive_lab.sandbox.faults import answers, stream, toxics
from massive_lab.sandbox.faults.book import KINDS, FaultBook, Hit, parse_fault

EVERYTHING = {"*", "rest", "trades"}


def strikes(book: FaultBook, n: int, labels=EVERYTHING) -> list[bool]:
    return [book.draw(answers.Http429, labels) is not None for _ in range(n)]


@given(seed=st.integers(0, 2**32), probability=st.floats(0, 1), other=st.integers(0, 30))
def test_the_nth_decision_depends_on_the_seed_and_n_alone(seed: int, probability: float, other: int):
    spec = {"kind": "http_429", "seed": seed, "probability": probability}
    alone, among = FaultBook(), FaultBook()
    alone.add(spec)
    among.add({"kind": "http_5xx"})
    among.add(spec)
    expected = strikes(alone, 20)
    got = []
    for i in range(20):
        if i < other:
            among.draw(answers.Http5xx, EVERYTHING)
        got += strikes(among, 1)
    assert got == expected


def test_probability_is_about_kept():
    book = FaultBook()
    book.add({"kind": "http_429", "probability": 0.3, "seed": 1})
    assert 250 <= sum(strikes(book, 1_000)) <= 350


def test_a_count_is_spent_by_strikes_not_by_decisions():
    book = FaultBook()
    book.add({"kind": "http_429", "probability": 0.5, "count": 3, "seed": 1})
    assert sum(strikes(book, 100)) == 3


def test_scope():
    book = FaultBook()
    book.add({"kind": "http_429", "scope": "trades"})
    assert strikes(book, 1) == [True]
    assert strikes(book, 1, {"*", "rest", "quotes"}) == [False]


def test_faults_that_fire_are_told_and_listeners_hear_of_changes():
    fired, changes = [], []
    book = FaultBook(fired.append)
    book.listen(lambda: changes.append(len(book)))
    fault = book.add({"kind": "http_429", "name": "mine"})
    strikes(book, 2)
    assert fired == ["mine", "mine"]
    assert book.remove(fault.id)
    assert not book.remove(fault.id)
    book.add({"kind": "mute"})
    assert book.reset() == 1
    assert changes == [1, 0, 1, 0]


def test_a_name_is_armed_once():
    book = FaultBook()
    book.add({"kind": "mute", "name": "x"})
    with pytest.raises(InvalidRequest, match="armed already"):
        book.add({"kind": "mute", "name": "x"})


def test_draw_all_decides_each_fault_once_and_knows_the_spared():
    book = FaultBook()
    book.add({"kind": "latency", "name": "always"})
    book.add({"kind": "latency", "name": "never", "probability": 0.0})
    book.add({"kind": "latency", "name": "up", "direction": "up"})
    hit, spared = book.draw_all(toxics.Toxic, EVERYTHING, "down")
    assert isinstance(hit, Hit)
    assert (hit.fault.id, spared) == ("always", "never")
    assert book.draw_all(toxics.Toxic, EVERYTHING, "down", {"always", "never"}) == []


@pytest.mark.parametrize("name", sorted(KINDS))
def test_every_kind_stands_on_its_defaults_and_says_what_it_does(name: str):
    fault = parse_fault({"kind": name}, default_id="x")
    assert parse_fault({k: v for k, v in fault.to_json().items() if k != "id"}, default_id="x") == fault
    assert KINDS[name].__doc__


def test_the_kinds_asked_for_are_all_there():
    toxiproxy = {"latency", "down", "bandwidth", "slow_close", "timeout", "reset_peer", "slicer", "limit_data"}
    assert toxiproxy <= set(KINDS)
    assert len(KINDS) >= 28
    assert stream.STAGES == ("connected", "authenticated", "subscribed")


@pytest.mark.parametrize(
    "spec",
    [
        {"kind": "gremlins"},
        {},
        {"kind": "latency", "latency_ms": -1},
        {"kind": "latency", "latency_ms": "slow"},
        {"kind": "latency", "colour": "red"},
        {"kind": "latency", "direction": "sideways"},
        {"kind": "slow_close", "direction": "up"},
        {"kind": "latency", "direction": "up", "scope": "trades"},
        {"kind": "latency", "scope": "T.AAPL"},
        {"kind": "latency", "scope": "nowhere"},
        {"kind": "http_429", "scope": "stocks"},
        {"kind": "mute", "scope": "trades"},
        {"kind": "mute", "scope": 3},
        {"kind": "mute", "probability": 1.1},
        {"kind": "mute", "count": 0},
        {"kind": "mute", "count": 1.5},
        {"kind": "mute", "seed": "x"},
        {"kind": "bandwidth", "rate_bytes_s": 0},
        {"kind": "slicer", "size_bytes": 2, "variation_bytes": 2},
        {"kind": "http_5xx", "status": 200},
        {"kind": "http_429", "retry_after_s": "soon"},
        {"kind": "truncated_json", "fraction": 1.0},
        {"kind": "broken_page", "how": "badly"},
        {"kind": "page_loop", "to": "moon"},
        {"kind": "wrong_content_length", "delta_bytes": 0},
        {"kind": "close", "code": 1005},
        {"kind": "close", "stage": "later"},
        {"kind": "malformed", "how": "x"},
        {"kind": "max_connections", "victim": "x"},
        {"kind": "nightly_drop", "at": "late"},
        {"kind": "refuse_upgrade", "status": 101},
    ],
)
def test_what_cannot_be_meant_is_refused(spec):
    with pytest.raises(InvalidRequest):
        parse_fault(spec, default_id="x")
