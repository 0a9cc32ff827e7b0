from __future__ import annotations

import string

from hypothesis import given
from hypothesis import strategies as st

from massive_lab.live.topics import CHANNELS, Topic, cap_of, cover, covers

STOCKS = st.text(string.ascii_uppercase, min_size=1, max_size=5) | st.sampled_from(["BRK.B", "A", "AM", "T"])
INDICES = STOCKS.filter(str.isalpha).map(lambda text: f"I:{text}")


@st.composite
def topics(draw):
    cluster = draw(st.sampled_from(["stocks", "indices"]))
    symbol = draw(st.just("*") | (STOCKS if cluster == "stocks" else INDICES))
    return Topic(cluster, draw(st.sampled_from(CHANNELS[cluster])), symbol)


@given(topics())
def test_wire_and_back(topic):
    assert Topic.parse(topic.cluster, topic.wire) == topic


@given(st.lists(topics(), max_size=12))
def test_a_cover_brings_everything_and_nothing_twice(wanted):
    least = cover(wanted)
    assert all(any(covers(wide, topic) for wide in least) for topic in wanted)
    assert least <= set(wanted)
    assert not any(covers(a, b) for a in least for b in least if a != b)
    assert cover(least) == least
    assert cover(reversed(wanted)) == least


@given(topics(), topics())
def test_covering_needs_the_same_cluster_and_the_whole_channel(a, b):
    if covers(a, b):
        assert (a.cluster, a.channel) == (b.cluster, b.channel)
        assert a == b or a.is_wildcard
    if covers(a, b) and covers(b, a):
        assert a == b


@given(topics())
def test_only_option_quotes_are_capped(topic):
    assert cap_of(topic) is None
