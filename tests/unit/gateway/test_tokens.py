"""Proxy tokens and tokens for one connection; no text of ours holds either."""

from __future__ import annotations

import base64
import copy
import hmac
import json
import pickle
import traceback
from dataclasses import replace
from typing import Any

import pytest

from massive_lab.config import Secret
from massive_lab.gateway import tokens as module
from massive_lab.gateway.grants import Grant, Refused, Rotation, TokenRule, is_name, is_pattern, is_token
from massive_lab.gateway.tokens import EPHEMERAL_S, TokenBook

DESK, NIGHT, NEXT = "desk-token-canary", "night-token-canary", "next-token-canary!"
SECRET = "a secret of more than 32 characters"
NOW = 1_800_000_000.0


def rule(name: str = "desk", token: str = DESK, **more: Any) -> TokenRule:
    return TokenRule(name, Secret(token), **more)


def book(*rules: TokenRule, **more: Any) -> TokenBook:
    return TokenBook(rules or (rule(), rule("night", NIGHT, clusters=("options",))), Secret(SECRET), **more)


def grant_of(tokens: TokenBook, token: str = DESK, now: float = NOW) -> Grant:
    found = tokens.find(token, now)
    assert isinstance(found, Grant)
    return found


def minted(tokens: TokenBook, cluster: Any = "stocks", now: float = NOW, token: str = DESK) -> str:
    made = tokens.mint(grant_of(tokens, token, now), cluster, now)
    assert isinstance(made, Secret)
    return made.reveal()


def reason(found: object) -> str:
    assert isinstance(found, Refused), found
    return found.reason


# proxy tokens


def test_each_token_gives_what_its_rule_says() -> None:
    tokens = book(rule(calls_per_minute=60, topics=("AM.*",), clusters=("stocks",), expires_s=NOW + 1), sandbox=True)
    grant = grant_of(tokens)
    assert (grant.name, grant.calls_per_minute, grant.topic_patterns) == ("desk", 60, ("AM.*",))
    assert (grant.clusters, grant.sandbox, grant.expires_s, grant.ephemeral) == (("stocks",), True, NOW + 1, False)


@pytest.mark.parametrize(
    ("token", "why"),
    [
        (None, "missing"),
        ("", "missing"),
        (DESK[:-1], "unknown"),
        (DESK + " ", "unknown"),
        (DESK.upper(), "unknown"),
        ("\udcff" * 20, "unknown"),
        ("ключ" * 5, "unknown"),
        ("\0" * 17, "unknown"),
        ("x" * 513, "malformed"),
        ("x" * 10_000_000, "malformed"),
    ],
    ids=["none", "empty", "short", "blank", "case", "surrogates", "letters", "nul", "long", "huge"],
)
def test_what_is_no_token_of_the_book_is_refused(token: str | None, why: str) -> None:
    assert reason(book().find(token, NOW)) == why


def test_an_expired_token_is_refused_from_its_very_second() -> None:
    tokens = book(rule(expires_s=NOW))
    assert isinstance(tokens.find(DESK, NOW - 0.001), Grant)
    assert reason(tokens.find(DESK, NOW)) == "expired"


