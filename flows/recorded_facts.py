"""Facts of markets as they came to be known, for judging recorded bars without looking ahead."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

import polars as pl

from flows.live_facts import KEPT_MS, Facts, current, number, readings_since
from market_data.lake import Lake


@dataclass(frozen=True, slots=True)
class Learned:
    """One fact, and when it was there.

    Attributes:
        ms: UTC milliseconds.
        market_id: the market.
        what: which fact.
        value: NaN for unknown.
    """

    ms: int
    market_id: str
    what: Literal["tick_size", "trust", "ambiguity", "open_interest"]
    value: float


class RecordedFacts:
    """Lets `Facts` know at each instant what the lake says was known then.

    Trust counts from its ``ts``, a judgement of the question from its ``scored_at``, a change of
    the tick from its ``changed_at``, open interest from the snapshot that has it. The stream
    learns the same up to ``stream.facts_seconds`` later.

    Args:
        lake: where it stands.
        market_ids: the markets.
        since_ms: first instant that is asked for. until_ms: the last.
    """

    def __init__(
        self, lake: Lake, market_ids: Collection[str], *, since_ms: int, until_ms: int
    ) -> None:
        wanted = pl.col("market_id").is_in(list(market_ids))
        found = [
            *_ticks(lake, wanted),
            *_trust(lake, wanted),
            *_ambiguity(lake, wanted),
            *(
                Learned(ms, name, "open_interest", usd)
                for name, ms, usd in readings_since(lake, wanted, since_ms - KEPT_MS, until_ms)
            ),
        ]
        self._learned = sorted(found, key=lambda one: (one.ms, one.market_id, one.what))
        self._next = 0

    def tell(self, facts: Facts, until_ms: int) -> None:
        """Tells ``facts`` what was known at ``until_ms`` and has not been told."""
        while self._next < len(self._learned) and self._learned[self._next].ms <= until_ms:
            one = self._learned[self._next]
            if one.what == "open_interest":
                facts.of(one.market_id).add_open_interest(one.ms, one.value)
            else:
                setattr(facts.of(one.market_id), one.what, one.value)
            self._next += 1


def _trust(lake: Lake, wanted: pl.Expr) -> Iterator[Learned]:
    rows = lake.read("trust_score", wanted, columns=("market_id", "ts", "score"))
    for name, ms, score in rows.with_columns(pl.col("ts").dt.epoch("ms")).iter_rows():
        yield Learned(ms, name, "trust", number(score))


def _ambiguity(lake: Lake, wanted: pl.Expr) -> Iterator[Learned]:
    """What the judgements that were there gave at each instant at which one was added."""
    rows = lake.read("question_quality", wanted & pl.col("scored_at").is_not_null())
    for (name,), judged in rows.group_by("market_id"):
        for at in judged["scored_at"].unique().sort():
            found = current(judged.filter(pl.col("scored_at") <= at))["ambiguity"].to_list()
            value = number(found[-1]) if found else math.nan
            yield Learned(round(at.timestamp() * 1_000), str(name), "ambiguity", value)


def _ticks(lake: Lake, wanted: pl.Expr) -> Iterator[Learned]:
    """Tick sizes; before the first change that was noted stands what it replaced."""
    changed: defaultdict[str, list[tuple[int, float, float]]] = defaultdict(list)
    is_tick = (pl.col("field") == "tick_size") & (pl.col("kind") == "CHANGE")
    rows = lake.read("market_registry_history", wanted & is_tick).sort("changed_at")
    for row in rows.iter_rows(named=True):
        ms = round(row["changed_at"].timestamp() * 1_000)
        changed[row["market_id"]].append((ms, _said(row["old_value"]), _said(row["new_value"])))
    registry = lake.read("market_registry", wanted, columns=("market_id", "tick_size"))
    for name, tick in registry.iter_rows():
        changes = changed.get(name, [])
        yield Learned(0, name, "tick_size", changes[0][1] if changes else number(tick))
        for ms, _, value in changes:
            yield Learned(ms, name, "tick_size", value)


def _said(text: str | None) -> float:
    return float(text) if text else math.nan
