"""A crowd at the door."""

from __future__ import annotations

import pytest

from massive_lab.gateway.admission import Admission, Admit, Hold, Refuse


def test_a_thousand_at_once_a_burst_goes_in_some_wait_their_turn_the_rest_come_back_spread() -> None:
    door = Admission(rate_per_s=100, burst=50, waiting=500)
    verdicts = [door.ask(0.0) for _ in range(1000)]
    assert verdicts[:50] == [Admit()] * 50
    waits = [each.seconds for each in verdicts[50:550] if isinstance(each, Hold)]
    assert waits == pytest.approx([(number + 1) / 100 for number in range(500)])
    retries = [each.seconds for each in verdicts[550:] if isinstance(each, Refuse)]
    assert len(retries) == 450
    assert retries == sorted(set(retries))
    assert retries[0] > waits[-1]
    assert retries[-1] - retries[0] == pytest.approx(4.49)


def test_all_thousand_are_in_when_each_does_as_told() -> None:
    door = Admission(rate_per_s=100, burst=50, waiting=300)
    comes, inside = [(0.0, number) for number in range(1000)], []
    for _ in range(5):
        again = []
        for now, client in sorted(comes):
            match door.ask(now):
                case Admit():
                    inside.append(now)
                case Hold(seconds=wait):
                    inside.append(now + wait)
                case Refuse(seconds=wait):
                    again.append((now + wait, client))
        comes = again
    assert comes == []
    assert len(inside) == 1000
    assert max(inside) == pytest.approx(9.5, abs=0.1)


def test_the_burst_comes_back_with_rest() -> None:
    door = Admission(rate_per_s=10, burst=3, waiting=0)
    assert [type(door.ask(0.0)) for _ in range(4)] == [Admit, Admit, Admit, Refuse]
    assert [type(door.ask(0.1)) for _ in range(2)] == [Admit, Refuse]
    assert [type(door.ask(60.0)) for _ in range(4)] == [Admit, Admit, Admit, Refuse]


def test_whoever_hangs_up_while_waiting_gives_the_place_away_once() -> None:
    door = Admission(rate_per_s=1, burst=1, waiting=2)
    assert door.ask(0.0) == Admit()
    first, second = door.ask(0.0), door.ask(0.0)
    assert isinstance(first, Hold)
    assert isinstance(second, Hold)
    assert (door.n_waiting, type(door.ask(0.0))) == (2, Refuse)
    door.leave(first, 0.5)
    door.leave(first, 0.5)
    taken = door.ask(0.5)
    assert isinstance(taken, Hold)
    assert taken.at_ns == first.at_ns
    assert isinstance(door.ask(0.5), Refuse)


def test_leaving_after_the_turn_has_come_changes_nothing() -> None:
    door = Admission(rate_per_s=1, burst=1, waiting=1)
    door.ask(0.0)
    hold = door.ask(0.0)
    assert isinstance(hold, Hold)
    door.leave(hold, 1.0)
    nxt = door.ask(1.0)
    assert isinstance(nxt, Hold)
    assert nxt.at_ns == 2_000_000_000


def test_a_place_given_back_and_not_taken_lapses() -> None:
    door = Admission(rate_per_s=1, burst=1, waiting=3)
    door.ask(0.0)
    hold = door.ask(0.0)
    assert isinstance(hold, Hold)
    door.leave(hold, 0.1)
    assert door.ask(5.0) == Admit()
    assert door._given_back == []


def test_nobody_is_sent_away_for_longer_than_the_longest_time() -> None:
    door = Admission(rate_per_s=1, burst=1, waiting=0, max_retry_s=5)
    retries = [door.ask(0.0) for _ in range(100)][1:]
    assert all(isinstance(each, Refuse) and 0 < each.seconds <= 5 and 1 <= each.retry_after <= 5 for each in retries)
    # Round after round, so that they do not come in one moment.
    assert len({each.seconds for each in retries if isinstance(each, Refuse)}) >= 4


def test_an_endless_crowd_costs_no_memory() -> None:
    door = Admission(rate_per_s=10, burst=1, waiting=5)
    for number in range(20_000):
        verdict = door.ask(number / 1000)
        if isinstance(verdict, Hold) and number % 3 == 0:
            door.leave(verdict, number / 1000)
    assert max(len(door._held), len(door._held_order), len(door._given_back)) <= 60


def test_a_clock_that_goes_back_lets_nobody_in() -> None:
    door = Admission(rate_per_s=1, burst=1, waiting=0)
    assert door.ask(100.0) == Admit()
    assert isinstance(door.ask(0.0), Refuse)


@pytest.mark.parametrize(
    "bad", [{"rate_per_s": 0}, {"rate_per_s": float("inf")}, {"burst": 0}, {"waiting": -1}, {"max_retry_s": 0}], ids=str
)
def test_settings_make_sense(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="positive"):
        Admission(**bad)  # type: ignore[arg-type]
