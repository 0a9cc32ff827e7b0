from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from massive_lab.audit import sections
from massive_lab.audit.rules import RULES, TIMED

_SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "audit-schema.json").read_text(encoding="utf-8"))
_VALIDATOR = jsonschema.Draft202012Validator(_SCHEMA)


def test_the_schema_is_one_and_names_the_version_the_library_writes() -> None:
    jsonschema.Draft202012Validator.check_schema(_SCHEMA)
    assert _SCHEMA["$id"] == sections.SCHEMA


def test_a_document_is_as_the_schema_says(document: dict[str, Any]) -> None:
    assert [
        f"{error.json_path}: {error.message}" for error in _VALIDATOR.iter_errors(json.loads(json.dumps(document)))
    ] == []


@pytest.mark.parametrize("section", sorted(_SCHEMA["properties"]["sections"]["properties"]))
def test_a_section_may_be_null_but_not_missing(document: dict[str, Any], section: str) -> None:
    clone = copy.deepcopy(document)
    clone["sections"][section] = None
    assert _VALIDATOR.is_valid(clone)
    del clone["sections"][section]
    assert not _VALIDATOR.is_valid(clone)


def test_a_field_nobody_documented_is_refused(document: dict[str, Any]) -> None:
    document["sections"]["rest"]["totals_"] = 1
    assert not _VALIDATOR.is_valid(document)


def test_what_differs_from_run_to_run_stands_under_timings_alone(draft: sections.Draft) -> None:
    first = sections.build(draft, RULES, TIMED)
    draft.timings["rest"]["overall"]["p95_ms"] = 1e9
    draft.timings["memory_growth_bytes"] += 1
    second = sections.build(draft, RULES, TIMED)
    assert [check["verdict"] for check in second["timings"]["checks"]] == ["warn", "pass"]
    assert {key: value for key, value in first.items() if key != "timings"} == {
        key: value for key, value in second.items() if key != "timings"
    }
