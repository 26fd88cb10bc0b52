"""The trace goes on in a replica on a real Ray Serve, which carries no context by itself."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from forecast_service import serving
from forecast_service.settings import ForecastSettings
from forecast_service.telemetry.settings import TelemetrySettings
from marketcal import Client, forecast_request

pytestmark = pytest.mark.ray
VALUES = [0.4, 0.41, 0.43, 0.42] * 24
APP = "seen"


@pytest.fixture
def ray_address(collector: Any) -> Iterator[str]:
    """A cluster whose replicas send their spans to the collector."""
    forecast = ForecastSettings(app_name=APP, default_model="ewma", replica_cpus=0.1)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    address, folder = serving.start_cluster()
    try:
        seen = TelemetrySettings(otlp_endpoint=collector.url, sample_ratio=0.0)
        serving.deploy(forecast, seen)
        yield address
    finally:
        serving.stop_cluster(folder)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def test_spans_of_replicas_belong_to_the_trace_of_whoever_asked(
    ray_address: str, serve_seen: Any, collector: Any, until: Any
) -> None:
    import ray

    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("caller")
    with ExitStack() as stack:
        gateway = serve_seen(
            stack, forecast={"app_name": APP, "in_process": "when_ray_is_away",
                             "replica_cpus": 0.1},
        )  # fmt: skip
        forecaster = gateway.parts.forecasting.forecaster
        found = serving.backends(gateway.parts.settings.forecast)
        client = stack.enter_context(Client(gateway.address))
        forecaster.connect(found)
        traces = set()
        for model in ("ewma", "native"):
            with tracer.start_as_current_span("caller") as caller:
                answer = client.forecast("mine", VALUES, model={"name": model})
            assert answer.meta.served_by.startswith("ray:")
            traces.add(f"{caller.get_span_context().trace_id:032x}")
        request = forecast_request("unseen", VALUES, model={"name": "ewma"})
        client.batch_forecast([request])  # recorded too: the gateway records all
        until(lambda: len(collector.named("forecast replica")) == 3)
    assert ray.is_initialized()

    replicas = collector.named("forecast replica")
    batches = {span.id: span for span in collector.named("forecast batch")}
    assert {span.service for span in replicas} == {"marketcal-replica"}
    assert {span.attributes["marketcal.family"] for span in replicas} == {"baseline", "native"}
    for replica in replicas:
        assert batches[replica.parent].trace == replica.trace
        assert replica.attributes["marketcal.batch.failed_parts"] == 0
    assert traces < {span.trace for span in replicas}
