"""Bands for watched markets: through the gateway, or by a baseline where that comes too late."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from calibration_service.alerts.policy import AlertPolicy
from calibration_service.alerts.values import Band
from forecast_service.baselines import forecast
from forecast_service.transform import LOGIT
from market_data.streaming.bars import FIVE_MS
from marketcal import AsyncClient, forecast_request
from marketcal.errors import MarketcalError

_LOG = logging.getLogger("flows.live")
ITEMS = 250
"""Series of one call."""
LATE = "FORECAST_LATE"
REFUSED = "FORECAST_REFUSED"
TOO_SHORT = 2
"""A series with fewer prices has no forecast."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A band, and whether measured outcomes stand behind its levels."""

    band: Band
    is_corrected: bool


class Bands(Protocol):
    """Forecasts series."""

    async def issue(
        self, issued_ms: int, series: Mapping[str, NDArray[np.float64]]
    ) -> dict[str, Issued]:
        """Bands of closes that end at ``issued_ms``; a market without one is left out."""
        ...


class GatewayBands:
    """Asks ``BatchForecast``.

    Args:
        client: of the gateway.
        policy: whose levels are asked for.
        steps: of five minutes.
        model: name of the model; "" for the server's default.
        timeout: seconds of one call.
    """

    def __init__(
        self, client: AsyncClient, policy: AlertPolicy, steps: int, model: str, timeout: float
    ) -> None:
        self._client = client
        self._levels = levels_of(policy)
        self._steps = steps
        self._model = model
        self._timeout = timeout

    async def issue(
        self, issued_ms: int, series: Mapping[str, NDArray[np.float64]]
    ) -> dict[str, Issued]:
        """Bands from the gateway; raises MarketcalError where a call fails."""
        names = list(series)
        found: dict[str, Issued] = {}
        for begin in range(0, len(names), ITEMS):
            part = names[begin : begin + ITEMS]
            found |= await self._ask(issued_ms, {name: series[name] for name in part})
        return found

    async def _ask(
        self, issued_ms: int, series: Mapping[str, NDArray[np.float64]]
    ) -> dict[str, Issued]:
        at = datetime.fromtimestamp(issued_ms / 1_000, UTC)
        asked: dict[str, Any] = {"model": self._model} if self._model else {}
        items = [
            forecast_request(
                name, values, as_of_time=at, freq="5m", horizon_steps=self._steps,
                quantiles=self._levels, **asked,
            )
            for name, values in series.items()
        ]  # fmt: skip
        answer = await self._client.batch_forecast(items, timeout=self._timeout)
        found = {}
        for name, result in zip(series, answer.results, strict=True):
            if result.WhichOneof("result") == "forecast":
                found[name] = _issued(issued_ms, result.forecast)
            else:
                _LOG.warning("no forecast of %s: %s", name, result.error.message)
        return found


def levels_of(policy: AlertPolicy) -> tuple[float, float, float, float, float]:
    """The levels that alerts need, with the median."""
    return (policy.alert_low_level, policy.inner_low_level, 0.5, policy.inner_high_level,
            policy.alert_high_level)  # fmt: skip


def _issued(issued_ms: int, answer: Any) -> Issued:
    """A band of a ForecastResponse: corrected where it has that, as the model gave it otherwise."""
    meta = answer.meta
    paths = [tuple(path.values) for path in answer.conformal_paths or answer.quantile_paths]
    reason = ""
    if meta.fallback_used:
        reasons = meta.DESCRIPTOR.fields_by_name["fallback_reason"].enum_type
        reason = reasons.values_by_number[meta.fallback_reason].name
    return Issued(
        band_from(issued_ms, paths, meta.model_name, reason), bool(answer.conformal_paths)
    )


def band_from(
    issued_ms: int, paths: Sequence[Sequence[float]], model: str, fallback_reason: str = ""
) -> Band:
    """A band of paths at the levels of `levels_of`, rounded to a millionth.

    What a model answers hangs, in its last digits, on what else was in the batch; alerts must not.
    """
    low, inner_low, _, inner_high, high = (
        tuple(round(float(value), 6) for value in path) for path in paths
    )
    return Band(issued_ms, FIVE_MS, low, high, inner_low, inner_high, model, fallback_reason)


