"""Editors and type checkers know every call: the package is typed, and so is what it returns."""

from __future__ import annotations

import subprocess
from pathlib import Path

RIGHT = """
from collections.abc import AsyncIterator, Iterator
from typing import assert_type

import numpy as np

from marketcal import AsyncClient, Client, Tls, frames
from marketcal.v1 import alert_pb2, forecast_pb2, market_pb2

client = Client("localhost:1", key="mk_x", tls=Tls(server_name="a"), timeout=3)
answer = client.forecast("m", np.zeros(3), horizon_steps=3, model="ewma", timeout=1)
assert_type(answer, forecast_pb2.ForecastResponse)
assert_type(client.get_market("m"), market_pb2.Market)
assert_type(client.watch_alerts(), Iterator[alert_pb2.WatchAlertsResponse])
for market in client.list_markets(status="MARKET_STATUS_ACTIVE"):
    assert_type(market, market_pb2.Market)
for page in client.list_markets().pages():
    assert_type(page, market_pb2.ListMarketsResponse)
levels, paths = frames.to_numpy(answer, "conformal")
assert_type(levels.shape, tuple[int])


async def main(client: AsyncClient) -> None:
    assert_type(await client.forecast("m", [0.5, None]), forecast_pb2.ForecastResponse)
    assert_type(client.watch_alerts(), AsyncIterator[alert_pb2.WatchAlertsResponse])
    async for market in client.list_markets():
        assert_type(market, market_pb2.Market)
"""
WRONG = {
    'client.forecast("m", [0.5], horizon=3)': 'Unexpected keyword argument "horizon"',
    'client.forecast("m", ["0.5"])': 'incompatible type "str"',
    "client.list_scores(min_trust_score='high')": 'incompatible type "str"',
    "client.get_market()": "Missing positional argument",
    "client.get_market('m').name": 'has no attribute "name"',
}


def test_the_package_and_its_callers_pass_a_strict_check(
    protos: Path, python: str, tmp_path: Path
) -> None:
    start = 'from marketcal import Client\nclient = Client("localhost:1")\n'
    (tmp_path / "right.py").write_text(RIGHT)
    (tmp_path / "wrong.py").write_text(start + "\n".join(WRONG) + "\n")

    def check(*arguments: str) -> list[str]:
        done = subprocess.run(
            [python, "-m", "mypy", "--strict", *arguments],
            cwd=protos.parent, capture_output=True, text=True, check=False, timeout=240,
        )  # fmt: skip
        return [line for line in done.stdout.splitlines() if ": error: " in line]

    assert check("-p", "marketcal") == []
    assert check(str(tmp_path / "right.py")) == []
    found = check(str(tmp_path / "wrong.py"))
    assert len(found) == len(WRONG), found
    for line, wanted in zip(found, WRONG.values(), strict=True):
        assert wanted in line
