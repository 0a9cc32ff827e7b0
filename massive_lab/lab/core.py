"""What both clients are made of: settings, session, live feeds, and an orderly end."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from massive_lab.clock import Clock, SystemClock
from massive_lab.config import Secret, Settings, read_settings
from massive_lab.errors import ConfigError, InvalidRequest, MassiveLabError
from massive_lab.frames.convert import check_kind
from massive_lab.lab.parts import Parts
from massive_lab.live.duplicates import LoadWatch
from massive_lab.loaders.session import Session
from massive_lab.schema.plans import plan as plan_of
from massive_lab.telemetry import Telemetry
from massive_lab.transports.runner import Runner
from massive_lab.typing import FrameKind

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

    from massive_lab.lab.aio import AsyncLab
    from massive_lab.lab.live import LiveAccess
    from massive_lab.lab.sync import Lab
    from massive_lab.sandbox.process import SandboxProcess

__all__ = ["Core", "aconnect", "connect"]


class _Fork:
    """Whether this process was forked from one that had a client: Polars' threads do not come along, and its locks do."""

    n_made = 0
    behind = False

    @classmethod
    def after(cls) -> None:
        cls.behind = cls.n_made > 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_Fork.after)


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
        check_kind(frame)
        if _Fork.behind:
            raise ConfigError(
                "This process was forked from one that had a client: the first frame made here would never be finished.",
                hint="Start workers with multiprocessing.get_context('spawn') or 'forkserver'.",
            )
        _Fork.n_made += 1
        limits = plan_of(plan) if plan is not None else None
        self.settings = settings
        self.telemetry = Telemetry()
        self.clock = clock or SystemClock()
        self._frame: FrameKind = frame
        self._loads = LoadWatch(self.telemetry, self.clock)
        self._session = Session(settings, telemetry=self.telemetry, clock=self.clock, plan=limits, progress=progress)
        self._runner = Runner.acquire()
        self._parts = Parts(self._runner, self._session, sandbox)
        weakref.finalize(self, self._parts.forget).atexit = False

    @property
    def closed(self) -> bool:
        return self._parts.closed

    @property
    def sandbox(self) -> SandboxProcess | None:
        """The sandbox this client started, or None. Its ``control`` switches faults and moves the clock."""
        return self._parts.sandbox

    @cached_property
    def _live(self) -> LiveAccess:
        from massive_lab.lab.live import LiveAccess

        return LiveAccess(self, self._runner, self._session, self._parts.lives, self._loads)

    def _kind(self, work: Coroutine[Any, Any, Any], frame: FrameKind | None) -> FrameKind:
        """The kind of frame to give back; checked before anything is asked for."""
        kind = self._frame if frame is None else frame
        try:
            check_kind(kind)
        except MassiveLabError:
            work.close()
            raise
        return kind

    def _close(self) -> None:
        self._parts.close()

    async def _aclose(self) -> None:
        # Not `to_thread`, whose thread would stay with the caller's loop.
        pool = ThreadPoolExecutor(1, "massive_lab-end")
        try:
            await asyncio.get_running_loop().run_in_executor(pool, self._close)
        except asyncio.CancelledError:
            pool.shutdown(wait=False)  # the closing goes on, and the thread ends with it
            raise
        pool.shutdown()

    def __repr__(self) -> str:
        label = "SANDBOX " if self.settings.sandbox else ""
        state = "closed" if self.closed else "open"
        return f"<{type(self).__name__} {label}{self.settings.rest_url} {state}>"


def _prepare(
    target: str | None,
    key: Secret | None,
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
        return read_settings(api_key=key).with_(**changes), None
    if target != "sandbox":
        raise ConfigError(
            f"There is no target {target!r}.",
            hint="Leave it out for the vendor (or whatever MASSIVE_REST_URL names), or say 'sandbox'.",
        )
    key = key or Secret("sandbox")
    if sandbox is not None:
        return _settings_of(sandbox, key, changes), None
    # What is wrong with the settings is said before a process is started for them.
    _settings_of(_NOWHERE, key, changes)
    from massive_lab.sandbox.process import SandboxProcess as Process

    started = Process(seed=seed)
    return _settings_of(started, key, changes), started


def _settings_of(sandbox: SandboxProcess | Mapping[str, str], key: Secret, changes: dict[str, Any]) -> Settings:
    urls: Mapping[str, Any] = (
        sandbox if isinstance(sandbox, Mapping) else {name: getattr(sandbox, name, None) for name in _URLS}
    )
    if missing := [name for name in _URLS[:2] if urls.get(name) is None]:
        raise ConfigError(f"The sandbox's addresses lack {', '.join(missing)}.")
    settings = Settings(
        api_key=key,
        rest_url=urls["rest_url"],
        ws_url=urls["ws_url"],
        control_url=urls.get("control_url"),
        sandbox=True,
        env="development",
    )
    return settings.with_(**changes)


_URLS = ("rest_url", "ws_url", "control_url")
_NOWHERE = {"rest_url": "http://127.0.0.1:1", "ws_url": "ws://127.0.0.1:1"}
C = TypeVar("C", bound=Core)


def _make(client: type[C], settings: Settings, sandbox: SandboxProcess | None, **options: Any) -> C:
    try:
        return client(settings, sandbox=sandbox, **options)
    except BaseException:
        if sandbox is not None:
            sandbox.close()
        raise


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
        When there is no key, a setting is malformed, or this process was forked from one that had a client.

    Examples
    --------
    >>> import massive_lab as ml
    >>> with ml.connect("sandbox") as lab:
    ...     lab.bars("AAPL", "1d", "2018-12-10", "2018-12-15").height
    5
    """
    from massive_lab.lab.sync import Lab as Client

    check_kind(frame)
    # From here on no local variable holds the key in the clear: some tracebacks show them.
    key, api_key = None if api_key is None else Secret(api_key), None
    resolved, started = _prepare(target, key, plan, sandbox, seed, settings)
    return _make(Client, resolved, started, frame=frame, plan=plan, progress=progress, clock=clock)


@overload
def aconnect(
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
) -> AsyncLab[pl.DataFrame]: ...


@overload
def aconnect(
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
) -> AsyncLab[pd.DataFrame]: ...


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

    check_kind(frame)
    # From here on no local variable holds the key in the clear: some tracebacks show them.
    key, api_key = None if api_key is None else Secret(api_key), None
    resolved, started = _prepare(target, key, plan, sandbox, seed, settings)
    return _make(Client, resolved, started, frame=frame, plan=plan, progress=progress, clock=clock)
