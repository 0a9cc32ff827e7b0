from __future__ import annotations

import json

import pytest

from massive_lab.errors import InvalidRequest
from massive_lab.sandbox.accounts import Accounts, asset_class_asked, refusal, request_id

MINUTE = 60_000_000_000


def test_default_accounts_are_one_advanced_and_one_of_each_other_tier():
    accounts = Accounts()
    tiers = {name: accounts.find(name).plan_for("options").tier for name in accounts.names()}
    assert tiers == {
        "sandbox": "advanced",
        "sandbox-basic": "basic",
        "sandbox-starter": "starter",
        "sandbox-developer": "developer",
        "sandbox-business": "business",
    }
    assert accounts.find(None) is None
    assert accounts.find("other") is None


def test_basic_has_five_calls_a_minute_per_asset_class_in_virtual_time():
    accounts = Accounts()
    basic = accounts.find("sandbox-basic")
    assert [accounts.allows(basic, "stocks", t) for t in (0, 1, 2, 3, 4, 5)] == [True] * 5 + [False]
    assert accounts.allows(basic, "options", 5)
    assert not accounts.allows(basic, "stocks", MINUTE - 1)
    assert accounts.allows(basic, "stocks", MINUTE)
    assert not accounts.allows(basic, "stocks", MINUTE)
    assert accounts.allows(basic, "stocks", MINUTE + 1)


def test_paid_plans_have_no_limit():
    accounts = Accounts()
    assert all(accounts.allows(accounts.find("sandbox"), "stocks", 0) for _ in range(1_000))


def test_accounts_may_be_added_with_plans_by_class():
    accounts = Accounts()
    account = accounts.add({"key": "k", "plans": {"indices": "starter"}, "victim": "newest"})
    assert accounts.find("k") is account
    assert [account.plan_for(each).tier for each in ("stocks", "options", "indices")] == ["basic", "basic", "starter"]
    assert accounts.victim(account) == "newest"


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"key": ""},
        {"key": 1},
        {"key": "k", "plan": "gold"},
        {"key": "k", "plans": {"forex": "basic"}},
        {"key": "k", "victim": "me"},
        {"key": "k", "colour": "red"},
    ],
)
def test_accounts_that_are_refused(spec):
    with pytest.raises(InvalidRequest):
        Accounts().add(spec)


def test_refusals_are_the_vendors():
    bodies = [
        json.loads(refusal(401, "/p", 0, key_given=False).body),
        json.loads(refusal(401, "/p", 0).body),
        json.loads(refusal(429, "/p", 0).body),
    ]
    assert [body["error"] for body in bodies] == [
        "API Key was not provided",
        "Unknown API Key",
        (
            "You've exceeded the maximum requests per minute, please wait or upgrade your subscription to continue. "
            "https://polygon.io/pricing"
        ),
    ]
    assert all(set(body) == {"status", "request_id", "error"} and len(body["request_id"]) == 32 for body in bodies)


def test_request_ids_depend_on_what_was_asked_and_nothing_else():
    assert request_id("a", 1) == request_id("a", 1) != request_id("a", 2)


@pytest.mark.parametrize(
    ("path", "query", "asset_class"),
    [
        ("/v2/aggs/ticker/AAPL/prev", {}, "stocks"),
        ("/v2/aggs/ticker/O:SPY251219C00650000/prev", {}, "options"),
        ("/v3/snapshot/options/AAPL", {}, "options"),
        ("/v3/reference/options/contracts", {}, "options"),
        ("/v3/snapshot/indices", {}, "indices"),
        ("/v3/snapshot", {"ticker.any_of": "I:SPX,AAPL"}, "indices"),
        ("/v3/snapshot", {"type": "options"}, "options"),
        ("/v3/reference/conditions", {"asset_class": "options"}, "options"),
        ("/v3/reference/tickers", {"market": "indices"}, "indices"),
        ("/v1/marketstatus/now", {}, "stocks"),
    ],
)
def test_whose_limit_a_request_counts_against(path: str, query: dict, asset_class: str):
    assert asset_class_asked(path, query) == asset_class
