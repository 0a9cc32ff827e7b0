"""From the bytes of a frame to its messages; a frame that was sent again is taken once."""

from __future__ import annotations

from collections.abc import Sequence

from massive_lab.decode.stream import Fault, Message, Quote, Status, StreamDecoder, Trade

__all__ = ["Intake"]


class Intake:
    """Decodes the frames of one cluster.

    Examples
    --------
    >>> intake = Intake()
    >>> numbered, bare = (b'[{"ev":"T","sym":"AAPL","t":1,"p":5.5,"s":2%s}]' % more for more in (b',"q":7', b""))
    >>> [len(intake.take(frame)) for frame in (numbered, numbered, bare, bare)]
    [1, 0, 1, 1]
    """

    def __init__(self) -> None:
        self._decoder = StreamDecoder()
        self._last = b""

    def take(self, data: bytes) -> list[Message]:
        """The messages of a frame; of one that repeats the frame before, only what answers us."""
        messages = self._decoder.decode(data)
        if data == self._last and _is_sent_again(messages):
            return [message for message in messages if isinstance(message, Status)]
        self._last = data
        return messages

    def take_faults(self) -> list[Fault]:
        """What could not be read since the last call."""
        return self._decoder.take_faults()

    @property
    def n_unknown(self) -> int:
        """Events of types that this library does not know."""
        return sum(self._decoder.unknown.values())


def _is_sent_again(messages: Sequence[Message]) -> bool:
    """Whether a frame that equals the one before is that frame again, and not news that happens to look the same.

    One number proves it. Ticks without any are taken for new: two prints may agree in all that is told of them. Bars and
    values only replace what they repeat.
    """
    ticks = [message for message in messages if isinstance(message, Trade | Quote)]
    return not ticks or any(tick.sequence for tick in ticks)
