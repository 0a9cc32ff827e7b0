"""REST over HTTP: keys and limits, the rules, faults on answers, compression, and the count of it all."""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from concurrent.futures import Executor
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import unquote, urlsplit

from aiohttp import web
from isal import igzip

from massive_lab.sandbox.accounts import Accounts, asset_class_asked, key_of_request, parse_query, refusal, request_id
from massive_lab.sandbox.api import RestAnswer, RestRequest, RestRules
from massive_lab.sandbox.clock import VirtualClock
from massive_lab.sandbox.counts import Counts, EndpointCount
from massive_lab.sandbox.faults.answers import (
    BrokenPage,
    Http5xx,
    Http200Error,
    Http429,
    PageLoop,
    TruncatedJson,
    WrongContentLength,
    next_url_of,
)
from massive_lab.sandbox.faults.book import FaultBook
from massive_lab.sandbox.faults.toxics import Down
from massive_lab.sandbox.pipe import Pipe
from massive_lab.schema.endpoints import classify

__all__ = ["RestHost"]

_REQUEST_ID = re.compile(rb'"request_id":\s*"([\w-]+)"')
_SLASHES = re.compile(r"/{2,}")
_SMALL_BYTES = 256
"""Shorter bodies are not worth compressing."""
_MAX_CHAINS = 10_000


@dataclass(slots=True)
class _Asked:
    """One request, read."""

    path: str
    query: dict[str, str]
    target: str
    """Path and query as they came."""
    endpoint: str
    labels: frozenset[str]
    count: EndpointCount
    base_url: str
    gzip: bool
    method: str
    authorization: str | None


class RestHost:
    """Serves every request that is not an upgrade.

    Parameters
    ----------
    rules : RestRules
        Used from `executor` only.
    label : dict
        Headers put on every answer.
    """

    def __init__(
        self,
        rules: RestRules,
        clock: VirtualClock,
        executor: Executor,
        accounts: Accounts,
        book: FaultBook,
        counts: Counts,
        *,
        label: dict[str, str],
    ) -> None:
        self._rules = rules
        self._clock = clock
        self._executor = executor
        self._accounts = accounts
        self._book = book
        self._counts = counts
        self._label = label
        self._n_answers = 0
        # Where each served next_url stands in its chain: (number of the page it asks for, address of the first page).
        self._chains: OrderedDict[str, tuple[int, str]] = OrderedDict()

    async def handle(self, request: web.BaseRequest, pipe: Pipe) -> web.StreamResponse:
        """Answer one request; the answer has been sent when this returns."""
        asked = self._read(request)
        count = asked.count
        count.requests += 1
        count.continued += "cursor" in asked.query
        if self._book.draw(Down, asked.labels - {"*"}) is not None:
            count.aborted += 1
            pipe.reset()
            return web.Response(status=503)
        answer = await self._answer(asked)
        if pipe.is_closing():
            count.disconnected += 1
            return web.Response(status=503)
        return await self._send(request, pipe, asked, answer)

    def _read(self, request: web.BaseRequest) -> _Asked:
        raw_path, _, raw_query = request.raw_path.partition("?")
        path = _SLASHES.sub("/", unquote(raw_path))
        endpoint = classify(path)
        target = _SLASHES.sub("/", raw_path) + (f"?{raw_query}" if raw_query else "")
        return _Asked(
            path=path,
            query=parse_query(raw_query),
            target=target,
            endpoint=endpoint,
            labels=frozenset(("*", "rest", endpoint)),
            count=self._counts.endpoint(endpoint),
            base_url=f"http://{request.host}",
            gzip=_takes_gzip(request.headers.get("Accept-Encoding", "")),
            method=request.method,
            authorization=request.headers.get("Authorization"),
        )

    async def _answer(self, asked: _Asked) -> RestAnswer:
        now_ns = self._clock.now_ns()
        if asked.method != "GET":
            return RestAnswer(405, b"405 method not allowed", "text/plain", {"Allow": "GET"})
        key = key_of_request(asked.authorization, asked.query)
        account = self._accounts.find(key)
        if account is None:
            return refusal(401, asked.path, now_ns, key_given=bool(key))
        if not self._accounts.allows(account, asset_class_asked(asked.path, asked.query), now_ns):
            return refusal(429, asked.path, now_ns)
        if (throttled := self._book.draw(Http429, asked.labels)) is not None:
            return throttled.kind.answer(asked.path, now_ns)
        if (failed := self._book.draw(Http200Error, asked.labels)) is not None:
            return failed.kind.answer(asked.path, now_ns)
        if (broken := self._book.draw(Http5xx, asked.labels)) is not None:
            return broken.kind.answer()
        query = {name: value for name, value in asked.query.items() if name != "apiKey"}
        question = RestRequest(asked.path, query, account, now_ns, asked.base_url)
        loop = asyncio.get_running_loop()
        try:
            answer = await loop.run_in_executor(self._executor, self._rules.handle, question)
        except Exception:
            asked.count.status[HTTPStatus.INTERNAL_SERVER_ERROR] += 1
            raise  # the server library logs it and answers 500
        return self._spoil(asked, answer) if answer.status == HTTPStatus.OK else answer

    def _spoil(self, asked: _Asked, answer: RestAnswer) -> RestAnswer:
        """Faults on whole answers; page faults need the place in the chain."""
        page, first = self._chains.get(asked.target, (1, asked.target))
        following = next_url_of(answer.body)
        if following is not None:
            parts = urlsplit(following)
            self._chains[f"{parts.path}?{parts.query}"] = page + 1, first
            if len(self._chains) > _MAX_CHAINS:
                self._chains.popitem(last=False)
        if (broken := self._book.draw(BrokenPage, asked.labels, lambda kind: kind.page == page)) is not None:
            answer = broken.kind.spoil(answer)
        paged = following is not None or page > 1
        if paged and (loop := self._book.draw(PageLoop, asked.labels, lambda kind: page >= kind.page)) is not None:
            answer = loop.kind.spoil(answer, asked.base_url + (asked.target if loop.kind.to == "self" else first))
        if (cut := self._book.draw(TruncatedJson, asked.labels)) is not None:
            answer = cut.kind.spoil(answer)
        return answer

    async def _send(
        self, request: web.BaseRequest, pipe: Pipe, asked: _Asked, answer: RestAnswer
    ) -> web.StreamResponse:
        body, headers = answer.body, self._headers(asked, answer)
        if asked.gzip and len(body) >= _SMALL_BYTES:
            body = await asyncio.get_running_loop().run_in_executor(self._executor, _gzip, body)
            headers["Content-Encoding"] = "gzip"
        count = asked.count
        count.status[answer.status] += 1
        count.pages += answer.status == HTTPStatus.OK
        lying = self._book.draw(WrongContentLength, asked.labels)
        pipe.answer_labels = asked.labels
        pipe.refresh(self._book)
        response: web.StreamResponse
        if lying is not None:
            response = _write_lie(pipe, count, answer, body, headers, lying.kind.delta_bytes)
        else:
            response = await _write(request, pipe, count, answer, body, headers)
        await pipe.down.drained()
        if pipe.ended_by_fault:
            count.aborted += 1
        elif lying is None and pipe.lost.done():
            count.disconnected += 1
        pipe.end_answer()
        return response

    def _headers(self, asked: _Asked, answer: RestAnswer) -> dict[str, str]:
        self._n_answers += 1
        found = _REQUEST_ID.search(answer.body, max(0, answer.body.rfind(b'"request_id"')))
        return {
            "Server": "nginx",
            "Content-Type": answer.content_type,
            "X-Request-Id": found[1].decode() if found else request_id("answer", asked.target, self._n_answers),
            "Vary": "Accept-Encoding",
            **self._label,
            **answer.headers,
        }


