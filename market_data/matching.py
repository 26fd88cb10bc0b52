"""The same question on several platforms: pairs of markets, found by their wording and dates.

Precision comes first. Two markets match when

1. both are yes/no questions of a single leg, on different platforms;
2. their facts agree exactly (numbers and what they count, above or below, deciding words, negation,
   see ``market_data.wording``), and both name at least two words;
3. their announced ends lie within ``ENDS_WITHIN`` of each other; an unknown end matches nothing;
4. the weight of the words that they share is at least ``LEAST_SCORE`` of the weight of all their
   words, where a word weighs log(1 + markets / markets with the word); where it matters who comes
   first, the shared words stand in the same order, and nowhere do two sides change places;
5. at most one of them has words that the other lacks, which together weigh less than one word that
   only one in ``RARE`` markets has: a word in place of another asks something else;
6. each is the other's best on that platform, and no second candidate comes near.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from market_data.lake import polars_schema
from market_data.schemas import SCHEMA_VERSION
from market_data.wording import Wording, take_apart

ENDS_WITHIN = timedelta(days=3)
LEAST_SCORE = 0.7
RARE = 20
CLEAR_LEAD = 0.05
"""How far the best candidate must be ahead of the second one on the same platform."""

MATCHED_BY = ("market_id", "platform", "question", "outcomes", "market_structure", "end_at")
"""The columns of ``market_registry`` that matching looks at."""

STRUCTURES = ("BINARY", "PLAYER_PROP")
PRICE_AGE = timedelta(days=1)
"""A price on another platform that is older says nothing about now."""

_RAREST = 3


@dataclass(frozen=True, slots=True)
class _Market:
    """What a market is matched by."""

    market_id: str
    platform: str
    end_at: datetime
    wording: Wording


def match_markets(registry: pl.DataFrame) -> pl.DataFrame:
    """``market_match`` rows, both directions of each pair; the order of rows does not matter.

    Args:
        registry: the columns of ``MATCHED_BY``.
    """
    markets = _comparable(registry)
    weights = _weights(markets)
    rare = math.log1p(min(RARE, len(markets)))
    best: dict[str, list[tuple[float, str, str]]] = defaultdict(list)
    for one, other in _candidates(markets, weights):
        score = _score(one, other, weights, rare)
        if score >= LEAST_SCORE:
            best[one.market_id].append((score, other.platform, other.market_id))
            best[other.market_id].append((score, one.platform, one.market_id))
    chosen = {market: _clear_best(found) for market, found in best.items()}
    places = {market.market_id: market for market in markets}
    rows = [
        (market, other, round(score, 6), _reason(places[market], places[other], score))
        for market, found in sorted(chosen.items())
        for other, score in found
        if market in {back for back, _ in chosen.get(other, ())}
    ]
    schema = polars_schema("market_match")
    names = ("market_id", "other_id", "score", "reason")
    return (
        pl.DataFrame(rows, schema={name: schema[name] for name in names}, orient="row")
        .with_columns(schema_version=pl.lit(SCHEMA_VERSION, dtype=pl.Int32))
        .sort("market_id", "other_id")
    )


def prices_elsewhere(
    points: pl.DataFrame, matches: pl.DataFrame, snapshots: pl.DataFrame
) -> pl.DataFrame:
    """What the other platforms said at each point: nothing later than the point is looked at.

    Args:
        points: ts UTC and market_id; other columns are left out.
        matches: ``market_match`` rows.
        snapshots: ``market_snapshot`` rows of the matched markets, at least ts, market_id, p_yes.

    Returns:
        ts, market_id, p_elsewhere (mean over the matched markets of each one's last price at or
        before ts and at most ``PRICE_AGE`` old) and platforms (how many it is the mean of), one
        row for each distinct point that has such a price.
    """
    asked = points.select("ts", "market_id").unique()
    pairs = asked.join(matches.select("market_id", "other_id"), on="market_id").sort("ts")
    known = snapshots.select(
        "ts", pl.col("market_id").alias("other_id"), pl.col("p_yes").alias("_p")
    ).drop_nulls()
    seen = pairs.join_asof(
        known.sort("ts"), on="ts", by="other_id", tolerance=PRICE_AGE, check_sortedness=False
    )
    return (
        seen.drop_nulls("_p")
        .sort("market_id", "ts", "other_id")
        .group_by("ts", "market_id")
        .agg(pl.col("_p").mean().alias("p_elsewhere"), pl.len().cast(pl.Int64).alias("platforms"))
        .sort("market_id", "ts")
    )


def _comparable(registry: pl.DataFrame) -> list[_Market]:
    """Yes/no questions with an end, in the order of their ids."""
    words = pl.col("outcomes").list.eval(pl.element().str.to_lowercase()).list.sort()
    chosen = registry.filter(
        pl.col("market_structure").is_in(STRUCTURES)
        & pl.col("end_at").is_not_null()
        & (words.list.join("|") == "no|yes")
    ).sort("market_id")
    columns = chosen.select("market_id", "platform", "end_at", "question").iter_rows()
    taken = [_Market(i, p, end, take_apart(q or "")) for i, p, end, q in columns]
    return [market for market in taken if len(market.wording.words) > 1]


def _weights(markets: list[_Market]) -> dict[str, float]:
    counts = Counter(word for market in markets for word in market.wording.words)
    return {word: math.log1p(len(markets) / count) for word, count in counts.items()}


def _candidates(
    markets: list[_Market], weights: dict[str, float]
) -> Iterator[tuple[_Market, _Market]]:
    """Pairs with the same facts, near ends and one of the rarest words in common, each once."""
    buckets: dict[tuple[tuple[str, ...], str], list[_Market]] = defaultdict(list)
    for market in markets:
        rarest = sorted(market.wording.words, key=lambda word: (-weights[word], word))[:_RAREST]
        seen: set[str] = set()
        for word in rarest:
            for other in buckets[market.wording.facts, word]:
                is_near = abs(market.end_at - other.end_at) <= ENDS_WITHIN
                if is_near and other.platform != market.platform and other.market_id not in seen:
                    seen.add(other.market_id)
                    yield other, market
        for word in rarest:
            buckets[market.wording.facts, word].append(market)


def _score(one: _Market, other: _Market, weights: dict[str, float], rare: float) -> float:
    """The shared words' part of the weight of all; 0 where the questions differ for sure."""
    first, second = one.wording, other.wording
    shared = set(first.words) & set(second.words)
    lacking = [set(side.words) - shared for side in (first, second)]
    if all(lacking) or sum(weights[word] for side in lacking for word in side) >= rare:
        return 0.0
    orders = [[word for word in side.words if word in shared] for side in (first, second)]
    if (first.is_ordered or second.is_ordered) and orders[0] != orders[1]:
        return 0.0
    if _change_places(*orders):
        return 0.0
    every = sum(weights[word] for word in sorted(set(first.words) | set(second.words)))
    return sum(weights[word] for word in sorted(shared)) / every


