"""The client against a real gateway: typed answers, typed errors, whole lists."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from marketcal import errors
from marketcal.client import Client
from marketcal.v1 import forecast_pb2


@pytest.fixture(scope="module")
def client(gateway: Any) -> Iterator[Client]:
    key = gateway.key("forecaster", rate_per_minute=1e7, burst=1_000_000)
    with Client(gateway.address, key=key) as opened:
        yield opened


def test_a_forecast_is_one_line(client: Client) -> None:
    answer = client.forecast("polymarket:1", [0.5, 0.52, 0.51], horizon_steps=4)
    assert [len(path.values) for path in answer.quantile_paths] == [4, 4, 4]


def test_a_batch_keeps_its_order(client: Client) -> None:
    items = [
        forecast_pb2.ForecastRequest(market_id="a", values=[0.5, 0.5]),
        forecast_pb2.ForecastRequest(market_id="b", values=[5.0, 0.5]),
    ]
    results = client.batch_forecast(items).results
    assert [result.WhichOneof("result") for result in results] == ["forecast", "error"]


def test_models_are_compared_on_one_series_and_say_what_they_have_done(client: Client) -> None:
    request = forecast_pb2.ForecastRequest(market_id="a", values=[0.5, 0.51, 0.5], horizon_steps=2)
    results = client.compare_forecasts("a", request, ["ewma", "random_walk"]).results
    assert [result.forecast.meta.model_name for result in results] == ["ewma", "random_walk"]
    found = client.get_model("random_walk")
    assert (found.model.name, found.model.family) == ("random_walk", "baseline")
    assert found.statistics.requests >= 1
    with pytest.raises(errors.ModelNotFound):
        client.get_model("none")


def test_lists_go_through_all_pages(client: Client) -> None:
    scores = [score.market_id for score in client.list_scores(page_size=37)]
    markets = [market.market_id for market in client.list_markets(page_size=41)]
    assert len(set(scores)) == len(scores) > 37
    assert markets == sorted(set(markets))
    assert set(scores) <= set(markets)
    points = list(client.price_history(scores[0], page_size=5))
    assert points == list(client.price_history(scores[0]))
    assert len(points) > 5
    assert [model.name for model in client.list_models()]


def test_a_list_is_fetched_page_by_page_as_it_is_read(client: Client) -> None:
    first = next(iter(client.list_scores(page_size=1)))
    assert client.get_market(first.market_id).market_id == first.market_id


def test_scores_of_a_window_and_of_a_segment(client: Client) -> None:
    quality = client.calibration_quality("90d")
    assert client.reliability(window="90d").scores == quality.overall


def test_refusals_are_the_classes_of_the_error_table(client: Client, gateway: Any) -> None:
    with pytest.raises(errors.InvalidArgument) as invalid:
        client.forecast("m", [0.5, 7.0])
    assert invalid.value.violations[0].field == "values[1]"
    assert invalid.value.request_id
    with pytest.raises(errors.MarketNotFound) as missing:
        client.get_market("none")
    assert missing.value.resource == ("marketcal.v1.Market", "none")
    with pytest.raises(errors.InvalidPageToken):
        list(client.list_scores(page_token="x"))
    with Client(gateway.address) as stranger, pytest.raises(errors.CredentialMissing):
        stranger.get_market("m")
    with (
        Client(gateway.address, key=gateway.key("viewer")) as viewer,
        pytest.raises(errors.ScopeMissing) as scope,
    ):
        viewer.forecast("m", [0.5, 0.5])
    assert scope.value.metadata["required_scope"] == "forecast.read"


def test_a_used_up_limit_says_how_long_to_wait(gateway: Any) -> None:
    key = gateway.key("forecaster", rate_per_minute=6, burst=1)
    with Client(gateway.address, key=key) as hasty:
        hasty.forecast("m", [0.5, 0.5])
        with pytest.raises(errors.RateLimited) as limited:
            hasty.forecast("m", [0.5, 0.5])
    assert limited.value.retry_after == pytest.approx(10, abs=1.5)


def test_a_server_that_is_not_there_is_unavailable(unused_port: int) -> None:
    with (
        Client(f"127.0.0.1:{unused_port}", key=None, timeout=5) as client,
        pytest.raises(errors.Unavailable),
    ):
        client.get_market("m")


def test_a_scoreboard_that_is_not_there_yet_is_told_at_once(serve_gateway: Any) -> None:
    """The gateway asks for a longer wait than gRPC's own retries should sit out."""
    with ExitStack() as stack:
        empty = serve_gateway(stack, forecast={"in_process": "always"})
        key = empty.key("viewer")
        client = stack.enter_context(Client(empty.address, key=key))
        began = time.monotonic()
        with pytest.raises(errors.NotReady) as refused:
            list(client.list_scores())
    assert refused.value.retry_after == 5.0
    assert time.monotonic() - began < 3.0


@pytest.fixture
def unused_port() -> Iterator[int]:
    """A port that is bound, so that nobody takes it, and on which nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])