async def _write(
    request: web.BaseRequest, pipe: Pipe, count: EndpointCount, answer: RestAnswer, body: bytes, headers: dict[str, str]
) -> web.StreamResponse:
    response = web.Response(status=answer.status, body=body, headers=headers)
    if pipe.down.waits_for_close:
        response.force_close()
    pipe.on_sent = _BodyCounter(count)
    try:
        # Here and not after returning, so that faults are in place while the bytes pass and gone afterwards.
        await response.prepare(request)
        await response.write_eof()
    except ConnectionError:
        return response  # counted by the caller as cut by a fault or left by the client
    return response


def _write_lie(
    pipe: Pipe, count: EndpointCount, answer: RestAnswer, body: bytes, headers: dict[str, str], delta_bytes: int
) -> web.StreamResponse:
    """An answer whose length is wrong: written by hand, as the server library would not lie."""
    length = max(0, len(body) + delta_bytes)
    lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}"]
    lines += [
        f"{name}: {value}" for name, value in {**headers, "Content-Length": length, "Connection": "close"}.items()
    ]
    pipe.on_sent = _BodyCounter(count)
    pipe.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    pipe.close()
    return web.Response(status=answer.status)


class _BodyCounter:
    """Counts the bytes of one body as they leave, its head aside."""

    __slots__ = ("_count", "_head")

    def __init__(self, count: EndpointCount) -> None:
        self._count = count
        self._head: bytes | None = b""

    def __call__(self, data: bytes) -> None:
        if self._head is not None:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            data, self._head = self._head[end + 4 :], None
        self._count.body_bytes += len(data)


def _takes_gzip(accepted: str) -> bool:
    for part in accepted.lower().split(","):
        coding, _, weight = part.replace(" ", "").partition(";q=")
        if coding == "gzip":
            return weight.strip("0.") != "" or not weight
    return False


def _gzip(body: bytes) -> bytes:
    return igzip.compress(body, 1, mtime=0)
