"""REST answered from a recording: the same requests get the same answers, at the same times, and nothing is sent."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

from massive_lab.clock import Clock
from massive_lab.config import Settings
from massive_lab.errors import MassiveLabError
from massive_lab.telemetry import Telemetry
from massive_lab.transports.http import Answer, HttpTransport

__all__ = ["Recorded", "ReplayTransport"]

_LATE_S = 1.0


@dataclass(slots=True, eq=False)
class Recorded:
    """A request that was made, and what became of it once that is known."""

    target: str
    ended_s: float
    """When the answer came, on the clock of the replay."""
    outcome: Answer | MassiveLabError | None = None
    is_taken: bool = False
    waiter: asyncio.Future[None] | None = field(default=None, repr=False)

    def end(self, outcome: Answer | MassiveLabError) -> None:
        """The moment of the answer has come."""
        self.outcome = outcome
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


class ReplayTransport(HttpTransport):
    """Stands where `massive_lab.transports.http.HttpTransport` stood.

    A request is given the next recorded answer to the same target that has not been given yet; failing that, to the same
    path. It waits until the time of that answer. A request that was never made then waits until it is cancelled.

    Attributes
    ----------
    n_unknown : int
        Requests that nothing was recorded for.
    """

    def __init__(self, settings: Settings, telemetry: Telemetry, clock: Clock) -> None:
        super().__init__(settings, telemetry, clock)
        self.n_unknown = 0
        self._time = clock
        self._by_target: defaultdict[str, deque[Recorded]] = defaultdict(deque)
        self._by_path: defaultdict[str, deque[Recorded]] = defaultdict(deque)

    def expect(self, recorded: Recorded) -> None:
        """A request will be made; to be told in the order in which they were."""
        self._by_target[recorded.target].append(recorded)
        self._by_path[recorded.target.partition("?")[0]].append(recorded)

    async def get(
        self, target: str, *, params: Mapping[str, str] | None = None, cause: str, budget: str = "stocks"  # noqa: ARG002
    ) -> Answer:
        """As recorded; `cause` and `budget` do not matter.

        Raises
        ------
        MassiveLabError
            Where the recorded request failed.
        """
        if params:
            target = f"{target}{'&' if '?' in target else '?'}{urlencode(params)}"
        recorded = self._take(target)
        loop = asyncio.get_running_loop()
        if recorded is None:
            self.n_unknown += 1
            await loop.create_future()
            raise AssertionError("nobody ends this")
        if recorded.outcome is None:
            recorded.waiter = loop.create_future()
            try:
                await recorded.waiter
            except asyncio.CancelledError:
                if recorded.outcome is None:
                    recorded.is_taken = False  # for whoever asks next
                raise
        outcome, recorded.outcome = recorded.outcome, None
        if isinstance(outcome, MassiveLabError):
            raise outcome
        assert outcome is not None
        return outcome

    async def aclose(self) -> None:
        """Nothing is open."""

    def _take(self, target: str) -> Recorded | None:
        now = self._time.monotonic()
        for candidates in (self._by_target.get(target), self._by_path.get(target.partition("?")[0])):
            if candidates is None:
                continue
            while candidates and (candidates[0].ended_s < now - _LATE_S):
                candidates.popleft().outcome = None
            for recorded in candidates:
                if not recorded.is_taken:
                    recorded.is_taken = True
                    return recorded
        return None
