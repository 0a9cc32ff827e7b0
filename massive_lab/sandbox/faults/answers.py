"""Faults on REST answers: what a broken or throttled upstream says."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from massive_lab.sandbox.accounts import refusal, request_id
from massive_lab.sandbox.api import RestAnswer
from massive_lab.sandbox.faults.book import Kind, register

__all__ = [
    "BrokenPage",
    "Http5xx",
    "Http200Error",
    "Http429",
    "PageLoop",
    "TruncatedJson",
    "WrongContentLength",
    "next_url_of",
]


@register("http_429", "answer")
@dataclass(frozen=True, slots=True, kw_only=True)
class Http429(Kind):
    """Too many requests; ``retry_after_s`` becomes the header, and 0 or more is sent (null: no header)."""

    retry_after_s: float | None = None

    def check(self) -> str | None:
        wait: object = self.retry_after_s  # a JSON value: the declared type is what this checks
        fine = wait is None or (isinstance(wait, int | float) and not isinstance(wait, bool) and wait >= 0)
        return None if fine else "retry_after_s is a number of seconds or null"

    def answer(self, path: str, now_ns: int) -> RestAnswer:
        headers = {} if self.retry_after_s is None else {"Retry-After": f"{self.retry_after_s:g}"}
        return replace(refusal(429, path, now_ns), headers=headers)


@register("http_5xx", "answer")
@dataclass(frozen=True, slots=True, kw_only=True)
class Http5xx(Kind):
    """An error page of the proxy in front: HTML, not JSON. ``status`` may be any code from 400 to 599."""

    status: int = 504

    def check(self) -> str | None:
        return None if 400 <= self.status <= 599 else "status lies in 400..599"

    def answer(self) -> RestAnswer:
        title = {502: "Bad Gateway", 503: "Service Temporarily Unavailable", 504: "Gateway Time-out"}.get(
            self.status, "Error"
        )
        page = (
            f"<html>\r\n<head><title>{self.status} {title}</title></head>\r\n<body>\r\n"
            f"<center><h1>{self.status} {title}</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
        )
        return RestAnswer(self.status, page.encode(), "text/html")


@register("http_200_error", "answer")
@dataclass(frozen=True, slots=True, kw_only=True)
class Http200Error(Kind):
    """Status 200 over an error body."""

    message: str = "An internal error occurred"

    def answer(self, path: str, now_ns: int) -> RestAnswer:
        body = {"status": "ERROR", "request_id": request_id(path, now_ns), "error": self.message}
        return RestAnswer(200, json.dumps(body).encode())


@register("truncated_json", "answer")
@dataclass(frozen=True, slots=True, kw_only=True)
class TruncatedJson(Kind):
    """A whole HTTP answer whose JSON ends after ``fraction`` of its bytes."""

    fraction: float = 0.5

    def check(self) -> str | None:
        return None if 0 <= self.fraction < 1 else "fraction lies in 0..1, 1 excluded"

    def spoil(self, answer: RestAnswer) -> RestAnswer:
        return replace(answer, body=answer.body[: int(len(answer.body) * self.fraction)])


@register("broken_page", "answer")
@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenPage(Kind):
    """Page number ``page`` (1 is the first) is broken: ``how`` is ``bad_json`` or ``no_results``."""

    page: int = 2
    how: str = "bad_json"

    def check(self) -> str | None:
        return (
            None
            if self.page >= 1 and self.how in {"bad_json", "no_results"}
            else "page >= 1; how: bad_json, no_results"
        )

    def spoil(self, answer: RestAnswer) -> RestAnswer:
        if self.how == "bad_json":
            return replace(answer, body=answer.body[: max(1, len(answer.body) // 2)])
        body = json.loads(answer.body)
        body.pop("results", None)
        return replace(answer, body=json.dumps(body, separators=(",", ":")).encode())


@register("page_loop", "answer")
@dataclass(frozen=True, slots=True, kw_only=True)
class PageLoop(Kind):
    """From page ``page`` on, ``next_url`` leads back: ``to`` is ``self`` or ``first``."""

    page: int = 1
    to: str = "self"

    def check(self) -> str | None:
        return None if self.page >= 1 and self.to in {"self", "first"} else "page >= 1; to: self, first"

    def spoil(self, answer: RestAnswer, target_url: str) -> RestAnswer:
        body = json.loads(answer.body)
        if not isinstance(body, dict):
            return answer
        return replace(answer, body=json.dumps(body | {"next_url": target_url}, separators=(",", ":")).encode())


@register("wrong_content_length", "answer")
@dataclass(frozen=True, slots=True, kw_only=True)
class WrongContentLength(Kind):
    """``Content-Length`` is off by ``delta_bytes``; the connection closes after the body."""

    delta_bytes: int = 10

    def check(self) -> str | None:
        return None if self.delta_bytes else "delta_bytes is not 0"


def next_url_of(body: bytes) -> str | None:
    r"""The ``next_url`` of an answer, found without parsing megabytes of rows.

    Examples
    --------
    >>> next_url_of(b'{"results":[],"next_url":"http://h/v3/trades/A?cursor=x\\u0026y=1"}')
    'http://h/v3/trades/A?cursor=x&y=1'
    >>> next_url_of(b'{"results":[]}') is None
    True
    """
    at = body.rfind(b'"next_url"')
    if at < 0:
        return None
    try:
        value, _ = json.JSONDecoder().raw_decode(body[at + 10 : at + 8_000].decode("utf-8", "replace").lstrip(" :"))
    except ValueError:
        return None
    return value if isinstance(value, str) else None
