"""The OpenAPI document of the gateway's REST side, made from the same list of paths that the gateway serves.

``python -m massive_lab.gateway.openapi`` writes it; ``docs/gateway-openapi.json`` is that output.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

from massive_lab._version import __version__
from massive_lab.gateway.headers import PROXY_TOKEN
from massive_lab.gateway.vendor import TEMPLATES
from massive_lab.live.topics import CLUSTERS

__all__ = ["document", "text"]

_SEGMENT = {"type": "string", "pattern": r"^(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9.:_=-]{0,127}$"}
_TIMESPANS = ["second", "minute", "hour", "day", "week", "month", "quarter", "year"]
_PATH_SCHEMAS: dict[str, dict[str, Any]] = {
    "direction": {"type": "string", "enum": ["gainers", "losers"]},
    "multiplier": {"type": "integer", "minimum": 1, "maximum": 999_999},
    "timespan": {"type": "string", "enum": _TIMESPANS},
}
_VENDOR_QUERY = {"$ref": "#/components/parameters/Vendor"}
_VENDOR_QUERY_ITSELF = {
    "name": "parameters",
    "in": "query",
    "description": "The vendor's own parameters. They are passed on as they come; the vendor ignores those it does not know.",
    "style": "form",
    "explode": True,
    "schema": {"type": "object", "additionalProperties": {"type": "string"}},
}
_ERRORS = {
    "400": "A parameter is wrong, in the vendor's words, or the request is malformed.",
    "401": "The proxy token is missing, unknown or expired.",
    "403": "The gateway's key is good and its plan lacks this data, in the vendor's words.",
    "404": "There is no such thing, in the vendor's words, or no such path.",
    "429": "More than the calls a minute of this token, of all tokens, or of the vendor's plan.",
    "502": "The vendor could not be reached, refused the gateway's key, or answered with something unusable.",
    "503": "The vendor is not available, or the gateway is stopping.",
    "504": "The vendor did not answer in time.",
}


def document() -> dict[str, Any]:
    """The document, OpenAPI 3.1."""
    paths = {template: {"servers": _servers(), "get": _vendor(name, template)} for name, template in TEMPLATES.items()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "massive_lab gateway",
            "version": __version__,
            "description": (
                "The vendor's REST interface for the holders of proxy tokens: same paths, same answers; addresses in "
                "answers point to the gateway. Every vendor path is also served below /api/massive."
            ),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}, {"proxyToken": []}, {"apiKey": []}],
        "paths": {**dict(sorted(paths.items())), **_own()},
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "proxyToken": {"type": "apiKey", "in": "header", "name": PROXY_TOKEN},
                "apiKey": {"type": "apiKey", "in": "query", "name": "apiKey"},
            },
            "parameters": {"Vendor": _VENDOR_QUERY_ITSELF},
            "schemas": {
                "Error": {
                    "type": "object",
                    "required": ["status"],
                    "properties": {
                        "status": {"type": "string"},
                        "request_id": {"type": "string"},
                        "error": {"type": "string"},
                        "message": {"type": "string"},
                    },
                },
                "SocketToken": {
                    "type": "object",
                    "required": ["status", "request_id", "token", "cluster", "expires_in", "url"],
                    "properties": {
                        "status": {"const": "OK"},
                        "request_id": {"type": "string"},
                        "token": {"type": "string", "description": "Good for one connection."},
                        "cluster": {"enum": list(CLUSTERS)},
                        "expires_in": {"type": "integer", "description": "Seconds."},
                        "url": {"type": "string", "description": "Where to connect, without the token."},
                    },
                },
            },
            "responses": {code: _error(code, what) for code, what in _ERRORS.items()},
            "headers": {
                "RequestId": {"description": "The gateway's id of this answer.", "schema": {"type": "string"}},
                "RetryAfter": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}},
            },
        },
    }


def text() -> str:
    """The document as it stands in the docs."""
    return json.dumps(document(), indent=1, ensure_ascii=False) + "\n"


def _servers() -> list[dict[str, str]]:
    return [{"url": "/"}, {"url": "/api/massive"}]


def _vendor(name: str, template: str) -> dict[str, Any]:
    parameters = [
        {"name": each, "in": "path", "required": True, "schema": _PATH_SCHEMAS.get(each, _SEGMENT)}
        for each in re.findall(r"\{(\w+)\}", template)
    ]
    return _get(name, name.replace("_", " ").capitalize(), [*parameters, _VENDOR_QUERY], "The vendor's answer.")


def _own() -> dict[str, Any]:
    step = [
        _query("timeframe", {"type": "string", "pattern": r"^[1-9][0-9]*[smhdwMqy]$|^[0-9A-Za-z]+$"}, "5m, 1h, 1d"),
        _query("multiplier", _PATH_SCHEMAS["multiplier"], "instead of timeframe"),
        _query("timespan", _PATH_SCHEMAS["timespan"], "instead of timeframe"),
        _query("from", {"type": "string"}, "YYYY-MM-DD or Unix milliseconds, inclusive", required=True),
        _query("to", {"type": "string"}, "YYYY-MM-DD or Unix milliseconds, inclusive", required=True),
    ]
    ticker = _query("ticker", _SEGMENT, "one symbol of the cluster", required=True)
    underlying = _query("underlying", _SEGMENT, "SPY or I:SPX", required=True)
    bars = {
        f"/api/massive/{cluster}/bars": {
            "get": _get(f"bars_{cluster}", f"Bars of {cluster}", [ticker, *step, _VENDOR_QUERY], "As of aggs range.")
        }
        for cluster in CLUSTERS
    }
    optional = {**underlying, "required": False}
    tickers = _query("tickers", {"type": "string"}, "I:SPX,I:VIX; at most 250", required=True)
    return {
        **bars,
        "/api/massive/options/chain": {
            "get": _get("options_chain", "Option chain", [underlying, _VENDOR_QUERY], "As of the chain snapshot.")
        },
        "/api/massive/options/contracts": {
            "get": _get("options_contracts", "Option contracts", [optional, _VENDOR_QUERY], "As of the contracts.")
        },
        "/api/massive/indices": {
            "get": _get("indices", "Snapshots of several indices", [tickers, _VENDOR_QUERY], "As of the snapshot.")
        },
        "/api/massive/ws-token": {"post": _socket_token()},
        "/api/massive/openapi.json": {
            "get": {
                "operationId": "openapi",
                "summary": "This document",
                "security": [],
                "responses": {"200": _answer("The document.", {"type": "object"})},
            }
        },
    }


def _socket_token() -> dict[str, Any]:
    cluster = {"enum": list(CLUSTERS)}
    schema = {
        "type": "object",
        "required": ["cluster"],
        "additionalProperties": False,
        "properties": {"cluster": cluster},
    }
    errors = ("400", "401", "403", "404", "429")
    return {
        "operationId": "ws_token",
        "summary": "A token for one WebSocket connection to one cluster, good for five minutes",
        "parameters": [_query("cluster", cluster, "instead of the body")],
        "requestBody": {"required": False, "content": {"application/json": {"schema": schema}}},
        "responses": {
            "200": _answer("The token.", {"$ref": "#/components/schemas/SocketToken"}),
            **{code: {"$ref": f"#/components/responses/{code}"} for code in errors},
        },
    }


def _get(name: str, summary: str, parameters: list[dict[str, Any]], what: str) -> dict[str, Any]:
    errors = {code: {"$ref": f"#/components/responses/{code}"} for code in _ERRORS}
    # Lists, objects and, for the calendar, a bare array: the vendor's shapes are not restated here.
    return {
        "operationId": name,
        "summary": summary,
        "parameters": parameters,
        "responses": {"200": _answer(what, {}), **errors},
    }


def _query(name: str, schema: dict[str, Any], what: str, *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": required, "description": what, "schema": schema}


def _answer(what: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "description": what,
        "headers": {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}},
        "content": {"application/json": {"schema": schema}},
    }


def _error(code: str, what: str) -> dict[str, Any]:
    answer = _answer(what, {"$ref": "#/components/schemas/Error"})
    if code in ("429", "503"):
        answer["headers"]["Retry-After"] = {"$ref": "#/components/headers/RetryAfter"}
    return answer


if __name__ == "__main__":
    sys.stdout.write(text())
