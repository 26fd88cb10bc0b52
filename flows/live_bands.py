"""Bands for watched markets: through the gateway, or by a baseline where that comes too late."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
LEVELS = 5
"""Of a forecast, see `levels_of`."""
LATE = "FORECAST_LATE"
REFUSED = "FORECAST_REFUSED"
TOO_SHORT = 2
"""A series with fewer prices has no forecast."""


class Bands(Protocol):
    """Forecasts series."""

    async def issue(
        self, issued_ms: int, series: Mapping[str, NDArray[np.float64]]
    ) -> dict[str, Band]:
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
        self._turn = asyncio.Lock()

    async def issue(
        self, issued_ms: int, series: Mapping[str, NDArray[np.float64]]
    ) -> dict[str, Band]:
        """Bands from the gateway, one call at a time; what it did not answer as asked is left out.

        Raises:
            MarketcalError: the call fails.
        """
        async with self._turn:
            return await self._ask(issued_ms, series)

    async def _ask(
        self, issued_ms: int, series: Mapping[str, NDArray[np.float64]]
    ) -> dict[str, Band]:
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
        if len(answer.results) != len(series):
            _LOG.warning("%d forecasts for %d series", len(answer.results), len(series))
        found = {}
        for name, result in zip(series, answer.results, strict=False):
            if result.WhichOneof("result") != "forecast":
                _LOG.warning("no forecast of %s: %s", name, result.error.message)
                continue
            try:
                found[name] = _issued(issued_ms, result.forecast, self._steps)
            except BadForecast as error:
                _LOG.warning("no usable forecast of %s: %s", name, error)
        return found


def levels_of(policy: AlertPolicy) -> tuple[float, float, float, float, float]:
    """The levels that alerts need, with the median."""
    return (policy.alert_low_level, policy.inner_low_level, 0.5, policy.inner_high_level,
            policy.alert_high_level)  # fmt: skip


class BadForecast(ValueError):
    """A forecast is not what was asked for; the message says in what."""


def _issued(issued_ms: int, answer: Any, steps: int) -> Band:
    """A band of a ForecastResponse: corrected where it has that, as the model gave it otherwise.

    Raises:
        BadForecast: it has not the paths, steps or numbers that were asked for.
    """
    meta = answer.meta
    paths = [tuple(path.values) for path in answer.conformal_paths or answer.quantile_paths]
    if len(paths) != LEVELS or any(len(path) != steps for path in paths):
        lengths = ", ".join(str(len(path)) for path in paths) or "no"
        raise BadForecast(f"paths of {lengths} steps, and {LEVELS} of {steps} were asked for")
    if not all(math.isfinite(value) for path in paths for value in path):
        raise BadForecast("a number of it is none")
    reason = ""
    if meta.fallback_used:
        reasons = meta.DESCRIPTOR.fields_by_name["fallback_reason"].enum_type
        reason = reasons.values_by_number[meta.fallback_reason].name
    band = band_from(issued_ms, paths, meta.model_name, reason)
    return replace(band, is_corrected=bool(answer.conformal_paths))


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
    ) -> dict[str, Band]:
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
            name: band_from(issued_ms, given.quantiles[row].T, self._model, reason)
            for row, name in enumerate(series)
        }


class LocalBands:
    """The baseline as the model that was asked for: there is no gateway to ask."""

    def __init__(self, baseline: BaselineBands) -> None:
        self._baseline = baseline

    async def issue(
        self, issued_ms: int, series: Mapping[str, NDArray[np.float64]]
    ) -> dict[str, Band]:
        """Bands of the baseline."""
        return self._baseline.issue(issued_ms, series, "")


@dataclass(slots=True)
class Waiting:
    """Forecasts that are under way for one closed bar."""

    issued_ms: int
    series: dict[str, NDArray[np.float64]]
    task: asyncio.Task[dict[str, Band]]


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
    issued: dict[str, list[Band]] = field(default_factory=dict)
    fresh: list[tuple[str, Band]] = field(default_factory=list)
    late: int = 0
    _waiting: list[Waiting] = field(default_factory=list)

    def begin(self, issued_ms: int, series: dict[str, NDArray[np.float64]]) -> None:
        """Asks for bands, of ``ITEMS`` markets at once: one part may fail without the others.

        A market that is too short for one is left out.
        """
        usable = {
            name: values
            for name, values in series.items()
            if np.count_nonzero(np.isfinite(values)) >= TOO_SHORT
        }
        names = list(usable)
        for begin in range(0, len(names), ITEMS):
            part = {name: usable[name] for name in names[begin : begin + ITEMS]}
            task = asyncio.create_task(self.bands.issue(issued_ms, part))
            self._waiting.append(Waiting(issued_ms, part, task))

    async def settle(self) -> None:
        """Waits until what was asked for is there, or something stands in for it."""
        asked, self._waiting = self._waiting, []
        if not asked:
            return
        tasks = [one.task for one in asked]
        try:
            await asyncio.wait(tasks, timeout=self.wait_seconds)
        finally:
            for task in tasks:
                task.cancel()  # those that are not done
        await asyncio.gather(*tasks, return_exceptions=True)
        for waiting in asked:
            self._take(waiting)

    def _take(self, waiting: Waiting) -> None:
        found: dict[str, Band] = {}
        reason = REFUSED
        try:
            found = waiting.task.result()
        except asyncio.CancelledError:
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

    def keep(self, market_id: str, issued: Band) -> None:
        """Takes a band of a market over."""
        self.issued[market_id] = [*self.issued.get(market_id, [])[-1:], issued]

    def before(self, market_id: str, at_ms: int) -> Band | None:
        """The latest band that was issued before an instant."""
        for one in reversed(self.issued.get(market_id, [])):
            if one.issued_ms < at_ms:
                return one
        return None

    def age_ms(self, market_id: str, now_ms: int) -> float:
        """Age of the latest band; infinite without one."""
        found = self.issued.get(market_id)
        return now_ms - found[-1].issued_ms if found else math.inf

    def take_fresh(self) -> list[tuple[str, Band]]:
        """Bands that came since the last time."""
        taken, self.fresh = self.fresh, []
        return taken

    def forget(self, market_ids: Iterable[str]) -> None:
        """Gives up the bands of markets."""
        for market_id in market_ids:
            self.issued.pop(market_id, None)

    async def close(self) -> None:
        """Gives up what is under way."""
        tasks = [waiting.task for waiting in self._waiting]
        self._waiting = []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
