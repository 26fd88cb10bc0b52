"""What a forecast says: bands that are bands, and how they were made."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marketcal.v1 import forecast_pb2 as pb
from marketcal.v1 import segments_pb2

PRICES = st.lists(
    st.one_of(st.floats(0.0, 1.0), st.sampled_from([0.0, 1.0, 5e-324, math.nan])),
    min_size=2, max_size=80,
)  # fmt: skip
LEVELS = st.lists(st.floats(0.001, 0.999), min_size=1, max_size=9, unique=True).map(sorted)


@pytest.fixture(scope="session")
def forecast(stubs: Any, as_forecaster: Any, make_request: Any) -> Any:
    """The answer to a good request, bent by fields."""
    return lambda **fields: stubs.forecasts.Forecast(
        make_request(**fields), metadata=as_forecaster, timeout=20
    )


@pytest.fixture(scope="session")
def models(stubs: Any, as_forecaster: Any) -> list[str]:
    answer = stubs.forecasts.ListModels(pb.ListModelsRequest(), metadata=as_forecaster, timeout=20)
    return [model.name for model in answer.models]


def codes(answer: Any) -> dict[str, int]:
    return {
        pb.WarningCode.Name(w.code)[len("WARNING_CODE_") :]: w.count for w in answer.meta.warnings
    }


def test_defaults_are_filled_in_and_said(forecast: Any) -> None:
    answer = forecast(values=[0.4, 0.5] * 48, as_of_time=Timestamp(seconds=1_700_000_000))

    assert (answer.market_id, answer.freq, answer.horizon_steps) == ("polymarket:1", "5m", 12)
    assert answer.as_of_time.seconds == 1_700_000_000
    assert [path.level for path in answer.quantile_paths] == [0.1, 0.5, 0.9]
    assert all(len(path.values) == 12 for path in answer.quantile_paths)
    meta = answer.meta
    assert (meta.model_name, meta.model_version, meta.runtime) == ("native", "1", "onnxruntime")
    assert meta.served_by == "in-process"
    assert (meta.transform.space, meta.transform.eps) == (pb.TRANSFORM_SPACE_LOGIT, 1e-6)
    assert (meta.input_length, meta.missing_ratio) == (96, 0.0)
    assert not meta.fallback_used
    assert meta.effective_horizon >= 1
    assert meta.latency.ToNanoseconds() > 0
    assert codes(answer) == {}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.data())
def test_bands_lie_in_the_unit_interval_and_do_not_cross(
    data: st.DataObject, forecast: Any, models: list[str]
) -> None:
    fields = {
        "values": [*data.draw(PRICES), 0.5],
        "quantiles": data.draw(LEVELS),
        "horizon_steps": data.draw(st.integers(1, 60)),
        "model": pb.ModelSpec(name=data.draw(st.sampled_from(models))),
        "transform": pb.Transform(
            space=data.draw(st.sampled_from([0, 1, 2])),
            eps=data.draw(st.sampled_from([0.0, 1e-12, 1e-6, 0.01])),
        ),
    }
    answer = forecast(**fields)

    paths = [list(path.values) for path in answer.quantile_paths]
    assert [path.level for path in answer.quantile_paths] == fields["quantiles"]
    for step in zip(*paths, strict=True):
        assert all(0.0 <= value <= 1.0 for value in step)
        assert list(step) == sorted(step)


def test_missing_prices_are_counted(forecast: Any) -> None:
    answer = forecast(values=[0.5, math.nan, 0.5, 0.5])
    assert answer.meta.input_length == 4
    assert answer.meta.missing_ratio == 0.25


@pytest.mark.parametrize(
    ("fields", "code", "count"),
    [
        ({"values": [0.5] * 524}, "CONTEXT_TRUNCATED", 12),
        ({"past_covariates": [pb.Covariate(name="v", values=[1.0] * 96)]}, "COVARIATES_IGNORED", 1),
        ({"future_covariates": [pb.Covariate(name="v", values=[1.0] * 12)] * 2},
         "COVARIATES_IGNORED", 2),
        ({"values": [math.nan, 0.5]}, "SHORT_HISTORY", 1),
    ],
)  # fmt: skip
def test_what_the_caller_should_know_is_said(
    fields: Any, code: str, count: int, forecast: Any
) -> None:
    assert codes(forecast(**fields))[code] == count


def test_the_longest_answer_and_the_longest_series_are_answered(forecast: Any) -> None:
    levels = [i / 100 for i in range(1, 100)]
    answer = forecast(horizon_steps=2_016, quantiles=levels, values=[0.5, 0.51] * 10_000)
    assert len(answer.quantile_paths) == 99
    assert len(answer.quantile_paths[0].values) == 2_016


def test_times_a_microsecond_apart_rise(forecast: Any) -> None:
    times = [Timestamp(seconds=1_700_000_000, nanos=100 * i) for i in range(3)]
    assert forecast(values=[0.5, 0.5, 0.5], value_times=times).quantile_paths


def test_a_batch_answers_in_the_order_of_its_items(
    stubs: Any, as_forecaster: Any, make_request: Any, forecast: Any, models: list[str]
) -> None:
    items = [
        make_request(market_id=f"m{i}", horizon_steps=1 + i % 5, model=pb.ModelSpec(name=name))
        for i, name in enumerate(models * 7)
    ]
    answer = stubs.forecasts.BatchForecast(
        pb.BatchForecastRequest(items=items), metadata=as_forecaster, timeout=20
    )
    assert [r.forecast.market_id for r in answer.results] == [item.market_id for item in items]
    for item, result in zip(items[:8], answer.results[:8], strict=True):
        alone = stubs.forecasts.Forecast(item, metadata=as_forecaster, timeout=20)
        assert list(alone.quantile_paths) == list(result.forecast.quantile_paths)


def test_a_thousand_items_are_answered(stubs: Any, as_forecaster: Any, make_request: Any) -> None:
    batch = pb.BatchForecastRequest(items=[make_request()] * 1_000)
    answer = stubs.forecasts.BatchForecast(batch, metadata=as_forecaster, timeout=20)
    assert all(result.HasField("forecast") for result in answer.results)


def test_models_come_in_pages_with_their_limits(
    stubs: Any, refused: Any, as_forecaster: Any, models: list[str]
) -> None:
    seen, request = [], pb.ListModelsRequest(page_size=2)
    while True:
        answer = stubs.forecasts.ListModels(request, metadata=as_forecaster, timeout=20)
        seen += [model.name for model in answer.models]
        if not answer.next_page_token:
            break
        request.page_token = answer.next_page_token
    assert seen == models == sorted(set(models))
    refusal = refused(
        stubs.forecasts.ListModels, pb.ListModelsRequest(page_token="no such"), as_forecaster
    )
    assert refusal.reason == "INVALID_PAGE_TOKEN"


def test_a_model_is_shown_with_what_it_has_done(
    stubs: Any, refused: Any, as_forecaster: Any, forecast: Any
) -> None:
    forecast(model=pb.ModelSpec(name="local_level"))
    call = stubs.forecasts.GetModel

    answer = call(pb.GetModelRequest(name="local_level"), metadata=as_forecaster, timeout=20)

    assert (answer.model.name, answer.model.family) == ("local_level", "baseline")
    assert answer.statistics.requests >= 1
    assert answer.statistics.latencies_ms[-1].upper_bound == math.inf
    assert refused(call, pb.GetModelRequest(name="none"), as_forecaster).reason == "MODEL_NOT_FOUND"


def test_models_are_compared_on_one_series(
    stubs: Any, as_forecaster: Any, make_request: Any, forecast: Any
) -> None:
    request = pb.CompareForecastsRequest(
        market_id="polymarket:1",
        request=make_request(),
        models=[pb.ModelSpec(name=name) for name in ("ewma", "none", "last_value")],
    )
    answer = stubs.forecasts.CompareForecasts(request, metadata=as_forecaster, timeout=20)

    assert [r.WhichOneof("result") for r in answer.results] == ["forecast", "error", "forecast"]
    alone = forecast(model=pb.ModelSpec(name="last_value"))
    assert list(answer.results[2].forecast.quantile_paths) == list(alone.quantile_paths)


def test_the_answer_names_its_route_and_segment(forecast: Any) -> None:
    meta = forecast(
        liquidity_bucket=segments_pb2.LIQUIDITY_BUCKET_MID,
        category="sports",
        time_to_event=Duration(seconds=3_600),
    ).meta
    assert meta.route == "default"
    assert meta.segment == "category=sports|liquidity=MID|tte=LE_6H"
    assert forecast(model=pb.ModelSpec(name="ewma")).meta.route == "asked"


def test_a_stranger_cannot_make_the_server_parse(gateway: Any, refused: Any) -> None:
    garbage = b"\xff" * (4 << 20)
    for method in ("Forecast", "BatchForecast"):
        call = gateway.channel.unary_unary(f"/marketcal.v1.ForecastService/{method}")
        assert refused(call, garbage).reason == "CREDENTIAL_MISSING"
    stream = gateway.channel.unary_stream("/marketcal.v1.ForecastService/WatchForecast")
    assert refused(lambda r, **n: list(stream(r, **n)), garbage).reason == "CREDENTIAL_MISSING"


async def test_concurrent_callers_each_get_their_own_answer(
    gateway: Any, as_forecaster: Any, make_request: Any
) -> None:
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        call = channel.unary_unary(
            "/marketcal.v1.ForecastService/Forecast",
            request_serializer=pb.ForecastRequest.SerializeToString,
            response_deserializer=pb.ForecastResponse.FromString,
        )
        levels = [i / 400 for i in range(1, 200)]
        answers = await asyncio.gather(
            *(
                call(make_request(values=[p] * 8, market_id=f"m{p}"), metadata=as_forecaster)
                for p in levels
            )
        )
    for price, answer in zip(levels, answers, strict=True):
        assert answer.market_id == f"m{price}"
        assert abs(answer.quantile_paths[1].values[0] - price) < 0.05