def _change_places(one: list[str], other: list[str]) -> bool:
    """Whether what stands before a word in one stands behind it in the other, and vice versa.

    Around "win" nothing changes: "A wins the cup" is "cup winner: A".

    >>> _change_places(["israel", "attack", "iran"], ["iran", "attack", "israel"])
    True
    """
    for place, word in enumerate(one):
        there = other.index(word)
        before, behind = set(one[:place]), set(one[place + 1 :])
        is_between = word != "win" and before and behind
        if is_between and (before, behind) == (set(other[there + 1 :]), set(other[:there])):
            return True
    return False


def _clear_best(found: list[tuple[float, str, str]]) -> list[tuple[str, float]]:
    """The best candidate of each platform, where no second one comes near."""
    by_platform: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for score, platform, market in found:
        by_platform[platform].append((score, market))
    clear = []
    for candidates in by_platform.values():
        ordered = sorted(candidates, key=lambda pair: (-pair[0], pair[1]))
        if len(ordered) == 1 or ordered[0][0] - ordered[1][0] >= CLEAR_LEAD:
            clear.append((ordered[0][1], ordered[0][0]))
    return clear


def _reason(one: _Market, other: _Market, score: float) -> str:
    hours = abs(one.end_at - other.end_at) / timedelta(hours=1)
    facts = ", ".join(one.wording.facts) or "none"
    return f"words {score:.2f}; facts {facts}; ends {hours:.0f} h apart"
