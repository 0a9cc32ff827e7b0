"""The Markov view against EViews' published filter, an own filter, made-up states, and futures that change."""

from __future__ import annotations

import ast
import dataclasses
import datetime as dt
import importlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from polars.testing import assert_frame_equal

from massive_lab.errors import ConfigError, FrameInvariantError, InvalidRequest
from massive_lab.regime.markov import MARKOV_SCHEMA, MarkovParameters, filtered, turbulence

DATA = Path(__file__).parents[3] / "data"
KNOWN = MarkovParameters(0.99, 0.97, 0.07, -0.08, 0.45, 3.4)


def series() -> pl.DataFrame:
    return pl.read_parquet(DATA / "spx_close_1990_2022.parquet").select("date", "close")


def made_up(n: int, seed: int) -> tuple[pl.DataFrame, NDArray[np.int64]]:
    """Closes whose states are known."""
    rng = np.random.default_rng(seed)
    state = np.zeros(n, dtype=np.int64)
    for i in range(1, n):
        stay = (0.99, 0.97)[state[i - 1]]
        state[i] = state[i - 1] if rng.random() < stay else 1 - state[i - 1]
    returns = rng.normal(np.array([0.07, -0.08])[state], np.sqrt(np.array([0.45, 3.4]))[state])
    days = [dt.date(2000, 1, 1) + dt.timedelta(days=i) for i in range(n + 1)]
    close = 100 * np.exp(np.concatenate([[0.0], np.cumsum(returns / 100)]))
    return pl.DataFrame({"date": days, "close": close}), state


def shipped(module: str) -> dict[str, list[float]]:
    """Lists of numbers in a test module of statsmodels, read and not run: its marks are not ours."""
    package = importlib.util.find_spec("statsmodels.tsa.regime_switching.tests")
    assert package is not None
    assert package.submodule_search_locations is not None
    source = (Path(package.submodule_search_locations[0]) / f"{module}.py").read_text(encoding="utf-8")
    return {
        target.id: ast.literal_eval(node.value)
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.List)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def test_hamiltons_filtered_probabilities_are_reproduced() -> None:
    """GNP growth 1951-1984 with four lags: EViews' filtered probabilities, as statsmodels ships them."""
    published = shipped("test_markov_autoregression")
    models: Any = importlib.import_module("statsmodels.tsa.regime_switching.markov_autoregression")
    model = models.MarkovAutoregression(published["rgnp"], k_regimes=2, order=4, switching_ar=False)
    estimates = np.array(
        [0.754673, 0.095915, -0.358811, 1.163516, np.exp(-0.262658) ** 2, 0.013486, -0.057521, -0.246983, -0.212923]
    )
    made = filtered(model, estimates)
    assert made.shape == (131, 2)
    np.testing.assert_allclose(made[:, 1], published["hamilton_ar4_filtered"], atol=1e-5)
    np.testing.assert_allclose(made.sum(axis=1), 1.0, atol=1e-12)
    # The smoothed ones are other numbers, by far more than rounding.
    assert np.abs(made[:, 1] - np.array(published["hamilton_ar4_smoothed"])).max() > 0.3


