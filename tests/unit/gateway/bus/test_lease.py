"""The lease as a machine, alone and several of them against one store, whatever the network and the clocks do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from massive_lab.gateway.bus.fence import Fence
from massive_lab.gateway.bus.lease import Lease, Read, Record, Term, Wait, Write, decode_record, encode_record

LEASE_S = 3.0


def leading(me: str = "one", *, at: float = 0.0, revision: int = 5) -> Lease:
    lease = Lease(me, LEASE_S)
    lease.wants = True
    lease.seen(None, 0, at)
    assert isinstance(lease.next(at), Write)
    lease.wrote(revision, asked_at=at)
    return lease


def test_who_does_not_want_it_asks_nothing():
    lease = Lease("one", LEASE_S)
    assert lease.next(0.0) == Wait(None)


def test_a_lease_is_renewed_at_a_third_and_keeps_its_epoch():
    lease = leading()
    assert lease.next(0.5) == Wait(1.0)
    write = lease.next(1.0)
    assert write == Write(Record("one", 1, LEASE_S), 5)
    lease.wrote(9, asked_at=1.0)
    assert lease.term == Term(5, 1, 9, 4.0, 2.0)
    assert lease.is_leader(3.9)
    assert not lease.is_leader(4.0)


def test_an_unanswered_renewal_is_looked_up_and_does_not_prolong_anything():
    lease = leading()
    lease.failed(1.4)
    assert isinstance(lease.next(1.4), Wait)
    assert lease.next(1.7) == Read()
    lease.seen(Record("one", 1, LEASE_S), 8, 1.8)  # it was done after all
    assert lease.term is not None
    assert (lease.term.epoch, lease.term.revision, lease.term.until) == (5, 8, 3.0)
    assert lease.next(1.8) == Write(Record("one", 1, LEASE_S), 8)


def test_without_renewal_it_ends_by_itself_and_the_next_term_has_another_epoch():
    lease = leading()
    lease.failed(1.4)
    assert not lease.is_leader(3.0)
    assert lease.next(3.0) == Read()
    assert lease.term is None
    lease.seen(Record("one", 1, LEASE_S), 5, 3.1)
    # Its own orphan need not be waited for: whoever wrote it leads no more.
    assert lease.next(3.1) == Write(Record("one", 2, LEASE_S), 5)
    lease.wrote(12, asked_at=3.1)
    assert lease.term is not None
    assert lease.term.epoch == 12


@pytest.mark.parametrize("how", ["refused", "overtaken", "gone"])
def test_who_is_overtaken_stops_at_once(how):
    lease = leading()
    if how == "refused":
        lease.refused(1.0)
    else:
        lease.seen(Record("two", 1, LEASE_S) if how == "overtaken" else None, 6, 1.0)
    assert not lease.is_leader(1.0)


def test_another_s_lease_is_left_alone_until_it_has_not_changed_for_longer_than_it_lasts():
    lease = Lease("two", LEASE_S, skew=0.1)
    lease.wants = True
    lease.seen(Record("one", 1, LEASE_S), 5, 10.0)
    assert lease.next(10.0) == Wait(10.75)
    assert lease.next(10.75) == Read()
    lease.seen(Record("one", 1, LEASE_S), 7, 12.9)  # renewed: the count begins anew
    lease.seen(Record("one", 1, LEASE_S), 7, 16.1)
    assert isinstance(lease.next(16.1), Wait)
    lease.seen(Record("one", 1, LEASE_S), 7, 16.2)
    assert lease.next(16.2) == Write(Record("two", 1, LEASE_S), 7)


@pytest.mark.parametrize(("rest_s", "free_at"), [(0.0, 1.0), (300.0, 301.0)])
def test_what_is_given_back_is_free_after_its_rest(rest_s, free_at):
    write = leading().release(rest_s, "evicted")
    assert write is not None
    assert (write.last, write.record.holder, write.record.why) == (5, "", "evicted")
    lease = Lease("two", LEASE_S)
    lease.wants = True
    lease.seen(write.record, 6, 1.0)
    for at in (free_at - 0.1, free_at):
        if at < 1.0:
            continue
        lease.seen(write.record, 6, at)
        assert isinstance(lease.next(at), Write if at >= free_at else Wait)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"\xff", b'{"holder":1}', b'{"holder":"x","lease_s":1e9}', b'{"holder":"","rest_s":-1}']
)
def test_a_record_that_cannot_be_read_is_somebody_s_for_a_lease(data):
    record = decode_record(data, LEASE_S)
    assert (record.holder, record.lease_s) == ("?", LEASE_S)


def test_a_record_survives_the_wire():
    record = Record("one", 3, 2.5, 7.0, "why")
    assert decode_record(encode_record(record), LEASE_S) == record


# ---- several of them


class Store:
    """One record, compared and set."""

    def __init__(self) -> None:
        self.record: Record | None = None
        self.revision = 0
        self.n = 0

    def write(self, record: Record, last: int) -> int | None:
        if last != self.revision:
            return None
        self.n += 1
        self.record, self.revision = record, self.n
        return self.n


@dataclass
class Site:
    lease: Lease
    rate: float
    now: float = 0.0
    sequence: int = 0
    is_cut: bool = False
    epochs: list[int] = field(default_factory=list)
    outbox: list[tuple[int, int]] = field(default_factory=list)


FATES = ("answered", "answered", "answered", "answered", "lost request", "lost answer", "asleep")
PASSING = st.tuples(
    st.just("time"), st.sampled_from((0.05, 0.3, 0.3, 0.9, 2.0, 4.0)), st.tuples(*[st.sampled_from(FATES)] * 3)
)
DEEDS = st.tuples(
    st.sampled_from(("say", "say", "say", "deliver", "cut", "mend", "mend", "kill", "quit")),
    st.integers(0, 2),
    st.integers(1, 3),
)
STEPS = st.lists(PASSING | DEEDS, min_size=40, max_size=80)
RATES = st.lists(st.floats(0.96, 1.04), min_size=3, max_size=3)


def act(site: Site, store: Store, fate: str, passes: Callable[[float], None]) -> None:
    """One step of the shell: what the machine asks for, with the network between."""
    lease = site.lease
    asked_at = site.now
    action = lease.next(asked_at)
    if isinstance(action, Wait):
        return
    is_lost = site.is_cut or fate == "lost request"
    if isinstance(action, Read):
        if is_lost or fate == "lost answer":
            lease.failed(site.now)
        else:
            lease.seen(store.record, store.revision, site.now)
        return
    revision = None if is_lost else store.write(action.record, action.last)
    passes(0.1)  # an answer takes time, for everybody
    if is_lost or fate == "lost answer":
        lease.failed(site.now)
    elif revision is None:
        lease.refused(site.now)
    else:
        lease.wrote(revision, asked_at)


def play(steps: list[tuple[Any, ...]], rates: list[float], *, check_leaders: bool) -> list[int]:
    """Play the steps, check the laws; gives the epochs that were heard of."""
    store = Store()
    lives = 0

    def born(rate: float, now: float) -> Site:
        nonlocal lives
        lives += 1
        lease = Lease(f"life {lives}", LEASE_S, skew=0.1)
        lease.wants = True
        return Site(lease, rate, now)

    sites = [born(rate, 100.0 * i) for i, rate in enumerate(rates)]
    old: list[Site] = []
    fence, accepted = Fence(), []

    def passes(seconds: float) -> None:
        for each in sites:
            each.now += seconds * each.rate

    def speak(site: Site) -> None:
        assert site.lease.term is not None
        epoch = site.lease.term.epoch
        if not site.epochs or site.epochs[-1] != epoch:
            site.epochs.append(epoch)
            site.sequence = 0
        site.sequence += 1
        site.outbox.append((epoch, site.sequence))

    def deliver(site: Site, n: int) -> None:
        for epoch, sequence in site.outbox[:n]:
            if fence.take("T.SPY", epoch, sequence) in ("take", "hole"):
                accepted.append((epoch, sequence))
        del site.outbox[:n]

    for what, who, much in steps:
        if what == "time":
            passes(who)
            for each, fate in zip(sites, much, strict=True):
                for _ in range(0 if fate == "asleep" else 4):
                    act(each, store, fate, passes)
                    if check_leaders:
                        assert sum(each.lease.is_leader(each.now) for each in sites) <= 1
            continue
        site = sites[who]
        if what == "say":
            for each in sites:
                if each.lease.is_leader(each.now):
                    speak(each)
        elif what == "deliver":
            deliver(site, much)
        elif what in ("cut", "mend"):
            site.is_cut = what == "cut"
        elif what == "kill":
            old.append(site)
            sites[who] = born(site.rate, site.now + much)
        elif what == "quit":
            write = site.lease.release()
            if write is not None and not site.is_cut:
                store.write(write.record, write.last)
    for site in [*old, *sites]:
        deliver(site, len(site.outbox))
    # One leader to an epoch, each message once, and nothing of an older leader after a newer one was heard.
    everybody = [epoch for site in [*old, *sites] for epoch in site.epochs]
    assert len(everybody) == len(set(everybody))
    assert len(accepted) == len(set(accepted))
    assert accepted == sorted(accepted)
    return everybody


@given(STEPS, RATES)
@settings(max_examples=200)
def test_with_clocks_of_about_one_rate_nobody_leads_beside_another(steps, rates):
    play(steps, rates, check_leaders=True)


@given(STEPS, st.lists(st.floats(0.0, 5.0), min_size=3, max_size=3))
@settings(max_examples=200)
def test_whatever_the_clocks_do_a_follower_takes_one_leader_after_the_other_and_nothing_twice(steps, rates):
    play(steps, rates, check_leaders=False)


def test_the_play_does_change_leaders():
    """The two laws above would hold of machines that never lead."""
    wait, say = ("time", 0.9, ("answered",) * 3), [("say", i, 1) for i in range(3)]
    turn = [*[wait, *say] * 6, ("cut", 0, 1), *[wait, *say] * 6, ("mend", 0, 1), ("kill", 1, 1), *[wait, *say] * 6]
    assert len(play(turn, [1.0, 1.0, 1.0], check_leaders=True)) >= 3


def test_who_pauses_leaves_it_to_others():
    lease = Lease("one", LEASE_S)
    lease.wants = True
    lease.pause(5.0)
    assert lease.next(1.0) == Wait(5.0)
    assert lease.next(5.0) == Read()
