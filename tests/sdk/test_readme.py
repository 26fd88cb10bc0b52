"""Every block of Python on the page of the SDK runs, against a fake server."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from marketcal import AsyncClient, Client, errors
from marketcal.testing import METHODS, FakeServer, resumable
from marketcal.v1 import alert_pb2, forecast_pb2, market_pb2, scoreboard_pb2

ADDRESS = "127.0.0.1:50051"
OWN_SERVER = "FakeServer()"
SAID = (
    "0.5 [0.5,", "Rain?", "2 of 2", "market:1 INVALID_FIELD", "values[1] must be in [0, 1]",
    "4 alerts were passed over", "trust.score",
)  # fmt: skip
PEM = ("authority.pem", "client.pem", "client.key")


@pytest.fixture(scope="module")
def blocks(protos: Path) -> list[str]:
    """The blocks of the page, in order."""
    return re.findall(r"```python\n(.*?)```", (protos / "README.md").read_text(), re.DOTALL)


@pytest.fixture
def scripted(server: FakeServer) -> FakeServer:
    """A server that knows what the page asks for."""

    def forecast(request: forecast_pb2.ForecastRequest) -> forecast_pb2.ForecastResponse:
        if max(request.values) > 1:
            raise errors.InvalidArgument.of("values[1]", "must be in [0, 1]")
        paths = [{"level": level, "values": [level] * 12} for level in (0.1, 0.5, 0.9)]
        return forecast_pb2.ForecastResponse(market_id=request.market_id, quantile_paths=paths)

    market: Any = {"market_id": "polymarket:512345", "question": "Rain?"}
    result: Any = [{"forecast": {"meta": {"model_name": "ewma"}}}, {"error": {"code": 3}}, {}]
    score: Any = {"market_id": "polymarket:512345", "trust": {"score": 80.0}}
    alerts: list[Any] = [{"alert_id": "a", "market_id": "m"}, {"alert_id": "b", "market_id": "n"}]
    server.answer("Forecast", forecast)
    server.answer("BatchForecast", forecast_pb2.BatchForecastResponse(results=result))
    server.answer("GetMarket", market_pb2.GetMarketResponse(market=market))
    server.answer(
        "ListMarkets", market_pb2.ListMarketsResponse(markets=[market, market], total_size=2)
    )
    server.answer("GetPriceHistory", market_pb2.GetPriceHistoryResponse(points=[{"p_yes": 0.5}]))
    server.answer("ListScores", scoreboard_pb2.ListScoresResponse(scores=[score]))
    watched = [alert_pb2.WatchAlertsResponse(alert=alert) for alert in alerts]
    server.answer("WatchAlerts", resumable([*watched, alert_pb2.WatchAlertsResponse(missed=4)]))
    return server


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the page reads."""
    monkeypatch.chdir(tmp_path)
    for name in PEM:
        (tmp_path / name).write_text("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n")
    return tmp_path


def test_every_block_runs_in_its_order(
    blocks: list[str], scripted: FakeServer, in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with scripted.client() as client:
        names: dict[str, Any] = {"client": client}
        for block in blocks:
            if OWN_SERVER not in block:
                here = block.replace(ADDRESS, scripted.address).replace("mk_…", "mk_page")
                exec(compile(here, "protos/README.md", "exec"), names)
                if "client" in names and names["client"] is not client:
                    names["client"] = client  # the quick start closes its own
        for opened in ("public", "private", "sidecar"):
            names[opened].close()
    said = capsys.readouterr().out
    assert [wanted for wanted in SAID if wanted not in said] == []
    assert scripted.requests("WatchAlerts")[1].resume_token == "3"
    assert {call.metadata.get("authorization") for call in scripted.calls} == {
        None, "Bearer mk_page",
    }  # fmt: skip


def test_the_example_of_a_test_is_one(blocks: list[str], tmp_path: Path, python: str) -> None:
    (block,) = [block for block in blocks if OWN_SERVER in block]
    (tmp_path / "test_example.py").write_text(block)
    done = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_example.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_names_on_the_page_are_names_of_the_clients(protos: Path) -> None:
    text = (protos / "README.md").read_text()
    called = set(re.findall(r"\b(?:client|watcher)\.(\w+)\(", text)) - {"py", "key", "pem"}
    assert called
    for name in called:
        assert hasattr(Client, name) or name == "get_market"
        assert hasattr(AsyncClient, name)
    assert set(re.findall(r'server\.(?:answer|requests)\(\s*"(\w+)"', text)) <= METHODS.keys()
