"""The pure parts one by one: topics, handshake, book, back-off, schedule, feed machine."""

from __future__ import annotations

import json

import pytest

from massive_lab.config import Secret
from massive_lab.errors import InvalidRequest, NotEntitled, SubscriptionFailed, Timeout, Unauthorized
from massive_lab.live.policy import Backoff, Policy
from massive_lab.live.refs import Book, Closed, Denied, Send
from massive_lab.live.topics import Topic, poll_kind, topics_for
from massive_lab.live.wire.handshake import Authenticated, Evicted, Handshake, Refused, SendAuth
from massive_lab.live.wire.machine import FeedMachine, Recovery
from massive_lab.schema.symbols import OptionSymbol, parse_many


@pytest.mark.parametrize(
    ("cluster", "wire"),
    [
        ("stocks", "V.AAPL"), ("indices", "T.I:SPX"), ("stocks", "T.I:SPX"), ("options", "Q.*"), ("stocks", "TAAPL"),
        ("stocks", "T."), ("forex", "C.EUR"),
    ],
)
def test_topics_that_no_cluster_has(cluster, wire):
    with pytest.raises(InvalidRequest):
        Topic.parse(cluster, wire)


def test_a_symbol_may_hold_dots():
    assert Topic.parse("stocks", "T.BRK.B") == Topic("stocks", "T", "BRK.B")


def test_default_topics_by_class_and_what_a_snapshot_can_stand_in_for():
    topics = topics_for(parse_many(["AAPL", "O:SPY251219C00650000", "I:SPX"]))
    assert [t.channel for t in topics] == ["T", "Q", "AM", "T", "Q", "AM", "V", "AM"]
    assert [poll_kind(t) for t in topics] == ["trades", "quotes", None, "trades", "quotes", None, "values", None]


# ---- handshake


@pytest.mark.parametrize("phase", ["connecting", "authenticating"])
@pytest.mark.parametrize(
    ("status", "message", "error", "final"),
    [
        ("auth_failed", "authentication failed", Unauthorized, True),
        ("auth_failed", "Your plan doesn't include websocket access.", NotEntitled, True),
        ("auth_timeout", "No authentication request received.", Timeout, False),
        ("max_connections", "Maximum number of websocket connections exceeded.", Evicted, True),
    ],
)
def test_handshake_refusals(phase, status, message, error, final):
    machine = Handshake("stocks", Secret("k3y"), 0.0)
    if phase == "authenticating":
        machine.status("connected", "", 0.0)
    action = machine.status(status, message, 1.0)
    assert isinstance(action, Refused)
    assert (type(action.error), action.final, machine.phase) == (error, final, "failed")
    assert "k3y" not in str(action.error)
    assert machine.status("auth_success", "", 2.0) is None
    assert machine.tick(99.0) is None


def test_handshake_in_order_and_the_key_only_on_the_wire():
    machine = Handshake("stocks", Secret('k"3y'), 0.0)
    assert machine.status("auth_success", "", 0.1) is None, "nothing was sent yet"
    action = machine.status("connected", "", 0.2)
    assert isinstance(action, SendAuth)
    assert json.loads(action.text) == {"action": "auth", "params": 'k"3y'}
    assert "3y" not in repr(action)
    assert machine.status("connected", "", 0.3) is None
    assert machine.status("something", "new", 0.3) is None
    assert machine.status("auth_success", "", 0.4) == Authenticated()


def test_handshake_deadlines():
    machine = Handshake("stocks", Secret("k"), 0.0, connected_s=5.0, auth_s=2.0)
    assert machine.tick(4.9) is None
    machine.status("connected", "", 4.9)
    assert machine.tick(6.8) is None
    late = machine.tick(6.9)
    assert late is not None
    assert "answer to the key" in str(late.error)
    silent = Handshake("stocks", Secret("k"), 0.0).tick(5.0)
    assert silent is not None
    assert "greeting" in str(silent.error)


# ---- book


def stock(wire):
    return Topic.parse("stocks", wire)


def online(*wires, policy=None, cluster="stocks"):
    book = Book(cluster, policy or Policy())
    for wire in wires:
        book.open(Topic.parse(cluster, wire), f"r-{wire}")
    book.online()
    return book


