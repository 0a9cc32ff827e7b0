"""The phases of an audit, as the notebook calls them.

On the sandbox, time is moved by hand: the sandbox's clock and the client's clock take the same steps, and each step ends
when both sides have counted the same. So counts, rates and delays are facts of the scenario and not of the machine.
Against any other server time passes by itself, nothing is dropped on purpose, and what cannot be known is not measured.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import polars as pl

from massive_lab.audit import measure, sections
from massive_lab.audit.cleanup import Held, held, left_over
from massive_lab.audit.environment import describe, examine
from massive_lab.audit.export import DENSITY, ENDPOINTS, MIME
from massive_lab.audit.load import LoadPlan, LoadRow, compare, predict
from massive_lab.audit.reconcile import Line, Served, reconcile
from massive_lab.audit.recorder import Recorder, Recording
from massive_lab.audit.report import fragment
from massive_lab.audit.rules import RULES, TIMED
from massive_lab.audit.stage import StageClock
from massive_lab.errors import ClosedError, Timeout
from massive_lab.lab.core import connect
from massive_lab.live.policy import Policy
from massive_lab.schema.session import sessions as trading_sessions
from massive_lab.schema.session import trading_date
from massive_lab.schema.symbols import parse_many
from massive_lab.telemetry import PollPlanned
from massive_lab.transports.runner import Runner

if TYPE_CHECKING:
    from massive_lab.lab.sync import Lab
    from massive_lab.live.read.reader import Reader
    from massive_lab.live.session import Live
    from massive_lab.regime.label import Regime
    from massive_lab.sandbox.client import SandboxControl
    from massive_lab.sandbox.process import SandboxProcess

__all__ = ["Audit", "begin"]

_STEP_S = 1.0
_HISTORY_DAYS = 2 * 365
_PATIENCE_S = 60.0
_NUDGES = 6
_GRACE_S = Policy().grace_s
_ASKED_OF = {"T": "trades", "Q": "quotes", "A": "aggs_range", "AM": "aggs_range"}


def begin(
    target: str,
    watchlist: Sequence[str],
    *,
    duration_s: float = 20.0,
    seed: int = 7,
    plan: str | None = None,
    start: str | None = None,
    end: str | None = None,
) -> Audit:
    """Connect, and start to listen.

    Parameters
    ----------
    target : str
        ``sandbox``; anything else is the server that the settings name.
    watchlist : sequence of str
        Symbols of any class.
    duration_s : float
        Seconds of streaming, and of the drill, on the clock of the feed.
    seed : int
        Of the sandbox and of the jitter of reconnects.
    plan : str, optional
        Plan of the key.
    start, end : str, optional
        New York dates of the history, ``[start, end)``; default two years up to the server's date, which is left out.

    Raises
    ------
    InvalidRequest, UnknownSymbol
        When the watchlist cannot be used.
    ConfigError
        When there is no key and the target is not the sandbox.
    """
    return Audit(target, watchlist, duration_s=duration_s, seed=seed, plan=plan, start=start, end=end)


class Audit:
    """An audit under way. Made by `begin`; each method measures one thing and keeps it for `finish`.

    Attributes
    ----------
    lab : Lab
        The client that is measured.
    symbols, stocks, indices : list of str
        The watchlist, and its parts.
    start, end : datetime.date
        The history to load, ``[start, end)``.
    last_session : datetime.date
        The last trading date before `end`.
    today : datetime.date
        The New York date of the server's clock.
    """

    def __init__(
        self,
        target: str,
        watchlist: Sequence[str],
        *,
        duration_s: float,
        seed: int,
        plan: str | None,
        start: str | None,
        end: str | None,
    ) -> None:
        parsed = parse_many(list(watchlist))
        self.symbols = [symbol.text for symbol in parsed]
        self.stocks = [symbol.text for symbol in parsed if symbol.asset_class == "stocks"]
        self.indices = [symbol.text for symbol in parsed if symbol.asset_class == "indices"]
        self.streamed = list(self.symbols)
        self.recorder = Recorder()
        self._duration_s = duration_s
        self._clock = StageClock()
        self._predicted: dict[tuple[str, str], float] = {}
        self._windows: dict[str, float] = {}
        self._naive: dict[tuple[str, str], float] = {}
        self._expected: dict[str, int] = {}
        self._counted: dict[str, PollPlanned] = {}
        self._draft = sections.Draft(target, target == "sandbox", seed, tuple(self.symbols), duration_s)
        self._held: dict[str, Held] = {"before": held(tasks=lambda: 0)}  # there is no loop yet
        self.lab, self._control = self._connect(target, seed, plan)
        self._ports = [port for url in (self.lab.settings.rest_url, self.lab.settings.ws_url) if (port := _port(url))]
        self._tasks = _task_counter()
        self.lab.telemetry.add(self.recorder)
        if self._control is not None:
            self._control.reset_counts()
        else:
            self._draft.seed = None
        with self.phase("connect", market_status=1):
            status = self.lab.market_status()
        self._now_ns = int(status["ts_server"].dt.epoch("ns")[0])
        self.today = trading_date(self._now_ns)
        self.start = dt.date.fromisoformat(start) if start else self.today - dt.timedelta(days=_HISTORY_DAYS)
        self.end = dt.date.fromisoformat(end) if end else self.today
        self.last_session = trading_sessions(self.end - dt.timedelta(days=14), self.end)[-1]
        self._draft.environment = {
            "facts": describe(),
            "findings": [asdict(finding) for finding in examine(needs_key=target != "sandbox")],
        }

    def _connect(self, target: str, seed: int, plan: str | None) -> tuple[Lab[pl.DataFrame], SandboxControl | None]:
        self._sandbox: SandboxProcess | None = None
        if target != "sandbox":
            return connect(plan=plan, progress=False), None
        from massive_lab.sandbox.client import SandboxControl
        from massive_lab.sandbox.process import SandboxProcess

        urls = json.loads(os.environ.get(ENDPOINTS, "null"))
        if not urls:
            self._sandbox = SandboxProcess(seed=seed, paused=True, density=DENSITY)
        lab = connect(
            "sandbox",
            sandbox=urls or self._sandbox,
            plan=plan,
            progress=False,
            clock=self._clock,
            backoff_seed=seed,
            timeout_s=60.0,
        )
        return lab, SandboxControl(str(lab.settings.control_url))

    # ---- phases

    @contextmanager
    def phase(self, name: str, **predicted: float) -> Iterator[None]:
        """Attribute the calls made inside to a phase; `predicted` says how many each endpoint should get."""
        if name == "live":
            self._loaded()
        self.predict(name, **predicted)
        with self.recorder.phase(name):
            yield

    def _loaded(self) -> None:
        """Latencies belong to the loads: from here on the client's clock is moved by hand."""
        self._held["loaded"] = held(ports=self._ports, tasks=self._tasks)
        self._draft.timings["rest"] = self.recorder.read(sections.rest_timings)
        if self._control is not None:
            self._clock.stop(self._now_ns)

    def predict(self, phase: str, **predicted: float) -> None:
        """Add to the prediction of a phase."""
        for endpoint, calls in predicted.items():
            key = (phase, endpoint)
            self._predicted[key] = self._predicted.get(key, 0.0) + calls

    # ---- what was loaded

    def coverage(
        self, chain: pl.DataFrame, contracts: pl.DataFrame, indices: pl.DataFrame | None = None
    ) -> pl.DataFrame:
        """Set the chain against the list of contracts, and choose two of them to stream.

        Returns
        -------
        polars.DataFrame
            How many contracts carry each kind of value.
        """
        found = measure.chain_coverage(chain, contracts, today=self.today)
        found_indices = measure.index_coverage(indices) if indices is not None else []
        self._draft.coverage = {"chain": found, "indices": found_indices}
        if not any(symbol.startswith("O:") for symbol in self.symbols):
            near = measure.near_the_money(chain, after=self.today + dt.timedelta(days=1))
            self.streamed = [*self.symbols, *near]
        counts = {name: n for name, n in found.items() if isinstance(n, int)}
        return pl.DataFrame({"of the chain": list(counts), "contracts": list(counts.values())})

    def indicators(self, frame: pl.DataFrame, columns: Sequence[str], server: dict[str, pl.DataFrame]) -> pl.DataFrame:
        """Compare computed columns of the first symbol with the server's own values of the same name."""
        symbol = self.symbols[0]
        own = frame.filter(pl.col("symbol") == symbol).sort("ts_event")
        compared = [measure.compare_indicator(own, name, values) for name, values in server.items()]
        self._draft.indicators = {
            "columns": measure.indicator_columns(own, columns),
            "compared": compared,
            "chart": measure.price_chart(own, symbol),
        }
        return pl.DataFrame(compared)

    def regime(self, regime: Regime) -> None:
        """Keep the regime for the report."""
        self._draft.regime = measure.regime_section(regime)

    # ---- live

    @property
    def plan(self) -> LoadPlan:
        """What the streamed symbols should cost."""
        return predict(self.streamed)

    def stream(self, live: Live) -> pl.DataFrame:
        """Wait until everything is confirmed, then let the feed run for the duration.

        Returns
        -------
        polars.DataFrame
            One row for each topic: readers, subscriptions sent, messages.
        """
        live.wait_live(_PATIENCE_S)
        series = self._advance(self._duration_s)
        self._held["streaming"] = held(ports=self._ports, tasks=self._tasks)
        self._draft.subscriptions = self.recorder.read(
            lambda r: sections.subscriptions_section(r, duration_s=self._duration_s, series=series)
        )
        self._windows["live"] = self._duration_s
        self._predicted.setdefault(("live", "snapshot"), 0.0)
        self._naive["live", "snapshot"] = self.plan.naive_per_minute * self._duration_s / 60
        self._draft.polling = {"polls_while_live": self.recorder.read(lambda r: sum(r.polls.values()))}
        shown = ("cluster", "topic", "readers", "subscribes", "messages", "messages_per_second")
        return pl.DataFrame(self._draft.subscriptions["topics"]).select(shown)

    def drain(self, reader: Reader[Any]) -> int:
        """Read what waits in a reader, event by event, and say how many there were."""
        n = 0
        while True:
            try:
                reader.get(timeout=0.0)
            except (Timeout, ClosedError):
                return n
            n += 1

    def drop(self) -> pl.DataFrame | None:
        """Cut every socket and keep it down for the duration; REST must stand in at once.

        Returns
        -------
        polars.DataFrame or None
            Polls of each socket's symbols. None, and nothing is dropped, where there is no sandbox.
        """
        if self._control is None:
            return None
        clusters = [load.cluster for load in self.plan.clusters]
        self._origin_s = self._clock.monotonic()
        self._fault = self._control.add_fault("down", scope="ws", name="audit-drop")
        with self.recorder.phase("fallback"):
            self._wait(lambda r: all(r.state_of(c) not in (None, "live") for c in clusters), "every socket to be lost")
            self._until(
                lambda: all(f"massive_lab {c} feed" in self._clock.sleepers() for c in clusters), "the first attempts"
            )
            # The first poll follows from the grace; each after that is announced by the one before.
            self._expected = dict.fromkeys(clusters, 1)
            # A nanosecond more: the deadline is a sum of doubles, and may lie a rounding error behind the grace.
            self._move(_GRACE_S + 1e-9)
            self._settle(clusters)
            until_s = self._origin_s + _GRACE_S + self._duration_s
            while (left_s := until_s - self._clock.monotonic()) >= 1e-9:
                self._move(min(left_s, self._clock.next_wake_s() or left_s))
                self._settle(clusters)
        window_s = self._duration_s + _GRACE_S
        self._windows["fallback"] = window_s
        polls = {cluster: self._polls(cluster) for cluster in clusters}
        expected = [self._expected[cluster] for cluster in clusters]
        self.predict("fallback", snapshot=sum(expected))
        self._naive["fallback", "snapshot"] = self.plan.naive_per_minute * window_s / 60
        return pl.DataFrame({"cluster": clusters, "polls": list(polls.values()), "expected": expected})

    def restore(self) -> pl.DataFrame | None:
        """Let the sockets come back, and stream on for a few seconds.

        Returns
        -------
        polars.DataFrame or None
            The gap that each socket announced.
        """
        if self._control is None:
            return None
        clusters = [load.cluster for load in self.plan.clusters]
        self._control.remove_fault(self._fault)
        before = sum(self._expected.values())
        with self.recorder.phase("recovery"):
            while self.recorder.read(lambda r: any(r.state_of(c) != "live" for c in clusters)):
                # From one appointment to the next, so that an attempt and a poll never fall together.
                self._move(self._clock.next_wake_s() or _STEP_S)
                self._settle(clusters)
            back_s = self._clock.monotonic() - self._origin_s
            self._advance(5.0)
            limit_s = self._clock.monotonic() + _PATIENCE_S
            while self.recorder.read(lambda r: bool(r.open_gaps)) and self._clock.monotonic() < limit_s:
                self._advance(_STEP_S)
        for (_, channel), n in self.recorder.read(lambda r: dict(r.asked)).items():
            self.predict("backfill", **{_ASKED_OF[channel]: n})
        self._draft.fallback = self.recorder.read(
            lambda r: sections.fallback_section(
                r, dropped=clusters, origin_s=self._origin_s, until_s=self._clock.monotonic()
            )
        )
        self.predict("recovery", snapshot=sum(self._expected.values()) - before)
        self._windows["recovery"] = round(back_s - self._windows["fallback"], 6)
        return pl.DataFrame(self._draft.fallback["clusters"]).select(
            "cluster", "since_loss_s", "polls", "outage_s", "gaps", "recovered"
        )

    # ---- the end

    def close(self, *lives: Live) -> pl.DataFrame:
        """Close the sessions and the client, compare both counts, and see what is left.

        Returns
        -------
        polars.DataFrame
            Threads, tasks and sockets held before, while streaming, and after.
        """
        for live in lives:
            live.close()
        if self._clock.stopped:
            self._clock.run()
        lines = self._reconciled()
        self.lab.close()
        self._held["after"] = held(ports=self._ports, tasks=self._tasks)
        self._draft.timings["sizes"] = self.recorder.read(lambda r: sections.sizes(r, lines))
        if lines is not None:
            self._draft.reconciliation = sections.reconciliation_section(lines)
        if self._sandbox is not None:
            self._sandbox.close()
        before, after = self._held["before"], self._held["after"]
        rows = [{"moment": moment, **_numbers(x)} for moment, x in self._held.items()]
        self._draft.cleanup = {
            "left_over": left_over(before, after),
            "held": [row for row in rows if row["moment"] in ("before", "after")],
        }
        # How many idle connections are kept in between depends on how fast the loads were.
        sizes = {moment: x.memory_bytes for moment, x in self._held.items()}
        self._draft.timings["held"] = [{**row, "memory_bytes": sizes[row["moment"]]} for row in rows]
        return pl.DataFrame(rows)

    def finish(self) -> Report:
        """Judge what was measured. Shown as the last line of a cell, it is the report."""
        self._draft.rest = self.recorder.read(sections.rest_section)
        self._draft.timings.setdefault("rest", self.recorder.read(sections.rest_timings))
        rows: list[LoadRow] = self.recorder.read(
            lambda r: compare(r.calls, self._predicted, windows=self._windows, naive=self._naive)
        )
        polled = (self._draft.polling or {}).get("polls_while_live")
        self._draft.polling = sections.polling_section(rows, self.plan, polls_while_live=polled)
        self._draft.timings["memory_growth_bytes"] = self._memory_growth()
        return Report(sections.build(self._draft, RULES, TIMED))

    def _memory_growth(self) -> int | None:
        """Resident memory after closing, less that before streaming."""
        sizes = {moment: x.memory_bytes for moment, x in self._held.items()}
        after, loaded = sizes.get("after"), sizes.get("loaded")
        return None if after is None or loaded is None else after - loaded

    # ---- time, by hand

    def _advance(self, seconds: float) -> dict[str, list[int]]:
        """Let the feed run; events per second of its clock, by cluster."""
        clusters = [load.cluster for load in self.plan.clusters]
        series: dict[str, list[int]] = {cluster: [] for cluster in clusters}
        before = {cluster: self._events(cluster) for cluster in clusters}
        for _ in range(round(seconds / _STEP_S)):
            if self._control is None:
                time.sleep(_STEP_S)
            else:
                self._move(_STEP_S)
                self._caught_up()
                self._asked()
            for cluster in clusters:
                now = self._events(cluster)
                series[cluster].append(now - before[cluster])
                before[cluster] = now
        return series

    def _polls(self, cluster: str) -> int:
        return self.recorder.read(lambda r: r.polls_of(cluster))

    def _events(self, cluster: str) -> int:
        return self.recorder.read(lambda r: r.events_of(cluster))

    def _move(self, seconds: float) -> None:
        """One step of both clocks: the sandbox publishes first, then the client notices that time has passed."""
        assert self._control is not None
        self._count_due(self._clock.monotonic() + seconds)
        self._control.jump(seconds)
        if self.recorder.read(lambda r: bool(r.open_gaps)):
            # What is asked for a gap depends on what has been streamed.
            self._caught_up()
        self._clock.advance(seconds)

    def _count_due(self, until_s: float) -> None:
        """The prediction: polls that have been announced for the time up to `until_s`, which has not come yet."""
        for cluster, plan in self.recorder.read(lambda r: dict(r.planned)).items():
            # Who is woken is late by less than a nanosecond, to which the clock is rounded.
            if plan.due_at_s <= until_s + 5e-10 and self._counted.get(cluster) is not plan:
                self._counted[cluster] = plan
                self._expected[cluster] += 1

    def _caught_up(self) -> None:
        """Wait until the client has read every frame that the sandbox has sent."""
        assert self._control is not None
        sent = Served.read(self._control.counts()).frames
        self._wait(lambda r: all(r.frames[cluster] >= n for cluster, n in sent.items()), "every frame that was sent")

    def _asked(self) -> None:
        """Wait until every question for a gap that is due has its answer."""

        def answered() -> bool:
            asleep = self._clock.sleepers()
            clusters, asking = self.recorder.read(lambda r: ({c for c, _ in r.open_gaps}, sum(r.asking.values())))
            return not asking and all(_sleeps(asleep, c, "stitch") for c in clusters)

        self._until(answered, "the history of the gaps")

    def _wait(self, condition: Callable[[Recording], bool], what: str) -> None:
        for _ in range(_NUDGES):
            with suppress(Timeout):
                self.recorder.wait_for(condition, what, timeout_s=_PATIENCE_S / _NUDGES)
                return
            self._nudge()
        raise self._stuck(what)

    def _nudge(self) -> None:
        """Go on to the next appointment: a call that must be repeated sleeps on a clock that nobody else would move."""
        if self._clock.stopped and (wake_s := self._clock.next_wake_s()) is not None:
            self._move(max(0.0, wake_s))

    def _settle(self, clusters: Sequence[str]) -> None:
        """Wait until nothing is under way: each socket is live with all its topics, or sleeps before attempt and poll, with
        as many polls made as were announced.
        """
        self._wait(
            lambda r: all(r.state_of(c) == "live" or r.polls_of(c) >= self._expected[c] for c in clusters),
            "the polls that are due",
        )

        def settled() -> bool:
            asleep = self._clock.sleepers()
            waiting = [c for c in clusters if not self.recorder.read(partial(_is_back, cluster=c))]
            return all(_sleeps(asleep, c, "feed") and _sleeps(asleep, c, "polling") for c in waiting)

        self._until(settled, "every attempt and poll to end")
        self._asked()

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        for _ in range(_NUDGES):
            deadline = time.monotonic() + _PATIENCE_S / _NUDGES
            while time.monotonic() < deadline:
                if condition():
                    return
                time.sleep(0.002)
            self._nudge()
        raise self._stuck(what)

    def _stuck(self, what: str) -> Timeout:
        clusters = [load.cluster for load in self.plan.clusters]
        standing = [f"{c} is {self.recorder.read(partial(_standing, cluster=c))}" for c in clusters]
        retries = self.recorder.read(lambda r: sum(tally.retries for tally in r.endpoints.values()))
        return Timeout(
            f"Waited {_PATIENCE_S:g} s for {what}, which did not happen. At {self._clock.monotonic():g} s of the client's "
            f"clock {', '.join(standing)}; {retries} REST retries; asleep: {', '.join(self._clock.sleepers()) or 'nobody'}."
        )

    def _reconciled(self) -> list[Line] | None:
        """Both counts; the server's may lag by what it has not read yet, so it is asked until they agree, or time is up."""
        control = self._control
        if control is None:
            return None
        deadline = time.monotonic() + 5
        while True:
            lines = self.recorder.read(lambda r: reconcile(r, Served.read(control.counts())))
            if all(line.equal for line in lines) or time.monotonic() > deadline:
                return lines
            time.sleep(0.02)


