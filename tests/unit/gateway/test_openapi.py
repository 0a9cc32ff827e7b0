"""The OpenAPI document: served, in the docs, and true."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from massive_lab.gateway.openapi import document, text
from massive_lab.gateway.paths import Local, Upstream, route
from massive_lab.gateway.vendor import TEMPLATES

ROOT = Path(__file__).resolve().parents[3]
VALUES = {
    "multiplier": "5",
    "timespan": "minute",
    "direction": "gainers",
    "cluster": "stocks",
    "timeframe": "5m",
    "underlying": "SPY",
    "tickers": "I:SPX",
    "from": "2025-01-02",
    "to": "2025-01-03",
}


def test_the_docs_hold_the_document() -> None:
    assert (ROOT / "docs" / "gateway-openapi.json").read_text(encoding="utf-8") == text()


@pytest.mark.asyncio
async def test_the_gateway_serves_the_document(serve: Any, ask: Any) -> None:
    gateway = await serve()
    answer = await ask(gateway.url, "/api/massive/openapi.json", token=None)
    assert answer.status == 200
    assert json.loads(answer.body) == json.loads(text())


def test_every_path_of_the_document_is_served_and_every_path_served_is_in_it() -> None:
    paths = document()["paths"]
    assert set(TEMPLATES.values()) <= paths.keys()
    for template, item in paths.items():
        for method in item.keys() - {"servers"}:
            found = route(method.upper(), example(template, item[method]))
            assert isinstance(found, Upstream | Local), template
            if template in TEMPLATES.values():
                assert isinstance(found, Upstream)
                assert TEMPLATES[found.endpoint] == template


def example(template: str, operation: dict[str, Any]) -> str:
    symbol = {"options": "O:SPY251219C00650000", "indices": "I:SPX"}.get(template.split("/")[-2], "AAPL")
    values = {**VALUES, "ticker": symbol}
    path = re.sub(r"\{(\w+)\}", lambda each: values.get(each[1], "AAPL"), template)
    asked = [each["name"] for each in operation.get("parameters", ()) if each.get("in") == "query"]
    # A timeframe stands for the two others.
    return f"{path}?" + "&".join(f"{each}={values[each]}" for each in asked if each not in ("multiplier", "timespan"))


def test_every_reference_leads_somewhere_and_every_id_is_unique() -> None:
    whole = document()
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(whole)):
        found: Any = whole
        for part in reference.split("/"):
            found = found[part]
        assert found
    ids = [
        operation["operationId"]
        for item in whole["paths"].values()
        for name, operation in item.items()
        if name != "servers"
    ]
    assert len(ids) == len(set(ids))
    for template, item in whole["paths"].items():
        named = {each["name"] for each in item.get("get", {}).get("parameters", ()) if each.get("in") == "path"}
        assert named == set(re.findall(r"\{(\w+)\}", template))
