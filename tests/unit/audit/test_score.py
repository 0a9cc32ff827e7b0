from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from massive_lab.audit.rules import RULES, TIMED
from massive_lab.audit.score import judge, resolve

_POINTERS = sorted({pointer for rule in RULES for pointer in rule.evidence})


def _without(document: dict[str, Any], pointer: str) -> dict[str, Any]:
    clone = copy.deepcopy(document)
    *path, last = pointer.split("/")[1:]
    node = clone
    for part in path:
        node = node[part]
    del node[last]
    return clone


def test_a_clean_run_earns_ten_points_and_every_rule_is_measured(document: dict[str, Any]) -> None:
    score = judge(document, RULES)
    assert {check.verdict for check in score.checks} == {"pass"}, [c for c in score.checks if c.verdict != "pass"]
    assert (score.value, score.ceiling, score.not_measured, score.verdict) == (10.0, 10.0, 0.0, "pass")


@pytest.mark.parametrize("pointer", _POINTERS)
def test_taking_evidence_away_lowers_the_score_and_keeps_the_ceiling(document: dict[str, Any], pointer: str) -> None:
    score = judge(_without(document, pointer), RULES)
    lost = [check for check in score.checks if check.verdict == "not measured"]
    assert lost
    assert all(pointer in check.rule.evidence and check.points == 0 for check in lost)
    assert score.value < 10.0
    assert score.ceiling == pytest.approx(10.0)
    assert score.verdict == "warn"


@pytest.mark.parametrize(
    ("path", "value", "rule", "verdict"),
    [
        ("/sections/rest/totals/errors", 1, "rest.errors", "fail"),
        ("/sections/rest/loaders/0/failed", 1, "rest.loads", "fail"),
        ("/sections/reconciliation/lines/0/equal", False, "reconciliation.counts", "fail"),
        ("/sections/subscriptions/totals/duplicates_sent", 1, "subscriptions.shared", "fail"),
        ("/sections/subscriptions/totals/confirmed", 3, "subscriptions.confirmed", "fail"),
        ("/sections/subscriptions/totals/dropped", 1, "subscriptions.whole", "fail"),
        ("/sections/polling/rows/0/calls", 100, "polling.predicted", "fail"),
        ("/sections/polling/totals/worst_per_minute", 1_201.0, "polling.limit", "fail"),
        ("/sections/polling/totals/worst_per_minute", 1_000.0, "polling.limit", "warn"),
        ("/sections/polling/polls_while_live", 1, "polling.quiet", "fail"),
        ("/sections/fallback/clusters/0/since_loss_s", 0.101, "fallback.time", "fail"),
        ("/sections/fallback/clusters/0/since_loss_s", None, "fallback.time", "fail"),
        ("/sections/fallback/clusters/0/recovered", False, "fallback.recovery", "fail"),
        ("/sections/fallback/clusters/0/gaps", 0, "fallback.gaps", "fail"),
        ("/sections/coverage/chain/missing", 1, "coverage.options", "fail"),
        ("/sections/coverage/chain/with_quote", 100, "coverage.options", "warn"),
        ("/sections/coverage/indices/0/value", None, "coverage.indices", "fail"),
        ("/sections/indicators/compared/0/agrees", False, "indicators.agree", "fail"),
        ("/sections/regime/reasons", [], "regime.labelled", "fail"),
        ("/sections/cleanup/left_over", ["thread x"], "cleanup.left", "fail"),
        ("/sections/environment/findings/0/verdict", "warn", "environment.sound", "warn"),
    ],
)
def test_each_rule_sees_its_fault(document: dict[str, Any], path: str, value: object, rule: str, verdict: str) -> None:
    node: Any = document
    *parts, last = path.split("/")[1:]
    for part in parts:
        node = node[int(part)] if isinstance(node, list) else node[part]
    node[int(last) if isinstance(node, list) else last] = value
    score = judge(document, RULES)
    bad = [check for check in score.checks if check.verdict != "pass"]
    assert [(check.rule.id, check.verdict) for check in bad] == [(rule, verdict)]
    assert score.value < 10
    assert (score.verdict == "fail") == (bad[0].rule.critical and verdict == "fail")


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [("rest", {"overall": {"p95_ms": 10_001.0}}, "rest.latency"), ("memory_growth_bytes", 2**30, "cleanup.memory")],
)
def test_what_depends_on_the_machine_is_told_and_not_counted(
    document: dict[str, Any], key: str, value: object, rule: str
) -> None:
    document["timings"][key] = value
    score = judge(document, TIMED)
    assert [check.rule.id for check in score.checks if check.verdict == "warn"] == [rule]
    assert {check.worth for check in score.checks} == {0.0}
    assert judge(document, RULES).value == 10.0
    assert not any(pointer.startswith("/timings") for rule in RULES for pointer in rule.evidence)


def test_an_empty_run_is_not_a_good_one() -> None:
    empty = {
        "sections": {
            "rest": {"totals": {"calls": 0, "errors": 0, "retries": 0}, "loaders": []},
            "fallback": {"clusters": []},
            "reconciliation": {"lines": []},
        }
    }
    verdicts = {check.rule.id: check.verdict for check in judge(empty, RULES).checks}
    assert {verdicts[name] for name in ("rest.errors", "rest.loads", "fallback.time", "reconciliation.counts")} == {
        "fail"
    }


def test_the_weights_are_shared_out_over_exactly_ten_points(document: dict[str, Any]) -> None:
    assert sum(check.worth for check in judge({}, RULES).checks) == pytest.approx(10)
    assert len({rule.id for rule in RULES}) == len(RULES)


def test_every_pointer_finds_its_place_in_the_document_as_json(document: dict[str, Any]) -> None:
    read_back = json.loads(json.dumps(document))
    assert [pointer for pointer in _POINTERS if resolve(read_back, pointer) is None] == []
