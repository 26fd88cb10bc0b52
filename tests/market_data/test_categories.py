"""Categories by whole words, buckets with their bounds."""

from __future__ import annotations

import polars as pl
import pytest

from market_data.categories import CATEGORIES, canonical_category, liquidity_bucket, tte_bucket


@pytest.mark.parametrize(
    ("category", "tags", "question", "expected"),
    [
        ("US-current-affairs", [], "", "politics"),
        ("NBA Playoffs", [], "", "sports"),
        ("Coronavirus", [], "", "science"),
        (None, ["Crypto"], "Will the president win?", "crypto"),
        (None, [], "Will Bitcoin reach 100k?", "crypto"),
        (None, [], "Will Ethelred marry?", "other"),
    ],
)
def test_the_venues_word_comes_first_then_tags_then_the_question(
    category: str | None, tags: list[str], question: str, expected: str
) -> None:
    assert canonical_category(category, tags, question) == expected
    assert expected in CATEGORIES


def test_liquidity_is_the_larger_of_volume_and_open_interest_and_unknown_is_not_low() -> None:
    frame = pl.DataFrame(
        {
            "v": [9_999.99, 10_000.0, None, 5.0, None, float("nan")],
            "o": [0.0, None, 99_999.0, 100_000.0, None, None],
        }
    )
    assert frame.select(b=liquidity_bucket(pl.col("v"), pl.col("o")))["b"].to_list() == [
        "LOW", "MID", "MID", "HIGH", "UNSPECIFIED", "UNSPECIFIED",
    ]  # fmt: skip


def test_time_to_event_buckets_include_their_upper_bound() -> None:
    hours = [-1.0, 6.0, 6.01, 24.0, 72.0, 72.01, None]
    frame = pl.DataFrame({"s": [None if h is None else h * 3600 for h in hours]})
    assert frame.select(b=tte_bucket(pl.col("s")))["b"].to_list() == [
        "LE_6H", "LE_6H", "LE_24H", "LE_24H", "LE_72H", "GT_72H", "UNSPECIFIED",
    ]  # fmt: skip
