"""Markets match across platforms only where they ask the same."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import permutations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_data.matching import match_markets, prices_elsewhere
from market_data.replay.archive import Archive
from market_data.replay.simulate import SimulationConfig
from market_data.replay.simulate_records import simulate
from market_data.venues.kalshi.parse import parse_market as parse_kalshi
from market_data.venues.kalshi.rest import with_events
from market_data.venues.manifold.parse import parse_market as parse_manifold
from market_data.venues.polymarket.parse import parse_market as parse_polymarket

END = datetime(2026, 12, 31, tzinfo=UTC)
FILLER = ("Will Arsenal win the cup?", "Rain in Oslo on Friday", "Who leads the senate vote?")


def registry(*questions: tuple[str, str], end: datetime = END) -> pl.DataFrame:
    """Yes/no markets of (platform, question), and some others that weigh the words."""
    rows = [*questions, *(("polymarket", text) for text in FILLER)]
    return pl.DataFrame(
        {
            "market_id": [f"{platform}:{n}" for n, (platform, _) in enumerate(rows)],
            "platform": [platform for platform, _ in rows],
            "question": [question for _, question in rows],
            "outcomes": [["Yes", "No"]] * len(rows),
            "market_structure": ["BINARY"] * len(rows),
            "end_at": [end] * len(rows),
        }
    )


def matched(one: str, other: str) -> bool:
    return match_markets(registry(("polymarket", one), ("kalshi", other))).height > 0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Will Bitcoin be above $100k on December 31?", "BTC over 100,000 on Dec 31"),
        ("Will the Fed cut rates in March 2026?", "Federal Reserve cuts rates in March 2026"),
        ("Will Gabriela Ruiz win the mayor election?", "Gabriela Ruiz wins the mayor election"),
        ("Will CPI exceed 3.5% in May?", "CPI above 3.5% in May"),
        ("Will Lakers beat Celtics?", "Lakers beat Celtics"),
    ],
)
def test_other_words_for_the_same_question_match(one: str, other: str) -> None:
    assert matched(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Will Bitcoin be above $100k on December 31?", "Bitcoin above 120k on December 31"),
        ("Will Bitcoin be above $100k on December 31?", "Bitcoin below 100k on December 31"),
        ("Will Bitcoin be above $100k on December 31?", "Bitcoin above 100k on December 30"),
        ("Will CPI exceed 3.5% in May?", "CPI at least 3.5% in May"),
        ("Will CPI exceed 3.5% in May?", "CPI above 3.5% in June"),
        ("Will Gabriela Ruiz win the mayor election?", "Gabriela Ruiz does not win the mayor "
         "election"),
        ("Will Gabriela Ruiz win the mayor election?", "Gabriela Lopez wins the mayor election"),
        ("Will Lakers beat Celtics?", "Celtics beat Lakers"),
        ("Will candidate 3 win district 7?", "Candidate 7 wins district 3"),
        ("Will the Fed cut rates in 2026?", "Will the Fed cut rates in 2027?"),
        ("Will it rain?", "Will it rain?"),
    ],
)  # fmt: skip
def test_nearly_the_same_words_for_another_question_do_not_match(one: str, other: str) -> None:
    assert not matched(one, other)


def test_markets_of_one_platform_and_of_distant_ends_do_not_match() -> None:
    text = "Will the Fed cut rates in March 2026?"
    assert match_markets(registry(("kalshi", text), ("kalshi", text))).is_empty()
    far = registry(("kalshi", text), ("manifold", text)).with_columns(
        pl.when(pl.col("platform") == "kalshi")
        .then(pl.col("end_at") + timedelta(days=30))
        .otherwise(pl.col("end_at"))
        .alias("end_at")
    )
    assert match_markets(far).is_empty()
    unknown = registry(("kalshi", text), ("manifold", text)).with_columns(
        pl.lit(None, dtype=pl.Datetime("us", "UTC")).alias("end_at")
    )
    assert match_markets(unknown).is_empty()


def test_two_candidates_of_which_none_is_clearly_better_match_nothing() -> None:
    text = "Will the Fed cut rates in March 2026?"
    found = match_markets(registry(("polymarket", text), ("kalshi", text), ("kalshi", text)))
    assert found.is_empty()


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["polymarket", "kalshi", "manifold"]),
            st.permutations(["alpha", "beats", "beta", "above", "100k", "never", "2026"]).map(
                lambda words: " ".join(words[:5])
            ),
        ),
        min_size=2,
        max_size=8,
    ),
    st.integers(0, 1_000),
)
def test_matching_is_symmetric_and_blind_to_the_order_of_rows(
    questions: list[tuple[str, str]], seed: int
) -> None:
    frame = registry(*questions)
    found = match_markets(frame)
    pairs = set(found.select("market_id", "other_id").iter_rows())
    assert pairs == {(other, market) for market, other in pairs}
    assert all(one.split(":")[0] != other.split(":")[0] for one, other in pairs)
    places = list(range(frame.height))
    random.Random(seed).shuffle(places)
    assert match_markets(frame[places]).equals(found)


@pytest.fixture(scope="module")
def mirrored() -> Archive:
    return simulate(
        SimulationConfig(seed=17, n_markets=3_000, snapshots_per_market=4, mirror_share=0.2)
    )


def test_mirrors_are_found_among_decoys(
    mirrored: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [parse_polymarket(record) for record in mirrored.markets]
    rows += [parse_kalshi(market) for e in mirrored.kalshi_events for market in with_events(e)]
    rows += [parse_manifold(record) for record in mirrored.manifold_markets]
    names = ("market_id", "platform", "question", "outcomes", "market_structure", "end_at")
    frame = pl.DataFrame({name: [getattr(row, name) for row in rows] for name in names})
    matches = match_markets(frame).select("market_id", "other_id")
    found = set(matches.iter_rows())
    questions = (mirrored.truth or {})["questions"]
    true = {pair for question in questions for pair in permutations(question, 2)}
    precision, recall = len(found & true) / len(found), len(found & true) / len(true)
    with capsys.disabled():
        print(f"\nmatching: {len(true)} true pairs, precision {precision:.4f}, recall {recall:.4f}")
    assert precision > 0.99
    assert recall > 0.9


def test_a_price_elsewhere_is_the_last_one_known_then_and_not_a_later_one(
    snapshot_rows: Callable[..., pl.DataFrame], at: Callable[[float], datetime]
) -> None:
    matches = pl.DataFrame({"market_id": ["a", "a"], "other_id": ["k", "m"]})
    snapshots = snapshot_rows(
        [("k", at(1), 0.2), ("k", at(3), 0.4), ("m", at(2), 0.8), ("a", at(1), 0.5)]
    )
    points = snapshot_rows([("a", at(hour), 0.5) for hour in (0.5, 1, 2.5, 3, 40)])
    found = prices_elsewhere(points, matches, snapshots)
    assert found["platforms"].to_list() == [1, 2, 2]
    assert found["p_elsewhere"].to_list() == pytest.approx([0.2, 0.5, 0.6])


@given(
    st.lists(
        st.tuples(st.sampled_from("akm"), st.integers(0, 60), st.floats(0, 1)),
        max_size=20,
        unique_by=lambda row: (row[0], row[1]),
    ),
    st.integers(0, 60),
)
def test_a_later_price_changes_no_earlier_answer(
    prices: list[tuple[str, int, float]], cut: int
) -> None:
    start = datetime(2026, 9, 1, tzinfo=UTC)
    schema = {"market_id": pl.String(), "ts": pl.Datetime("us", "UTC"), "p_yes": pl.Float64()}
    rows = [(m, start + timedelta(hours=h), p) for m, h, p in prices]
    snapshots = pl.DataFrame(rows, schema=schema, orient="row")
    matches = pl.DataFrame({"market_id": ["a", "a"], "other_id": ["k", "m"]})
    until = start + timedelta(hours=cut)
    points = snapshots.filter((pl.col("market_id") == "a") & (pl.col("ts") <= until))
    known = prices_elsewhere(points, matches, snapshots.filter(pl.col("ts") <= until))
    assert prices_elsewhere(points, matches, snapshots).equals(known)
