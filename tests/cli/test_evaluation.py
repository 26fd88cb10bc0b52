"""``marketcal evaluate``: verdicts with reasons, a report, and one line when it cannot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

SMALL = {
    "CONTEXT_STEPS": "24", "HORIZON_STEPS": "3", "STRIDE_STEPS": "3", "TIME_SHARE": "0.6",
    "CANARY_PROBES": "2", "CANARY_REQUESTS": "1",
}  # fmt: skip


@pytest.fixture(scope="module")
def lake(publish: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return publish(tmp_path_factory.mktemp("lake"), markets=120, seed=5)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, lake: Any) -> None:
    monkeypatch.setenv("MARKETCAL_FLOWS__LAKE", str(lake.lake))
    for name, value in SMALL.items():
        monkeypatch.setenv(f"MARKETCAL_FLOWS__EVALUATION__{name}", value)


def as_of(lake: Any) -> str:
    return f"{lake.as_of:%Y-%m-%d}"


@pytest.mark.usefixtures("small")
def test_verdicts_are_said_with_their_reasons_and_the_report_lies_where_it_says(
    run: Any, lake: Any, alone: Path
) -> None:
    asked = ("evaluate", "--models", "random_walk", "--as-of", as_of(lake))
    result = run(*asked)
    assert result.exit_code == 0, result.output
    assert "KEEP: random_walk in place of native" in result.output
    assert "canary: not measured: no gateway was named" in result.output
    report = alone / result.output.strip().splitlines()[-1].removeprefix("report ")
    assert report.read_text().startswith("<!doctype html>")
    (row,) = json.loads(run(*asked, "--output", "json").stdout)
    assert (row["candidate"], row["verdict"]) == ("random_walk", "KEEP")


@pytest.mark.usefixtures("small")
def test_live_figures_of_a_gateway_are_part_of_the_verdict(
    run: Any, lake: Any, gateway: Any
) -> None:
    key = gateway.key("forecaster", rate_per_minute=1e7, burst=1_000_000)
    result = run(
        "evaluate", "--models", "random_walk", "--as-of", as_of(lake), "--gateway",
        gateway.address, "--key", key, "--output", "json",
    )  # fmt: skip
    (row,) = json.loads(result.stdout)
    assert row["canary"]["probes"] == 2
    assert not [reason for reason in row["reasons"] if "not measured" in reason]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--models", "crystal_ball"), "no model 'crystal_ball'"),
        (("--models", "moirai-2.0-small"), "for research only"),
        (("--recorded", "."), "holds no recorded prices"),
    ],
)
def test_what_cannot_be_evaluated_ends_with_5(run: Any, more: tuple[str, ...], said: str) -> None:
    result = run("evaluate", *more)
    assert (result.exit_code, said in result.output) == (5, True)
