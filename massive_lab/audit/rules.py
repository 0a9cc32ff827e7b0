"""The points of the readiness score: what an integration must show, and how much each counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from massive_lab.audit.score import Opinion, Rule

__all__ = ["FALLBACK_BOUND_S", "LATENCY_BOUND_MS", "RULES", "TIMED"]

FALLBACK_BOUND_S = 0.1
"""From the loss of a socket to the first poll of its symbols."""
LATENCY_BOUND_MS = 10_000.0
"""95th percentile of a REST attempt: the client's default timeout. The sandbox makes its market when it is asked."""
_TOLERANCE = 0.02
_MEMORY_BYTES = 64 * 2**20


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "\N{MINUS SIGN}")


Rows = Sequence[Mapping[str, Any]]


def _n(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _no_rest_errors(totals: Mapping[str, Any]) -> Opinion:
    calls, errors, retries = totals["calls"], totals["errors"], totals["retries"]
    text = f"{_n(calls, 'call')}, {_n(errors, 'error')}, {_n(retries, 'retry').replace('retrys', 'retries')}."
    if not calls:
        return "fail", "No call was made."
    if errors > retries:
        return "fail", text
    return ("warn" if errors else "pass"), text


def _no_failed_loads(loaders: Rows) -> Opinion:
    failed = [row["loader"] for row in loaders if row["failed"]]
    if not loaders:
        return "fail", "Nothing was loaded."
    if failed:
        return "fail", f"Loads that failed: {', '.join(failed)}."
    return (
        "pass",
        f"{_n(sum(row['calls'] for row in loaders), 'load')} brought {sum(row['rows'] for row in loaders):,} rows.",
    )


def _latency(overall: Mapping[str, Any]) -> Opinion:
    p95 = overall["p95_ms"]
    return (
        "pass" if p95 <= LATENCY_BOUND_MS else "warn"
    ), f"p95 {p95:,.0f} ms over all endpoints; the bound is {LATENCY_BOUND_MS:,.0f} ms."


def _same_counts(lines: Rows) -> Opinion:
    different = [line for line in lines if not line["equal"]]
    if not lines:
        return "fail", "There was nothing to compare."
    if different:
        first = different[0]
        return "fail", (
            f"{_n(len(different), 'line')} of {len(lines)} differ, the first: {first['what']} {first['key']}"
            + ("." if first["ours"] is None else f", ours {first['ours']:,}, served {first['served']:,}.")
        )
    return "pass", f"{_n(len(lines), 'line')} compared with the server's own count, none differs."


def _one_upstream(totals: Mapping[str, Any]) -> Opinion:
    text = (
        f"{_n(totals['readers'], 'reader')} of {_n(totals['topics'], 'topic')}: "
        f"{totals['duplicates_asked']} asked twice or more, {totals['duplicates_sent']} sent twice."
    )
    if not totals["topics"]:
        return "fail", "Nothing was subscribed to."
    return ("fail" if totals["duplicates_sent"] else "pass"), text


def _confirmed(totals: Mapping[str, Any]) -> Opinion:
    topics, confirmed, denied = totals["topics"], totals["confirmed"], totals["denied"]
    good = confirmed == topics > 0 and not denied
    return ("pass" if good else "fail"), f"{confirmed} of {_n(topics, 'topic')} confirmed, {denied} denied."


def _nothing_lost(totals: Mapping[str, Any]) -> Opinion:
    dropped, quarantined, messages = totals["dropped"], totals["quarantined"], totals["messages"]
    if not messages:
        return "fail", "No message came."
    text = f"{_n(messages, 'message')}, {dropped} dropped by a slow reader, {quarantined} set aside as undecodable."
    return ("fail" if dropped or quarantined else "pass"), text


def _as_predicted(rows: Rows) -> Opinion:
    off = [row for row in rows if abs(row["calls"] - row["predicted"]) > _TOLERANCE * row["predicted"]]
    if not rows:
        return "fail", "There was nothing to compare."
    if off:
        worst = off[0]
        return "fail", (
            f"{_n(len(off), 'row')} off by more than {_TOLERANCE:.0%}, the first: {worst['phase']} {worst['endpoint']}, "
            f"{worst['calls']:,} calls against {worst['predicted']:g} predicted."
        )
    return "pass", f"{_n(len(rows), 'row')} within {_TOLERANCE:.0%} of the prediction."


def _under_limit(totals: Mapping[str, Any]) -> Opinion:
    worst, limit = totals["worst_per_minute"], totals["limit_per_minute"]
    naive = totals["naive_per_minute"]
    text = f"{worst:g} calls a minute at worst, {worst / limit:.1%} of {limit:,}; naive polling would spend {naive:g}."
    return ("pass" if worst <= 0.8 * limit else "warn" if worst <= limit else "fail"), text


def _quiet_socket(polls: int) -> Opinion:
    return ("fail" if polls else "pass"), f"{_n(polls, 'poll')} while the sockets delivered."


def _fell_back(rows: Rows) -> Opinion:
    late = [row for row in rows if row["since_loss_s"] is None or row["since_loss_s"] > FALLBACK_BOUND_S]
    if not rows:
        return "fail", "No socket was dropped."
    if late:
        return (
            "fail",
            f"No poll within {FALLBACK_BOUND_S * 1000:g} ms of the loss: {', '.join(row['cluster'] for row in late)}.",
        )
    slowest = max(row["since_loss_s"] for row in rows)
    return (
        "pass",
        f"{slowest * 1000:g} ms from the loss to the first poll at most; the bound is {FALLBACK_BOUND_S * 1000:g} ms.",
    )


def _came_back(rows: Rows) -> Opinion:
    gone = [row["cluster"] for row in rows if not row["recovered"]]
    if not rows:
        return "fail", "No socket was dropped."
    if gone:
        return "fail", f"The socket did not come back, or polling went on: {', '.join(gone)}."
    return "pass", f"{_n(len(rows), 'socket')} came back, every topic was subscribed again once, and polling stopped."


def _gap_told(rows: Rows) -> Opinion:
    silent = [row["cluster"] for row in rows if not row["gaps"]]
    if not rows:
        return "fail", "No socket was dropped."
    return ("fail" if silent else "pass"), (
        f"No gap was announced for {', '.join(silent)}." if silent else "Each outage was announced as a gap."
    )


def _chain_whole(chain: Mapping[str, Any]) -> Opinion:
    got, missing, extra = chain["contracts"], chain["missing"], chain["not_listed"]
    text = (
        f"{got:,} of {chain['listed']:,} listed contracts of {chain['underlying']} in {chain['expirations']} expirations, "
        f"{missing} missing, {extra} not listed; {chain['with_quote']:,} quoted, {chain['with_greeks']:,} with greeks."
    )
    if not got or missing or extra:
        return "fail", text
    return ("pass" if chain["with_quote"] >= 0.9 * got else "warn"), text


def _indices_whole(rows: Rows) -> Opinion:
    missing = [row["symbol"] for row in rows if row["value"] is None or row["error"]]
    if missing or not rows:
        return "fail", f"No value for {', '.join(missing) or 'any index'}."
    return "pass", f"{len(rows)} of {len(rows)} indices have a value."


def _same_indicators(rows: Rows) -> Opinion:
    if not rows:
        return "fail", "Nothing was compared."
    off = [row["indicator"] for row in rows if not row["agrees"]]
    worst = max(row["difference"] for row in rows)
    if off:
        return "fail", f"Ours and the server's differ for {', '.join(off)} (by up to {worst:.2g} of the value)."
    n = sum(row["n"] for row in rows)
    return "pass", f"{_n(n, 'value')} of {len(rows)} indicators agree with the server's, to {worst:.1g} of the value."


def _labelled(regime: Mapping[str, Any]) -> Opinion:
    days, labelled = regime["days"], regime["labelled"]
    text = f"{labelled:,} of {days:,} days have a label; {len(regime['reasons'])} reasons are given for the last."
    return ("pass" if labelled and regime["reasons"] else "fail"), text


def _nothing_left(left: Sequence[str]) -> Opinion:
    return (
        "fail" if left else "pass"
    ), f"Left behind: {', '.join(left)}." if left else "No thread, task or socket is left."


def _memory(growth_bytes: int) -> Opinion:
    return (
        ("pass" if growth_bytes <= _MEMORY_BYTES else "warn"),
        f"Streaming left {_signed(growth_bytes / 2**20)} MiB of resident memory; the bound is {_MEMORY_BYTES // 2**20} MiB.",
    )


def _sound_environment(findings: Rows) -> Opinion:
    bad = [row for row in findings if row["verdict"] != "pass"]
    if not bad:
        return "pass", f"{_n(len(findings), 'check')} passed."
    fails = any(row["verdict"] == "fail" for row in bad)
    return ("fail" if fails else "warn"), "; ".join(f"{row['what']}: {row['found']}" for row in bad) + "."


_SUBSCRIBED = ("/sections/subscriptions/totals",)
_FELL = ("/sections/fallback/clusters",)
_COMPARED = ("/sections/indicators/compared",)

RULES: tuple[Rule, ...] = (
    Rule("rest.errors", "Every REST call is answered", 0.75, True, ("/sections/rest/totals",), _no_rest_errors),
    Rule("rest.loads", "Every load is complete", 0.5, True, ("/sections/rest/loaders",), _no_failed_loads),
    Rule("reconciliation.counts", "Our counts equal the server's", 1.5, True, ("/sections/reconciliation/lines",), _same_counts),
    Rule("subscriptions.shared", "One upstream subscription however many ask", 1.0, True, _SUBSCRIBED, _one_upstream),
    Rule("subscriptions.confirmed", "Every topic is confirmed", 0.5, True, _SUBSCRIBED, _confirmed),
    Rule("subscriptions.whole", "No message is lost", 0.5, True, _SUBSCRIBED, _nothing_lost),
    Rule("polling.predicted", "Calls are as predicted", 0.5, False, ("/sections/polling/rows",), _as_predicted),
    Rule("polling.limit", "Polling stays within the limit", 0.25, True, ("/sections/polling/totals",), _under_limit),
    Rule("polling.quiet", "No polling beside a live socket", 0.25, False, ("/sections/polling/polls_while_live",), _quiet_socket),
    Rule("fallback.time", "Polling takes over at once", 1.0, True, _FELL, _fell_back),
    Rule("fallback.recovery", "The socket comes back and polling stops", 0.5, True, _FELL, _came_back),
    Rule("fallback.gaps", "An outage is announced as a gap", 0.25, False, _FELL, _gap_told),
    Rule("coverage.options", "The option chain is whole", 0.5, False, ("/sections/coverage/chain",), _chain_whole),
    Rule("coverage.indices", "Every index has a value", 0.25, False, ("/sections/coverage/indices",), _indices_whole),
    Rule("indicators.agree", "Indicators agree with the server's", 0.5, False, _COMPARED, _same_indicators),
    Rule("regime.labelled", "The regime is known, with reasons", 0.25, False, ("/sections/regime",), _labelled),
    Rule("cleanup.left", "Closing leaves nothing behind", 0.75, True, ("/sections/cleanup/left_over",), _nothing_left),
    Rule("environment.sound", "The environment is sound", 0.25, False, ("/sections/environment/findings",), _sound_environment),
)  # fmt: skip
"""What the score stands on. The weights add up to ten."""

TIMED: tuple[Rule, ...] = (
    Rule("rest.latency", "Answers come in time", 0.0, False, ("/timings/rest/overall",), _latency),
    Rule("cleanup.memory", "Memory is given back", 0.0, False, ("/timings/memory_growth_bytes",), _memory),
)
"""Judged and shown, but without points: a score that depends on how busy the machine is cannot be compared."""
