"""A search for look-ahead: does a value of the past change when only the future does?

A function of bars is causal when its value at a row is the same whatever comes later. `prove_no_lookahead` runs it on the
frame, on prefixes of it and on the same past with other futures (`massive_lab.frames.futures`), and compares the past row by
row. One value that changes proves a leak. No change proves nothing beyond the cuts that were tried, which is why the cuts are
chosen where leaks hide and the report says how many there were.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from massive_lab.errors import FrameInvariantError, InvalidRequest
from massive_lab.frames.check import to_polars
from massive_lab.frames.futures import FUTURES, alternative, choose_cuts, instants
from massive_lab.frames.lookahead_compare import LEFT, OTHER, RIGHT, pair, screen, text
from massive_lab.frames.lookahead_report import LookaheadReport

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LookaheadReport", "prove_no_lookahead"]

_ROW = "(row)"
_SYMBOL, _TIME, _NTH, _KNOWN, _AT = "\0symbol", "\0time", "\0nth", "\0known", "\0at"


def prove_no_lookahead(
    fn: Callable[[Any], Any],
    bars: pl.DataFrame | pl.LazyFrame | pd.DataFrame,
    *,
    n_prefixes: int | None = 25,
    seed: int = 0,
    columns: Sequence[str] | None = None,
    tolerance: float = 1e-12,
) -> LookaheadReport:
    """Search for values of the past that change when only the future does.

    Parameters
    ----------
    fn : callable
        Takes a frame of the kind of `bars` and returns a frame (of any kind) with the time column, and `symbol` if the
        rows belong to symbols; rows are matched by these keys, so their order and number are free. It must give the same
        result for the same frame.
    bars : polars.DataFrame, polars.LazyFrame or pandas.DataFrame
        Rows with `ts_event` (or `date`), usually `symbol` and `ts_close`. A row is known at its `ts_close`; without that
        column, at its time. Any order, any number of symbols. In pandas keys may be named index levels.
    n_prefixes : int or None
        Cuts to try; None tries every time there is, which finds every leak that depends on a rare row.
    seed : int
        Of the cuts and the made-up futures: the same seed gives the same report.
    columns : sequence of str, optional
        Columns of the result to judge; all by default.
    tolerance : float
        Floats may differ by this share of the larger one, or of the column's median size, before it counts. The default
        forgives the last bits only: sums in other block sizes, Fourier transforms and parallel groups round differently
        when the frame has another length although nothing looks ahead. Such differences are counted as `n_rounding`. With
        0 every bit counts. Everything but floats is compared exactly; null and NaN are the same.

    Returns
    -------
    LookaheadReport

    Raises
    ------
    FrameInvariantError
        A time column is missing or holds nulls (rule ``columns`` or ``null``).
    InvalidRequest
        Fewer than two times, a wrong argument, `fn` returns no frame, or not the columns asked for.
    Exception
        What `fn` raises on the whole frame. Errors on other frames, such as too short a prefix, are in the report.

    Notes
    -----
    A row of the result may use all rows of the input, of any symbol, that are known by its own time: its `ts_close` if
    the result has one, else that of the input row with its key, else its time. Coarser bars labelled at their start and
    without `ts_close` therefore leak, as they do in a backtest.

    Examples
    --------
    >>> import datetime as dt
    >>> bars = pl.DataFrame({
    ...     "ts_event": [dt.datetime(2025, 6, 2, 14) + dt.timedelta(minutes=i) for i in range(60)],
    ...     "close": [100.0 + (7 * i) % 11 for i in range(60)],
    ... })
    >>> prove_no_lookahead(lambda b: b.with_columns(x=pl.col("close").rolling_mean(5)), bars).ok
    True
    >>> report = prove_no_lookahead(lambda b: b.with_columns(x=pl.col("close").shift(-1)), bars)
    >>> report.verdict, report.columns.filter(pl.col("n_leaks") > 0)["column"].to_list()
    ('leaking', ['x'])
    """
    return _Search(fn, bars, n_prefixes, seed, columns, tolerance).run()


@dataclass(slots=True)
class _Tally:
    """What is known about one column of the result."""

    n_values: int = 0
    n_rounding: int = 0
    noisy: bool = False
    bars_back: int = 0
    seen: set[tuple[Any, ...]] = field(default_factory=set)
    leaks: list[pl.DataFrame] = field(default_factory=list)


class _Search:
    def __init__(
        self,
        fn: Callable[[Any], Any],
        bars: Any,
        n_prefixes: int | None,
        seed: int,
        columns: Sequence[str] | None,
        tolerance: float,
    ) -> None:
        number: Any = n_prefixes
        if number is not None and (not isinstance(number, int) or number < 1):
            raise InvalidRequest(f"n_prefixes is {n_prefixes!r}.", hint="Give a whole number above 0, or None for all.")
        if not 0 <= tolerance < 1:
            raise InvalidRequest(f"tolerance is {tolerance!r}.", hint="Give a share from 0 to below 1, such as 1e-12.")
        if isinstance(columns, str):
            raise InvalidRequest(f"columns is one text, {columns!r}.", hint=f"Pass a list: [{columns!r}].")
        self.fn, self.bars, self.seed, self.tolerance = fn, bars, seed, tolerance
        self.wanted = None if columns is None else list(columns)
        self.data = to_polars(bars)
        if isinstance(bars, pl.LazyFrame):
            self.bars = self.data.lazy()
        self.time = next((name for name in ("ts_event", "date") if name in self.data.columns), "")
        if not self.time:
            raise FrameInvariantError("The bars have no ts_event and no date.", rule="columns", hint="Name one so.")
        times = instants(self.data[self.time])
        if times.null_count():
            raise FrameInvariantError(f"{self.time} holds nulls.", rule="null", hint="Drop those rows.")
        closes = instants(self.data["ts_close"]) if "ts_close" in self.data.columns else times
        self.known = closes.fill_null(times).to_numpy()
        self.moments = np.unique(self.known)
        if len(self.moments) < 2:
            raise InvalidRequest("There are fewer than two times to cut between.", hint="Give more bars.")
        self.cuts = choose_cuts(self.data, self.known, n_prefixes, np.random.default_rng(seed))
        self.clock = pl.DataFrame({_TIME: times, _KNOWN: self.known})
        if "symbol" in self.data.columns:
            self.clock = self.clock.with_columns(self.data["symbol"].cast(pl.String).alias(_SYMBOL))
        self.tallies: dict[str, _Tally] = {}
        self.errors: list[tuple[int, str, str, str]] = []
        self.n_runs = 0

    def run(self) -> LookaheadReport:
        whole = self._call(self._copy())
        self.keys = [name for name in (_SYMBOL, _TIME, _NTH) if name in whole.columns]
        names = [name for name in whole.columns if not name.startswith("\0")]
        if self.wanted is not None:
            if missing := [name for name in self.wanted if name not in names]:
                raise InvalidRequest(
                    f"The result lacks {', '.join(map(repr, missing))}.", hint=f"It has: {', '.join(names)}."
                )
            names = self.wanted
        self.tallies = {name: _Tally() for name in (_ROW, *names)}
        self._note_noise(whole, self._call(self._copy()))
        compared = 0
        for position, cut in enumerate(self.cuts.tolist()):
            # The two strongest futures at every cut, the others in turns.
            futures = ("missing", "changed", FUTURES[2 + position % (len(FUTURES) - 2)])
            answered = [self._try(whole, cut, position, future) for future in futures]
            compared += any(answered)
        self._note_noise(whole, self._call(self._copy()))
        return self._report(compared)

    def _copy(self) -> Any:
        return self.bars if isinstance(self.bars, pl.DataFrame | pl.LazyFrame) else self.bars.copy()

    def _call(self, frame: Any) -> pl.DataFrame:
        """Run the function; the result in Polars with its keys and the instant at which each row is known."""
        self.n_runs += 1
        result = to_polars(self.fn(frame))
        if self.time not in result.columns:
            raise InvalidRequest(
                f"The result has no {self.time} to match its rows by; it has {', '.join(result.columns) or 'nothing'}.",
                hint="Keep the key columns in the result.",
            )
        made = result.with_columns(
            pl.col(pl.Float64, pl.Float32).fill_nan(None), instants(result[self.time]).alias(_TIME)
        )
        keys = [_TIME]
        if "symbol" in result.columns:
            made = made.with_columns(pl.col("symbol").cast(pl.String).alias(_SYMBOL))
            keys.append(_SYMBOL)
        shared = [name for name in keys if name in self.clock.columns]
        made = made.join(
            self.clock.group_by(shared).agg(pl.col(_KNOWN).max()),
            on=shared,
            how="left",
            nulls_equal=True,
            maintain_order="left",
        )
        known = [pl.col(_KNOWN), pl.col(_TIME)]
        if "ts_close" in result.columns:
            made = made.with_columns(instants(result["ts_close"]).alias(_AT))
            known.insert(0, pl.col(_AT))
        made = made.with_columns(pl.coalesce(known).alias(_KNOWN), pl.int_range(pl.len()).over(keys).alias(_NTH))
        return made.drop(_AT, "symbol", self.time, strict=False)

    def _try(self, whole: pl.DataFrame, cut: int, position: int, future: str) -> bool:
        rng = np.random.default_rng([self.seed, position, FUTURES.index(future)])
        frame = alternative(self.bars, self.data, self.known, cut, future, rng)
        again = frame if isinstance(frame, pl.DataFrame | pl.LazyFrame) else frame.copy()
        try:
            other = self._call(frame)
        except Exception as error:  # noqa: BLE001 - the user's function may raise anything; it is reported
            self.errors.append((cut, future, type(error).__name__, str(error)))
            return False
        found = self._differences(whole, other, cut, future)
        if any(found.values()):
            # A value that changes although nothing did is noise: only what comes back the same is a leak.
            self._note_noise(other, self._call(again))
        return True

    def _note_noise(self, one: pl.DataFrame, two: pl.DataFrame) -> None:
        joined = self._join(one, two)
        both = joined[LEFT].is_not_null() & joined[RIGHT].is_not_null()
        self.tallies[_ROW].noisy |= not both.all()
        suspects, _ = screen(joined, [name for name in self.tallies if name != _ROW])
        for name, tally in self.tallies.items():
            if name in suspects and not tally.noisy:
                changed, _ = self._compare(*pair(joined, name))
                tally.noisy = bool((changed & both.to_numpy()).any())

    def _join(self, one: pl.DataFrame, two: pl.DataFrame) -> pl.DataFrame:
        two = two.with_columns(pl.col(name).cast(one.schema[name]) for name in self.keys if name in two.columns)
        if _SYMBOL in self.keys and _SYMBOL not in two.columns:
            two = two.with_columns(pl.lit(None, dtype=pl.String).alias(_SYMBOL))
        two = two.rename({name: name + OTHER for name in two.columns if name not in self.keys})
        return one.with_columns(pl.lit(1).alias(LEFT)).join(
            two.with_columns(pl.lit(1).alias(RIGHT)), on=self.keys, how="full", coalesce=True, nulls_equal=True
        )

    def _differences(self, whole: pl.DataFrame, other: pl.DataFrame, cut: int, future: str) -> dict[str, int]:
        joined = self._join(whole.filter(pl.col(_KNOWN) <= cut), other.filter(pl.col(_KNOWN) <= cut))
        left, right = (joined[side].is_not_null().to_numpy() for side in (LEFT, RIGHT))
        found = {}
        suspects, n_values = screen(joined, [name for name in self.tallies if name != _ROW])
        for name, tally in self.tallies.items():
            tally.n_values += n_values.get(name, 0)
            if name == _ROW:
                tally.n_values += int(left.sum())
                changed = left ^ right
                a, b = (pl.Series(["absent", "present"]).gather(side.astype(np.int64)) for side in (left, right))
            elif name not in suspects:
                continue
            else:
                a, b = pair(joined, name)
                changed, rounded = self._compare(a, b)
                changed &= left & right
                if future == "null":  # a null that spreads gives no value to trade on, as an error gives none
                    changed &= b.is_not_null().to_numpy()
                tally.n_rounding += int((rounded & left & right).sum())
            if tally.noisy or not changed.any():
                continue
            rows = np.flatnonzero(changed)
            known = joined[rows].select(pl.coalesce(_KNOWN, _KNOWN + OTHER)).to_series().to_numpy()
            back = np.searchsorted(self.moments, cut) - np.searchsorted(self.moments, known)
            tally.bars_back = max(tally.bars_back, int(back.max()))
            keys = joined[rows].select(self.keys).rows()
            fresh = np.array([key not in tally.seen for key in keys], dtype=bool)
            tally.seen.update(keys)
            found[name] = int(fresh.sum())
            rows, back = rows[fresh], back[fresh]
            tally.leaks.append(
                joined[rows]
                .select(self.keys)
                .with_columns(
                    pl.lit(name).alias("column"),
                    text(a[rows]).alias("value"),
                    text(b[rows]).alias("otherwise"),
                    pl.lit(future).alias("future"),
                    pl.lit(cut, dtype=pl.Int64).alias("known_until"),
                    pl.Series("bars_back", back, dtype=pl.Int64),
                )
            )
        return found

    def _compare(self, a: pl.Series, b: pl.Series) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which rows differ, and which differ only by rounding."""
        differs = a.ne_missing(b).to_numpy()
        if not (differs.any() and a.dtype.is_float()):
            return differs, np.zeros(len(differs), dtype=bool)
        x, y = a.to_numpy(), b.to_numpy()  # null is NaN here, and NaN is close to nothing
        scale = float(np.nanmedian(np.abs(x))) if a.count() else 0.0
        with np.errstate(invalid="ignore", over="ignore"):
            room = self.tolerance * np.maximum(np.maximum(np.abs(x), np.abs(y)), scale)
            near = differs & (np.abs(x - y) <= room) & np.isfinite(room)
        return differs & ~near, near

    def _report(self, compared: int) -> LookaheadReport:
        rows, leaks = [], []
        for name, tally in self.tallies.items():
            n_leaks = 0 if tally.noisy else sum(part.height for part in tally.leaks)
            if tally.noisy:
                verdict = "nondeterministic"
            elif n_leaks:
                verdict = "leaking"
                leaks += tally.leaks
            else:
                verdict = "clean" if tally.n_values else "empty"
            rows.append((name, tally.n_values, n_leaks, tally.n_rounding, tally.bars_back if n_leaks else 0, verdict))
        table = pl.DataFrame(
            rows, schema=["column", "n_values", "n_leaks", "n_rounding", "bars_back", "verdict"], orient="row"
        )
        verdicts = set(table.filter(pl.col("column") != _ROW)["verdict"].to_list() or ["clean"])
        verdicts |= set(table.filter(pl.col("column") == _ROW)["verdict"].to_list())
        if "leaking" in verdicts:
            verdict = "leaking"
        elif "nondeterministic" in verdicts or "clean" not in verdicts or not compared or not self._any_value(table):
            verdict = "undetermined"
        else:
            verdict = "clean"
        return LookaheadReport(
            verdict=verdict,
            leaks=self._readable(leaks),
            columns=table,
            errors=pl.DataFrame(
                self.errors,
                schema={"known_until": pl.Int64, "future": pl.String, "error": pl.String, "message": pl.String},
                orient="row",
            ).with_columns(self._as_time("known_until")),
            n_cuts=compared,
            n_runs=self.n_runs,
            tolerance=self.tolerance,
            seed=self.seed,
        )

    def _any_value(self, table: pl.DataFrame) -> bool:
        """Something other than columns of nulls was compared; rows alone count when the result has keys only."""
        judged = table.filter(pl.col("column") != _ROW)
        return bool(judged["n_values"].sum() if judged.height else table["n_values"].sum())

    def _readable(self, leaks: list[pl.DataFrame]) -> pl.DataFrame:
        texts = ("column", "value", "otherwise", "future")
        schema = dict.fromkeys(self.keys, pl.Int64()) | dict.fromkeys(texts, pl.String())
        schema |= {"known_until": pl.Int64(), "bars_back": pl.Int64()}
        if _SYMBOL in schema:
            schema[_SYMBOL] = pl.String()
        empty = pl.DataFrame(schema=schema)
        made = pl.concat([empty, *(part.select(pl.col(n).cast(t) for n, t in schema.items()) for part in leaks)])
        made = made.sort(self.keys, maintain_order=True, nulls_last=True).drop(_NTH)
        made = made.with_columns(self._as_time(_TIME), self._as_time("known_until"))
        return made.rename({_TIME: self.time} | ({_SYMBOL: "symbol"} if _SYMBOL in made.columns else {}))

    def _as_time(self, name: str) -> pl.Expr:
        dtype = self.data.schema[self.time]
        if isinstance(dtype, pl.Datetime):
            return pl.col(name).cast(pl.Datetime("ns", dtype.time_zone)).cast(dtype)
        return pl.col(name).cast(pl.Datetime("ns")).cast(dtype) if dtype == pl.Date else pl.col(name)