class Report:
    """The finished audit: a report to look at, and a document to keep.

    Attributes
    ----------
    document : dict
        As ``docs/audit-schema.json`` describes it.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        return {MIME: self.document, "text/html": fragment(self.document), "text/plain": repr(self)}

    def __repr__(self) -> str:
        score = self.document["score"]
        label = "SANDBOX " if self.document["synthetic"] else ""
        return f"{label}audit: {score['value']:g} of 10 ({score['not_measured']:g} not measured), {self.document['verdict']}"


def _numbers(x: Held) -> dict[str, Any]:
    return {"threads": len(x.threads), "tasks": x.tasks, "sockets": x.sockets}


def _task_counter() -> Callable[[], int]:
    """Counts the unfinished tasks of the library's loop; 0 once the loop is closed."""
    loop = Runner.shared().loop
    return lambda: 0 if loop.is_closed() else len([task for task in asyncio.all_tasks(loop) if not task.done()])


def _sleeps(asleep: Sequence[str], cluster: str, part: str) -> bool:
    return any(name.startswith(f"massive_lab {cluster} {part}") for name in asleep)


def _standing(r: Recording, cluster: str) -> str:
    return f"{r.state_of(cluster)} with {r.polls_of(cluster)} polls"


def _is_back(r: Recording, cluster: str) -> bool:
    """Live, with each topic asked for and confirmed once on every connection there was."""
    n = 1 + sum(event.cluster == cluster for event in r.reconnects)
    topics = [tally for (name, _), tally in r.topics.items() if name == cluster]
    return r.state_of(cluster) == "live" and all(tally.subscribes == tally.confirmed == n for tally in topics)


def _port(url: str) -> int | None:
    parts = urlsplit(url)
    return parts.port or {"http": 80, "https": 443, "ws": 80, "wss": 443}.get(parts.scheme)