def test_every_entry_is_compared_whole_by_compare_digest_wherever_the_match_is(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []

    def watch(ours: bytes, theirs: bytes) -> bool:
        seen.append((len(ours), len(theirs)))
        return hmac.compare_digest(ours, theirs)

    names = [f"name-{number}" for number in range(7)]
    tokens = book(*(rule(name, f"{name}-0123456789") for name in names))
    monkeypatch.setattr(module, "hmac", type("Watched", (), {"compare_digest": staticmethod(watch)}))
    for guess in ("name-0-0123456789", "name-6-0123456789", "nothing of this", "y" * 500):
        seen.clear()
        tokens.find(guess, NOW)
        assert seen == [(32, 32)] * 7


def test_a_client_cannot_read_from_a_refusal_whether_a_token_was_ever_good() -> None:
    tokens = book()
    tokens.rotate([rule("night", NIGHT)])
    gone, never = tokens.find(DESK, NOW), tokens.find("some-other-token", NOW)
    assert (reason(gone), reason(never)) == ("revoked", "unknown")
    assert isinstance(gone, Refused)
    assert isinstance(never, Refused)
    assert gone.text == never.text == "Unknown API Key"


# rotation


def test_two_tokens_of_a_name_overlap_and_the_old_one_goes_alone() -> None:
    tokens = book(rule(), rule(token=NEXT))
    old, new = grant_of(tokens), grant_of(tokens, NEXT)
    assert (old.name, old.id != new.id) == (new.name, True)
    rotation = tokens.rotate([rule(token=NEXT)])
    assert rotation == Rotation(revoked=frozenset((old.id,)))
    assert tokens.grant(old.id) is None
    assert grant_of(tokens, NEXT) == new
    assert reason(tokens.find(DESK, NOW)) == "revoked"


def test_a_listener_hears_what_was_added_changed_and_revoked_and_of_nothing_else() -> None:
    tokens = book()
    heard: list[Rotation] = []
    stop = tokens.listen(heard.append)
    desk, night = grant_of(tokens).id, grant_of(tokens, NIGHT).id
    tokens.rotate([rule(topics=("AM.*",)), rule("new", NEXT)])
    new = grant_of(tokens, NEXT).id
    assert heard == [Rotation(frozenset((new,)), frozenset((desk,)), frozenset((night,)))]
    tokens.rotate([rule(topics=("AM.*",)), rule("new", NEXT)])
    assert len(heard) == 1
    stop()
    stop()
    tokens.rotate([rule()])
    assert len(heard) == 1


def test_a_token_that_comes_back_into_the_book_is_good_again() -> None:
    tokens = book()
    tokens.rotate([rule("night", NIGHT)])
    tokens.rotate([rule(), rule("night", NIGHT)])
    assert isinstance(tokens.find(DESK, NOW), Grant)


def test_a_revoked_token_stays_refused_whatever_later_books_say() -> None:
    tokens = book(rule(), rule(token=NEXT), rule("night", NIGHT))
    gone = {grant_of(tokens).id, grant_of(tokens, NEXT).id}
    assert tokens.revoke("DESK").revoked == gone
    for _ in range(2):
        tokens.rotate([rule(), rule("night", NIGHT)])
        assert reason(tokens.find(DESK, NOW)) == "revoked"
        assert isinstance(tokens.find(NIGHT, NOW), Grant)
    tokens.rotate([rule(token="a-fresh-token-of-desk")])
    assert grant_of(tokens, "a-fresh-token-of-desk").name == "desk"


def test_the_memory_of_retired_tokens_is_bounded_and_forgetting_lets_nothing_in() -> None:
    tokens = book(max_retired=3)
    for number in range(10):
        tokens.rotate([rule(token=f"token-number-{number:04}")])
    assert len(tokens._retired) == 3
    assert [reason(tokens.find(f"token-number-{n:04}", NOW)) for n in (0, 5, 6, 8)] == [
        "unknown",
        "unknown",
        "revoked",
        "revoked",
    ]


def test_replicas_with_one_secret_agree_on_ids_and_others_do_not() -> None:
    assert grant_of(book()).id == grant_of(book()).id
    other = TokenBook([rule()], Secret(SECRET + "!"))
    assert grant_of(other).id != grant_of(book()).id


# ephemeral tokens


def test_an_ephemeral_token_opens_one_connection_of_its_cluster() -> None:
    tokens = book()
    token = minted(tokens)
    found = tokens.check(token, "stocks", NOW)
    assert found == replace(grant_of(tokens), clusters=("stocks",), ephemeral=True)
    assert reason(tokens.check(token, "stocks", NOW)) == "reused"


@pytest.mark.parametrize(
    ("offset", "why"),
    [(-5.001, "future"), (-5.0, None), (EPHEMERAL_S - 0.001, None), (EPHEMERAL_S, "expired"), (1e9, "expired")],
    ids=["future", "skew", "last", "end", "long-after"],
)
def test_it_lives_five_minutes_with_its_end_excluded(offset: float, why: str | None) -> None:
    tokens = book()
    found = tokens.check(minted(tokens), "stocks", NOW + offset)
    assert isinstance(found, Grant) if why is None else reason(found) == why


def test_another_cluster_is_refused_and_the_token_not_used_up_by_that() -> None:
    tokens = book()
    token = minted(tokens)
    assert reason(tokens.check(token, "options", NOW)) == "other cluster"
    assert isinstance(tokens.check(token, "stocks", NOW), Grant)


def test_another_audience_and_another_secret_are_refused() -> None:
    token = minted(book())
    assert reason(book(audience="elsewhere").check(token, "stocks", NOW)) == "other audience"
    assert reason(TokenBook([rule()], Secret(SECRET + "!")).check(token, "stocks", NOW)) == "forged"


def test_it_ends_with_the_token_it_was_drawn_from() -> None:
    tokens = book(rule(expires_s=NOW + 10), rule("night", NIGHT))
    mine, others = minted(tokens), minted(tokens, token=NIGHT)
    assert reason(tokens.check(mine, "stocks", NOW + 10)) == "expired"
    tokens.revoke("night")
    assert reason(tokens.check(others, "stocks", NOW)) == "revoked"
    tokens.rotate([rule(clusters=("options",))])
    assert reason(tokens.check(mine, "stocks", NOW)) == "other cluster"


def test_what_may_not_be_minted() -> None:
    tokens = book(rule(expires_s=NOW + 1), rule("night", NIGHT, clusters=("options",)))
    grant, night = grant_of(tokens), grant_of(tokens, NIGHT)
    assert reason(tokens.mint(night, "stocks", NOW)) == "other cluster"
    assert reason(tokens.mint(grant, "stocks", NOW + 1)) == "expired"
    once = tokens.check(minted(tokens), "stocks", NOW)
    assert isinstance(once, Grant)
    assert reason(tokens.mint(once, "stocks", NOW)) == "revoked", "a token for one connection must not renew itself"
    tokens.revoke("desk")
    assert reason(tokens.mint(grant, "stocks", NOW)) == "revoked"


def test_a_full_memory_refuses_rather_than_forgets() -> None:
    tokens = book(max_live=2)
    made = [minted(tokens) for _ in range(3)]
    assert [isinstance(tokens.check(each, "stocks", NOW), Grant) for each in made] == [True, True, False]
    assert reason(tokens.check(made[2], "stocks", NOW)) == "busy"
    assert reason(tokens.check(made[0], "stocks", NOW)) == "reused"
    later = NOW + EPHEMERAL_S + 61
    assert isinstance(tokens.check(minted(tokens, now=later), "stocks", later), Grant)
    assert len(tokens._used) == 1


def test_a_clock_set_back_by_a_minute_opens_nothing_twice() -> None:
    tokens = book()
    token = minted(tokens)
    tokens.check(token, "stocks", NOW)
    tokens.check(minted(tokens, now=NOW + 301), "stocks", NOW + 301)
    assert reason(tokens.check(token, "stocks", NOW + 250)) == "reused"


def test_any_change_of_any_letter_is_noticed() -> None:
    tokens = book()
    token = minted(tokens)
    for at in range(len(token)):
        for letter in "A_=.":
            if token[at] != letter:
                changed = token[:at] + letter + token[at + 1 :]
                assert reason(tokens.check(changed, "stocks", NOW)) in {"malformed", "forged"}
    assert isinstance(tokens.check(token, "stocks", NOW), Grant)


@pytest.mark.parametrize(
    "token",
    [
        "mlws1",
        "mlws1..",
        "mlws1.e30.",
        "..",
        "mlws1.a.b.c",
        "mlws1.é.é",
        "mlws1.\udcff.AA",
        "eyJhbGciOiJub25lIn0.e30.",
        "x" * 99_999,
    ],
    ids=["prefix", "dots", "unsigned", "bare", "four", "accents", "surrogate", "jwt-none", "huge"],
)
def test_other_shapes_are_refused(token: str) -> None:
    assert reason(book().check(token, "stocks", NOW)) in {"malformed", "forged"}


def test_a_proxy_token_is_no_ephemeral_one_and_the_other_way_round() -> None:
    tokens = book()
    assert reason(tokens.check(DESK, "stocks", NOW)) == "malformed"
    assert reason(tokens.find(minted(tokens), NOW)) == "unknown"


@pytest.mark.parametrize(
    "claims",
    [[], {}, {"aud": "x"}, 7, None, "text"],
    ids=["list", "empty", "some", "number", "null", "text"],
)
def test_signed_nonsense_is_refused(claims: object) -> None:
    tokens = book()
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    signature = base64.urlsafe_b64encode(tokens._signer._sign(payload)).decode().rstrip("=")
    assert reason(tokens.check(f"mlws1.{payload}.{signature}", "stocks", NOW)) == "malformed"


# what may be subscribed


@pytest.mark.parametrize(
    ("pattern", "cluster", "wire", "allowed"),
    [
        ("*", "stocks", "T.*", True),
        ("T.*", "stocks", "T.*", True),
        ("T.*", "stocks", "T.BRK.B", True),
        ("T.AAPL", "stocks", "T.AAPL", True),
        ("T.AAPL", "stocks", "T.AAPLX", False),
        ("T.AAPL", "stocks", "T.*", False),
        ("T.A*", "stocks", "T.*", False),
        ("A.*", "stocks", "AM.MSFT", False),
        ("A*", "stocks", "AM.*", True),
        ("*.AAPL", "stocks", "Q.AAPL", True),
        ("t.aapl", "stocks", "T.AAPL", False),
        ("options/T.O:SPY*", "options", "T.O:SPY251219C00650000", True),
        ("options/T.O:SPY*", "options", "T.O:QQQ251219C00650000", False),
        ("options/*", "stocks", "T.AAPL", False),
        ("V.I:S*X", "indices", "V.I:SPX", True),
        ("V.I:S*X", "indices", "V.I:SX", True),
        ("V.I:SPX*SPX", "indices", "V.I:SPX", False),
        ("*A*P*", "stocks", "T.AAPL", True),
        ("*P*A*", "stocks", "Q.AAPL", False),
    ],
)
def test_patterns(pattern: str, cluster: str, wire: str, allowed: bool) -> None:
    grant = Grant("desk", "desk-1", ("stocks", "options", "indices"), (pattern,))
    assert grant.allows_topic(cluster, wire) is allowed


def test_no_pattern_helps_in_a_cluster_that_is_not_granted() -> None:
    grant = Grant("desk", "desk-1", ("stocks",), ("*", "options/*"))
    assert (grant.allows("options"), grant.allows_topic("options", "T.*")) == (False, False)


def test_names_tokens_and_patterns_have_a_form() -> None:
    assert [is_name(each) for each in ("desk-1", "", "a b", 'x"y', "-a", "a" * 65)] == [True] + [False] * 5
    assert [is_token(each) for each in ("x" * 16, "x" * 15, "x" * 513, "x" * 15 + ",", "x" * 15 + "é")] == [True] + [
        False
    ] * 4
    assert [is_pattern(each) for each in ("AM.*", "", "T.[A]", "T.A,B")] == [True] + [False] * 3


# nothing of ours shows a token


def test_no_repr_error_or_copy_of_anything_holds_a_token() -> None:
    tokens = book()
    made = minted(tokens)
    grant = grant_of(tokens)
    shown = [
        repr(each)
        for each in (
            tokens,
            rule(),
            grant,
            tokens.check(made, "stocks", NOW),
            tokens.check(made, "stocks", NOW),
            tokens.find(DESK + "x", NOW),
            tokens.rotate([rule(token=NEXT)]),
            list(tokens._entries.values()),
            tokens._signer,
            tokens.mint(grant_of(tokens, NEXT), "stocks", NOW),
            copy.deepcopy(rule()),
        )
    ]
    try:
        tokens.find(7, NOW)  # type: ignore[arg-type]
    except (TypeError, AttributeError):
        shown.append(traceback.format_exc())
    with pytest.raises(TypeError) as caught:
        pickle.dumps(rule())
    shown.append("".join(traceback.format_exception(caught.value)))
    shown += [str(vars(tokens)), "".join(Refused(each).text for each in module.Reason.__args__)]  # type: ignore[attr-defined]
    text = "\n".join(shown)
    for canary in (DESK, NIGHT, NEXT, SECRET, made, "canary"):
        assert canary not in text


def test_a_book_keeps_no_token() -> None:
    assert DESK.encode() not in pickle.dumps([entry.digest for entry in book()._entries.values()])
    assert DESK not in str([entry.grant for entry in book()._entries.values()])
