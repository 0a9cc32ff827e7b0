"""``lab.live``: everything live of one client, whoever in the process opened it."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from massive_lab.errors import ClosedError
from massive_lab.live import registry
from massive_lab.live.session import Live
from massive_lab.live.views import STATUS_COLUMNS, TOPIC_COLUMNS, gap_frame
from massive_lab.loaders.snapshots import SnapshotPoller
from massive_lab.schema.symbols import parse_many
from massive_lab.typing import Symbols

if TYPE_CHECKING:
    from massive_lab.lab.core import Core
    from massive_lab.loaders.session import Session
    from massive_lab.transports.runner import Runner

__all__ = ["LiveAccess"]

# A feed needs the client it came from, also when nothing else holds it: `for trade in ml.connect(...).live(...).trades()`.
_owners: weakref.WeakKeyDictionary[Live, Core] = weakref.WeakKeyDictionary()


class LiveAccess:
    """Open live feeds by calling it; its methods tell about all feeds of this client's key in this process.

    Examples
    --------
    >>> lab.live.status().height
    0
    """

    def __init__(self, lab: Core, runner: Runner, session: Session, lives: weakref.WeakSet[Live]) -> None:
        self._lab = lab
        self._runner = runner
        self._session = session
        self._lives = lives

    def __call__(self, symbols: Symbols, channels: Sequence[str] | None = None) -> Live:
        """Live data of some symbols, at once: the socket is opened in the background.

        However often the same thing is asked for, by whomever in this process, the server sees one subscription.

        Parameters
        ----------
        symbols : str or sequence of str
        channels : sequence of str, optional
            Wire names such as ``"T"``, ``"Q"``, ``"A"``, ``"AM"``, ``"V"``; trades, quotes and minute bars when left
            out, values and minute bars for indices.

        Returns
        -------
        massive_lab.live.session.Live
        """
        lab = self._lab
        wanted = parse_many(symbols)
        if not lab.closed:
            poller = SnapshotPoller(self._session)
            live = Live(lab.settings, self._runner, lab.telemetry, lab.clock, poller, wanted, channels)
            self._lives.add(live)
            _owners[live] = lab
            if not lab.closed:
                return live
            live.close()  # the client was closed meanwhile, and may not have seen it
        raise ClosedError("The client is closed.", hint="Connect again.")

    def status(self) -> pl.DataFrame:
        """One row per cluster with an open feed; columns as `massive_lab.live.session.Live.status`."""
        return self._runner.call(self._status())

    def topics(self) -> pl.DataFrame:
        """One row per topic; columns as `massive_lab.live.session.Live.topics`."""
        return self._runner.call(self._topics())

    def gaps(self) -> pl.DataFrame:
        """Spans in which nothing was received; columns as `massive_lab.live.session.Live.gaps`."""
        return self._runner.call(self._gaps())

    async def _status(self) -> pl.DataFrame:
        hubs = registry.hubs(self._lab.settings)
        return pl.DataFrame([hub.status() for hub in hubs], schema=STATUS_COLUMNS, orient="row")

    async def _topics(self) -> pl.DataFrame:
        hubs = registry.hubs(self._lab.settings)
        return pl.concat([pl.DataFrame(schema=TOPIC_COLUMNS), *(hub.topics() for hub in hubs)])

    async def _gaps(self) -> pl.DataFrame:
        return gap_frame(gap for hub in registry.hubs(self._lab.settings) for gap in hub.gaps.rows())

    def __repr__(self) -> str:
        label = "SANDBOX " if self._lab.settings.sandbox else ""
        return f"<{label}live feeds of {self._lab.settings.ws_url}>"
