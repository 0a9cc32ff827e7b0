"""Rolling tables: the last events of one kind, bounded, cheap to read as Polars at any time and from any thread.

New events wait as objects until there are a few hundred, then as packed numbers until there are a few thousand, which
become typed columns. Reading converts what waits and joins the pieces, so the cost of an event is paid once, and a read of
100,000 rows takes a few milliseconds.

What REST brings after a gap is older than what is there. A table that has had such a late row sorts itself when it is
next read, and only then; one that never had any costs nothing for it.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from massive_lab.decode.stream import Event
from massive_lab.errors import InvalidRequest
from massive_lab.frames.build import to_schema
from massive_lab.live.read.columns import BATCH, TABLES, Columns, to_frame
from massive_lab.live.topics import Kind

__all__ = ["RollingTable"]

# Large enough that the fixed cost of a frame does not count.
_PIECE = 16_384
_MANY_PIECES = 256
_TIMES: dict[Kind, str] = {"trades": "ts_sip", "quotes": "ts_sip", "values": "ts_event", "bars": "ts_event"}


@dataclass(frozen=True, slots=True)
class _Piece:
    frame: pl.DataFrame
    oldest_ns: int
    """No row is older."""


class RollingTable:
    """The newest rows of one kind.

    Parameters
    ----------
    kind : {"trades", "quotes", "bars", "values"}
    max_rows : int
        Rows kept; older ones leave first.
    keep_s : float, optional
        Rows of which the event time lies more than this before the newest that ever came leave too.

    Attributes
    ----------
    inbox : list
        Appended to by the loop thread alone; what is in it counts as taken.

    Examples
    --------
    >>> from massive_lab.decode.stream import IndexValue
    >>> table = RollingTable("values", max_rows=2)
    >>> table.inbox.extend(IndexValue("I:VIX", ms, float(ms)) for ms in (1, 2, 3)); table.flush()
    0
    >>> table.frame()["value"].to_list(), table.last["I:VIX"].value, table.n_seen
    ([2.0, 3.0], 3.0, 3)
    """

    def __init__(self, kind: Kind, *, max_rows: int = 200_000, keep_s: float | None = None) -> None:
        if max_rows < 1:
            raise InvalidRequest(f"A table of {max_rows} rows holds nothing.", hint="Give 1 or more.")
        if keep_s is not None and not keep_s > 0:
            raise InvalidRequest(f"keep_s is {keep_s}.", hint="Give a number of seconds above 0, or None.")
        self.kind: Kind = kind
        self.inbox: list[Event] = []
        self._time = _TIMES[kind]
        self._max_rows = max_rows
        self._keep_ns = None if keep_s is None else round(keep_s * 1e9)
        self._last: dict[str, Event] = {}
        self._newest_ms = -1  # of all symbols
        self._n_packed = 0
        self._columns = Columns(kind)
        self._empty = to_schema(TABLES[kind]).to_frame()
        self._pieces: list[_Piece] = []
        self._is_settled = True
        self._n_rows = 0
        self._reading = threading.Lock()

    def flush(self) -> int:
        """Pack the inbox once it is worth it; a rolling table drops nothing but its oldest rows, so this returns 0."""
        # A reader that is converting right now will take these too, or the next flush does.
        if len(self.inbox) >= BATCH and self._reading.acquire(blocking=False):
            try:
                self._pack()
                if self._columns.n_rows >= _PIECE:
                    self._convert()
            finally:
                self._reading.release()
        return 0

    @property
    def n_seen(self) -> int:
        """Rows ever taken, those that have left included."""
        with self._reading:
            return self._n_packed + len(self.inbox)

    @property
    def last(self) -> Mapping[str, Event]:
        """Newest event of each symbol by event time, as of now.

        Of two at one millisecond it is the later one, but that of the stream before that of a poll.
        """
        with self._reading:
            self._pack()
            return self._last.copy()

    def frame(self, symbols: str | Collection[str] | None = None) -> pl.DataFrame:
        """The rows as they stand.

        Parameters
        ----------
        symbols : str or collection of str, optional
            Only of these.

        Returns
        -------
        polars.DataFrame
            The ``live_trades``, ``live_quotes``, ``live_values`` or ``live_bars`` table. Ticks in order of arrival, or,
            once a late row has come, those there were then in the order of the exchange: by millisecond, sequence and time.
            Bars by symbol and start, each once: a bar sent again replaces the one before, and none from REST replaces one
            of the stream.
        """
        with self._reading:
            self._pack()
            self._convert()
            if not self._is_settled:
                self._settle()
            self._trim()
            if len(self._pieces) > _MANY_PIECES:
                self._keep(self._joined())
            whole = self._joined()
        if symbols is None:
            return whole
        return whole.filter(pl.col("symbol").is_in([symbols] if isinstance(symbols, str) else list(symbols)))

    def last_frame(self, symbols: Collection[str] | None = None, now_ns: int | None = None) -> pl.DataFrame:
        """One row per symbol: its newest event.

        Parameters
        ----------
        symbols : collection of str, optional
        now_ns : int, optional
            UTC ns; given, the columns ``staleness_s`` and ``age_s`` are added.
        """
        newest = [event for symbol, event in self.last.items() if symbols is None or symbol in symbols]
        frame = to_frame(self.kind, newest)
        if now_ns is None:
            return frame
        since = pl.col("ts_close" if self.kind == "bars" else self._time).to_physical()
        return frame.with_columns(
            staleness_s=(pl.col("ts_recv").to_physical() - since) / 1e9, age_s=(pl.lit(now_ns, pl.Int64) - since) / 1e9
        )

    # ---- under the reading lock

    def _pack(self) -> None:
        # Each of the two steps is one operation on the list, so what the loop thread appends meanwhile is not touched.
        batch = self.inbox[:]
        del self.inbox[: len(batch)]
        if not batch:
            return
        symbols = [event.symbol for event in batch]
        times = [event.ms for event in batch]
        is_streamed = [event.source for event in batch].count("stream") == len(batch)
        if is_streamed and times[0] >= self._newest_ms and times == sorted(times):
            self._last.update(zip(symbols, batch, strict=True))
        else:
            self._compare(batch)
        self._newest_ms = max(self._newest_ms, *times)
        self._columns.add(batch, symbols, streamed=is_streamed)
        self._n_packed += len(batch)

    def _compare(self, batch: list[Event]) -> None:
        last = self._last
        for event in batch:
            before = last.get(event.symbol)
            if before is None or event.ms > before.ms:
                last[event.symbol] = event
            elif event.ms < before.ms:
                self._is_settled = False
            elif event.source == "stream" or before.source != "stream":
                last[event.symbol] = event

    def _convert(self) -> None:
        if not self._columns.n_rows:
            return
        if self.kind == "bars":
            self._is_settled = False
        self._append(self._columns.take())
        # Late rows stand at the wrong end, and bars replace each other, so which rows leave is known only once the table is
        # settled; doubling before that keeps the cost of a row constant.
        if self._is_settled:
            self._trim()
        elif self._n_rows > 2 * self._max_rows:
            self._settle()
            self._trim()

    def _append(self, frame: pl.DataFrame) -> None:
        oldest_ns: Any = frame[self._time].to_physical().min()
        self._pieces.append(_Piece(frame, oldest_ns))
        self._n_rows += frame.height

    def _trim(self) -> None:
        if self._keep_ns is not None:
            cutoff = self._newest_ms * 1_000_000 - self._keep_ns
            if any(piece.oldest_ns < cutoff for piece in self._pieces):
                self._pieces = [young for piece in self._pieces if (young := self._young(piece, cutoff)).frame.height]
                self._n_rows = sum(piece.frame.height for piece in self._pieces)
        while (surplus := self._n_rows - self._max_rows) > 0:
            oldest = self._pieces[0]
            n_out = min(surplus, oldest.frame.height)
            self._n_rows -= n_out
            if n_out == oldest.frame.height:
                del self._pieces[0]
            else:
                self._pieces[0] = _Piece(oldest.frame.slice(n_out), oldest.oldest_ns)

    def _young(self, piece: _Piece, cutoff_ns: int) -> _Piece:
        if piece.oldest_ns >= cutoff_ns:
            return piece
        rows = piece.frame.filter(pl.col(self._time).to_physical() >= cutoff_ns)
        return _Piece(rows, cutoff_ns)

    def _joined(self) -> pl.DataFrame:
        frames = [piece.frame for piece in self._pieces]
        return pl.concat(frames) if len(frames) > 1 else frames[0] if frames else self._empty

    def _keep(self, whole: pl.DataFrame) -> None:
        self._pieces, self._n_rows = [], 0
        if whole.height:
            self._append(whole.rechunk())

    def _settle(self) -> None:
        """Bring the rows into their order, oldest first for ticks; the oldest bars too many leave."""
        whole = self._joined()
        self._is_settled = True
        if self.kind == "bars":
            self._keep(self._settled_bars(whole))
            return
        time = pl.col(self._time).to_physical()
        keys = [time] if self.kind == "values" else [time // 1_000_000, pl.col("sequence"), time]
        self._keep(whole.sort(keys, nulls_last=True, maintain_order=True))

    def _settled_bars(self, frame: pl.DataFrame) -> pl.DataFrame:
        # Of each bar the last is kept, so the stream's go last.
        by = ["symbol", "ts_event", *([pl.col("source") == "stream"] if frame["source"].n_unique() > 1 else [])]
        ordered = frame.sort(by, maintain_order=True)
        newest = ordered.filter(
            pl.col("symbol").ne_missing(pl.col("symbol").shift(-1))
            | pl.col("ts_event").ne_missing(pl.col("ts_event").shift(-1))
        )
        surplus = newest.height - self._max_rows
        return newest[newest["ts_event"].arg_sort()[surplus:].sort()] if surplus > 0 else newest