def confirm(book, *wires):
    return [outcome for wire in wires for outcome in book.status("success", f"subscribed to: {wire}")]


def test_a_refusal_before_the_confirmations_is_told_once_the_counts_meet():
    book = online("T.A", "Q.A", "AM.A")
    book.next_send(0.0)
    assert book.status("error", "not authorized") == []
    assert [type(o).__name__ for o in confirm(book, "T.A")] == ["Confirmed"]
    outcomes = confirm(book, "AM.A")
    assert Denied(stock("Q.A"), "not authorized", ("r-Q.A",)) in outcomes
    assert book.is_settled


def test_refused_and_silent_in_one_batch_are_told_apart_one_at_a_time():
    book = online("T.A", "Q.A", "AM.A", policy=Policy(ack_s=5.0))
    book.next_send(0.0)
    confirm(book, "T.A")
    book.status("error", "not authorized")
    assert book.tick(5.0) == []
    assert book.next_send(5.0) == Send("subscribe", (stock("Q.A"),))
    (denied, closed) = book.status("error", "not authorized")
    assert (denied.topic, closed) == (stock("Q.A"), Closed(stock("Q.A")))
    assert book.next_send(5.1) == Send("subscribe", (stock("AM.A"),))
    outcomes = book.tick(10.2)
    assert [type(o).__name__ for o in outcomes] == ["Denied", "Closed"]
    assert outcomes[0].reason == "no answer within 5 s"
    assert book.held == {stock("T.A")}


def test_data_is_an_answer_when_the_server_gives_none():
    book = online("T.A")
    book.next_send(0.0)
    assert book.data_wire("T.B") == []
    assert [type(o).__name__ for o in book.data_wire("T.A")] == ["Confirmed"]
    assert book.tick(99.0) == []


def test_a_late_confirmation_of_what_nobody_wants_is_unsubscribed():
    book = online("T.A")
    book.next_send(0.0)
    book.tick(5.0)
    assert book.wanted == ()
    assert confirm(book, "T.A") == []
    assert book.next_send(6.0) == Send("unsubscribe", (stock("T.A"),))


def test_a_confirmation_of_what_was_never_sent_is_not_believed():
    book = online("T.A")
    assert confirm(book, "T.ZZZ", "nonsense") == []
    assert book.held == frozenset()


def test_an_unanswered_unsubscribe_is_repeated_until_it_is_answered():
    policy = Policy(linger_s=0.0, ack_s=1.0, unsubscribe_attempts=3)
    book = online("T.A", policy=policy)
    book.next_send(0.0)
    confirm(book, "T.A")
    book.close(stock("T.A"), "r-T.A", 0.0)
    for n in range(3):
        assert book.next_send(float(n)) == Send("unsubscribe", (stock("T.A"),))
        book.tick(n + 1.0)
    assert book.next_send(3.0) is None, "not at once any more"
    assert book.deadline == 4.0
    for at in (4.0, 7.0, 12.0):
        book.tick(at)
        assert book.next_send(at) == Send("unsubscribe", (stock("T.A"),))
        book.tick(at + 1.0)
    book.tick(100.0)
    assert book.next_send(100.0) == Send("unsubscribe", (stock("T.A"),))
    book.status("success", "unsubscribed to: T.A")
    assert book.held == frozenset()
    assert book.deadline is None
    assert book.next_send(200.0) is None


def doubtful():
    book = online("T.A", policy=Policy(linger_s=0.0, ack_s=1.0))
    book.next_send(0.0)
    confirm(book, "T.A")
    book.close(stock("T.A"), "r-T.A", 0.0)
    book.next_send(0.0)
    book.tick(1.0)
    return book


def test_wanted_again_while_nobody_knows_whether_it_is_held_it_is_subscribed_and_silence_is_consent():
    book = doubtful()
    assert [type(o).__name__ for o in book.open(stock("T.A"), "again")] == ["Opened"]
    assert book.state(stock("T.A")) == "wanted"
    assert book.next_send(1.0) == Send("subscribe", (stock("T.A"),))
    assert [type(o).__name__ for o in book.tick(2.0)] == ["Confirmed"]
    assert book.state(stock("T.A")) == "confirmed"


