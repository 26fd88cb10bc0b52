"""What gRPC repeats by itself, when, and what it must leave to the caller."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor_pb2 import MethodOptions

from marketcal import errors
from marketcal.testing import FakeServer
from marketcal.v1 import (
    alert_pb2,
    forecast_pb2,
    legacy_pb2,
    market_pb2,
    options_pb2,
    scoreboard_pb2,
)

CONTRACT = (alert_pb2, forecast_pb2, legacy_pb2, market_pb2, scoreboard_pb2)
MARKET = market_pb2.GetMarketResponse(market={"market_id": "m"})


@pytest.fixture(scope="module")
def config(protos: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((protos / "marketcal/service_config.json").read_text())
    return found


def test_derived_files_are_fresh(protos: Path, python: str) -> None:
    done = subprocess.run(
        [python, protos / "derive.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_service_config_says_what_the_options_of_the_methods_say(
    config: dict[str, Any],
) -> None:
    published = {
        (name["service"], name["method"]): (entry["timeout"], "retryPolicy" in entry)
        for entry in config["methodConfig"]
        for name in entry["name"]
    }
    wanted = {}
    for module in CONTRACT:
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                options = method.GetOptions()
                if not method.server_streaming:
                    wanted[service.full_name, method.name] = (
                        f"{options.Extensions[options_pb2.max_deadline].seconds}s",
                        options.idempotency_level != MethodOptions.IDEMPOTENCY_UNKNOWN,
                    )
    assert published == wanted


def test_only_what_never_ran_is_repeated_and_not_without_end(config: dict[str, Any]) -> None:
    for entry in config["methodConfig"]:
        policy = entry["retryPolicy"]
        assert policy["retryableStatusCodes"] == ["UNAVAILABLE", "CANCELLED"]
        assert 2 <= policy["maxAttempts"] <= 5
    assert config["retryThrottling"]["maxTokens"] > 0


def test_a_method_that_may_not_run_twice_is_never_repeated(protos: Path) -> None:
    file = descriptor_pb2.FileDescriptorProto(name="orders.proto", package="made.up")
    file.message_type.add(name="Order")
    service = file.service.add(name="Orders")
    for name, level in (("Place", 0), ("Read", 1), ("Cancel", 2)):
        order = service.method.add(name=name, input_type=".made.up.Order")
        order.output_type = ".made.up.Order"
        order.options.Extensions[options_pb2.max_deadline].seconds = 5
        order.options.idempotency_level = level  # type: ignore[assignment]
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    made = pool.FindServiceByName("made.up.Orders").methods

    config = derivation(protos).service_config(made)

    retried = {
        name["method"]: "retryPolicy" in entry
        for entry in config["methodConfig"]
        for name in entry["name"]
    }
    assert retried == {"Place": False, "Read": True, "Cancel": True}


def derivation(protos: Path) -> ModuleType:
    """The script that derives files; it is no part of the package."""
    spec = importlib.util.spec_from_file_location("derive", protos / "derive.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_call_survives_a_server_that_is_away_for_a_moment(server: FakeServer, use: Any) -> None:
    away = errors.Unavailable("away")
    server.answer("GetMarket", away, away, MARKET)
    assert use(server, lambda client: client.get_market("m")).market_id == "m"
    attempts = [call.metadata.get("grpc-previous-rpc-attempts") for call in server.calls]
    assert attempts == [None, "1", "2"]


def test_a_retry_waits_as_long_as_the_server_says(server: FakeServer, use: Any) -> None:
    server.answer("GetMarket", errors.Overloaded("busy", retry_after=0.6), MARKET)
    began = time.monotonic()
    assert use(server, lambda client: client.get_market("m")).market_id == "m"
    assert time.monotonic() - began >= 0.6  # its own first pause is at most 0.12 s
    assert len(server.calls) == 2


def test_attempts_end_with_the_last_refusal(server: FakeServer, use: Any) -> None:
    server.answer("GetMarket", errors.Overloaded("busy", retry_after=0.001))
    with pytest.raises(errors.Overloaded):
        use(server, lambda client: client.get_market("m"))
    assert len(server.calls) == 4


@pytest.mark.parametrize(
    "refused",
    [
        errors.NotReady("nothing is published yet", retry_after=5.0),  # longer than gRPC may wait
        errors.RateLimited("used up", retry_after=0.01),
        errors.TooLarge("eight megabytes"),
        errors.InternalError("unforeseen"),
        errors.OutOfTime("late"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_a_repeat_cannot_help_is_told_at_once(
    refused: errors.MarketcalError, server: FakeServer, use: Any
) -> None:
    server.answer("GetMarket", refused)
    with pytest.raises(type(refused)) as caught:
        use(server, lambda client: client.get_market("m"))
    assert caught.value.retry_after == refused.retry_after
    assert len(server.calls) == 1


@pytest.mark.parametrize(
    ("options", "timeout", "longest"),
    [
        ({}, None, 5.0),
        ({"timeout": 3.0}, None, 3.0),
        ({"timeout": 3.0}, 1.0, 1.0),
        ({}, 60.0, 60.0),
    ],
)
def test_every_call_has_a_deadline_the_nearest_to_the_call_holds(
    options: dict[str, float], timeout: float | None, longest: float, server: FakeServer, use: Any
) -> None:
    server.answer("GetMarket", MARKET)
    use(server, lambda client: client.get_market("m", timeout=timeout), **options)
    (call,) = server.calls
    assert call.seconds is not None
    assert longest - 1.0 < call.seconds <= longest * 1.02  # rounded up on the wire
