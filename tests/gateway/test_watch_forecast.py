"""WatchForecast: the band that Forecast gives for the same closes, at each closed bar."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from forecast_service.wire import DEFAULT_LEVELS
from gateway.stores import open_store
from gateway.telemetry.readings import readings
from market_data.streaming import live_store
from market_data.streaming.bars import FIVE_MS, Bar
from marketcal.v1 import forecast_pb2 as pb

START = 1_790_000_100_000 // FIVE_MS * FIVE_MS
PRICES = [0.4 + 0.002 * (place % 17) for place in range(40)]
EWMA = pb.ModelSpec(name="ewma")


@dataclass
class Live:
    """A gateway, and the store that a stream worker would write into."""

    running: Any
    stub: Any
    metadata: Any

    def close_bars(self, prices: Sequence[float], first: int = 0, market: str = "m") -> None:
        """Writes bars of consecutive five minutes from place ``first`` on."""
        bars = [
            Bar(market, FIVE_MS, START + place * FIVE_MS, p, p, p, p, 0, 0, 1, 0.0)
            for place, p in enumerate(prices, first)
        ]
        engine = open_store(self.running.parts.settings.control.url)
        with engine.begin() as connection:
            live_store.write_bars(connection, bars)
        engine.dispose()

    def watch(self, **fields: Any) -> Any:
        request = pb.WatchForecastRequest(**({"market_id": "m", "model": EWMA} | fields))
        return self.stub.WatchForecast(request, metadata=self.metadata, timeout=20)

    def asked(self, prices: Sequence[float], **fields: Any) -> pb.ForecastResponse:
        """What Forecast says of the same prices."""
        given = {"market_id": "m", "model": EWMA, "values": prices} | fields
        answer = self.stub.Forecast(pb.ForecastRequest(**given), metadata=self.metadata, timeout=20)
        assert isinstance(answer, pb.ForecastResponse)
        return answer

    def value(self, name: str, *labels: str) -> Any:
        """A metric, now; None where it is not there."""
        found = readings(self.running.parts.sources)
        values = [one.value for one in found if (one.metric.name, one.labels) == (name, labels)]
        return values[0] if values else None


@pytest.fixture
def live(serve_gateway: Any, stubs_on: Any, bearer: Any, until: Any) -> Iterator[Live]:
    with ExitStack() as stack:
        running = serve_gateway(stack, forecast={"in_process": "always"})
        metadata = bearer(running.key("forecaster"))
        yield Live(running, stubs_on(running.channel).forecasts, metadata)


@pytest.fixture
def waiting(live: Live, until: Any) -> Callable[[int], None]:
    """Waits until so many streams wait for bars."""
    name = "marketcal_forecast_watchers"
    return lambda count: until(lambda: live.value(name) == count)


def end(place: int) -> int:
    return START + (place + 1) * FIVE_MS


def millis(message: pb.WatchForecastResponse) -> int:
    return message.forecast.as_of_time.ToMilliseconds()


def test_each_closed_bar_brings_the_band_that_forecast_gives(live: Live) -> None:
    live.close_bars(PRICES)
    stream = live.watch(horizon_steps=3, quantiles=[0.05, 0.5, 0.95])
    first = next(stream)
    live.close_bars([0.7], first=len(PRICES))
    second = next(stream)
    stream.cancel()

    assert [millis(first), millis(second)] == [end(39), end(40)]
    for message, prices in ((first, PRICES), (second, [*PRICES, 0.7])):
        alone = live.asked(prices, horizon_steps=3, quantiles=[0.05, 0.5, 0.95])
        assert list(message.forecast.quantile_paths) == list(alone.quantile_paths)
        assert (message.forecast.market_id, message.forecast.freq) == ("m", "5m")
        assert message.forecast.meta.model_name == "ewma"


def test_the_model_sees_at_most_288_closes_and_a_gap_after_an_hour(live: Live) -> None:
    early, late = [0.3] * 300, [0.5, 0.52, 0.51]
    live.close_bars(early)
    live.close_bars(late, first=315)
    stream = live.watch()
    message = next(stream)
    stream.cancel()
    seen = ([*early, *[0.3] * 12, *[math.nan] * 3, *late])[-288:]
    assert message.forecast.meta.input_length == 288
    assert list(message.forecast.quantile_paths) == list(live.asked(seen).quantile_paths)
    assert [path.level for path in message.forecast.quantile_paths] == list(DEFAULT_LEVELS)
    assert message.forecast.horizon_steps == 12


def test_a_market_without_bars_waits_for_its_first_ones(
    live: Live, waiting: Callable[[int], None], until: Any
) -> None:
    stream = live.watch()
    waiting(1)
    live.close_bars([0.5], market="another")
    live.close_bars([0.4])  # one price is none to forecast from
    until(lambda: live.value("marketcal_forecast_bars_skipped_total", "INVALID_FIELD") == 1)
    live.close_bars([0.42], first=1)
    assert millis(next(stream)) == end(1)
    stream.cancel()
    waiting(0)


def test_the_default_model_is_asked_where_none_is_named(live: Live) -> None:
    live.close_bars(PRICES)
    stream = live.watch(model=None)
    assert next(stream).forecast.meta.model_name == "native"
    stream.cancel()


@pytest.mark.parametrize(
    ("fields", "code", "reason", "field"),
    [
        ({"model": pb.ModelSpec(name="no-such")}, "NOT_FOUND", "MODEL_NOT_FOUND", []),
        ({"quantiles": [0.5, 0.1]}, "INVALID_ARGUMENT", "INVALID_FIELD", ["quantiles[1]"]),
        ({"horizon_steps": 5000}, "INVALID_ARGUMENT", "INVALID_FIELD", ["horizon_steps"]),
        ({"market_id": ""}, "INVALID_ARGUMENT", "INVALID_FIELD", ["market_id"]),
    ],
)
def test_what_no_bar_could_answer_is_refused_at_once(
    fields: Any, code: str, reason: str, field: list[str], live: Live, refused: Any
) -> None:
    def call(request: Any, **named: Any) -> Any:
        return list(live.stub.WatchForecast(request, **named))

    request = pb.WatchForecastRequest(**({"market_id": "m"} | fields))
    refusal = refused(call, request, live.metadata)
    assert (refusal.code, refusal.reason, refusal.fields) == (code, reason, field)


def test_a_viewer_may_not_watch_bands(live: Live, refused: Any, bearer: Any) -> None:
    def call(request: Any, **named: Any) -> Any:
        return list(live.stub.WatchForecast(request, **named))

    viewer = bearer(live.running.key("viewer"))
    assert refused(call, pb.WatchForecastRequest(market_id="m"), viewer).reason == "SCOPE_MISSING"
