"""One trace from the caller to whoever computes, over every hop in between."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from flows import pipeline
from flows.runs import Run, StageCount
from flows.settings import FlowSettings
from forecast_service.telemetry.settings import TelemetrySettings
from marketcal import Client, forecast_request
from marketcal.errors import MarketcalError

SERVER = "marketcal.v1.ForecastService/Forecast"
VALUES = [0.4, 0.41, 0.43, 0.42] * 24


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


@pytest.fixture
def tracer() -> Any:
    return TracerProvider(shutdown_on_exit=False).get_tracer("caller")


def ids(span: Any) -> tuple[str, str]:
    context = span.get_span_context()
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"


def test_a_call_is_one_trace_from_the_client_to_the_batch(
    serve_seen: Any, stack: ExitStack, tracer: Any, collector: Any, until: Any
) -> None:
    gateway = serve_seen(stack)
    with tracer.start_as_current_span("caller") as caller, Client(gateway.address) as client:
        answer = client.forecast("mine", VALUES, horizon_steps=5, model={"name": "ewma"})
    until(lambda: len(collector.spans) >= 3)

    trace, parent = ids(caller)
    (server,) = collector.named(SERVER)
    (decision,) = collector.named("forecast decision")
    (batch,) = collector.named("forecast batch")
    assert {span.trace for span in collector.spans} == {trace}
    assert (server.parent, decision.parent, batch.parent) == (parent, server.id, decision.id)
    assert {span.service for span in collector.spans} == {"marketcal-gateway"}
    assert server.span.kind == 2  # SERVER
    assert server.attributes["rpc.grpc.status_code"] == 0
    assert server.attributes["rpc.service"] == "marketcal.v1.ForecastService"
    assert server.attributes["rpc.method"] == "Forecast"
    told = decision.attributes
    assert told["marketcal.model.asked"] == told["marketcal.model.answered"] == "ewma"
    assert told["marketcal.served_by"] == answer.meta.served_by == "in-process"
    assert told["marketcal.fallback_reason"] == "NONE"
    assert batch.attributes["marketcal.batch.series"] == 1


def test_a_stand_in_says_in_the_trace_why_it_stood_in(
    serve_seen: Any, stack: ExitStack, collector: Any, until: Any
) -> None:
    gateway = serve_seen(stack, forecast={"in_process": "when_ray_is_away"})
    with Client(gateway.address) as client:
        client.forecast("mine", VALUES, model={"name": "native"})
    until(lambda: bool(collector.named(SERVER)))

    (decision,) = collector.named("forecast decision")
    assert decision.attributes["marketcal.model.asked"] == "native"
    assert decision.attributes["marketcal.model.answered"] != "native"
    assert decision.attributes["marketcal.fallback_reason"] == "BACKEND_UNAVAILABLE"
    assert decision.attributes["marketcal.cache"] == "MISS"


def test_a_batch_of_many_callers_links_to_all_of_them(
    serve_seen: Any, stack: ExitStack, tracer: Any, collector: Any, until: Any
) -> None:
    gateway = serve_seen(stack)
    items = [
        forecast_request(f"m{i}", [v + i / 1e4 for v in VALUES], model={"name": "ewma"})
        for i in range(6)
    ]
    with Client(gateway.address) as client:
        client.batch_forecast(items)
    until(lambda: bool(collector.named("marketcal.v1.ForecastService/BatchForecast")))

    decisions = {span.id: span for span in collector.named("forecast decision")}
    batches = collector.named("forecast batch")
    assert len(decisions) == 6
    members = [{batch.parent} | batch.links for batch in batches]
    assert set().union(*members) == set(decisions)
    assert sum(map(len, members)) == 6
    for batch in batches:
        assert batch.attributes["marketcal.batch.series"] == 1 + len(batch.links)
        assert all(batch.id in decisions[link].links for link in batch.links)


def test_a_refusal_is_marked_with_its_code_and_reason_and_without_its_text(
    serve_seen: Any, stack: ExitStack, collector: Any, until: Any
) -> None:
    gateway = serve_seen(stack)
    with Client(gateway.address) as client, pytest.raises(MarketcalError):
        client.forecast("mine", VALUES, model={"name": "no-such-model-anywhere"})
    until(lambda: bool(collector.named(SERVER)))

    (server,) = collector.named(SERVER)
    assert server.attributes["rpc.grpc.status_code"] == 5
    assert server.attributes["marketcal.reason"]
    assert server.span.status.code == 0  # the caller's fault is none of the server's
    assert b"no-such-model-anywhere" not in b"".join(body for _, body in collector.bodies)


def test_a_forwarded_call_goes_on_in_the_same_trace(
    serve_seen: Any, stack: ExitStack, tracer: Any, collector: Any, until: Any
) -> None:
    secret = secrets.token_hex(32)
    behind = serve_seen(
        stack, upstream={"secret": secret}, gateway={"hosts": ("forecast",), "behind": True},
        telemetry={"service_name": "behind"},
    )  # fmt: skip
    front = serve_seen(stack, upstream={"secret": secret, "forecast": behind.address})
    with tracer.start_as_current_span("caller") as caller, Client(front.address) as client:
        client.forecast("mine", VALUES, model={"name": "ewma"})
    until(lambda: len(collector.spans) >= 4)

    trace, _ = ids(caller)
    first, second = sorted(collector.named(SERVER), key=lambda one: one.service, reverse=True)
    assert (first.service, second.service) == ("marketcal-gateway", "behind-gateway")
    assert {span.trace for span in collector.spans if span.span.name == SERVER} == {trace}
    assert second.parent == first.id
    assert first.attributes["marketcal.request_id"] == second.attributes["marketcal.request_id"]


def test_a_flow_that_asks_a_gateway_is_the_beginning_of_its_trace(
    serve_seen: Any, stack: ExitStack, collector: Any, until: Any, tmp_path: Path
) -> None:
    gateway = serve_seen(stack)
    seen: list[tuple[str, str]] = []

    def asking(_run: Run) -> StageCount:
        from opentelemetry.trace import get_current_span

        seen.append(ids(get_current_span()))
        with Client(gateway.address) as client:
            done = client.batch_forecast([forecast_request("m", VALUES)])
        return StageCount(1, len(done.results))

    run = pipeline.begin(datetime(2026, 10, 1, tzinfo=UTC), FlowSettings(lake=str(tmp_path)))
    run.telemetry = TelemetrySettings(otlp_endpoint=collector.url, sample_ratio=1.0)
    pipeline.carry_out(run, [pipeline.as_task(asking)])
    until(lambda: bool(collector.named("marketcal.v1.ForecastService/BatchForecast")))

    (server,) = collector.named("marketcal.v1.ForecastService/BatchForecast")
    assert [(server.trace, server.parent)] == seen
    (whole,), (stage,) = collector.named("daily"), collector.named("daily asking")
    assert (stage.id, stage.parent, whole.parent) == (server.parent, whole.id, "")
    assert {span.service for span in (whole, stage)} == {"marketcal-flows"}


def test_a_caller_s_decision_not_to_record_is_followed(
    serve_seen: Any,
    stack: ExitStack,
    collector: Any,
    until: Any,
    forecasts_on: Any,
    make_traced: Any,
) -> None:
    gateway = serve_seen(stack)
    stub = forecasts_on(gateway.channel)
    for flags in ("00", "01"):
        request, metadata = make_traced(flags)
        stub.Forecast(request, metadata=metadata, timeout=20)
    until(lambda: bool(collector.named(SERVER)))
    gateway.parts.watch.outbox.force_flush(1000)

    assert len(collector.named(SERVER)) == 1


@pytest.mark.parametrize(
    "sent", ["", "00-zz-1-01", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "a\x7fb" * 400]
)
def test_a_trace_context_that_is_none_begins_a_new_trace(
    serve_seen: Any, stack: ExitStack, collector: Any, until: Any, forecasts_on: Any,
    make_traced: Any, sent: str,
) -> None:  # fmt: skip
    gateway = serve_seen(stack)
    request, _ = make_traced("01")
    printable = sent.replace("\x7f", "~")
    forecasts_on(gateway.channel).Forecast(
        request, metadata=(("traceparent", printable),), timeout=20
    )
    until(lambda: bool(collector.named(SERVER)))

    (server,) = collector.named(SERVER)
    assert server.parent == ""
    assert int(server.trace, 16) != 0


def test_calls_at_the_same_time_keep_their_traces_apart(
    serve_seen: Any,
    stack: ExitStack,
    collector: Any,
    until: Any,
    forecasts_on: Any,
    make_traced: Any,
) -> None:
    gateway = serve_seen(stack)
    stub = forecasts_on(gateway.channel)
    asked = [make_traced("01") for _ in range(40)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda one: stub.Forecast(one[0], metadata=one[1], timeout=20), asked))
    until(lambda: len(collector.named(SERVER)) == 40)
    until(lambda: len(collector.named("forecast decision")) == 40)

    sent = {metadata[0][1].split("-")[1] for _, metadata in asked}
    servers = {span.id: span.trace for span in collector.named(SERVER)}
    assert set(servers.values()) == sent
    for decision in collector.named("forecast decision"):
        assert servers[decision.parent] == decision.trace
