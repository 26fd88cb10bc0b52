"""Published figures are reproduced where their data are here; see docs/published_numbers.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.published.__main__ import DOCUMENT, document, main
from benchmarks.published.numbers import Comparison, comparisons
from benchmarks.published.real_markets import Horizon, horizons

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "../shared/data/dev"

recorded = pytest.mark.skipif(
    not DATA.is_dir(), reason="recorded data (../shared/data/dev) is not here"
)


@pytest.fixture(scope="module")
def found() -> list[Comparison]:
    return comparisons(DATA)


@pytest.fixture(scope="module")
def by_horizon() -> list[Horizon]:
    return horizons(DATA)


@recorded
def test_a_figure_whose_rows_are_all_here_is_equal_to_the_last_digit(
    found: list[Comparison],
) -> None:
    whole = [row for row in found if row.is_whole]
    assert [row.source for row in whole] == ["JosephHuaimin/prediction-market-calibration"]
    assert round(whole[0].ours, 6) == whole[0].published == 0.032955


@recorded
def test_the_interval_of_a_part_contains_the_figure_of_the_whole(found: list[Comparison]) -> None:
    parts = [row for row in found if not row.is_whole]
    assert len(parts) == 7
    assert [row.what for row in parts if not row.agrees] == []


@recorded
def test_prices_of_real_markets_know_more_than_the_base_rate_at_every_horizon(
    by_horizon: list[Horizon],
) -> None:
    for horizon in by_horizon:
        assert horizon.scores["event_count"] > 800
        assert horizon.scores["brier_hi"] < horizon.scores["uncertainty"]


@recorded
def test_what_is_served_is_never_shown_worse_than_the_price_on_later_markets(
    by_horizon: list[Horizon],
) -> None:
    for horizon in by_horizon:
        value, low, _ = horizon.difference
        if horizon.recalibration["served"] == "price":
            assert abs(value) < 1e-12
        else:
            assert low < 0.0


@recorded
def test_the_document_shows_these_figures(
    found: list[Comparison], by_horizon: list[Horizon]
) -> None:
    assert (ROOT / "docs" / DOCUMENT).read_text() == document(found, by_horizon)


def test_a_folder_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--data", str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err
