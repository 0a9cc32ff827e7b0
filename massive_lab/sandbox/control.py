"""The control plane: JSON over HTTP on its own port, bound to the loopback address.

================================= =================================================================
request                           answer
================================= =================================================================
GET /status                       version, seed, ports, pid, virtual time
GET /counts                       what was served; POST /counts/reset starts again
GET /faults                       what is armed
POST /faults                      arm one: its kind, scope, direction, probability, count, seed, name, parameters
DELETE /faults/{id}               disarm one; DELETE /faults or POST /faults/reset disarms all
GET /faults/kinds                 every kind with its parameters
POST /clock                       one of pause, resume, speed, jump_s, jump_to; deliver=false passes over events
GET /connections                  open WebSocket connections
POST /connections/{id}/close      {"code": 1008} or {"abrupt": true}
POST /accounts                    add or replace an account
POST /shutdown                    end the process
================================= =================================================================

A refused request is 400, 404 or 405 with ``{"error": ...}``.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import MISSING, fields
from typing import Any

from aiohttp import web

from massive_lab.errors import ConfigError, InvalidRequest
from massive_lab.sandbox.clock import parse_moment
from massive_lab.sandbox.faults.book import KINDS
from massive_lab.sandbox.server import LABEL, Sandbox

__all__ = ["Control"]


class Control:
    """Serves the control plane of one sandbox; `on_shutdown` is called when it is asked to end."""

    def __init__(self, sandbox: Sandbox, on_shutdown: Callable[[], None]) -> None:
        self._sandbox = sandbox
        self._on_shutdown = on_shutdown
        self._runner: web.AppRunner | None = None
        self.port = sandbox.options.control_port

    async def start(self) -> None:
        """Listen.

        Raises
        ------
        ConfigError
            When the port is in use.
        """
        app = web.Application(middlewares=[_as_json])
        app.add_routes(
            [
                web.get("/status", self._status),
                web.get("/counts", self._counts),
                web.post("/counts/reset", self._reset_counts),
                web.get("/faults", self._faults),
                web.post("/faults", self._add_fault),
                web.delete("/faults", self._reset_faults),
                web.post("/faults/reset", self._reset_faults),
                web.get("/faults/kinds", self._kinds),
                web.delete("/faults/{id}", self._remove_fault),
                web.post("/clock", self._clock),
                web.get("/connections", self._connections),
                web.post("/connections/{id}/close", self._close),
                web.post("/accounts", self._account),
                web.post("/shutdown", self._shutdown),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise ConfigError(
                f"The sandbox's control plane cannot listen on 127.0.0.1:{self.port}: {error.strerror or error}.",
                hint="Choose another control port, or 0 for any free one.",
            ) from error
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _status(self, _: web.Request) -> web.Response:
        ports = {"control_port": self.port, "pid": os.getpid()}
        return _json({**self._sandbox.status(), **ports})

    async def _counts(self, _: web.Request) -> web.Response:
        return _json({"label": "SANDBOX", **self._sandbox.counts.to_json()})

    async def _reset_counts(self, _: web.Request) -> web.Response:
        self._sandbox.counts.reset()
        return _json({"ok": True})

    async def _faults(self, _: web.Request) -> web.Response:
        return _json({"faults": [fault.to_json() for fault in self._sandbox.book.faults()]})

    async def _kinds(self, _: web.Request) -> web.Response:
        return _json(
            {
                name: {
                    "what": " ".join((kind.__doc__ or "").split()),
                    "family": kind.family,
                    "directions": kind.directions,
                    "parameters": {field.name: field.default for field in fields(kind) if field.default is not MISSING},
                }
                for name, kind in sorted(KINDS.items())
            }
        )

    async def _add_fault(self, request: web.Request) -> web.Response:
        fault = self._sandbox.book.add(await _object(request))
        await self._sandbox.settled()
        return _json(fault.to_json(), status=201)

    async def _remove_fault(self, request: web.Request) -> web.Response:
        if not self._sandbox.book.remove(request.match_info["id"]):
            return _json({"error": f"No fault {request.match_info['id']!r} is armed."}, status=404)
        await self._sandbox.settled()
        return _json({"ok": True})

    async def _reset_faults(self, _: web.Request) -> web.Response:
        n = self._sandbox.book.reset()
        await self._sandbox.settled()
        return _json({"removed": n})

    async def _clock(self, request: web.Request) -> web.Response:
        body = await _object(request)
        deliver = body.pop("deliver", True)
        if len(body) != 1 or not isinstance(deliver, bool):
            raise InvalidRequest("Ask the clock one thing.", hint="pause, resume, speed, jump_s or jump_to; deliver.")
        (verb, value), sandbox = next(iter(body.items())), self._sandbox
        if verb == "pause":
            await sandbox.pause()
        elif verb == "resume":
            sandbox.resume()
        elif verb == "speed" and isinstance(value, int | float):
            sandbox.set_speed(value)
        elif verb == "jump_s" and isinstance(value, int | float):
            await sandbox.jump_to(sandbox.clock.now_ns() + round(value * 1e9), deliver=deliver)
        elif verb == "jump_to" and isinstance(value, int | str):
            await sandbox.jump_to(parse_moment(value), deliver=deliver)
        else:
            raise InvalidRequest(f"The clock does not understand {verb}={value!r}.")
        clock = sandbox.clock
        return _json({"now_ns": clock.now_ns(), "speed": clock.speed, "paused": clock.paused})

    async def _connections(self, _: web.Request) -> web.Response:
        return _json(
            {
                "connections": [
                    {
                        **connection.count.to_json(),
                        "stage": connection.session.stage,
                        "held": sorted(connection.session.held),
                        "n_buffered_bytes": connection.pipe.n_buffered_bytes,
                    }
                    for connection in self._sandbox.ws.connections
                ]
            }
        )

    async def _close(self, request: web.Request) -> web.Response:
        text = request.match_info["id"]
        connection = self._sandbox.ws.find(int(text)) if text.isdecimal() else None
        if connection is None:
            return _json({"error": f"No open connection {text}."}, status=404)
        body = await _object(request)
        code = body.get("code", 1000)
        if not isinstance(code, int) or not 1000 <= code <= 4999:
            raise InvalidRequest("A close code lies in 1000..4999.")
        if body.get("abrupt"):
            connection.cut("control")
        else:
            connection.close(code, str(body.get("reason", "")), by="control")
        return _json({"ok": True})

    async def _account(self, request: web.Request) -> web.Response:
        account = self._sandbox.accounts.add(await _object(request))
        return _json({"name": account.name}, status=201)

    async def _shutdown(self, _: web.Request) -> web.Response:
        asyncio.get_running_loop().call_soon(self._on_shutdown)
        return _json({"ok": True})


async def _object(request: web.Request) -> dict[str, Any]:
    text = await request.text()
    try:
        body = json.loads(text or "{}")
    except ValueError:
        raise InvalidRequest("The body is not JSON.") from None
    if not isinstance(body, dict):
        raise InvalidRequest("The body is not a JSON object.")
    return body


def _json(body: dict[str, Any], *, status: int = 200) -> web.Response:
    return web.Response(status=status, body=json.dumps(body).encode(), content_type="application/json", headers=LABEL)


@web.middleware
async def _as_json(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except InvalidRequest as error:
        return _json({"error": str(error)}, status=400)
    except web.HTTPException as error:
        return _json({"error": f"{error.reason}: {request.method} {request.path}"}, status=error.status)
