from __future__ import annotations

import copy
import inspect
import pickle
import re

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from massive_lab import errors
from massive_lab.errors import (
    CaptureDamaged,
    CaptureError,
    ClosedError,
    ConfigError,
    ConnectionLost,
    DataError,
    DecodeError,
    FrameInvariantError,
    GapError,
    IncompletePagination,
    InvalidRequest,
    MassiveLabError,
    NotEntitled,
    RateLimited,
    SlowReader,
    SubscriptionFailed,
    Timeout,
    TransportError,
    Unauthorized,
    UnknownSymbol,
    UpstreamError,
)

CONTEXT = {"hint": "Do this.", "request_id": "r-1", "symbol": "I:SPX", "endpoint": "chain"}
ROWS = pl.DataFrame({"symbol": ["A", "A"], "open": [1.0, None]})

ONE_OF_EACH: list[MassiveLabError] = [
    *(
        kind("It broke.", **CONTEXT)
        for kind in (
            MassiveLabError,
            ConfigError,
            InvalidRequest,
            TransportError,
            Timeout,
            ConnectionLost,
            Unauthorized,
            NotEntitled,
            DataError,
            UnknownSymbol,
            ClosedError,
        )
    ),
    RateLimited("It broke.", retry_after_s=2.5, **CONTEXT),
    UpstreamError("It broke.", status=503, **CONTEXT),
    DecodeError("It broke.", excerpt=b'{"status":\xff', **CONTEXT),
    IncompletePagination("It broke.", partial=[b"page 1", b"page 2"], n_pages=2, **CONTEXT),
    FrameInvariantError("It broke.", rule="open is not null", rows=ROWS, **CONTEXT),
    GapError("It broke.", start=1, end=2, **CONTEXT),
    SubscriptionFailed("T.AAPL", "not authorized", **CONTEXT),
    SlowReader("reader-1", 12, **CONTEXT),
    CaptureError("It broke.", **CONTEXT),
    CaptureDamaged("It broke.", block=2, offset=640, what="hash", **CONTEXT),
]


def classes() -> dict[str, type]:
    found = inspect.getmembers(errors, inspect.isclass)
    return {name: kind for name, kind in found if issubclass(kind, MassiveLabError)}


def state(error: MassiveLabError) -> dict[str, object]:
    found = dict(vars(error))
    rows = found.pop("rows", None)
    if rows is not None:
        assert_frame_equal(rows, ROWS)
    return found


def test_the_list_above_has_one_of_each() -> None:
    assert {type(error).__name__ for error in ONE_OF_EACH} == set(classes())
    assert len(ONE_OF_EACH) == len(classes())


def test_all_is_complete_and_sorted() -> None:
    assert set(errors.__all__) == set(classes())
    assert errors.__all__ == sorted(errors.__all__)


def test_the_tree_of_the_docstring_is_the_tree_of_the_code() -> None:
    drawn: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^    ((?:│   |    )*)(?:├── |└── )?([A-Z]\w+)(?: \((\w+)\))?(?:\s{2,}|$)", line)
        if match is None:
            continue
        depth = len(match[1]) // 4 + (1 if "── " in line else 0)
        path[depth:] = [match[2]]
        drawn[match[2]] = path[depth - 1] if depth else ""
        if match[3]:
            assert any(base.__name__ == match[3] for base in classes()[match[2]].__bases__), line
    real = {name: kind.__bases__[0].__name__ if kind is not MassiveLabError else "" for name, kind in classes().items()}
    assert drawn == real


@pytest.mark.parametrize("error", ONE_OF_EACH, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickling_keeps_everything(error: MassiveLabError, protocol: int) -> None:
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again) is type(error)
    assert again.args == error.args
    assert str(again) == str(error)
    assert state(again) == state(error)


@pytest.mark.parametrize("error", ONE_OF_EACH, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy], ids=["copy", "deepcopy"])
def test_copying_keeps_everything_and_shares_no_state(error: MassiveLabError, how: object) -> None:
    again = how(error)  # type: ignore[operator]
    assert again is not error
    assert (type(again), again.args, str(again)) == (type(error), error.args, str(error))
    assert state(again) == state(error)
    again.symbol = "OTHER"
    assert error.symbol == "I:SPX"


@pytest.mark.parametrize("error", ONE_OF_EACH, ids=lambda error: type(error).__name__)
def test_the_text_names_the_context_and_ends_in_the_hint(error: MassiveLabError) -> None:
    text = str(error)
    assert text == f"{error.message} [symbol I:SPX, endpoint chain, request r-1] Do this."


def test_the_text_leaves_out_what_is_not_known() -> None:
    assert str(MassiveLabError("No.")) == "No."
    assert str(MassiveLabError("No.", endpoint="chain")) == "No. [endpoint chain]"
    assert str(MassiveLabError("No.", hint="Wait.")) == "No. Wait."


def test_each_is_caught_as_what_python_calls_it() -> None:
    builtins = {InvalidRequest: ValueError, Timeout: TimeoutError, ConnectionLost: ConnectionError}
    for kind, builtin in {**builtins, UnknownSymbol: LookupError}.items():
        with pytest.raises(builtin):
            raise kind("No.")


def test_the_texts_made_from_parts() -> None:
    assert str(SubscriptionFailed("T.AAPL", "not authorized")) == "Subscription to T.AAPL failed: not authorized."
    assert str(SlowReader("r", 12)) == "Reader r fell behind: 12 events were dropped."


@pytest.mark.parametrize("text", ["x" * 5_000, "ä" * 5_000, "\U0001f600" * 5_000])
def test_an_excerpt_is_bounded_whatever_it_is_made_of(text: str) -> None:
    assert DecodeError("No.", excerpt=text).excerpt == text[:200]
    assert DecodeError("No.", excerpt=text.encode()).excerpt == text[:200]


def test_what_is_no_text_still_gives_an_excerpt() -> None:
    assert DecodeError("No.", excerpt=b"\xff{").excerpt == "\N{REPLACEMENT CHARACTER}{"


def test_notes_survive_pickling() -> None:
    error = UpstreamError("No.", status=500)
    error.add_note("while loading AAPL")
    assert pickle.loads(pickle.dumps(error)).__notes__ == ["while loading AAPL"]
