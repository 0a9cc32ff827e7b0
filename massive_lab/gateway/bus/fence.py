"""What a follower takes of what leaders say. Pure.

============================== ========
epoch and sequence of a topic  verdict
============================== ========
epoch older than the newest    ``old``
epoch newer                    ``newer``: another leader; nothing of the one before it is taken from here on
sequence seen already          ``seen``
the next one, or the first     ``take``
a later one                    ``hole``
============================== ========
"""

from __future__ import annotations

from typing import Literal, TypeAlias

__all__ = ["Fence", "Verdict"]

Verdict: TypeAlias = Literal["old", "newer", "seen", "take", "hole"]


class Fence:
    """The newest epoch, and how far each topic has come in it.

    Examples
    --------
    >>> fence = Fence()
    >>> [fence.take("T.SPY", epoch, n) for epoch, n in ((7, 3), (7, 4), (7, 4), (6, 5), (7, 6), (9, 1), (9, 1), (7, 7))]
    ['newer', 'take', 'seen', 'old', 'hole', 'newer', 'take', 'old']

    A new epoch is only told of: whoever follows it asks again.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self._heads: dict[str, int] = {}
        self._floors: dict[str, int] = {}
        self._behind: dict[str, int] = {}

    def hear(self, epoch: int) -> Verdict:
        """Somebody spoke as the leader of an epoch."""
        if epoch < self.epoch:
            return "old"
        if epoch == self.epoch:
            return "take"
        self.epoch = epoch
        self.restart()
        self._floors.clear()
        return "newer"

    def take(self, wire: str, epoch: int, sequence: int) -> Verdict:
        """A message of a topic came."""
        verdict = self.hear(epoch)
        if verdict != "take":
            return verdict
        head = self._heads.get(wire)
        if sequence <= (self._floors.get(wire, 0) if head is None else head):
            return "seen"
        self._heads[wire] = sequence
        return "take" if head is None or sequence == head + 1 else "hole"

    def late(self, heads: dict[str, int]) -> list[str]:
        """The leader tells how far topics have come; gives those that were behind when it told so the last time, and still are.

        Once behind proves nothing: subscriptions are handed over one by one.
        """
        lost = [wire for wire, told in self._behind.items() if self._heads.get(wire, told) < told]
        self._behind = {wire: told for wire, told in heads.items() if self._heads.get(wire, told) < told}
        return lost

    def forget(self, channel: str, symbol: str) -> None:
        """A topic is read no more: where it stands is not known from here on."""
        wires = [f"{channel}.{symbol}"]
        if symbol == "*":
            wires = [wire for wire in self._heads if wire.partition(".")[0] == channel]
        for wire in wires:
            self._behind.pop(wire, None)
            if (head := self._heads.pop(wire, None)) is not None:
                self._floors[wire] = head

    def restart(self) -> None:
        """Read on in the same epoch after messages may have been lost: what was seen stays seen."""
        self._floors.update(self._heads)
        self._heads.clear()
        self._behind.clear()
