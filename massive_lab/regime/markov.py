"""Two-state Markov switching of daily returns: the probability of the turbulent state, filtered and never smoothed.

Formula: returns are normal with a mean and a variance of the state, and the state is a Markov chain (Hamilton 1989,
Econometrica 57:357; states with own variances as in Ang and Timmermann 2012, Annual Review of Financial Economics 4:313).
The filtered probability of a day uses returns up to that day; the smoothed one also uses those after it and is not offered.

Estimation looks ahead as easily as smoothing does, so parameters are estimated again and again, on the past alone. The
arithmetic is statsmodels', an optional dependency: ``pip install 'massive-lab[markov]'``.
"""

from __future__ import annotations

import datetime as dt
import importlib
import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from massive_lab.errors import ConfigError, InvalidRequest
from massive_lab.regime.features import closes

__all__ = ["MARKOV_SCHEMA", "MarkovParameters", "filtered", "turbulence"]

MARKOV_SCHEMA = pl.Schema(
    {"date": pl.Date(), "turbulent": pl.Float64(), "estimated_to": pl.Date(), "converged": pl.Boolean()}
)
"""Columns of `turbulence`."""

_LEAST = 100


@dataclass(frozen=True, slots=True)
class MarkovParameters:
    """Parameters of the two states of daily log returns in per cent.

    Attributes
    ----------
    stay_calm, stay_turbulent : float
        Probability that the state of a day is that of the day before; above 0 and below 1.
    mean_calm, mean_turbulent : float
        In per cent a day.
    variance_calm, variance_turbulent : float
        In squared per cent; the turbulent one is the larger.

    Raises
    ------
    InvalidRequest
        Out of these ranges.

    Examples
    --------
    >>> MarkovParameters(0.99, 0.97, 0.07, -0.08, 0.45, 3.4).variance_turbulent
    3.4
    """

    stay_calm: float
    stay_turbulent: float
    mean_calm: float
    mean_turbulent: float
    variance_calm: float
    variance_turbulent: float

    def __post_init__(self) -> None:
        if not (0 < self.stay_calm < 1 and 0 < self.stay_turbulent < 1):
            raise InvalidRequest("Probabilities of staying lie above 0 and below 1.")
        if not (math.isfinite(self.mean_calm) and math.isfinite(self.mean_turbulent)):
            raise InvalidRequest("The means are not finite.")
        if not 0 < self.variance_calm < self.variance_turbulent < math.inf:
            raise InvalidRequest("Variances are above 0, and that of the turbulent state is the larger.")


def turbulence(
    spx: pl.DataFrame, *, parameters: MarkovParameters | None = None, first: int = 1260, every: int = 252
) -> pl.DataFrame:
    """The probability that each date is in the turbulent state, from closes up to that date.

    Parameters
    ----------
    spx : polars.DataFrame
        Daily bars of one symbol: table ``bars``, or `date` and `close`.
    parameters : MarkovParameters, optional
        Used for every date. They must come from elsewhere: estimated on these very dates, they look ahead.
    first : int
        Returns before the first estimate, at least 100; about five years by default.
    every : int
        Returns between estimates. Each takes all returns so far from up to three starts, some seconds for thirty years, and
        so grows with the history: thirty years in yearly steps take about a minute.

    Returns
    -------
    polars.DataFrame
        One row per date, columns as `MARKOV_SCHEMA`: `turbulent`, 0 to 1, null before the first estimate and on the first
        date, which has no return; `estimated_to`, the last date that the parameters saw, never later than `date`, null for
        given ones; `converged`, whether the optimiser said so. Where it found nothing at all, and from a return on that is
        impossible in both states, `turbulent` is null.

    Raises
    ------
    ConfigError
        statsmodels is not installed.
    InvalidRequest
        `first` or `every` is too small.
    FrameInvariantError
        See `massive_lab.regime.features.closes`.

    Notes
    -----
    A short history may have its best fit in states of single days rather than of months; the likelihood decides between
    statsmodels' own start, a persistent one and the last estimate. Read `turbulent` beside the rules, not in their place.

    Examples
    --------
    >>> days = [dt.date(2020, 1, 1) + dt.timedelta(days=i) for i in range(5)]
    >>> frame = pl.DataFrame({"date": days, "close": [100.0, 100.1, 100.2, 95.0, 99.0]})
    >>> known = MarkovParameters(0.99, 0.97, 0.07, -0.08, 0.45, 3.4)
    >>> turbulence(frame, parameters=known)["turbulent"].round(2).to_list()
    [None, 0.11, 0.04, 1.0, 1.0]
    """
    if first < _LEAST or every < 1:
        raise InvalidRequest(f"first is {first} and every {every}; at least {_LEAST} and 1 are needed.")
    data = closes(spx, "SPX")
    models = _models()
    dates = data["date"].to_list()
    returns = 100.0 * np.diff(np.log(data["close"].to_numpy()))
    found = np.full(len(dates), np.nan)
    seen: list[dt.date | None] = [None] * len(dates)
    converged: list[bool | None] = [None] * len(dates)
    if parameters is not None:
        if len(returns):
            found[1:] = filtered(_model(models, returns), _vector(parameters))[:, 1]
    else:
        last: NDArray[np.float64] | None = None
        for end in range(first, len(returns) + 1, every):
            best, good = _estimate(models, returns[:end], last)
            stop = min(end + every - 1, len(returns))
            # Return i is that of date i + 1; the date of the estimate is the first to use it.
            if best is not None:
                last = best
                probability = filtered(_model(models, returns[:stop]), best)[end - 1 :, _turbulent(best)]
                found[end : stop + 1] = probability
            seen[end : stop + 1] = [dates[end]] * (stop + 1 - end)
            converged[end : stop + 1] = [good] * (stop + 1 - end)
    return pl.DataFrame(
        {"date": dates, "turbulent": found, "estimated_to": seen, "converged": converged}, schema=MARKOV_SCHEMA
    ).with_columns(pl.col("turbulent").fill_nan(None))


