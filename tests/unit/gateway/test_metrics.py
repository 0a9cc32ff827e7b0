"""What Prometheus reads: its own conventions, and nothing of what clients ask for."""

from __future__ import annotations

import re
from typing import Any

import pytest

from massive_lab.gateway.metrics import Metrics
from massive_lab.gateway.vendor import TEMPLATES

DESK = "canary-desk-0123456789"
ENDPOINTS = {*TEMPLATES, "none", "openapi", "preflight", "ws", "ws_token"}


@pytest.mark.asyncio
async def test_no_label_holds_what_a_client_chose(serve: Any, ask: Any) -> None:
    gateway = await serve()
    targets = ["/v3/trades/AAPL", "/v3/trades/ZZZZ?x=ZZZZ", "/ZZZZ", "/v3/snapshot?ticker.any_of=ZZZZ", "/stocks"]
    for target in targets:
        for token in (DESK, "ZZZZ", None):
            await ask(gateway.url, target, token=token)
    text = gateway.metrics.text()
    assert "ZZZZ" not in text
    assert "AAPL" not in text
    assert DESK not in text
    assert set(re.findall(r'endpoint="([^"]*)"', text)) <= ENDPOINTS
    assert set(re.findall(r'client="([^"]*)"', text)) == {"desk"}
    assert 'massive_gateway_refused_requests_total{reason="missing"} ' in text
    assert 'massive_gateway_upstream_requests_total{endpoint="trades",outcome="2xx"} 2.0' in text


def test_names_and_units_are_those_that_prometheus_asks_for() -> None:
    metrics = Metrics(sandbox=True)
    metrics.gauge("things", "Some.", lambda: 2.0)
    metrics.answered("trades", "desk", 200, 0.1, 5)
    metrics.asked("trades", "2xx", 0.1)
    for what in ("opened", "closed", "not_admitted", "auth_refused"):
        metrics.socket(what, "stocks")
    kinds = dict(re.findall(r"^# TYPE (massive_gateway_\w+) (\w+)$", metrics.text(), re.MULTILINE))
    assert len(kinds) > 12
    for name, kind in kinds.items():
        if kind == "counter":
            assert name.endswith("_total"), name
        if kind == "histogram" and not name.endswith("_created"):
            assert name.endswith("_seconds"), name
    assert "massive_gateway_things 2.0" in metrics.text()
    assert 'data="SANDBOX"' in metrics.text()
    assert "process_resident_memory_bytes" in metrics.text()


def test_two_gateways_in_one_process_count_for_themselves() -> None:
    one, other = Metrics(), Metrics()
    one.spared("cache")
    assert 'spared_requests_total{source="cache"} 1.0' in one.text()
    assert 'spared_requests_total{source="cache"}' not in other.text()