def test_given_parameters_agree_with_a_filter_written_out() -> None:
    data, _ = made_up(400, 1)
    returns = 100 * np.diff(np.log(data["close"].to_numpy()))
    move = np.array([[KNOWN.stay_calm, 1 - KNOWN.stay_turbulent], [1 - KNOWN.stay_calm, KNOWN.stay_turbulent]])
    mean = np.array([KNOWN.mean_calm, KNOWN.mean_turbulent])
    variance = np.array([KNOWN.variance_calm, KNOWN.variance_turbulent])
    leave_calm, leave_turbulent = 1 - KNOWN.stay_calm, 1 - KNOWN.stay_turbulent
    now = np.array([leave_turbulent, leave_calm]) / (leave_calm + leave_turbulent)
    expected = []
    for value in returns:
        joint = (move @ now) * np.exp(-((value - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
        now = joint / joint.sum()
        expected.append(now[1])
    made = turbulence(data, parameters=KNOWN)
    assert made.schema == MARKOV_SCHEMA
    assert made["turbulent"][0] is None
    np.testing.assert_allclose(made["turbulent"][1:].to_numpy(), expected, rtol=1e-9)
    assert made["estimated_to"].null_count() == made["converged"].null_count() == made.height


def test_made_up_states_are_found_again() -> None:
    data, state = made_up(2_000, 7)
    made = turbulence(data, first=1_500, every=250)
    known = made.drop_nulls("turbulent")
    assert known.height == made.height - 1_500
    hit = (known["turbulent"].to_numpy() > 0.5) == (state[1_499:] == 1)
    assert hit.mean() > 0.9
    assert (known["estimated_to"] <= known["date"]).all()
    assert known["estimated_to"].n_unique() == 3
    assert known["converged"].all()


def test_real_crises_are_turbulent() -> None:
    made = turbulence(series().filter(pl.col("date").is_between(dt.date(2003, 1, 2), dt.date(2009, 6, 30))), every=126)
    by = dict(made.select("date", "turbulent").iter_rows())
    assert by[dt.date(2008, 10, 15)] > 0.99
    assert by[dt.date(2007, 12, 31)] is None
    assert made.filter(pl.col("date") > dt.date(2008, 9, 15))["turbulent"].mean() > 0.9  # type: ignore[operator]


@pytest.mark.parametrize("parameters", [None, KNOWN], ids=["estimated", "given"])
def test_later_closes_change_nothing(parameters: MarkovParameters | None) -> None:
    data, _ = made_up(320, 3)
    whole = turbulence(data, parameters=parameters, first=200, every=60)
    for cut in (150, 201, 263):
        past = turbulence(data.head(cut), parameters=parameters, first=200, every=60)
        assert_frame_equal(past, whole.head(cut), abs_tol=1e-12)
        later = pl.int_range(pl.len()) >= cut
        shaken = data.with_columns(close=pl.when(later).then(pl.col("close") * 1.1).otherwise("close"))
        assert_frame_equal(
            turbulence(shaken, parameters=parameters, first=200, every=60).head(cut), past, abs_tol=1e-12
        )


def test_an_impossible_return_is_null_from_there_on() -> None:
    data, _ = made_up(50, 3)
    broken = data.with_columns(close=pl.when(pl.int_range(pl.len()) >= 30).then(1e-9).otherwise("close"))
    made = turbulence(broken, parameters=KNOWN)["turbulent"]
    assert made[1:30].equals(turbulence(data, parameters=KNOWN)["turbulent"][1:30])
    assert made[30:].null_count() == 21


def test_little_history_is_null_and_not_a_guess() -> None:
    data, _ = made_up(300, 5)
    for n in (0, 1, 2, 100):
        made = turbulence(data.head(n), first=100)
        assert made.schema == MARKOV_SCHEMA
        assert made["turbulent"].null_count() == made.height == n
    assert turbulence(data.head(101), first=100)["turbulent"].count() == 1
    assert turbulence(data.head(1), parameters=KNOWN)["turbulent"].to_list() == [None]
    assert turbulence(data.head(0), parameters=KNOWN).is_empty()


def test_bad_arguments_are_refused() -> None:
    data, _ = made_up(10, 5)
    for change in ({"first": 99}, {"every": 0}):
        with pytest.raises(InvalidRequest, match="at least 100 and 1"):
            turbulence(data, **change)
    with pytest.raises(FrameInvariantError):
        turbulence(data.reverse())
    for field, bad in (("stay_calm", 1.0), ("mean_calm", float("nan")), ("variance_calm", 5.0)):
        with pytest.raises(InvalidRequest):
            dataclasses.replace(KNOWN, **{field: bad})


def test_without_statsmodels_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr("massive_lab.regime.markov.importlib.import_module", missing)
    with pytest.raises(ConfigError, match=r"massive-lab\[markov\]"):
        turbulence(made_up(10, 5)[0], parameters=KNOWN)