def test_what_was_in_doubt_and_is_left_before_it_was_asked_for_is_still_unsubscribed():
    book = doubtful()
    book.open(stock("T.A"), "again")
    book.close(stock("T.A"), "again", 1.0)
    assert book.next_send(1.0) == Send("unsubscribe", (stock("T.A"),))


def test_a_single_that_stays_unanswered_under_its_wildcard_is_asked_again_after_it():
    book = online("T.*", policy=Policy(linger_s=0.0, ack_s=5.0))
    book.next_send(0.0)
    confirm(book, "T.*")
    book.open(stock("T.A"), "single")
    assert book.state(stock("T.A")) == "confirmed"
    book.close(stock("T.*"), "r-T.*", 1.0)
    assert book.next_send(1.0) == Send("subscribe", (stock("T.A"),))
    assert book.data_wire("T.A") == [], "the data come by the wildcard"
    assert book.tick(6.0) == []
    assert book.next_send(6.0) == Send("unsubscribe", (stock("T.*"),))
    book.status("success", "unsubscribed to: T.*")
    assert book.next_send(6.1) == Send("subscribe", (stock("T.A"),))
    assert [type(o).__name__ for o in book.tick(11.1)] == ["Denied", "Closed"]


def contracts(n):
    import datetime as dt

    return [str(OptionSymbol.build("SPY", dt.date(2025, 12, 19), "call", i)) for i in range(1, n + 1)]


def test_option_quotes_are_capped_and_a_lingering_one_makes_room():
    book = Book("options", Policy(batch_topics=2_000))
    topics = [Topic("options", "Q", text) for text in contracts(1_001)]
    for topic in topics[:1_000]:
        book.open(topic, "r")
    book.online()
    book.next_send(0.0)
    confirm(book, *(topic.wire for topic in topics[:1_000]))
    with pytest.raises(SubscriptionFailed, match="1,000 option quotes"):
        book.open(topics[1_000], "late")
    assert len(book.wanted) == 1_000
    book.open(Topic("options", "T", topics[0].symbol), "r")
    book.open(topics[5], "another reader of a held one")
    book.close(topics[7], "r", 0.0)
    assert Closed(topics[7]) in book.open(topics[1_000], "late")
    assert book.next_send(0.1) == Send("unsubscribe", (topics[7],)), "first out, then in"
    book.status("success", f"unsubscribed to: {topics[7].wire}")
    assert topics[1_000] in book.next_send(0.2).topics


# ---- schedules


def test_back_off_grows_is_jittered_and_is_cleared_by_a_stable_connection_only():
    backoff = Backoff(0.25, 30.0, 10.0)
    assert [backoff.next_s(0.0) for _ in range(3)] == [0.125, 0.25, 0.5]
    backoff.lived(9.0)
    assert backoff.next_s(1.0) == 2.0
    backoff.lived(11.0)
    assert backoff.next_s(1.0) == 0.25
    for _ in range(200):
        assert backoff.next_s(1.0) <= 30.0


def test_the_feed_machine_shows_polling_while_it_reconnects_and_nothing_when_closed():
    machine = FeedMachine("stocks", Policy(grace_s=0.05))
    machine.connecting()
    machine.lost(1.0, "refused")
    assert machine.poll_at == 1.05
    assert machine.polling(1.06) == pytest.approx(0.06)
    assert (machine.state, machine.poll_at) == ("polling", None)
    machine.connecting()
    machine.opened()
    assert machine.state == "polling"
    assert machine.authenticated(3.0) == Recovery(2.0, 2)
    assert machine.state == "live"
    machine.close()
    assert (machine.state, machine.poll_at, machine.silence_at) == ("closed", None, None)
    assert [change.state for change in machine.changes] == ["connecting", "polling", "live", "closed"]


def test_a_loss_in_the_middle_of_an_outage_does_not_move_its_beginning():
    machine = FeedMachine("stocks", Policy(grace_s=0.0))
    for at in (1.0, 2.0, 3.0):
        machine.connecting()
        machine.lost(at, "refused")
    assert machine.poll_at == 1.0
    machine.connecting()
    machine.opened()
    assert machine.authenticated(5.0) == Recovery(4.0, 4)
