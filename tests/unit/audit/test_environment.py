from __future__ import annotations

from massive_lab.audit import environment


def test_values_are_never_told_only_that_they_are_set() -> None:
    environ = {name: f"value-of-{name}" for name in environment.VARIABLES}
    facts = environment.describe(environ)
    assert set(facts["variables"].values()) == {"set"}
    assert "value-of" not in repr(facts)
    assert "value-of" not in repr(environment.examine(environ, needs_key=True))


def test_a_missing_key_matters_only_where_one_is_needed() -> None:
    def verdict(needs_key: bool) -> str:
        return next(f.verdict for f in environment.examine({}, needs_key=needs_key) if f.what == "API key")

    assert (verdict(False), verdict(True)) == ("pass", "fail")


def test_a_missing_package_is_named_with_the_line_that_installs_it(monkeypatch) -> None:
    monkeypatch.setattr(environment, "version_of", lambda name: None if name in ("polars", "nbclient") else "1")
    findings = {f.what: f for f in environment.examine({})}
    assert findings["packages"].verdict == "fail"
    assert "polars" in findings["packages"].found
    assert findings["notebooks"].verdict == "warn"
    assert "massive-lab[notebook]" in findings["notebooks"].mend


def test_a_wrong_environment_name_is_found() -> None:
    assert "MASSIVE_ENV" in [f.what for f in environment.examine({"MASSIVE_ENV": "staging"})]


def test_every_failing_finding_says_what_to_do() -> None:
    for finding in environment.examine({"MASSIVE_ENV": "staging"}, needs_key=True):
        assert finding.verdict == "pass" or finding.mend
