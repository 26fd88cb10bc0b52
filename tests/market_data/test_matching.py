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


COMMON = """rule in favor against win run nomination gold silver bronze medals most fewest raise
decrease before after visit leave buy sell remain resign house senate reach rise fall attack uphold
strike high low end begin president chancellor primary general pass reject announce confirm deny
banned unbanned legal illegal top second endorse hold indicted convicted picture director open
close drama comedy premier champions north south first lose league election"""
CROWD = tuple(
    f"Will {word} of club{n} matter to place{n}?" for word in COMMON.split() for n in range(6)
)
"""Markets in which the words that decide are common, so that names weigh more than they do."""


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


def matched(one: str, other: str, *others: str) -> bool:
    rows = [("polymarket", one), ("kalshi", other), *(("manifold", text) for text in others)]
    found = match_markets(registry(*rows))
    return "kalshi:1" in found.filter(pl.col("market_id") == "polymarket:0")["other_id"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Will Bitcoin be above $100k on December 31?", "BTC over 100,000 on Dec 31"),
        ("Will the Fed cut rates in March 2026?", "Federal Reserve cuts rates in March 2026"),
        ("Will Gabriela Ruiz win the mayor election?", "Gabriela Ruiz wins the mayor election"),
        ("Will CPI exceed 3.5% in May?", "CPI above 3.5% in May"),
        ("Will Lakers beat Celtics?", "Lakers beat Celtics"),
        ("Will the court rule in favor of Trump?", "Court rules for Trump"),
        ("Will Gavin Newsom win the 2028 Democratic nomination?", "2028 Democratic nomination "
         "winner: Gavin Newsom"),
        ("Will the Fed decrease rates in March 2026?", "Fed to cut rates in March 2026"),
        ("Will Democrats win the House in 2026?", "Democratic party wins House in 2026"),
    ],
)  # fmt: skip
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


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Will the court rule in favor of Trump?",
         "Will the court rule against Trump?"),
        ("Will Trump visit China in 2026?", "Will Trump visit China twice in 2026?"),
        ("Will Arsenal win the league cup?", "Will Arsenal win the youth league cup?"),
        ("Will JD Vance be elected president?", "Will JD Vance be elected vice president?"),
        ("Will Tesla launch a robotaxi?", "Will Tesla launch a robotaxi in Austin?"),
        ("Will Newsom win the Democratic nomination in 2028?",
         "Will Newsom run for the Democratic nomination in 2028?"),
        ("Will China win more gold medals than the US?",
         "Will China win more silver medals than the US?"),
        ("Will the Fed cut rates in March 2026?",
         "Will the Fed raise rates in March 2026?"),
        ("Fed decrease rates in March 2026",
         "Fed increase rates in March 2026"),
        ("Will Norway win the most medals?",
         "Will Norway win the fewest medals?"),
        ("Will the bill pass before June 2026?",
         "Will the bill pass after June 2026?"),
        ("Will Lakers win game first half?",
         "Will Lakers win game second half?"),
        ("Will Russia and Ukraine sign a ceasefire in 2026?",
         "Will Russia break the ceasefire with Ukraine in 2026?"),
        ("Will Trump visit China in 2026?",
         "Will Trump leave China in 2026?"),
        ("Will Apple buy Disney in 2026?",
         "Will Apple sell Disney in 2026?"),
        ("Will Powell remain Fed chair in 2026?",
         "Will Powell resign as Fed chair in 2026?"),
        ("Will Democrats win the House in 2026?",
         "Will Democrats win the Senate in 2026?"),
        ("Will Democrats win the House in 2026?",
         "Will Republicans win the House in 2026?"),
        ("Will Arsenal win the Premier League 2026?",
         "Will Arsenal win the Champions League 2026?"),
        ("Will Djokovic win the US Open men's final 2026?",
         "Will Djokovic reach the US Open men's final 2026?"),
        ("Will unemployment rise in May 2026?",
         "Will unemployment fall in May 2026?"),
        ("Will Israel attack Iran in 2026?",
         "Will Iran attack Israel in 2026?"),
        ("Will the Supreme Court uphold the tariffs in 2026?",
         "Will the Supreme Court strike down the tariffs in 2026?"),
        ("Will Prince Harry divorce in 2026?",
         "Will Prince William divorce in 2026?"),
        ("Will OpenAI release GPT-6 before Google releases Gemini 4?",
         "Will Google release Gemini 4 before OpenAI releases GPT-6?"),
        ("Will Bitcoin reach a new all time high in 2026?",
         "Will Bitcoin reach a new yearly low in 2026?"),
        ("Will the government shut down end in January 2026?",
         "Will the government shut down begin in January 2026?"),
        ("Will Trump pardon Ghislaine Maxwell in 2026?",
         "Will Trump not pardon Ghislaine Maxwell in 2026?"),
        ("Will Alice Weidel be the next chancellor of Germany?",
         "Will Alice Weidel be the next president of Germany?"),
        ("Will Mamdani win the primary in New York?",
         "Will Mamdani win the general election in New York?"),
        ("Will Trump meet Putin in Hungary in 2026?",
         "Will Trump meet Zelensky in Hungary in 2026?"),
        ("Will Congress pass the crypto bill by June 2026?",
         "Will Congress reject the crypto bill by June 2026?"),
        ("Will Max Verstappen win the drivers title 2026?",
         "Will Max Verstappen lose the drivers title 2026?"),
        ("Will Newsom announce a run in 2026?",
         "Will Newsom win in 2026?"),
        ("Will the US confirm aliens exist in 2026?",
         "Will the US deny aliens exist in 2026?"),
        ("Will TikTok be banned in the US in 2026?",
         "Will TikTok be unbanned in the US in 2026?"),
        ("Will it be legal to own gold in Brazil in 2026?",
         "Will it be illegal to own gold in Brazil in 2026?"),
        ("Will Team A win with a margin of 5 goals?",
         "Will Team A lose with a margin of 5 goals?"),
        ("Will the top grossing movie of 2026 be Avatar?",
         "Will the second grossing movie of 2026 be Avatar?"),
        ("Will Trump endorse Paxton in Texas?",
         "Will Trump endorse Cornyn in Texas?"),
        ("Will the Fed hold rates in March 2026?",
         "Will the Fed cut rates in March 2026?"),
        ("Will Ethereum flip Bitcoin in 2026?",
         "Will Bitcoin flip Ethereum in 2026?"),
        ("Will North Korea test a missile in 2026?",
         "Will South Korea test a missile in 2026?"),
        ("Will Biden be indicted in 2026?",
         "Will Biden be convicted in 2026?"),
        ("Will the best picture go to Dune?",
         "Will the best director go to Dune?"),
        ("Will Meta stock open higher on Monday?",
         "Will Meta stock close higher on Monday?"),
        ("Will the Emmy for drama series go to Severance?",
         "Will the Emmy for comedy series go to Severance?"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("crowd", [(), CROWD], ids=["few markets", "many markets"])
def test_another_event_and_the_opposite_do_not_match_however_common_their_words(
    one: str, other: str, crowd: tuple[str, ...]
) -> None:
    assert not matched(one, other, *crowd)


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
