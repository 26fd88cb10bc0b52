"""The committed figures on labels are what the code computes from the recorded data."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from market_data.label_agreement import RESOLVED, agreement, render, share_agreeing

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "label_agreement.md"


def test_labels_agree_with_recorded_outcomes_on_final_prices(recorded: Path) -> None:
    table = agreement(pl.read_parquet(recorded / "gamma" / RESOLVED))
    assert share_agreeing(table) >= 0.995
    assert table.filter(pl.col("verdict") == "differs").is_empty()


def test_the_committed_document_is_fresh(recorded: Path) -> None:
    assert DOCUMENT.read_text() == render(recorded / "gamma")
