"""The audit document as one HTML page that needs nothing else: no script, no font, no network."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from html import escape
from importlib.resources import files
from typing import Any

from massive_lab.audit import report_data, report_load
from massive_lab.audit.html import all_checks, mark, number, percent, seconds

__all__ = ["fragment", "page"]

Document = Mapping[str, Any]

_TITLES: dict[str, tuple[str, Callable[[Document], str]]] = {
    "score": ("What the score stands on", report_load.checks),
    "rest": ("REST", report_load.rest),
    "subscriptions": ("Subscriptions", report_load.subscriptions),
    "polling": ("Polling load", report_load.polling),
    "fallback": ("Fallback", report_load.fallback),
    "coverage": ("Options and indices", report_data.coverage),
    "indicators": ("Indicators", report_data.indicators),
    "regime": ("Regime", report_data.regime),
    "cleanup": ("Clean-up", report_data.cleanup),
    "reconciliation": ("Counted twice", report_load.reconciliation),
    "environment": ("Environment", report_data.environment),
}
_VERDICTS = {
    "pass": "Ready",
    "warn": "Ready, with reservations",
    "fail": "Not ready: a critical check failed",
}


def style() -> str:
    """The style sheet, without the blanks that only its readers need."""
    css = files("massive_lab.audit").joinpath("page.css").read_text(encoding="utf-8")
    return re.sub(r"\s*\n\s*", "", re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL))


def page(document: Document) -> str:
    """Render a whole page.

    Parameters
    ----------
    document : mapping
        As `massive_lab.audit.sections.build` makes it, or ``audit.json`` read back.

    Returns
    -------
    str
        HTML that loads nothing: its policy forbids every source but its own style.
    """
    title = f"{'SANDBOX: ' if document['synthetic'] else ''}massive_lab audit"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">"
        '<meta name="color-scheme" content="light dark">'
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title><style>{style()}</style></head>'
        f'<body class="mlr">{_body(document)}</body></html>\n'
    )


def fragment(document: Document, *, only: str | None = None) -> str:
    """The same sections as the output of a notebook cell, with their own style; `only` names a single one."""
    content = _section(document, only) if only else _body(document)
    # Said three times the class outweighs the notebook's own rules for tables and lists.
    css = style().replace(".mlr", ".mlr.mlr.mlr")
    return f'<style>{css}</style><div class="mlr in-notebook">{content}</div>'


def _body(document: Document) -> str:
    nav = "".join(
        f'<li><a href="#{name}">{escape("Checks" if name == "score" else title)}</a></li>'
        for name, (title, _) in _TITLES.items()
    )
    sections = "".join(_section(document, name) for name in _TITLES)
    return (
        f'{_head(document)}<nav aria-label="Sections"><ol>{nav}</ol></nav><main>{sections}</main>'
        f"<footer>{_foot(document)}</footer>"
    )


def _section(document: Document, name: str) -> str:
    title, render = _TITLES[name]
    known = name == "score" or document["sections"].get(name) is not None
    content = render(document) if known else "<p>This was not measured in this run.</p>"
    return f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{escape(title)}</h2>{content}</section>'


def _head(document: Document) -> str:
    score, verdict = document["score"], document["verdict"]
    counts = {
        kind: sum(check["verdict"] == kind for check in all_checks(document))
        for kind in ("pass", "warn", "fail", "not measured")
    }
    badge = (
        '<p class="badge"><strong>SANDBOX</strong> All prices, quotes and values in this report are synthetic. '
        "None of them was ever traded.</p>"
        if document["synthetic"]
        else ""
    )
    facts = [
        f"target {document['target']}",
        f"{len(document['watchlist'])} symbols",
        f"{document['duration_s']:g} s of streaming",
    ]
    if document["seed"] is not None:
        facts.append(f"seed {document['seed']}")
    tally = ", ".join(f"{n} {kind}" for kind, n in counts.items() if n)
    ceiling = (
        f"The rest up to {number(score['ceiling'], 2)} was not measured."
        if score["not_measured"]
        else "Everything that counts was measured."
    )
    return (
        f'{badge}<header class="top {verdict}"><div class="who"><p class="kicker">massive_lab audit</p>'
        f'<h1>{escape(_VERDICTS[verdict])}</h1><p class="facts">{escape(" · ".join(facts))}</p></div>'
        f'<div class="score"><p class="big" data-testid="score"><span class="value">{number(score["value"], 1)}</span>'
        f'<span class="of">of 10</span></p>{_gauge(document)}'
        f'<p class="small">{escape(tally)} among {len(all_checks(document))} checks. {ceiling}</p></div></header>'
        + _figures(document)
    )


def _gauge(document: Document) -> str:
    """The ten points as one bar: earned, not measured, lost; in the order of the checks within each."""
    score = document["score"]
    earned, unknown = score["value"] * 10, score["not_measured"] * 10
    lost = max(0.0, 100 - earned - unknown)
    label = f"{score['value']:g} points earned, {score['not_measured']:g} not measured, {lost / 10:.2g} lost"
    return (
        f'<div class="gauge" role="img" aria-label="{label}">'
        f'<i class="earned" style="width:{earned:.1f}%"></i><i class="unknown" style="width:{unknown:.1f}%"></i>'
        f'<i class="lost" style="width:{lost:.1f}%"></i></div>'
    )


def _figures(document: Document) -> str:
    sections = document["sections"]
    tiles: list[tuple[str, str, str, str]] = []
    if (rest := sections.get("rest")) is not None:
        overall = (document["timings"].get("rest") or {}).get("overall")
        note = f"p95 {number(overall['p95_ms'])} ms" if overall else "no latency"
        tiles.append(
            (
                "rest",
                "REST calls",
                number(rest["totals"]["calls"]),
                f"{number(rest['totals']['errors'])} errors, {note}",
            )
        )
    if (subs := sections.get("subscriptions")) is not None:
        totals = subs["totals"]
        tiles += [
            ("subscriptions", "readers on topics", f"{number(totals['readers'])} / {number(totals['topics'])}",
             f"{number(totals['duplicates_asked'])} asked twice, {number(totals['duplicates_sent'])} sent twice"),
            ("subscriptions", "messages", number(totals["messages"]), f"{number(totals['messages_per_second'], 1)} a second"),
        ]  # fmt: skip
    if (polling := sections.get("polling")) is not None:
        totals = polling["totals"]
        share = totals["worst_per_minute"] / totals["limit_per_minute"]
        tiles.append(
            ("polling", "calls a minute, worst", number(totals["worst_per_minute"], 0),
             f"{percent(share)} of the limit; naive {number(totals['naive_per_minute'])}")
        )  # fmt: skip
    if (fallback := sections.get("fallback")) is not None:
        rows = fallback["clusters"]
        waits = [row["since_loss_s"] for row in rows if row["since_loss_s"] is not None]
        note = f"{sum(row['recovered'] for row in rows)} of {len(rows)} sockets back"
        tiles.append(("fallback", "loss to first poll", seconds(max(waits)) if waits else "none", note))
    if (lines := sections.get("reconciliation")) is not None:
        value = f"{number(lines['n_different'])} / {number(lines['n_compared'])}"
        tiles.append(("reconciliation", "counts that differ", value, "ours against the server's"))
    items = "".join(
        f'<li><a href="#{anchor}"><span class="label">{escape(label)}</span><span class="figure">{value}</span>'
        f'<span class="note">{note}</span></a></li>'
        for anchor, label, value, note in tiles
    )
    return f'<ul class="figures" aria-label="Key figures">{items}</ul>'


def _foot(document: Document) -> str:
    run = document["timings"].get("run") or {}
    when = ""
    if run.get("started"):
        started = str(run["started"]).replace("T", " ").replace("+00:00", " UTC")
        when = f" Measured on {escape(started)}, in {seconds(run.get('elapsed_s'))}."
    return (
        f"<p>massive_lab {escape(document['massive_lab'])}, document {escape(document['schema'])}.{when} "
        "The same figures stand in <code>audit.json</code>; the cells that measured them in <code>audit.ipynb</code>. "
        f"{mark('not measured')} is neither zero nor full: it only bounds the score.</p>"
    )
