"""Laws of the gateway's rules, each against a model that is slow and plain."""

from __future__ import annotations

import json
import re
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from massive_lab.gateway.admission import Admission, Admit, Hold, Refuse
from massive_lab.gateway.grants import Grant
from massive_lab.gateway.limits import Limits
from massive_lab.gateway.paths import Upstream, rewrite_urls, route

PERIOD = 60
calls = st.lists(st.tuples(st.integers(0, 40_000), st.sampled_from("abc")), max_size=120)
"""Milliseconds since the call before, and whose it is."""


@given(calls, st.integers(1, 6), st.integers(1, 10))
def test_a_call_passes_exactly_when_both_windows_have_room_and_the_wait_is_exact(
    asked: list[tuple[int, str]], per_token: int, total: int
) -> None:
    limits = Limits(per_token, total)
    passed: list[tuple[Fraction, str]] = []
    now = Fraction(0)
    for gap, name in asked:
        now += Fraction(gap, 1000)

        def is_free(at: Fraction, name: str = name) -> bool:
            live = [who for when, who in passed if when + PERIOD > at]
            return live.count(name) < per_token and len(live) < total

        wait = limits.take(name, float(now))
        assert (wait is None) is is_free(now)
        if wait is None:
            passed.append((now, name))
        else:
            due = now + Fraction(wait.wait_ns, 10**9)
            assert is_free(due)
            assert not is_free(due - Fraction(1, 10**9))
            assert 0 <= wait.retry_after - wait.seconds < 1 or wait.retry_after == 1
        assert limits.n_names <= total
    for begin, _ in passed:
        window = [who for when, who in passed if begin <= when < begin + PERIOD]
        assert len(window) <= total
        assert all(window.count(name) <= per_token for name in "abc")


@given(
    st.lists(st.tuples(st.integers(0, 500), st.booleans()), min_size=1, max_size=150),
    st.integers(1, 5),
    st.integers(0, 8),
    st.sampled_from([1, 4, 10, 100]),
)
def test_no_stretch_of_time_admits_more_than_burst_and_rate_allow(
    arrivals: list[tuple[int, bool]], burst: int, waiting: int, rate: int
) -> None:
    door = Admission(rate, burst, waiting, max_retry_s=30)
    now_ms, going = 0, []
    for gap, hangs_up in arrivals:
        now_ms += gap
        now = now_ms / 1000
        verdict = door.ask(now)
        assert door.n_waiting <= waiting
        match verdict:
            case Admit():
                going.append(now_ms * 1_000_000)
            case Hold(seconds=seconds, at_ns=at_ns):
                assert 0 < seconds <= waiting / rate + 1e-9
                if hangs_up:
                    door.leave(verdict, now)
                else:
                    going.append(at_ns)
            case Refuse(seconds=seconds):
                assert 0 < seconds <= 30
    going.sort()
    for first, begin in enumerate(going):
        for last in range(first, len(going)):
            assert last - first + 1 <= burst + Fraction(going[last] - begin, 10**9) * rate


segments = st.text(alphabet="aA1.%2fF:/\\@?#&=;-_ \n\0", max_size=30)
PLAIN = re.compile(r"/[A-Za-z0-9.:_=/-]+(?:\?[!-~]*)?")


@given(st.sampled_from(["/v3/trades/", "/v2/aggs/ticker/", "/", "/api/massive/", "/v3/snapshot?", ""]), segments)
def test_whatever_goes_up_is_plain_and_goes_up_unchanged_when_asked_again(head: str, rest: str) -> None:
    answer = route("GET", head + rest)
    if isinstance(answer, Upstream):
        path = answer.target.partition("?")[0]
        assert PLAIN.fullmatch(answer.target)
        assert ".." not in path
        assert "//" not in path
        assert route("GET", answer.target) == Upstream(answer.target, answer.endpoint)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=20)
    | st.sampled_from(["https://api.massive.com/v3", "https://evil.example"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["next_url", "url", "icon_url", "x", 'a"next_url', "next_url\\", "my_url", "ü"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)


def model(value: object, key: str = "") -> object:
    """What `rewrite_urls` does, on objects."""
    if isinstance(value, dict):
        pairs = ((name, inner) for name, inner in value.items())
        return {name: model(inner, name) for name, inner in pairs if not _is_foreign(name, inner)}
    if isinstance(value, list):
        return [model(inner) for inner in value]
    if key in {"next_url", "url", "icon_url", "logo_url"} and isinstance(value, str):
        return re.sub(r"\Ahttps://api\.massive\.com(?=[/?#]|\Z)", "http://gw", value)
    return value


def _is_foreign(name: str, value: object) -> bool:
    if name != "next_url" or not isinstance(value, str) or not value:
        return False
    return not re.match(r"https://api\.massive\.com(?:[/?#]|\Z)|/(?![/\\])", value)


@given(values, st.sampled_from([None, 1, "\t"]), st.booleans(), st.sampled_from([(",", ":"), (" , ", " : ")]))
def test_rewriting_bytes_is_rewriting_objects_in_any_format(
    value: object, indent: int | str | None, ascii_only: bool, separators: tuple[str, str]
) -> None:
    body = json.dumps(value, indent=indent, ensure_ascii=ascii_only, separators=separators).encode()
    out = rewrite_urls(body, "https://api.massive.com", "http://gw")
    assert json.loads(out) == model(value)
    assert (
        rewrite_urls(out.replace(b"http://gw", b"https://api.massive.com"), "https://api.massive.com", "http://gw")
        == out
    )


@given(st.text(alphabet="T.A*M", max_size=6), st.text(alphabet="AM", min_size=1, max_size=4))
def test_who_may_have_every_symbol_of_a_channel_may_have_each(pattern: str, symbol: str) -> None:
    grant = Grant("desk", "desk-1", ("stocks",), (pattern,))
    if grant.allows_topic("stocks", "T.*"):
        assert grant.allows_topic("stocks", f"T.{symbol}")


@given(st.text(alphabet="T.A*", max_size=8), st.text(alphabet="T.A", max_size=8))
def test_patterns_match_as_regular_expressions_would(pattern: str, wire: str) -> None:
    grant = Grant("desk", "desk-1", ("stocks",), (pattern,))
    expected = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), wire) is not None
    assert grant.allows_topic("stocks", wire) is expected
