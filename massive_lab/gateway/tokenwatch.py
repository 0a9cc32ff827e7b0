"""Tokens that change while the gateway runs: the file is read again when it changes, or when one asks for it."""

from __future__ import annotations

import logging
from pathlib import Path

from massive_lab.clock import Clock
from massive_lab.config import Secret
from massive_lab.gateway.logs import Blotter, tell
from massive_lab.gateway.metrics import Metrics
from massive_lab.gateway.tokenfile import GatewayConfigError, read_token_file
from massive_lab.gateway.tokens import TokenBook

__all__ = ["TokenWatch"]

LOOK_S = 2.0


class TokenWatch:
    """Keeps a book as its file says. A file that cannot be used changes nothing: what was in force stays so.

    Parameters
    ----------
    forbidden : tuple of Secret
        The key and the signing secret: no proxy token may be one of them.
    """

    def __init__(
        self,
        path: Path,
        book: TokenBook,
        clock: Clock,
        metrics: Metrics,
        blotter: Blotter,
        forbidden: tuple[Secret, ...],
    ) -> None:
        self._path = path
        self._book = book
        self._clock = clock
        self._metrics = metrics
        self._blotter = blotter
        self._forbidden = forbidden
        self._seen = self._stamp()

    async def run(self) -> None:
        """Look at the file every two seconds, for ever."""
        while True:
            await self._clock.sleep(LOOK_S)
            if self._stamp() != self._seen:
                self.reload()

    def reload(self) -> bool:
        """Read the file now; whether it is in force."""
        self._seen = self._stamp()
        try:
            rules = read_token_file(self._path)
            if any(rule.token in self._forbidden for rule in rules):
                raise GatewayConfigError(["A proxy token is also the key or the signing secret."])
        except GatewayConfigError as error:
            self._metrics.rotated("failed")
            tell("tokens not changed", level=logging.ERROR, problems=" ".join(error.problems))
            return False
        self._blotter.learn(rule.token for rule in rules)
        change = self._book.rotate(rules)
        self._metrics.rotated("ok")
        tell(
            "tokens read", added=len(change.added), changed=len(change.changed), revoked=len(change.revoked),
            names=",".join(self._book.names),
        )  # fmt: skip
        return True

    def _stamp(self) -> tuple[int, int, int] | None:
        # The number too: a file that was replaced within one tick of the file system's clock.
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
