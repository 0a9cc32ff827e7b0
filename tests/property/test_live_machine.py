"""The hub, the feed, the book and the fallback as they are, against a model of the upstream: any order of faults and wishes.

Hypothesis draws the steps; after each the world is at rest and every invariant of `World.check` holds, and at the end all
faults are lifted and the feed must be whole again, and then closed without a trace. ``SOAK_SEEDS`` sets how many runs.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from massive_lab.live.gaps import Gaps
from massive_lab.live.refs import Book
from massive_lab.live.routes import Routes
from tests.property.upstream import FEEDS, JUNK, WIRES, World

SEEDS = int(os.environ.get("SOAK_SEEDS", "200"))


class LiveMachine(RuleBasedStateMachine):
    readers = Bundle("readers")

    def __init__(self):
        super().__init__()
        self.world = None

    @initialize(with_history=st.booleans())
    def begin(self, with_history):
        self.world = World(with_history=with_history)

    # ---- readers

    @rule(target=readers, wire=st.sampled_from(WIRES))
    def subscribe(self, wire):
        return self.world.open(wire)

    @rule(reader=consumes(readers))
    def unsubscribe(self, reader):
        self.world.leave(reader)

    # ---- the socket

    @rule(how=st.sampled_from(("without a close frame", "by the server with code 1000", "by the server with code 1011")))
    def drop(self, how):
        self.world.drop(how)

    @rule(n=st.integers(1, 3))
    def refuse(self, n):
        self.world.upstream.refuse = n

    @rule(hangs=st.booleans())
    def upgrades_hang(self, hangs):
        self.world.upstream.hangs = hangs

    @precondition(lambda self: self.world.upstream.live is not None)
    @rule()
    def stall(self):
        self.world.upstream.stalled = True

    @rule(what=st.sampled_from(("connected", "auth", "ack")))
    def withhold(self, what):
        self.world.withhold(what)

    @rule()
    def release(self):
        self.world.release()

    @rule()
    def evict(self):
        self.world.evict()

    @rule()
    def the_other_owner_leaves(self):
        self.world.upstream.evicting = False

    # ---- data

    @rule(wires=st.lists(st.sampled_from(FEEDS), min_size=1, max_size=6))
    def burst(self, wires):
        self.world.burst(*wires)

    @rule(is_mute=st.booleans())
    def mute(self, is_mute):
        self.world.upstream.mute = is_mute

    @precondition(lambda self: not self.world.was_late)
    @rule(lags=st.booleans())
    def the_stream_lags_behind_rest(self, lags):
        self.world.upstream.lags = lags

    @rule(kind=st.sampled_from(sorted(JUNK)))
    def malformed_frame(self, kind):
        self.world.malformed(JUNK[kind])

    @rule(wires=st.lists(st.sampled_from(FEEDS), min_size=1, max_size=3))
    def a_bad_item_among_good_ones(self, wires):
        self.world.burst(*wires, junk=b'{"ev":"T","sym":"AAPL"}')

    # ---- the plan and the clock

    @rule(wire=st.sampled_from(WIRES))
    def deny(self, wire):
        self.world.deny(wire)

    @rule()
    def the_plan_is_whole_again(self):
        self.world.upstream.denied.clear()

    @rule(seconds=st.sampled_from((0.04, 0.3, 1.1, 5.5, 12.0)))
    def time_passes(self, seconds):
        self.world.advance(seconds)

    @rule(seconds=st.sampled_from((5.0, 3_600.0)))
    def the_machine_sleeps(self, seconds):
        self.world.suspend(seconds)

    @invariant()
    def holds(self):
        if self.world is not None:
            self.world.check()

    def teardown(self):
        world = self.world
        if world is None:
            return
        try:
            world.calm()
            if any(reader.is_open for reader in world.readers):
                assert world.state == "live"
                assert all(world.hub.is_confirmed(r.topic) for r in world.readers if r.is_open)
            world.check()
            world.advance(60.0)
            world.check()  # by now what could be filled is
            for reader in [reader for reader in world.readers if reader.is_open]:
                world.leave(reader)
            world.advance(world.policy.linger_s + 0.1)
            assert not world.upstream.held
            assert world.hub.wanted == ()
            world.check()
        finally:
            world.close()


TestLive = LiveMachine.TestCase
TestLive.settings = settings(
    max_examples=SEEDS, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck), report_multiple_bugs=False
)


PLANTED = {
    "what was held is believed to be held after a loss": (Book, "_forget", lambda book: None),
    "a reader that left still gets events": (Routes, "detach", lambda routes, topic, sinks: None),
    "a loss is not listed": (Gaps, "offline", lambda gaps, error: None),
    "the last reader leaves and nothing is given back": (Book, "close", lambda book, topic, reader, now: []),
}


@pytest.mark.parametrize("what", PLANTED)
def test_the_machine_finds_a_planted_fault(what, monkeypatch, caplog):
    owner, name, wrong = PLANTED[what]
    monkeypatch.setattr(owner, name, wrong)
    found = settings(TestLive.settings, max_examples=300, phases=[Phase.generate], database=None, derandomize=True)
    with pytest.raises((AssertionError, RuntimeError, KeyError)):
        run_state_machine_as_test(LiveMachine, settings=found)
