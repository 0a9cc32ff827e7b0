from __future__ import annotations

import copy
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from massive_lab.audit.report import fragment, page

_VOID = {"wbr", "meta", "link", "br", "img", "hr", "input"}


class _Page(HTMLParser):
    """Checks that tags close in order, and keeps what a browser would load, link to, and read."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.ids: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append((tag, values))
        self.loads += [str(values[name]) for name in ("src", "srcset", "data", "poster", "action") if values.get(name)]
        if tag == "link":
            self.loads.append(str(values.get("href")))
        if tag == "a":
            self.anchors.add(str(values["href"]))
        if "id" in values:
            self.ids.append(str(values["id"]))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def _parse(html: str) -> _Page:
    parsed = _Page()
    parsed.feed(html)
    parsed.close()
    assert parsed.open == []
    return parsed


def test_the_page_loads_nothing_and_runs_nothing(document: dict[str, Any]) -> None:
    html = page(document)
    parsed = _parse(html)
    assert parsed.loads == ["data:,"]
    assert not {"script", "iframe", "object", "embed", "form"} & {tag for tag, _ in parsed.tags}
    assert not any(name.startswith("on") for _, values in parsed.tags for name in values)
    # The name space of SVG is a name, not an address to fetch.
    assert re.findall(r"(?:https?:)?//[^\"'\s<]+", html.replace("http://www.w3.org/2000/svg", "")) == []
    assert not re.findall(r"url\(|@import", html)
    assert "default-src 'none'" in html


def test_every_link_leads_to_a_section_and_every_id_is_used_once(document: dict[str, Any]) -> None:
    parsed = _parse(page(document))
    assert len(set(parsed.ids)) == len(parsed.ids)
    assert {anchor.removeprefix("#") for anchor in parsed.anchors} <= set(parsed.ids)


def test_tables_have_captions_and_headings_with_scope(document: dict[str, Any]) -> None:
    tags = _parse(page(document)).tags
    names = [tag for tag, _ in tags]
    assert names.count("table") == names.count("caption") > 10
    assert all(values.get("scope") in ("row", "col") for tag, values in tags if tag == "th")


def test_synthetic_data_are_labelled_and_real_ones_are_not(document: dict[str, Any]) -> None:
    assert "<strong>SANDBOX</strong>" in page(document)
    assert "SANDBOX" not in page({**document, "synthetic": False})


def test_the_first_screen_tells_score_verdict_and_key_figures(document: dict[str, Any]) -> None:
    head = page(document).split("<main>")[0]
    for words in (
        "Ready",
        "of 10",
        "20 pass among 20 checks",
        "REST calls",
        "readers on topics",
        "loss to first poll",
        "counts that differ",
    ):
        assert words in head


@pytest.mark.parametrize(
    "section",
    [
        "rest",
        "subscriptions",
        "polling",
        "fallback",
        "coverage",
        "indicators",
        "regime",
        "cleanup",
        "environment",
        "reconciliation",
    ],
)
def test_a_section_that_was_not_measured_says_so_and_breaks_nothing(document: dict[str, Any], section: str) -> None:
    clone = copy.deepcopy(document)
    clone["sections"][section] = None
    html = page(clone)
    _parse(html)
    assert "This was not measured in this run." in html


def test_text_from_outside_is_escaped(document: dict[str, Any]) -> None:
    clone = copy.deepcopy(document)
    clone["sections"]["regime"]["reasons"] = ["<script>alert(1)</script>"]
    clone["sections"]["coverage"]["indices"][0]["name"] = '"><img src=x>'
    parsed = _parse(page(clone))
    assert "script" not in {tag for tag, _ in parsed.tags}
    assert "img" not in {tag for tag, _ in parsed.tags}


def test_differences_stand_before_the_lines_that_agree(document: dict[str, Any]) -> None:
    clone = copy.deepcopy(document)
    clone["sections"]["reconciliation"]["lines"][0]["equal"] = False
    assert "Lines that differ" in page(clone)
    assert "Lines that differ" not in page(document)


def test_the_same_document_makes_the_same_bytes(document: dict[str, Any]) -> None:
    assert page(document) == page(copy.deepcopy(document))


def test_a_single_section_can_be_shown_in_a_notebook(document: dict[str, Any]) -> None:
    html = fragment(document, only="fallback")
    parsed = _parse(html)
    assert [i for i in parsed.ids if not i.endswith("-title")] == ["fallback"]
    assert "<body" not in html
