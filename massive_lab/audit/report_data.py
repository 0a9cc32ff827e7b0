"""What the report shows of data, clean-up and environment: a sentence, a picture, the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from massive_lab.audit import charts
from massive_lab.audit.html import (
    Column,
    bytes_,
    figure,
    finding,
    mark,
    number,
    percent,
    table,
    text,
)

__all__ = ["cleanup", "coverage", "environment", "indicators", "regime"]

Document = Mapping[str, Any]


_CHAIN_PARTS = {
    "contracts": "listed and found",
    "with_quote": "two-sided quote",
    "with_trade": "last trade",
    "with_greeks": "greeks",
    "with_iv": "implied volatility",
    "with_open_interest": "open interest",
}


def coverage(document: Document) -> str:
    """How much of the chain and of the indices is there."""
    section = document["sections"]["coverage"]
    chain = section.get("chain")
    parts = finding(document, "coverage.options") + finding(document, "coverage.indices")
    if chain:
        whole = max(chain["contracts"], 1)
        share = [
            charts.Bar(name, chain[key] / whole * 100, f"{chain[key]:,} ({percent(chain[key] / whole)})")
            for key, name in _CHAIN_PARTS.items()
        ]
        parts += figure(
            charts.bars(f"Coverage of the {chain['underlying']} chain", share),
            f"The {chain['underlying']} chain: contracts that carry each kind of value, in per cent of all.",
        )
        smile = chain.get("smile")
        if smile:
            parts += figure(
                charts.lines(
                    f"Implied volatility by strike, {smile['expiration']}",
                    [charts.Line("call", smile["call"], "a"), charts.Line("put", smile["put"], "b")],
                    labels=[f"{strike:g}" for strike in smile["strikes"]],
                    height=150,
                ),
                f"Implied volatility (%) by strike for {smile['expiration']}, the expiration nearest to thirty days.",
            )
    columns = [
        Column("symbol", "Index", right=False),
        Column("name", "Name", right=False),
        Column("value", "Value", lambda v: number(v, 2)),
        Column("market_status", "Market", right=False),
        Column("timeframe", "Timeliness", right=False),
        Column("error", "Error", lambda v: "" if v is None else text(v), right=False),
    ]
    return parts + table("Indices", columns, section.get("indices") or [])


def indicators(document: Document) -> str:
    """Price with its averages, and the comparison with the server's indicators."""
    section = document["sections"]["indicators"]
    chart, parts = section.get("chart"), finding(document, "indicators.agree")
    if chart:
        parts += figure(
            charts.lines(
                f"{chart['symbol']}: close and EMA 20",
                [charts.Line("close", chart["close"], "c", 1.2), charts.Line("EMA 20", chart["ema_20"], "a", 2)],
                labels=chart["labels"],
                height=180,
            )
            + charts.lines(
                f"{chart['symbol']}: RSI 14",
                [charts.Line("RSI 14", chart["rsi_14"], "b")],
                labels=chart["labels"],
                height=90,
                bands=((30, ""), (70, "")),
            ),
            f"{chart['symbol']}, daily: close with its 20-day exponential average; below, the 14-day RSI with 30 and 70 marked.",
        )
    columns = [
        Column("indicator", "Indicator", right=False),
        Column("n", "Values compared", number),
        Column(
            "difference", "Largest relative difference", lambda v: f"{v:.1e}".replace("-", "\N{MINUS SIGN}"), right=True
        ),
        Column("agrees", "Agrees", lambda v: mark("pass" if v else "fail"), right=False),
    ]
    made = [
        Column("column", "Column", right=False),
        Column("rows", "Rows", number),
        Column("warmup", "Warming up", number),
        Column("last", "Last value", lambda v: number(v, 4)),
    ]
    return (
        parts + table("Ours against the server's indicators", columns, section.get("compared") or [])
        + table("Columns computed", made, section["columns"])
    )  # fmt: skip


def regime(document: Document) -> str:
    """The label of the last day, its reasons, and the days before it."""
    section = document["sections"]["regime"]
    chart = section.get("chart")
    parts = finding(document, "regime.labelled")
    parts += (
        f'<p class="regime"><strong>{escape(section["last"])}</strong> on {escape(section["date"])}</p>'
        f"<ul>{''.join(f'<li>{escape(reason)}</li>' for reason in section['reasons'])}</ul>"
    )
    parts += "".join(f'<p class="small">{escape(note)}</p>' for note in section["notes"])
    if chart:
        shades = _runs(chart["defensive"])
        parts += figure(
            charts.lines(chart["price_title"], [charts.Line(chart["price_name"], chart["price"], "a")], labels=chart["labels"],
                         height=150, shades=shades)
            + charts.lines("VIX", [charts.Line("VIX", chart["vix"], "b")], labels=chart["labels"], height=80, shades=shades),
            chart["caption"],
        )  # fmt: skip
    columns = [
        Column("regime", "Regime", right=False),
        Column("days", "Days", number),
        Column("share", "Share", percent),
    ]
    return parts + table("Days by regime", columns, section["by_regime"])


def _runs(flags: Sequence[bool]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for i, flag in enumerate(flags):
        if not flag:
            continue
        if runs and runs[-1][1] == i:
            runs[-1] = (runs[-1][0], i + 1)
        else:
            runs.append((i, i + 1))
    return runs


def cleanup(document: Document) -> str:
    """What the process held before, while streaming, and after closing."""
    section = document["sections"]["cleanup"]
    columns = [
        Column("moment", "Moment", right=False),
        Column("threads", "Threads", number),
        Column("tasks", "Tasks", number),
        Column("sockets", "Sockets", number),
        Column("memory_bytes", "Resident memory", bytes_),
    ]
    rows = document["timings"].get("held") or section["held"]
    return (
        finding(document, "cleanup.left") + finding(document, "cleanup.memory")
        + table("Held by the process", columns, rows)
    )  # fmt: skip


def environment(document: Document) -> str:
    """Versions and what is wrong with them."""
    section = document["sections"]["environment"]
    findings = [
        Column("what", "Check", right=False),
        Column("verdict", "Verdict", mark, right=False),
        Column("found", "Found", right=False),
        Column("mend", "To do", right=False),
    ]
    facts = section["facts"]
    rows = [
        {"what": "Python", "found": f"{facts['implementation']} {facts['python']}"},
        {"what": "machine", "found": f"{facts['system']}, {facts['cpus']} processors"},
        *({"what": name, "found": version or "not installed"} for name, version in facts["packages"].items()),
        *({"what": name, "found": value} for name, value in facts["variables"].items()),
    ]
    columns = [Column("what", "What", right=False), Column("found", "Found", right=False)]
    return (
        finding(document, "environment.sound") + table("Checks of the environment", findings, section["findings"])
        + f"<details><summary>Versions and settings</summary>{table('Versions and settings', columns, rows)}</details>"
    )  # fmt: skip
