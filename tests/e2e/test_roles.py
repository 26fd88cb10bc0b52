"""One process or three: callers cannot tell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from gateway.stores import open_store
from gateway.supervisor.ports import free_port
from market_data.streaming import live_store
from market_data.streaming.bars import FIVE_MS, Bar
from marketcal import Client, errors
from marketcal.v1 import (
    alert_pb2,
    alert_pb2_grpc,
    forecast_pb2_grpc,
    legacy_pb2,
    legacy_pb2_grpc,
)
from marketcal.v1 import forecast_pb2 as pb

READY_SECONDS = 60.0
SECRET = "f0c1a7d25be94863a1d7e6025cb83f9e"
VALUES = [0.4 + 0.001 * (step % 60) for step in range(96)]


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + READY_SECONDS
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        threading.Event().wait(0.02)


@dataclass
class Deployment:
    """Where a gateway answers, keys for it, and the URL of its store."""

    address: str
    forecaster: str
    viewer: str
    operator: str
    control: str

    def client(self, key: str | None = None) -> Client:
        """The SDK as it comes."""
        return Client(self.address, key=key or self.forecaster)


@dataclass
class Roles:
    """Starts roles in one folder."""

    folder: Path
    environment: dict[str, str]
    stack: ExitStack

    def run(self, *arguments: str) -> str:
        """What a command prints."""
        command = [sys.executable, "-m", "gateway.cli.main", *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True,
            timeout=60, check=True,
        )  # fmt: skip
        return done.stdout.strip()

    def start(self, role: str, port: int = 0) -> Callable[[], str]:
        """Starts a role; what is returned waits for its address."""
        ready = self.folder / f"{role}.ready"
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway.cli.main", "serve", role,
             "--port", str(port), "--ready-file", ready],
            cwd=self.folder, env=self.environment,
        )  # fmt: skip
        self.stack.callback(process.wait, 30)
        self.stack.callback(process.terminate)

        def address() -> str:
            wait_for(lambda: ready.exists() or process.poll() is not None)
            return str(json.loads(ready.read_text())["address"])

        return address


@pytest.fixture(scope="module", params=["one process", "three processes"])
def deployment(
    request: pytest.FixtureRequest, published: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    environment = {name: value for name, value in os.environ.items() if "MARKETCAL_" not in name}
    environment |= {
        "MARKETCAL_FORECAST__IN_PROCESS": "always",
        "MARKETCAL_FLOWS__LAKE": str(published.lake),
        "MARKETCAL_UPSTREAM__SECRET": SECRET,
        "MARKETCAL_TELEMETRY__PROMETHEUS_PORT": "0",
    }
    with ExitStack() as stack:
        roles = Roles(tmp_path_factory.mktemp("roles"), environment, stack)
        names = ("forecaster", "viewer", "operator")
        keys = [roles.run("keys", "create", "--role", role) for role in names]
        control = f"sqlite:///{roles.folder}/var/control.db"
        if request.param == "three processes":
            start_behind(roles)
        made = Deployment(roles.start("gateway")(), *keys, control)
        with made.client() as client:
            wait_for(lambda: answers(client))
        yield made


def start_behind(roles: Roles) -> None:
    """Starts what stands behind; all three roles read the same settings, addresses and all."""
    forecast, calibration = free_port(), free_port()
    reads = f"127.0.0.1:{calibration}"
    roles.environment |= {
        "MARKETCAL_UPSTREAM__FORECAST": f"127.0.0.1:{forecast}",
        "MARKETCAL_UPSTREAM__SCOREBOARD": reads,
        "MARKETCAL_UPSTREAM__MARKET": reads,
        "MARKETCAL_UPSTREAM__ALERT": reads,
    }
    waiting = [
        roles.start("forecast-service", forecast),
        roles.start("calibration-service", calibration),
    ]
    for address in waiting:
        address()


def answers(client: Client) -> bool:
    """Whether reads have their tables."""
    try:
        return bool(next(iter(client.list_scores(page_size=1))).market_id)
    except errors.Unavailable:
        return False


def test_a_forecast_is_answered(deployment: Deployment) -> None:
    with deployment.client() as client:
        answer = client.forecast("polymarket:1", VALUES, horizon_steps=4)
    assert [len(path.values) for path in answer.quantile_paths] == [4, 4, 4]
    assert answer.meta.served_by == "in-process"


def test_a_batch_keeps_good_items_beside_a_bad_one(deployment: Deployment) -> None:
    items = [pb.ForecastRequest(market_id="m", values=values) for values in (VALUES, [2.0, 3.0])]
    with deployment.client() as client:
        good, bad = client.batch_forecast(items).results
    assert good.HasField("forecast")
    assert bad.HasField("error")


def test_reads_page_through_everything(deployment: Deployment) -> None:
    with deployment.client() as client:
        scores = list(client.list_scores(page_size=50))
        market = client.get_market(scores[0].market_id)
        explained = client.explain_trust(scores[0].market_id)
    assert len({score.market_id for score in scores}) == len(scores) > 50
    assert market.market_id == scores[0].market_id
    assert explained.trust.score == scores[0].trust.score


def test_refusals_are_of_the_same_class_with_the_same_details(deployment: Deployment) -> None:
    with deployment.client() as client:
        with pytest.raises(errors.InvalidArgument) as invalid:
            client.forecast("m", [0.5, 1.5])
        with pytest.raises(errors.MarketNotFound) as unknown:
            client.get_market("polymarket:unknown")
        with pytest.raises(errors.InvalidPageToken):
            next(iter(client.list_scores(page_token="nonsense")))
    assert [violation.field for violation in invalid.value.violations] == ["values[1]"]
    assert unknown.value.resource == ("marketcal.v1.Market", "polymarket:unknown")
    assert len(unknown.value.request_id) == 32


def test_strangers_and_viewers_are_refused_at_the_front(deployment: Deployment) -> None:
    with (
        deployment.client("mk_nobody") as stranger,
        pytest.raises(errors.CredentialInvalid),
    ):
        stranger.get_market("m")
    with deployment.client(deployment.viewer) as viewer, pytest.raises(errors.ScopeMissing) as kept:
        viewer.forecast("m", VALUES)
    assert kept.value.metadata == {"required_scope": "forecast.read"}


def test_older_paths_answer(deployment: Deployment) -> None:
    with grpc.insecure_channel(deployment.address) as channel:
        old: Any = legacy_pb2_grpc.CompatServiceStub(channel)
        answer = old.TsfmForecast(
            legacy_pb2.TsfmForecastRequest(market_id="m", y=VALUES, horizon_steps=3),
            metadata=(("x-api-key", deployment.forecaster),), timeout=20,
        )  # fmt: skip
    assert {level: len(path.values) for level, path in answer.yhat_q.items()} == {
        "0.1": 3, "0.5": 3, "0.9": 3,
    }  # fmt: skip


def test_a_refused_stream_says_why(deployment: Deployment) -> None:
    with grpc.insecure_channel(deployment.address) as channel:
        stub: Any = forecast_pb2_grpc.ForecastServiceStub(channel)
        watched = stub.WatchForecast(
            pb.WatchForecastRequest(market_id="m", model={"name": "none"}),
            metadata=(("authorization", f"Bearer {deployment.forecaster}"),), timeout=20,
        )  # fmt: skip
        with pytest.raises(grpc.RpcError) as caught:
            next(watched)
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert dict(error.trailing_metadata())["x-request-id"]


def test_alerts_are_streamed_listed_and_acknowledged(
    deployment: Deployment, raise_alerts: Any
) -> None:
    with grpc.insecure_channel(deployment.address) as channel:
        stub: Any = alert_pb2_grpc.AlertServiceStub(channel)
        stream = stub.WatchAlerts(
            alert_pb2.WatchAlertsRequest(), metadata=(("x-api-key", deployment.viewer),), timeout=20
        )
        assert next(stream).WhichOneof("event") is None
        [alert_id] = raise_alerts(deployment.control)
        assert next(stream).alert.alert_id == alert_id
        stream.cancel()
        old: Any = legacy_pb2_grpc.CompatServiceStub(channel)
        rows = old.Alerts(
            legacy_pb2.AlertsRequest(), metadata=(("x-api-key", deployment.viewer),), timeout=20
        ).items
    with deployment.client(deployment.operator) as client:
        seen = client.acknowledge_alert(alert_id)
        assert list(client.list_alerts()) == [seen]
    assert [row["alert_id"] for row in rows] == [alert_id]
    assert seen.acknowledged_by


def test_bands_are_streamed_as_bars_close(deployment: Deployment) -> None:
    start = 1_790_000_100_000 // FIVE_MS * FIVE_MS
    bars = [
        Bar("m", FIVE_MS, start + place * FIVE_MS, p, p, p, p, 0, 0, 1, 0.0)
        for place, p in enumerate(VALUES)
    ]
    engine = open_store(deployment.control)
    with engine.begin() as connection:
        live_store.write_bars(connection, bars)
    engine.dispose()
    with deployment.client() as client:
        message = next(client.watch_forecast("m", model="ewma", timeout=20))
        alone = client.forecast("m", VALUES, model="ewma")
    assert list(message.forecast.quantile_paths) == list(alone.quantile_paths)
    assert message.forecast.as_of_time.ToMilliseconds() == bars[-1].end_ms
