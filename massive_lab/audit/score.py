"""The readiness score: rules as data, each of which names its evidence.

A rule looks at places of the audit document (JSON pointers, RFC 6901). When a place is missing or null the rule is *not
measured*, which is neither zero nor full: the score counts only what was measured to be right, and the points that were
not measured are shown as the distance to the ceiling. So taking evidence away can lower the score and never raises it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Judged", "Rule", "Score", "Verdict", "judge", "resolve"]

Verdict = Literal["pass", "warn", "fail", "not measured"]
Opinion = tuple[Literal["pass", "warn", "fail"], str]
"""A verdict and the finding in one sentence, with the figures."""

_SHARE = {"pass": 1.0, "warn": 0.5, "fail": 0.0, "not measured": 0.0}


@dataclass(frozen=True, slots=True)
class Rule:
    """One point of the score.

    Attributes
    ----------
    id : str
        Stable name, ``section.point``.
    title : str
        The claim that the rule tests.
    weight : float
        Its share of the score, relative to the other rules; 0 for a rule that is told and not counted.
    critical : bool
        Whether a failure fails the audit.
    evidence : tuple of str
        JSON pointers of what the rule looks at, handed to `opinion` in this order.
    opinion : callable
        Judges the values.
    """

    id: str
    title: str
    weight: float
    critical: bool
    evidence: tuple[str, ...]
    opinion: Callable[..., Opinion]


@dataclass(frozen=True, slots=True)
class Judged:
    """A rule with its verdict. `points` of at most `worth`, on the scale of 0 to 10."""

    rule: Rule
    verdict: Verdict
    finding: str
    points: float
    worth: float


@dataclass(frozen=True, slots=True)
class Score:
    """All verdicts together."""

    checks: tuple[Judged, ...]

    @property
    def value(self) -> float:
        """Points that evidence supports, 0 to 10."""
        return _total(check.points for check in self.checks)

    @property
    def not_measured(self) -> float:
        """Points that nothing was measured about."""
        return _total(check.worth for check in self.checks if check.verdict == "not measured")

    @property
    def ceiling(self) -> float:
        """What the score could at most be if the rest were measured too."""
        return round(min(10.0, self.value + self.not_measured), 2)

    @property
    def verdict(self) -> Literal["pass", "warn", "fail"]:
        """``fail`` when a critical rule failed, ``warn`` when anything else is not as it should be."""
        if any(check.verdict == "fail" and check.rule.critical for check in self.checks):
            return "fail"
        return "pass" if all(check.verdict == "pass" for check in self.checks) else "warn"


def _total(points: Iterable[float]) -> float:
    return round(sum(points, 0.0), 2)


def resolve(document: Mapping[str, Any], pointer: str) -> Any:
    """The value at a JSON pointer, or None when there is none.

    Examples
    --------
    >>> resolve({"a": [{"b/c": 3}]}, "/a/0/b~1c"), resolve({"a": 1}, "/a/b")
    (3, None)
    """
    value: Any = document
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, Sequence) and not isinstance(value, str) and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return value


def judge(document: Mapping[str, Any], rules: Sequence[Rule]) -> Score:
    """Judge an audit document by rules.

    Examples
    --------
    >>> rule = Rule("a.b", "A holds", 1.0, True, ("/a",), lambda a: ("pass" if a else "fail", f"a is {a}."))
    >>> judge({"a": 0}, [rule]).verdict, judge({}, [rule]).checks[0].verdict, judge({}, [rule]).ceiling
    ('fail', 'not measured', 10.0)
    """
    whole = sum(rule.weight for rule in rules) or 1.0
    checks = []
    for rule in rules:
        values = [resolve(document, pointer) for pointer in rule.evidence]
        missing = [pointer for pointer, value in zip(rule.evidence, values, strict=True) if value is None]
        verdict: Verdict
        if missing:
            verdict, finding = "not measured", f"Nothing was measured at {', '.join(missing)}."
        else:
            verdict, finding = rule.opinion(*values)
        worth = 10 * rule.weight / whole
        checks.append(Judged(rule, verdict, finding, worth * _SHARE[verdict], worth))
    return Score(tuple(checks))
