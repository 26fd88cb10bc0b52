"""What can be read of a gateway, and that no caller can make it more."""

from __future__ import annotations

import contextvars
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from prometheus_client.parser import text_string_to_metric_families

from forecast_service.policy.decisions import OUTERMOST, RECENT, Share
from forecast_service.wire import DEFAULT_LEVELS
from gateway.contract import read_methods
from gateway.interceptors.telemetry import Telemetry
from gateway.telemetry.exposition import Exposition
from gateway.telemetry.instruments import METRICS, Kind, Metric
from gateway.telemetry.readings import Distribution, Reading, calls_readings, readings
from marketcal.v1 import forecast_pb2 as pb

VALUES = [0.4, 0.41, 0.43, 0.42] * 24
RPC = "rpc_server_duration_milliseconds"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


@pytest.fixture
def served(serve_gateway: Any, stack: ExitStack) -> Any:
    """A gateway that lets anybody forecast."""
    return serve_gateway(
        stack, gateway={"anonymous_role": "forecaster"}, forecast={"in_process": "always"}
    )


def page(gateway: Any) -> str:
    return Exposition(lambda: readings(gateway.parts.sources)).text().decode()


def samples(gateway: Any) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Values by name and labels, as Prometheus's own parser reads them."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page(gateway))
        for sample in family.samples
        if not family.name.startswith("process_")
    }


def value(gateway: Any, name: str, **labels: str) -> float:
    return samples(gateway)[name, tuple(sorted(labels.items()))]


def test_calls_are_counted_by_method_and_code_with_their_durations(
    served: Any, forecasts_on: Any
) -> None:
    stub = forecasts_on(served.channel)
    began = time.monotonic()
    for _ in range(3):
        stub.Forecast(pb.ForecastRequest(market_id="m", values=VALUES), timeout=20)
    passed = (time.monotonic() - began) * 1e3
    with pytest.raises(grpc.RpcError):
        stub.Forecast(pb.ForecastRequest(market_id="", values=VALUES), timeout=20)

    of = {"rpc_service": "marketcal.v1.ForecastService", "rpc_method": "Forecast"}
    assert value(served, f"{RPC}_count", **of, rpc_grpc_status_code="0") == 3
    assert 0 < value(served, f"{RPC}_sum", **of, rpc_grpc_status_code="0") <= passed
    assert value(served, f"{RPC}_count", **of, rpc_grpc_status_code="3") == 1
    assert value(served, "rpc_server_active_requests", **of) == 0
    assert value(served, "marketcal_refusals_total", reason="INVALID_FIELD") == 1


def test_forecasts_are_counted_with_cache_stand_ins_and_widths(
    served: Any, forecasts_on: Any
) -> None:
    stub = forecasts_on(served.channel)
    native, short = pb.ModelSpec(name="native"), [0.4, 0.5]
    widths = 0.0
    for _ in range(2):
        request = pb.ForecastRequest(market_id="m", values=VALUES, model=native)
        paths = stub.Forecast(request, timeout=20).quantile_paths
        widths += paths[-1].values[-1] - paths[0].values[-1]
    answer = stub.Forecast(pb.ForecastRequest(market_id="m", values=short, model=native))
    assert answer.meta.fallback_used

    assert value(served, "marketcal_forecasts_total", model="native", cache="MISS") == 2
    assert value(served, "marketcal_forecasts_total", model="native", cache="HIT") == 1
    assert value(served, "marketcal_fallbacks_total", reason="TOO_FEW_POINTS") == 1
    assert value(served, "fallback_rate") == pytest.approx(1 / 3)
    assert value(served, "interval_width_sum", model="native") == pytest.approx(widths, abs=1e-6)
    assert value(served, "tollama_latency_ms_count", model="native") == 1
    assert value(served, "marketcal_rate_limit_verdicts_total", verdict="allowed") == 3


def test_widths_are_of_one_pair_of_levels_alone(served: Any, forecasts_on: Any) -> None:
    """A caller's own levels, or a single one of no width, would tell nothing of a model."""
    stub = forecasts_on(served.channel)
    widths = 0.0
    for levels in ([0.1, 0.25, 0.9], [], [0.5], [0.4, 0.6], [0.01, 0.1, 0.9]):
        request = pb.ForecastRequest(
            market_id="m", values=VALUES, quantiles=levels, model=pb.ModelSpec(name="ewma")
        )
        paths = stub.Forecast(request, timeout=20).quantile_paths
        if levels in ([], [0.1, 0.25, 0.9]):
            widths += paths[-1].values[-1] - paths[0].values[-1]
    assert value(served, "interval_width_count", model="ewma") == 2
    assert value(served, "interval_width_sum", model="ewma") == pytest.approx(widths, abs=1e-6)
    assert (DEFAULT_LEVELS[0], DEFAULT_LEVELS[-1]) == OUTERMOST


def test_refused_credentials_and_spent_limits_are_counted_by_reason(
    served: Any, forecasts_on: Any
) -> None:
    stub = forecasts_on(served.channel)
    request = pb.ForecastRequest(market_id="m", values=VALUES)
    key = served.key("forecaster", rate_per_minute=1, burst=1)
    for sent in ("nonsense", key, key):
        metadata = (("authorization", f"Bearer {sent}"),)
        stub.Forecast.future(request, metadata=metadata, timeout=20).exception()

    assert value(served, "marketcal_refusals_total", reason="CREDENTIAL_INVALID") == 1
    assert value(served, "marketcal_refusals_total", reason="RATE_LIMITED") == 1
    assert value(served, "marketcal_rate_limit_verdicts_total", verdict="refused") == 1


