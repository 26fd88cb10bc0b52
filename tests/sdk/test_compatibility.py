"""The wheel works beside every protobuf that it promises, with its declared dependencies alone."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import venv
from pathlib import Path

import pytest

CELLS = {
    "lowest": ["protobuf==5.29.*", "grpcio==1.71.2", "googleapis-common-protos==1.66.0"],
    "protobuf 5.29": ["protobuf==5.29.*"],
    "protobuf 6": ["protobuf==6.*"],
    "protobuf 7": ["protobuf==7.*"],
}
SERVER_ONLY = {"ray", "numpy", "polars", "pandas", "sqlalchemy", "prefect", "opentelemetry-api"}
DECLARED = {"marketcal", "grpcio", "protobuf", "googleapis-common-protos"}
BROUGHT = {"typing-extensions", "pip", "setuptools"}  # grpcio's own, and those of any environment
IMPORTS = 9
SECONDS = 0.3
CALL = """
import asyncio, warnings
warnings.simplefilter("error")
from marketcal import errors, forecast_request, frames
from marketcal.testing import FakeServer, resumable
from marketcal.v1 import alert_pb2, market_pb2
market = market_pb2.GetMarketResponse(market={"market_id": "m", "tags": ["x"]})
with FakeServer() as server:
    server.answer("GetMarket", market, errors.Overloaded("busy", retry_after=0.01), market,
                  errors.MarketNotFound("gone", resource=("Market", "n")))
    messages = [alert_pb2.WatchAlertsResponse(missed=number) for number in (1, 2, 3)]
    server.answer("WatchAlerts", resumable(messages, lose_after=2))
    with server.client(key="mk_1") as client:
        assert client.get_market("m").market_id == "m"
        assert [message.missed for message in client.watch_alerts()] == [1, 2, 3]
    async def run():
        async with server.async_client() as client:
            assert (await client.get_market("m")).market_id == "m"
            assert [message.missed async for message in client.watch_alerts()] == [1, 2, 3]
            try:
                await client.get_market("n")
            except errors.MarketNotFound as error:
                assert error.resource == ("Market", "n")
    asyncio.run(run())
    assert len(server.requests("GetMarket")) == 4
(row,) = frames.rows([market.market])
assert row["tags"] == ["x"] and row["p_yes"] is None
assert list(forecast_request("m", [0.5, None]).values)[0] == 0.5
"""
TIMED = "import time; t = time.perf_counter(); import {0}; print(time.perf_counter() - t)"


@pytest.fixture(scope="module")
def wheel(protos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the SDK, built now."""
    folder = tmp_path_factory.mktemp("wheel")
    run(
        Path(sys.executable),
        ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"],
        ["--wheel-dir", str(folder), str(protos)],
    )
    (built,) = folder.glob("marketcal-*.whl")
    return built


def run(python: Path, *arguments: list[str]) -> str:
    """What a program says; fails with what it complains of."""
    command = [str(python), *(part for group in arguments for part in group)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def median_import(python: Path, module: str) -> float:
    """Seconds that a fresh interpreter takes to import a module."""
    return statistics.median(
        float(run(python, ["-I", "-c", TIMED.format(module)])) for _ in range(IMPORTS)
    )


@pytest.mark.soak
@pytest.mark.parametrize("cell", CELLS)
def test_the_wheel_alone_calls_a_server(cell: str, wheel: Path, tmp_path: Path) -> None:
    reached = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *CELLS[cell][:1],
         "--dest", str(tmp_path)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if reached.returncode:
        pytest.skip(f"pip cannot fetch {CELLS[cell][0]}: {reached.stderr.strip()[-200:]}")
    venv.create(tmp_path / "environment", with_pip=True)
    python = tmp_path / "environment/bin/python"
    run(python, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"],
        [str(wheel), *CELLS[cell]])  # fmt: skip

    found = json.loads(run(python, ["-m", "pip", "list", "--format=json"]))
    versions = {package["name"].lower().replace("_", "-"): package["version"] for package in found}
    assert versions.keys() >= DECLARED
    assert versions.keys() <= DECLARED | BROUGHT
    assert not versions.keys() & SERVER_ONLY
    run(python, ["-I", "-W", "error", "-c", CALL])

    alone, ours = median_import(python, "grpc"), median_import(python, "marketcal")
    print(
        f"\n{cell}: protobuf {versions['protobuf']}, grpcio {versions['grpcio']}; "
        f"import grpc {alone:.3f} s, import marketcal {ours:.3f} s (medians of {IMPORTS})"
    )
    assert ours < SECONDS