def filtered(model: Any, parameters: NDArray[np.float64]) -> NDArray[np.float64]:
    """Filtered probabilities of a statsmodels Markov-switching model.

    Parameters
    ----------
    model : statsmodels MarkovRegression or MarkovAutoregression
    parameters : numpy.ndarray
        In the order of ``model.param_names``.

    Returns
    -------
    numpy.ndarray
        Float64 of shape (observations, states): row `t` is conditional on observations up to `t`.
    """
    # A value impossible in every state leaves 0 / 0: NaN from there on, and no warning besides.
    with np.errstate(all="ignore"):
        probabilities = np.asarray(model.filter(parameters).filtered_marginal_probabilities, dtype=np.float64)
    return np.where((probabilities >= -1e-9) & (probabilities <= 1 + 1e-9), probabilities, np.nan)


def _models() -> Any:
    try:
        return importlib.import_module("statsmodels.tsa.regime_switching.markov_regression")
    except ImportError:
        raise ConfigError(
            "The Markov-switching view needs statsmodels.", hint="Run: pip install 'massive-lab[markov]'"
        ) from None


def _model(models: Any, returns: NDArray[np.float64]) -> Any:
    return models.MarkovRegression(returns, k_regimes=2, trend="c", switching_variance=True)


def _vector(known: MarkovParameters) -> NDArray[np.float64]:
    return np.array(
        [
            known.stay_calm, 1 - known.stay_turbulent, known.mean_calm, known.mean_turbulent,
            known.variance_calm, known.variance_turbulent,
        ]
    )  # fmt: skip


def _turbulent(vector: NDArray[np.float64]) -> int:
    """The state with the larger variance: an estimate may name them either way."""
    return int(vector[5] > vector[4])


def _estimate(
    models: Any, returns: NDArray[np.float64], last: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64] | None, bool]:
    """The likeliest parameters over a few starts, the same for the same returns, and whether the optimiser converged."""
    model = _model(models, returns)
    mean, variance = float(np.mean(returns)), float(np.var(returns))
    starts = [None, np.array([0.98, 0.04, mean, mean, 0.5 * variance, 2.5 * variance]), last]
    best: NDArray[np.float64] | None = None
    good, highest = False, -math.inf
    for start in starts if last is not None else starts[:2]:
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                # What the optimiser complains of is in `converged`.
                warnings.simplefilter("ignore")
                fit = model.fit(start_params=start, disp=False)
        except (ValueError, np.linalg.LinAlgError):  # a start that leads nowhere
            continue
        vector = np.asarray(fit.params, dtype=np.float64)
        if np.isfinite(vector).all() and vector[4:].min() > 0 and math.isfinite(fit.llf) and fit.llf > highest:
            best, good, highest = vector, bool(fit.mle_retvals["converged"]), float(fit.llf)
    return best, good
