from __future__ import annotations

import itertools
from typing import get_args

import pytest

from massive_lab.errors import ConfigError
from massive_lab.schema.plans import Tier, plan


def test_every_tier_has_a_plan_that_bears_its_name() -> None:
    assert [plan(tier).tier for tier in get_args(Tier)] == list(get_args(Tier))


@pytest.mark.parametrize("tier", ["gold", "Basic", "", "options-advanced"])
def test_an_unknown_tier_is_told_with_those_there_are(tier: str) -> None:
    with pytest.raises(ConfigError, match="basic, starter, developer, advanced, business"):
        plan(tier)


def test_a_higher_tier_never_has_less() -> None:
    plans = [plan(tier) for tier in get_args(Tier)]
    for low, high in itertools.pairwise(plans):
        for name in ("seconds", "snapshots", "websocket", "trades", "quotes", "connections"):
            assert getattr(high, name) >= getattr(low, name), (low.tier, high.tier, name)
        for name in ("calls_per_minute", "history_years"):  # None is without limit
            assert (getattr(high, name) or float("inf")) >= (getattr(low, name) or float("inf"))
        late = float("inf")  # None is end of day only
        delays = [late if each.delay_s is None else each.delay_s for each in (low, high)]
        assert delays[1] <= delays[0]


def test_what_cannot_stream_has_no_connection() -> None:
    assert all(plan(tier).websocket == (plan(tier).connections > 0) for tier in get_args(Tier))
