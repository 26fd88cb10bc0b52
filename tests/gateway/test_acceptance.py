"""The acceptance list: every bad call has its own code, reason and field, and harms nobody."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from gateway.keys import new_key
from marketcal.v1 import forecast_pb2 as pb

NAN = math.nan


@pytest.fixture(autouse=True)
def _answers_afterwards(stubs: Any, make_request: Any, as_forecaster: Any) -> Iterator[None]:
    """After each refusal the process goes on answering."""
    yield
    answer = stubs.forecasts.Forecast(make_request(), metadata=as_forecaster, timeout=20)
    assert len(answer.quantile_paths) == 3


BAD_REQUESTS: dict[str, tuple[dict[str, Any], str]] = {
    "no market": ({"market_id": ""}, "market_id"),
    "horizon of two million": ({"horizon_steps": 2_000_000}, "horizon_steps"),
    "horizon of zero": ({"horizon_steps": 0}, "horizon_steps"),
    "negative horizon": ({"horizon_steps": -1}, "horizon_steps"),
    "nothing but NaN": ({"values": [NAN] * 50}, "values"),
    "price above one": ({"values": [0.5, 0.5, 1.5, 0.5]}, "values[2]"),
    "price below zero": ({"values": [0.5, -1e-9]}, "values[1]"),
    "infinite price": ({"values": [0.5, math.inf]}, "values[1]"),
    "one price": ({"values": [0.5]}, "values"),
    "no price": ({"values": []}, "values"),
    "too many prices": ({"values": [0.5] * 20_001}, "values"),
    "cadence of zero": ({"freq": "0m"}, "freq"),
    "cadence without unit": ({"freq": "5"}, "freq"),
    "cadence above a week": ({"freq": "99999d"}, "freq"),
    "cadence with a line break": ({"freq": "5m\n"}, "freq"),
    "levels that do not rise": ({"quantiles": [0.1, 0.9, 0.5]}, "quantiles[2]"),
    "a level twice": ({"quantiles": [0.5, 0.5]}, "quantiles[1]"),
    "level of zero": ({"quantiles": [0.0, 0.5]}, "quantiles[0]"),
    "level of one": ({"quantiles": [0.5, 1.0]}, "quantiles[1]"),
    "level that is NaN": ({"quantiles": [0.5, NAN]}, "quantiles[1]"),
    "a hundred levels": ({"quantiles": [i / 101 for i in range(1, 101)]}, "quantiles"),
    "times of another length": ({"value_times": [Timestamp(seconds=1)]}, "value_times"),
    "times that stand still": (
        {"values": [0.5, 0.5], "value_times": [Timestamp(seconds=1)] * 2},
        "value_times[1]",
    ),
    "clip that is NaN": ({"transform": pb.Transform(eps=NAN)}, "transform.eps"),
    "clip lost in rounding": ({"transform": pb.Transform(eps=1e-20)}, "transform.eps"),
    "unknown space": ({"transform": pb.Transform(space=9)}, "transform.space"),
    "unknown band": ({"band": 9}, "band"),
    "model parameter": ({"model": pb.ModelSpec(params={"alpha": 1.0})}, "model.params"),
    "short past covariate": (
        {"past_covariates": [pb.Covariate(name="v", values=[1.0])]},
        "past_covariates[0].values",
    ),
    "long future covariate": (
        {"future_covariates": [pb.Covariate(name="v", values=[1.0] * 13)]},
        "future_covariates[0].values",
    ),
    "nameless covariate": ({"past_covariates": [pb.Covariate()]}, "past_covariates[0].name"),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_a_wrong_field_is_named(
    name: str, stubs: Any, refused: Any, make_request: Any, as_forecaster: Any
) -> None:
    fields, path = BAD_REQUESTS[name]

    refusal = refused(stubs.forecasts.Forecast, make_request(**fields), as_forecaster)

    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
    assert path in refusal.fields
    assert path in refusal.message
    assert refusal.details["ErrorInfo"].domain == "marketcal.v1"
    assert refusal.details["RequestInfo"].request_id == refusal.trailers["x-request-id"]


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_a_bad_item_fails_alone_with_the_details_of_the_single_call(
    name: str, stubs: Any, refused: Any, details_of: Any, make_request: Any, as_forecaster: Any
) -> None:
    bad = make_request(**BAD_REQUESTS[name][0])
    alone = refused(stubs.forecasts.Forecast, bad, as_forecaster)

    batch = pb.BatchForecastRequest(items=[make_request(), bad, make_request()])
    answer = stubs.forecasts.BatchForecast(batch, metadata=as_forecaster, timeout=20)

    assert [r.WhichOneof("result") for r in answer.results] == ["forecast", "error", "forecast"]
    error = answer.results[1].error
    details = details_of(error)
    assert error.message == alone.message
    assert details.keys() == alone.details.keys()
    same = details.keys() - {"RequestInfo"}
    assert {kind: details[kind] for kind in same} == {kind: alone.details[kind] for kind in same}


@pytest.mark.parametrize(
    ("model", "version"), [("no_such_model", ""), ("ewma", "99"), ("line\nbreak", "")]
)
def test_an_unknown_model_is_not_found_and_named(
    model: str, version: str, stubs: Any, refused: Any, make_request: Any, as_forecaster: Any
) -> None:
    request = make_request(model=pb.ModelSpec(name=model, version=version))

    refusal = refused(stubs.forecasts.Forecast, request, as_forecaster)

    assert (refusal.code, refusal.reason) == ("NOT_FOUND", "MODEL_NOT_FOUND")
    assert refusal.details["ResourceInfo"].resource_type == "marketcal.v1.Model"
    assert refusal.details["ResourceInfo"].resource_name == model


def test_a_request_of_ten_megabytes_is_too_large_for_us(
    stubs: Any, refused: Any, make_request: Any, as_forecaster: Any
) -> None:
    refusal = refused(
        stubs.forecasts.Forecast, make_request(values=[0.5] * 1_250_000), as_forecaster
    )

    assert (refusal.code, refusal.reason) == ("RESOURCE_EXHAUSTED", "TOO_LARGE")
    assert refusal.details["ErrorInfo"].metadata["maximum"] == str(8 << 20)
    assert "RetryInfo" not in refusal.details
    assert "retry-after" not in refusal.trailers


def test_a_request_of_twenty_megabytes_is_refused_by_the_transport(
    stubs: Any, refused: Any, make_request: Any, as_forecaster: Any
) -> None:
    refusal = refused(
        stubs.forecasts.Forecast, make_request(values=[0.5] * 2_500_000), as_forecaster
    )

    assert (refusal.code, refusal.reason) == ("RESOURCE_EXHAUSTED", "")


def test_a_batch_of_more_than_a_thousand_items_is_refused(
    stubs: Any, refused: Any, make_request: Any, as_forecaster: Any
) -> None:
    batch = pb.BatchForecastRequest(items=[make_request(values=[0.5, 0.5])] * 1_001)

    refusal = refused(stubs.forecasts.BatchForecast, batch, as_forecaster)

    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
    assert refusal.fields == ["items"]


def test_an_empty_batch_is_refused(stubs: Any, refused: Any, as_forecaster: Any) -> None:
    refusal = refused(stubs.forecasts.BatchForecast, pb.BatchForecastRequest(), as_forecaster)

    assert (refusal.code, refusal.fields) == ("INVALID_ARGUMENT", ["items"])


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({"values": [0.5] * 10_001}, "values"),
        (
            {"values": [0.5] * 2, "horizon_steps": 2016, "quantiles": [0.1, 0.3, 0.5, 0.7, 0.9]},
            "answer_values",
        ),
    ],
)
def test_a_batch_of_more_than_four_hundred_thousand_values_is_too_large(
    fields: Any, limit: str, stubs: Any, refused: Any, make_request: Any, as_forecaster: Any
) -> None:
    batch = pb.BatchForecastRequest(items=[make_request(**fields)] * 40)

    refusal = refused(stubs.forecasts.BatchForecast, batch, as_forecaster)

    assert (refusal.code, refusal.reason) == ("RESOURCE_EXHAUSTED", "TOO_LARGE")
    assert refusal.details["ErrorInfo"].metadata["limit"] == limit
    assert "RetryInfo" not in refusal.details


@pytest.mark.parametrize(
    "fields",
    [
        {"quantiles": [2.0] * 99},
        {"quantiles": [2.0] * 900_000},
        {"past_covariates": [pb.Covariate()] * 200_000},
        {"market_id": "\N{GRINNING FACE}" * 200_000},
    ],
)
def test_a_request_with_many_mistakes_has_a_short_answer(
    fields: Any, stubs: Any, refused: Any, make_request: Any, as_forecaster: Any
) -> None:
    refusal = refused(stubs.forecasts.Forecast, make_request(**fields), as_forecaster, timeout=5)

    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
    assert 1 <= len(refusal.fields) <= 16


def test_bytes_that_are_no_message_are_refused(
    gateway: Any, refused: Any, as_forecaster: Any
) -> None:
    method = gateway.channel.unary_unary("/marketcal.v1.ForecastService/Forecast")

    refusal = refused(method, b"\xff\xff\xff", as_forecaster)

    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")


def test_a_method_that_the_contract_does_not_name_is_unimplemented(
    gateway: Any, refused: Any, as_forecaster: Any
) -> None:
    method = gateway.channel.unary_unary("/marketcal.v1.ForecastService/DropTables")

    assert refused(method, b"", as_forecaster).code == "UNIMPLEMENTED"


def bearer_of(key: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key}"),)


def revoked_key(gateway: Any) -> str:
    key = gateway.key("forecaster")
    gateway.parts.keys.revoke(key.split("_")[1])
    gateway.parts.ring.replace(gateway.parts.keys.rows())
    return str(key)


def mistyped_key(gateway: Any) -> str:
    key = gateway.key("forecaster")
    return str(key[:-1] + ("a" if key[-1] != "a" else "b"))


def expired_key(gateway: Any) -> str:
    return str(gateway.key("forecaster", lifetime=timedelta(microseconds=1)))


CREDENTIALS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "none": (lambda _: (), "CREDENTIAL_MISSING"),
    "empty": (lambda _: bearer_of(""), "CREDENTIAL_INVALID"),
    "malformed": (lambda _: bearer_of("let me in"), "CREDENTIAL_INVALID"),
    "another scheme": (lambda _: (("authorization", "Basic dTpw"),), "CREDENTIAL_INVALID"),
    "mistyped": (lambda gateway: bearer_of(mistyped_key(gateway)), "CREDENTIAL_INVALID"),
    "never given out": (lambda _: bearer_of(new_key()[0]), "CREDENTIAL_INVALID"),
    "expired": (lambda gateway: bearer_of(expired_key(gateway)), "CREDENTIAL_EXPIRED"),
    "revoked": (lambda gateway: bearer_of(revoked_key(gateway)), "CREDENTIAL_REVOKED"),
}


@pytest.mark.parametrize("name", CREDENTIALS)
def test_a_caller_without_a_good_key_is_not_known(
    name: str, gateway: Any, stubs: Any, refused: Any, make_request: Any
) -> None:
    make, reason = CREDENTIALS[name]
    metadata = make(gateway)

    refusal = refused(stubs.forecasts.Forecast, make_request(), metadata)

    assert (refusal.code, refusal.reason) == ("UNAUTHENTICATED", reason)
    assert refusal.trailers["www-authenticate"] == 'Bearer realm="marketcal"'
    assert not any(value.split("_")[-1] in refusal.message for _, value in metadata if "_" in value)


def test_a_viewer_may_not_forecast_and_is_told_which_scope_it_lacks(
    stubs: Any, refused: Any, make_request: Any, as_viewer: Any
) -> None:
    refusal = refused(stubs.forecasts.Forecast, make_request(), as_viewer)

    assert (refusal.code, refusal.reason) == ("PERMISSION_DENIED", "SCOPE_MISSING")
    assert refusal.details["ErrorInfo"].metadata["required_scope"] == "forecast.read"


def test_the_key_may_also_come_as_x_api_key(stubs: Any, gateway: Any, make_request: Any) -> None:
    metadata = (("x-api-key", gateway.key("forecaster")),)

    assert stubs.forecasts.Forecast(make_request(), metadata=metadata, timeout=20).quantile_paths