class BaselineBands:
    """A baseline in this process: arithmetic of some milliseconds, and it is always there."""

    def __init__(self, policy: AlertPolicy, steps: int, model: str) -> None:
        self._levels = np.array(levels_of(policy))
        self._steps = steps
        self._model = model

    def issue(
        self, issued_ms: int, series: Mapping[str, NDArray[np.float64]], reason: str
    ) -> dict[str, Issued]:
        """Bands of all series at once; ``reason`` says why the model did not answer."""
        if not series:
            return {}
        longest = max(len(values) for values in series.values())
        stacked = np.full((len(series), longest), math.nan)
        for row, values in enumerate(series.values()):
            stacked[row, longest - len(values) :] = values
        given = forecast(
            self._model, stacked, horizon_steps=self._steps, levels=self._levels, transform=LOGIT
        )
        return {
            name: Issued(band_from(issued_ms, given.quantiles[row].T, self._model, reason), False)
            for row, name in enumerate(series)
        }


class LocalBands:
    """The baseline as the model that was asked for: there is no gateway to ask."""

    def __init__(self, baseline: BaselineBands) -> None:
        self._baseline = baseline

    async def issue(
        self, issued_ms: int, series: Mapping[str, NDArray[np.float64]]
    ) -> dict[str, Issued]:
        """Bands of the baseline."""
        return self._baseline.issue(issued_ms, series, "")


@dataclass(slots=True)
class Waiting:
    """Forecasts that are under way for one closed bar."""

    issued_ms: int
    series: dict[str, NDArray[np.float64]]
    task: asyncio.Task[dict[str, Issued]]


@dataclass(slots=True)
class BandBook:
    """The bands that gates may use, by market.

    A gate uses the band of the last closed five-minute bar, and waits for it for ``wait_seconds``;
    then a baseline stands in and says so, so that a replay of the same events gives the same
    alerts whatever the machine does meanwhile.

    Attributes:
        bands: makes forecasts; baseline: stands in.
        wait_seconds: longest wait.
        issued: the last two bands of each market, the later one last.
        fresh: bands that came since somebody last looked.
        late: how many bars had to do with the baseline.
    """

    bands: Bands
    baseline: BaselineBands
    wait_seconds: float
    issued: dict[str, list[Issued]] = field(default_factory=dict)
    fresh: list[tuple[str, Issued]] = field(default_factory=list)
    late: int = 0
    _waiting: list[Waiting] = field(default_factory=list)

    def begin(self, issued_ms: int, series: dict[str, NDArray[np.float64]]) -> None:
        """Asks for bands; a market that is too short for one is left out."""
        usable = {
            name: values
            for name, values in series.items()
            if np.count_nonzero(np.isfinite(values)) >= TOO_SHORT
        }
        if usable:
            task = asyncio.create_task(self.bands.issue(issued_ms, usable))
            self._waiting.append(Waiting(issued_ms, usable, task))

    async def settle(self) -> None:
        """Waits until what was asked for is there, or something stands in for it."""
        asked, self._waiting = self._waiting, []
        for waiting in asked:
            await self._take(waiting)

    async def _take(self, waiting: Waiting) -> None:
        found: dict[str, Issued] = {}
        reason = REFUSED
        try:
            async with asyncio.timeout(self.wait_seconds):
                found = await waiting.task
        except TimeoutError:
            reason = LATE
        except MarketcalError as error:
            _LOG.warning("no forecasts for %d: %s", waiting.issued_ms, error)
        lacking = {name: one for name, one in waiting.series.items() if name not in found}
        self.late += len(lacking)
        for name, issued in (
            found | self.baseline.issue(waiting.issued_ms, lacking, reason)
        ).items():
            self.keep(name, issued)
            self.fresh.append((name, issued))

    def keep(self, market_id: str, issued: Issued) -> None:
        """Takes a band of a market over."""
        self.issued[market_id] = [*self.issued.get(market_id, [])[-1:], issued]

    def before(self, market_id: str, at_ms: int) -> Issued | None:
        """The latest band that was issued before an instant."""
        for one in reversed(self.issued.get(market_id, [])):
            if one.band.issued_ms < at_ms:
                return one
        return None

    def age_ms(self, market_id: str, now_ms: int) -> float:
        """Age of the latest band; infinite without one."""
        found = self.issued.get(market_id)
        return now_ms - found[-1].band.issued_ms if found else math.inf

    def take_fresh(self) -> list[tuple[str, Issued]]:
        """Bands that came since the last time."""
        taken, self.fresh = self.fresh, []
        return taken

    async def close(self) -> None:
        """Gives up what is under way."""
        tasks = [waiting.task for waiting in self._waiting]
        self._waiting = []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
