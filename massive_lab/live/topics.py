"""Topics: what can be asked of a cluster, and its text on the wire.

============ ====================================== =========================================
cluster      channels                               ``*`` (every symbol)
============ ====================================== =========================================
stocks       T trades, Q quotes, A second bars,     all
             AM minute bars
options      T, Q, A, AM                            all but Q, which is capped at 1,000
indices      V values, A, AM                        all
============ ====================================== =========================================
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from massive_lab.errors import InvalidRequest
from massive_lab.schema.plans import MAX_OPTION_QUOTES
from massive_lab.schema.symbols import Symbol, parse_symbol
from massive_lab.typing import Cluster

__all__ = [
    "CHANNELS",
    "CLUSTERS",
    "DEFAULT_CHANNELS",
    "Kind",
    "Topic",
    "cap_of",
    "cover",
    "covers",
    "kind_of",
    "poll_kind",
    "topics_for",
]

Kind = Literal["trades", "quotes", "bars", "values"]

CLUSTERS: tuple[Cluster, ...] = get_args(Cluster)
CHANNELS: dict[Cluster, tuple[str, ...]] = {
    "stocks": ("T", "Q", "A", "AM"),
    "options": ("T", "Q", "A", "AM"),
    "indices": ("V", "A", "AM"),
}
DEFAULT_CHANNELS: dict[Cluster, tuple[str, ...]] = {
    "stocks": ("T", "Q", "AM"),
    "options": ("T", "Q", "AM"),
    "indices": ("V", "AM"),
}
_KINDS: dict[str, Kind] = {"T": "trades", "Q": "quotes", "A": "bars", "AM": "bars", "V": "values"}
_POLLABLE: frozenset[Kind] = frozenset(("trades", "quotes", "values"))


@dataclass(frozen=True, slots=True, order=True)
class Topic:
    """One channel of one symbol, or of every symbol (``*``), of a cluster.

    Raises
    ------
    InvalidRequest
        When the cluster has no such channel, the symbol belongs to another cluster, or ``*`` is asked of option quotes.
    UnknownSymbol
        When the symbol is malformed.

    Examples
    --------
    >>> Topic("stocks", "AM", "AAPL").wire, Topic.parse("options", "T.O:SPY251219C00650000").symbol
    ('AM.AAPL', 'O:SPY251219C00650000')
    """

    cluster: Cluster
    channel: str
    symbol: str

    def __post_init__(self) -> None:
        channels = CHANNELS.get(self.cluster)
        if channels is None:
            raise InvalidRequest(f"There is no cluster {self.cluster!r}.", hint=f"Use one of {', '.join(CLUSTERS)}.")
        if self.channel not in channels:
            raise InvalidRequest(
                f"The {self.cluster} cluster has no channel {self.channel!r}.", hint=f"Use one of {', '.join(channels)}."
            )
        if self.symbol == "*":
            if cap_of(self) is not None:
                raise InvalidRequest("Option quotes have no wildcard.", hint="Name the contracts, at most 1,000.")
        elif (found := parse_symbol(self.symbol).asset_class) != self.cluster:
            raise InvalidRequest(f"{self.symbol} belongs to {found}, not to {self.cluster}.", symbol=self.symbol)

    @classmethod
    def parse(cls, cluster: Cluster, wire: str) -> Topic:
        """Read ``T.AAPL``. Only the first dot parts channel and symbol: ``T.BRK.B`` is a topic."""
        channel, dot, symbol = wire.partition(".")
        if not dot or not symbol:
            raise InvalidRequest(f"{wire!r} is not a topic.", hint="Write it like 'T.AAPL' or 'AM.*'.")
        return cls(cluster, channel, symbol)

    @property
    def wire(self) -> str:
        """The text the vendor wants."""
        return f"{self.channel}.{self.symbol}"

    @property
    def is_wildcard(self) -> bool:
        return self.symbol == "*"

    @property
    def kind(self) -> Kind:
        """Which table the events go to."""
        return _KINDS[self.channel]

    def __str__(self) -> str:
        return f"{self.cluster} {self.wire}"


def kind_of(channel: str) -> Kind:
    """Table of a channel: ``trades``, ``quotes``, ``bars`` or ``values``."""
    return _KINDS[channel]


def poll_kind(topic: Topic) -> Kind | None:
    """What a snapshot call can stand in for; None for bars and wildcards, which no snapshot holds."""
    kind = topic.kind
    return kind if kind in _POLLABLE and not topic.is_wildcard else None


def cap_of(topic: Topic) -> int | None:
    """How many topics of this sort one connection may hold; None where no limit is documented."""
    return MAX_OPTION_QUOTES if topic.cluster == "options" and topic.channel == "Q" else None


def covers(wide: Topic, narrow: Topic) -> bool:
    """Whether every event of `narrow` comes with `wide` too. Channels are compared whole, never by prefix.

    Examples
    --------
    >>> covers(Topic("stocks", "A", "*"), Topic("stocks", "AM", "MSFT"))
    False
    >>> covers(Topic("stocks", "A", "*"), Topic("stocks", "A", "MSFT"))
    True
    """
    if wide == narrow:
        return True
    return wide.symbol == "*" and (wide.cluster, wide.channel) == (narrow.cluster, narrow.channel)


def cover(topics: Iterable[Topic]) -> set[Topic]:
    """The fewest topics that bring everything: singles beside their wildcard fall away.

    Examples
    --------
    >>> sorted(t.wire for t in cover(Topic.parse("stocks", w) for w in ("T.*", "T.AAPL", "Q.AAPL")))
    ['Q.AAPL', 'T.*']
    """
    wanted = set(topics)
    wild = {(topic.cluster, topic.channel) for topic in wanted if topic.is_wildcard}
    return {topic for topic in wanted if topic.is_wildcard or (topic.cluster, topic.channel) not in wild}


def topics_for(symbols: Iterable[Symbol], channels: Iterable[str] | None = None) -> list[Topic]:
    """Topics of several symbols, in order, without repeats.

    Parameters
    ----------
    symbols : iterable of Symbol
    channels : iterable of str, optional
        Default: trades, quotes and minute bars; for indices values and minute bars. A channel that a symbol's cluster does
        not have is left out for that symbol, so ``("T", "V")`` serves a mix of stocks and indices.

    Raises
    ------
    InvalidRequest
        When a channel exists nowhere, or a symbol would be left with no topic.
    """
    if isinstance(channels, str):
        channels = (channels,)  # one channel, not its letters
    if not isinstance(channels, Iterable | None):
        raise InvalidRequest(f"channels is {channels!r}.", hint=f"Give a list of some of {', '.join(_KINDS)}.")
    asked: tuple[Any, ...] | None = None if channels is None else tuple(channels)
    if asked is not None and (bad := [each for each in asked if not isinstance(each, str) or each not in _KINDS]):
        raise InvalidRequest(f"There is no channel {bad[0]!r}.", hint=f"Use {', '.join(_KINDS)}.")
    topics: dict[Topic, None] = {}
    for symbol in symbols:
        cluster = symbol.asset_class
        chosen = DEFAULT_CHANNELS[cluster] if asked is None else [c for c in asked if c in CHANNELS[cluster]]
        if not chosen:
            raise InvalidRequest(
                f"None of the channels {', '.join(asked or ())} exists for {cluster}.",
                symbol=symbol.text,
                hint=f"Use one of {', '.join(CHANNELS[cluster])}.",
            )
        topics.update((Topic(cluster, channel, symbol.text), None) for channel in chosen)
    return list(topics)