def test_two_thousand_callers_names_and_models_make_no_further_series(
    served: Any, forecasts_on: Any
) -> None:
    stub = forecasts_on(served.channel)

    def ask(name: str) -> None:
        request = pb.ForecastRequest(
            market_id=f"polymarket:{name}", values=VALUES[: 30 + len(name) % 9],
            model=pb.ModelSpec(name=name if len(name) % 2 else "ewma"),
        )  # fmt: skip
        metadata = (
            (f"x-{name}", name),
            ("x-request-id", name),
            ("x-api-key", f"mk_{name}"),
        )
        with_key = metadata if len(name) % 3 == 0 else metadata[:2]
        stub.Forecast.future(request, metadata=with_key, timeout=20).exception()

    for number in range(600):  # until the rate limit and the limit of failed keys are met
        ask(f"a{'y' * (number % 13)}{secrets.token_hex(4)}")
    before, size = set(samples(served)), len(page(served))
    for number in range(2_000):
        ask(f"n{number}-{'x' * (number % 17)}{secrets.token_hex(4)}")
    began = time.perf_counter()
    text = page(served)
    seconds = time.perf_counter() - began

    assert set(samples(served)) == before
    assert len(text) < min(200_000, size + 2_000)
    assert seconds < 0.05
    assert "polymarket" not in text


def test_calls_of_every_method_that_end_in_every_way_stay_within_two_hundred_kilobytes() -> None:
    telemetry = Telemetry()
    for name in read_methods():
        for code in ("OK", "CANCELLED", "INVALID_ARGUMENT", "UNAUTHENTICATED", "PERMISSION_DENIED",
                     "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "UNAVAILABLE"):  # fmt: skip
            telemetry.calls.begin(name).end(code, 0.001)
    text = Exposition(lambda: calls_readings(telemetry.calls)).text()
    assert 60_000 < len(text) < 200_000


def test_a_label_cannot_begin_another_line() -> None:
    metric = Metric("m_total", Kind.COUNTER, "1", "Meaning.", ("a",))
    wild = 'x"} 1\nforged_total{a="y'
    text = Exposition(lambda: [Reading(metric, (wild,), 1.0)]).text().decode()

    families = {f.name: f for f in text_string_to_metric_families(text)}
    assert "forged" not in families
    (sample,) = families["m"].samples
    assert sample.labels == {"a": wild}


def test_a_histogram_is_cumulative_and_ends_with_all_observations() -> None:
    metric = Metric("m", Kind.HISTOGRAM, "ms", "Meaning.")
    reading = Reading(metric, (), Distribution((1.0, 5.0, float("inf")), (2, 0, 3), 42.0))
    text = Exposition(lambda: [reading]).text().decode()

    (family,) = [f for f in text_string_to_metric_families(text) if f.name == "m"]
    bars = {s.labels["le"]: s.value for s in family.samples if s.name == "m_bucket"}
    assert bars == {"1": 2, "5": 2, "+Inf": 5}
    assert {s.name: s.value for s in family.samples if "le" not in s.labels} == {
        "m_count": 5, "m_sum": 42.0,
    }  # fmt: skip


def test_a_share_speaks_of_the_last_thousand() -> None:
    share = Share()
    assert share.value is None
    for _ in range(10):
        share.note(True)
    share.note(False)
    assert share.value == pytest.approx(10 / 11)
    for place in range(RECENT):
        share.note(place % 4 == 0)
    assert share.value == pytest.approx(0.25)
    for _ in range(RECENT):
        share.note(False)
    assert share.value == 0


def test_every_metric_is_named_as_prometheus_wants_it() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER), metric.name
        assert metric.meaning.endswith("."), metric.name


def seconds_of_a_call(telemetry: Telemetry) -> float:
    """The least of several rounds: others use this machine too."""
    clock = time.monotonic
    method = SimpleNamespace(name="/marketcal.v1.ForecastService/Forecast")
    call: Any = SimpleNamespace(
        method=method, clock=clock, started_at=clock(), code="OK", metadata={}, request_id="id"
    )

    def round_seconds(times: int) -> float:
        began = time.perf_counter()
        for _ in range(times):
            with telemetry.span(call):
                pass
        return (time.perf_counter() - began) / times

    return min(contextvars.copy_context().run(round_seconds, 1_000) for _ in range(10))


def test_telemetry_without_traces_costs_a_call_less_than_five_microseconds() -> None:
    assert seconds_of_a_call(Telemetry()) < 5e-6


@pytest.mark.parametrize(("ratio", "most"), [(0.0, 25e-6), (1.0, 60e-6)])
def test_telemetry_with_traces_costs_a_call_a_bounded_time(ratio: float, most: float) -> None:
    """A span that is not recorded, and one that is; what sends them works beside the call."""
    provider = TracerProvider(sampler=TraceIdRatioBased(ratio), shutdown_on_exit=False)
    assert seconds_of_a_call(Telemetry.of(provider)) < most
    provider.shutdown()
