"""What both clients are made of: settings, session, live feeds, and an orderly end."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

from massive_lab.clock import Clock, SystemClock
from massive_lab.config import Secret, Settings, read_settings
from massive_lab.errors import ClosedError, ConfigError, InvalidRequest
from massive_lab.loaders.session import Session
from massive_lab.loaders.snapshots import SnapshotPoller
from massive_lab.schema.plans import plan as plan_of
from massive_lab.schema.symbols import parse_many
from massive_lab.telemetry import Telemetry
from massive_lab.transports.runner import Runner
from massive_lab.typing import FrameKind

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

    from massive_lab.lab.aio import AsyncLab
    from massive_lab.lab.sync import Lab
    from massive_lab.live.session import Live
    from massive_lab.sandbox.process import SandboxProcess

__all__ = ["Core", "aconnect", "connect"]


class Core:
    """State shared by `Lab` and `AsyncLab`; not made by users."""

    def __init__(
        self,
        settings: Settings,
        *,
        frame: FrameKind = "polars",
        plan: str | None = None,
        progress: bool | None = None,
        sandbox: SandboxProcess | None = None,
        clock: Clock | None = None,
    ) -> None:
        if frame not in ("polars", "pandas"):
            raise InvalidRequest(f"frame is {frame!r}.", hint="Use 'polars' or 'pandas'.")
        self.settings = settings
        self.telemetry = Telemetry()
        self.clock = clock or SystemClock()
        self._frame: FrameKind = frame
        self._runner = Runner.acquire()
        self._session = Session(
            settings,
            telemetry=self.telemetry,
            clock=self.clock,
            plan=plan_of(plan) if plan is not None else None,
            progress=progress,
        )
        self._sandbox = sandbox
        self._lives: weakref.WeakSet[Live] = weakref.WeakSet()
        self._closing = threading.Lock()
        self.closed = False

    @property
    def sandbox(self) -> SandboxProcess | None:
        """The sandbox this client started, or None. Its ``control`` switches faults and moves the clock."""
        return self._sandbox

    def _open_live(self, symbols: object, channels: Sequence[str] | None) -> Live:
        if self.closed:
            raise ClosedError("The client is closed.", hint="Connect again.")
        from massive_lab.live.session import Live

        live = Live(
            self.settings,
            self._runner,
            self.telemetry,
            self.clock,
            SnapshotPoller(self._session),
            parse_many(symbols),
            channels,
        )
        self._lives.add(live)
        return live

    def _edge(self, result: pl.DataFrame, frame: FrameKind | None) -> Any:
        kind = frame or self._frame
        if kind == "polars":
            return result
        from massive_lab.frames.convert import to_kind

        return to_kind(result, kind)

    def _close(self) -> None:
        """Close feeds, requests and the sandbox, in that order; what was closed stays closed."""
        with self._closing:
            if self.closed:
                return
            self.closed = True
        try:
            for live in list(self._lives):
                live.close()
            self._runner.call(self._session.aclose())
        finally:
            self._runner.release()
            if self._sandbox is not None:
                self._sandbox.close()

    def __repr__(self) -> str:
        label = "SANDBOX " if self.settings.sandbox else ""
        state = "closed" if self.closed else "open"
        return f"<{type(self).__name__} {label}{self.settings.rest_url} {state}>"


def _prepare(
    target: str | None,
    api_key: str | None,
    plan: str | None,
    sandbox: SandboxProcess | Mapping[str, str] | None,
    seed: int,
    changes: dict[str, Any],
) -> tuple[Settings, SandboxProcess | None]:
    if plan is not None:
        changes["calls_per_minute"] = plan_of(plan).calls_per_minute
    if target is None:
        if sandbox is not None:
            raise InvalidRequest("sandbox= was given, but not named.", hint="Say connect('sandbox', sandbox=...).")
        return read_settings(api_key=api_key).with_(**changes), None
    if target != "sandbox":
        raise ConfigError(
            f"There is no target {target!r}.",
            hint="Leave it out for the vendor (or whatever MASSIVE_REST_URL names), or say 'sandbox'.",
        )
    started: SandboxProcess | None = None
    if sandbox is None:
        from massive_lab.sandbox.process import SandboxProcess as Process

        sandbox = started = Process(seed=seed)
    urls = sandbox if isinstance(sandbox, Mapping) else {name: getattr(sandbox, name) for name in _URLS}
    if missing := [name for name in _URLS[:2] if name not in urls]:
        raise ConfigError(f"The sandbox's addresses lack {', '.join(missing)}.")
    settings = Settings(
        api_key=Secret(api_key or "sandbox"),
        rest_url=urls["rest_url"].rstrip("/"),
        ws_url=urls["ws_url"].rstrip("/"),
        control_url=urls.get("control_url"),
        sandbox=True,
        env="development",
    )
    return settings.with_(**changes), started


_URLS = ("rest_url", "ws_url", "control_url")


@overload
def connect(
    target: str | None = None,
    *,
    frame: Literal["polars"] = "polars",
    api_key: str | None = None,
    plan: str | None = None,
    progress: bool | None = None,
    sandbox: SandboxProcess | Mapping[str, str] | None = None,
    seed: int = 7,
    clock: Clock | None = None,
    **settings: Any,
) -> Lab[pl.DataFrame]: ...


@overload
def connect(
    target: str | None = None,
    *,
    frame: Literal["pandas"],
    api_key: str | None = None,
    plan: str | None = None,
    progress: bool | None = None,
    sandbox: SandboxProcess | Mapping[str, str] | None = None,
    seed: int = 7,
    clock: Clock | None = None,
    **settings: Any,
) -> Lab[pd.DataFrame]: ...


def connect(
    target: str | None = None,
    *,
    frame: FrameKind = "polars",
    api_key: str | None = None,
    plan: str | None = None,
    progress: bool | None = None,
    sandbox: SandboxProcess | Mapping[str, str] | None = None,
    seed: int = 7,
    clock: Clock | None = None,
    **settings: Any,
) -> Lab[Any]:
    """Open a client.

    Nothing is sent until the first call. The environment is read now, not at import.

    Parameters
    ----------
    target : str, optional
        Nothing for the vendor, or whatever server MASSIVE_REST_URL and MASSIVE_WS_URL name; ``"sandbox"`` for synthetic
        data: a sandbox is started for this client and ends with it.
    frame : {"polars", "pandas"}
        What loaders give back.
    api_key : str, optional
        Instead of MASSIVE_API_KEY.
    plan : {"basic", "starter", "developer", "advanced", "business"}, optional
        The plan of the key. Sets the call budget and lets a request outside the plan fail before it is sent.
    progress : bool, optional
        Show progress bars: never, always, or (None) when a load takes over a second.
    sandbox : SandboxProcess or mapping, optional
        A running sandbox to use, or its ``rest_url``, ``ws_url`` and ``control_url``; it is not closed with the client.
    seed : int
        Of the sandbox that is started.
    clock : Clock, optional
        For tests.
    **settings
        Fields of `massive_lab.config.Settings`, such as ``timeout_s=30``.

    Returns
    -------
    Lab

    Raises
    ------
    ConfigError
        When there is no key, or a setting is malformed.

    Examples
    --------
    >>> import massive_lab as ml
    >>> with ml.connect("sandbox") as lab:
    ...     lab.bars("AAPL", "1d", "2018-12-10", "2018-12-15").height
    5
    """
    from massive_lab.lab.sync import Lab as Client

    resolved, started = _prepare(target, api_key, plan, sandbox, seed, settings)
    return Client(resolved, frame=frame, plan=plan, progress=progress, sandbox=started, clock=clock)


def aconnect(
    target: str | None = None,
    *,
    frame: FrameKind = "polars",
    api_key: str | None = None,
    plan: str | None = None,
    progress: bool | None = None,
    sandbox: SandboxProcess | Mapping[str, str] | None = None,
    seed: int = 7,
    clock: Clock | None = None,
    **settings: Any,
) -> AsyncLab[Any]:
    """Open a client whose methods are awaited; the parameters are those of `connect`.

    It may be awaited from any event loop: the work runs on the library's own.

    Examples
    --------
    >>> async def load():
    ...     async with aconnect("sandbox") as lab:
    ...         return await lab.bars("AAPL", "1d", "2018-12-03", "2018-12-08")
    """
    from massive_lab.lab.aio import AsyncLab as Client

    resolved, started = _prepare(target, api_key, plan, sandbox, seed, settings)
    return Client(resolved, frame=frame, plan=plan, progress=progress, sandbox=started, clock=clock)
