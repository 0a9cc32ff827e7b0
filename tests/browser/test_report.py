"""The report in a browser: nothing is fetched, everything is drawn, and it can be read by anybody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser

_SECTIONS = [
    "score", "rest", "subscriptions", "polling", "fallback", "coverage", "indicators", "regime", "cleanup", "reconciliation",
    "environment",
]  # fmt: skip


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser") / "audit"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MASSIVE_")}
    done = subprocess.run(
        [sys.executable, "-m", "massive_lab", "audit", "--duration", "5s", "-o", str(folder)],
        capture_output=True, text=True, check=False, env=environ, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "audit.html"


class _Open:
    """A page, and what happened while it was open."""

    def __init__(self, page: Any, report: Path) -> None:
        self.page, self.requests, self.errors = page, [], []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.errors.append(message.text))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.goto(report.as_uri())


@pytest.fixture(params=[("light", 1280), ("dark", 1280), ("light", 390)], ids=["light", "dark", "narrow"])
def opened(request: pytest.FixtureRequest, browser: Any, report: Path) -> Iterator[_Open]:
    scheme, width = request.param
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True, locale="de-DE"
    )
    yield _Open(context.new_page(), report)
    context.close()


def test_nothing_is_fetched_and_nothing_is_complained_about(opened: _Open, report: Path) -> None:
    opened.page.wait_for_load_state("networkidle")
    assert [url for url in opened.requests if not url.startswith("data:")] == [report.as_uri()]
    assert opened.errors == []


def test_score_verdict_and_label_are_on_the_first_screen(opened: _Open, report: Path) -> None:
    document = json.loads(report.with_name("audit.json").read_text(encoding="utf-8"))
    score = opened.page.get_by_test_id("score")
    assert f"{document['score']['value']:.1f}" in score.inner_text()
    assert score.bounding_box()["y"] < 900
    assert opened.page.get_by_text("SANDBOX", exact=True).first.is_visible()
    assert opened.page.locator("h1").is_visible()


def test_every_chart_is_drawn_within_the_page(opened: _Open) -> None:
    charts = opened.page.locator("svg.chart")
    assert charts.count() >= 8
    for i in range(charts.count()):
        shapes = charts.nth(i).locator("rect, path, circle, line")
        assert shapes.count() > 0
        assert charts.nth(i).bounding_box()["height"] > 40
    body = opened.page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert body[0] <= body[1], "the page scrolls sideways"


def test_texts_of_a_chart_do_not_cover_each_other(opened: _Open) -> None:
    covered = opened.page.evaluate("""() => [...document.querySelectorAll('svg.chart')].flatMap(svg => {
        const boxes = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
        return boxes.flatMap(([a, p], i) => boxes.slice(i + 1)
            .filter(([b, q]) => p.left < q.right - 1 && q.left < p.right - 1 && p.top < q.bottom - 3 && q.top < p.bottom - 3)
            .map(([b]) => svg.getAttribute('aria-label') + ': ' + a + ' / ' + b));
    })""")
    assert covered == []


def test_all_sections_are_there_in_order_and_reachable_by_their_links(opened: _Open) -> None:
    assert opened.page.evaluate("[...document.querySelectorAll('main > section')].map(s => s.id)") == _SECTIONS
    opened.page.locator("nav a[href='#fallback']").click()
    assert opened.page.locator("#fallback").bounding_box()["y"] < 900


def test_texts_have_enough_contrast(opened: _Open) -> None:
    assert opened.page.evaluate(_CONTRAST) == []
    opened.page.add_style_tag(content=".mlr figcaption { color: #777; background: #888 }")
    assert opened.page.evaluate(_CONTRAST), "the check itself finds what is too pale"


def test_the_page_prints(browser: Any, report: Path) -> None:
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.goto(report.as_uri())
    pdf = page.pdf(format="A4", print_background=True)
    context.close()
    assert pdf.startswith(b"%PDF-")
    assert len(pdf) > 20_000


# Contrast of each text with the nearest opaque ground behind it, as WCAG 2 defines it; 4.5 for text, 3 for large text.
_CONTRAST = """() => {
    const rgb = s => s.match(/[\\d.]+/g).map(Number);
    const lin = v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
    const lum = c => { const [r, g, b] = c.slice(0, 3).map(v => lin(v / 255));
        return .2126 * r + .7152 * g + .0722 * b; };
    const ground = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor);
        if (c.length < 4 || c[3] > 0.99) return c; } return [255, 255, 255]; };
    const poor = new Set();
    for (const e of document.querySelectorAll('.mlr *')) {
        if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) || e.closest('style, title')) continue;
        const style = getComputedStyle(e), inSvg = e.namespaceURI.endsWith('svg');
        const a = lum(rgb(inSvg ? style.fill : style.color)), b = lum(ground(inSvg ? e.closest('figure') : e));
        const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05), size = parseFloat(style.fontSize);
        if (ratio < (size >= 24 ? 3 : 4.5)) poor.add(e.tagName + '.' + e.getAttribute('class') + ' ' + ratio.toFixed(2));
    }
    return [...poor];
}"""
