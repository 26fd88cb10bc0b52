"""Labels: exact words, final states, and a reason on every row."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from market_data.labels import LABELS, build_labels
from market_data.registry import registry_frame
from market_data.venues.polymarket.parse import parse_market

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def label_of(record: dict[str, Any]) -> dict[str, Any]:
    registry = registry_frame([parse_market(record)], [""], EPOCH)
    return build_labels(registry).row(0, named=True)


@pytest.mark.parametrize(
    ("changes", "label", "reason"),
    [
        ({}, "RESOLVED_TRUE", "FINAL_PRICES"),
        ({"outcomePrices": '["0", "1"]'}, "RESOLVED_FALSE", "FINAL_PRICES"),
        ({"closed": False}, "UNRESOLVED", "OPEN"),
        ({"outcomePrices": '["0.5", "0.5"]'}, "VOID", "FIFTY_FIFTY"),
        ({"outcomePrices": '["0", "0"]'}, "UNRESOLVED", "PRICES_ALL_ZERO"),
        ({"outcomePrices": None}, "UNRESOLVED", "PRICES_MISSING"),
        ({"outcomePrices": '["0.9", "0.1"]'}, "UNRESOLVED", "INTERIOR_PRICES"),
        ({"umaResolutionStatus": "disputed"}, "UNRESOLVED", "UMA_NOT_FINAL"),
        ({"umaResolutionStatus": "proposed"}, "UNRESOLVED", "UMA_NOT_FINAL"),
        ({"umaResolutionStatus": "cancelled"}, "VOID", "UMA_VOID"),
        ({"umaResolutionStatuses": '["proposed","disputed","proposed","resolved"]'},
         "RESOLVED_TRUE", "FINAL_PRICES"),
        ({"marketType": "scalar", "outcomes": '["Long", "Short"]'}, "UNRESOLVED", "SCALAR"),
        ({"outcomePrices": '["0.9995", "0.0005"]', "enableOrderBook": None,
          "umaResolutionStatus": None, "umaResolutionStatuses": "[]"},
         "RESOLVED_TRUE", "AMM_RESIDUAL"),
        ({"outcomePrices": '["0.9995", "0.0005"]', "umaResolutionStatus": None,
          "umaResolutionStatuses": "[]"}, "UNRESOLVED", "INTERIOR_PRICES"),
        ({"outcomePrices": '["0.9995", "0.0005"]'}, "RESOLVED_TRUE", "ORACLE_NEAR_FINAL"),
    ],
)  # fmt: skip
def test_the_rule_that_applies_first_decides_and_is_named(
    record: Callable[..., dict[str, Any]], changes: dict[str, Any], label: str, reason: str
) -> None:
    row = label_of(record(**changes))
    assert (row["label"], row["reason"]) == (label, reason)


@pytest.mark.parametrize("name", ["Norway", "Nobody", "November", "None of these", "no one"])
def test_an_outcome_that_begins_with_no_is_not_no(
    record: Callable[..., dict[str, Any]], name: str
) -> None:
    row = label_of(record(outcomes=["Sweden", name], outcomePrices=["0", "1"]))
    assert row["label"] == "RESOLVED_FALSE"
    assert row["winner"] == name
    first = label_of(record(outcomes=[name, "Sweden"], outcomePrices=["1", "0"]))
    assert first["label"] == "RESOLVED_TRUE"


def test_yes_is_the_yes_side_wherever_it_stands(record: Callable[..., dict[str, Any]]) -> None:
    row = label_of(record(outcomes='["No", "Yes"]', outcomePrices='["0", "1"]'))
    assert (row["label"], row["winner"]) == ("RESOLVED_TRUE", "Yes")


def test_the_index_of_a_winner_is_not_a_truth_value(
    record: Callable[..., dict[str, Any]],
) -> None:
    row = label_of(
        record(outcomes=["A", "B", "C"], outcomePrices=["0", "1", "0"], clobTokenIds=None)
    )
    assert (row["label"], row["winner"], row["outcome_yes"]) == ("MULTI_OUTCOME", "B", None)


def test_a_winner_on_an_open_market_is_not_a_label(record: Callable[..., dict[str, Any]]) -> None:
    row = label_of(record(closed=False, closedTime=None))
    assert (row["label"], row["winner"], row["resolved_at"]) == ("UNRESOLVED", None, None)


def test_an_even_split_over_three_outcomes_is_void(record: Callable[..., dict[str, Any]]) -> None:
    row = label_of(
        record(outcomes=["A", "B", "C"], outcomePrices=[1 / 3, 1 / 3, 1 / 3], clobTokenIds=None)
    )
    assert row["label"] == "VOID"


def test_the_order_of_rows_does_not_matter(record: Callable[..., dict[str, Any]]) -> None:
    records = [record(id=str(i), outcomePrices=[str(i % 2), str(1 - i % 2)]) for i in range(50)]
    registry = registry_frame([parse_market(r) for r in records], [""] * 50, EPOCH)
    labels = build_labels(registry)
    assert labels.equals(build_labels(registry.sample(fraction=1, shuffle=True, seed=3)))
    assert set(labels["label"]) <= set(LABELS)
    assert labels["reason"].null_count() == 0


def test_simulated_truth_is_found_again(archive: Any) -> None:
    rows = [parse_market(market) for market in archive.markets]
    labels = build_labels(registry_frame(rows, [""] * len(rows), EPOCH))
    truth = pl.DataFrame(archive.truth["markets"])
    joined = truth.join(labels, on="market_id", suffix="_found")
    assert joined.height == len(archive.markets)
    assert joined.filter(pl.col("label") != pl.col("label_found")).is_empty()
