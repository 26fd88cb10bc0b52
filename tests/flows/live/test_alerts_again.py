"""Recorded bars raise what the stream raised, by what was known then and with what came before."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from calibration_service.alerts.policy import DEFAULT_FILE, load_policy
from calibration_service.alerts.values import Alert, Band
from flows.alert_quality import alert_quality, bars_of, replayed
from flows.live_bands import BandBook, BaselineBands
from flows.live_facts import Facts
from flows.live_judge import Judge
from flows.live_lake import frame_of
from flows.recorded_facts import RecordedFacts
from flows.settings import FlowSettings
from market_data.lake import Lake, empty
from market_data.streaming.bars import FIVE_MS, MINUTE_MS, Bar
from market_data.streaming.events import MICRO
from market_data.streaming.market_stream import MinuteClosed

POLICY = load_policy()
BASELINE = BaselineBands(POLICY, 14, "ewma")
BEGIN = datetime(2026, 9, 14, 3, tzinfo=UTC)
BEGIN_MS = round(BEGIN.timestamp() * 1_000)
FIRST = 9 * 60
"""First minute of the reported day."""
LAST = 13 * 60
JUMPS = {"a": FIRST + 12, "b": 11 * 60, "c": FIRST - 30, "d": 12 * 60 - 10}
BURSTS = "abc"
Said = list[tuple[int, str, dict[str, Any]]]


class Corrected:
    """The baseline as if outcomes had been measured."""

    async def issue(self, issued_ms: int, series: Mapping[str, Any]) -> dict[str, Band]:
        found = BASELINE.issue(issued_ms, series, "")
        return {name: replace(band, is_corrected=True) for name, band in found.items()}


def bars(market_id: str) -> Iterator[Bar]:
    jump, five = JUMPS[market_id], 0
    for end in range(1, LAST + 1):
        price = (0.5 if end < jump else 0.8) + 0.005 * (end // 5 % 2)
        bursts = market_id in BURSTS and jump <= end < jump + 10
        volume = MICRO * (100 if bursts else 1)
        five = volume + (five if end % 5 != 1 else 0)
        for length, of in ((MINUTE_MS, volume), (FIVE_MS, five)):
            if end * MINUTE_MS % length == 0:
                start = BEGIN_MS + end * MINUTE_MS - length
                yield Bar(market_id, length, start, *(price,) * 4, of, 1, 1, 0.0)


def said() -> Said:
    """What was said of the markets, by minute: some of it only after they had jumped."""
    found: Said = []
    for name in JUMPS:
        found += [(minute, "market_snapshot", {"market_id": name, "open_interest": 1000.0})
                  for minute in range(0, LAST, 240)]  # fmt: skip
        question = {"market_id": name, "prompt_version": "1", "text_digest": "d"}
        rules = question | {"llm_model": "rules-1", "scored_by": "RULES", "ambiguity": 0.1}
        model = question | {"llm_model": "big", "scored_by": "MODEL", "ambiguity": 0.9}
        later = JUMPS[name] + 40
        found += [(1, "question_quality", rules), (later, "question_quality", model)]
        trusted = later if name == "c" else 2
        found += [(trusted, "trust_score", {"market_id": name, "score": 90.0}),
                  (later + 1, "trust_score", {"market_id": name, "score": 5.0})]  # fmt: skip
    for name in "ad":
        less = {"market_id": name, "open_interest": 700.0}
        found.append((JUMPS[name] - 7, "market_snapshot", less))
    return sorted(found, key=lambda one: one[0])


def put(lake: Lake, facts: Said) -> None:
    for table in {one[1] for one in facts}:
        time = "scored_at" if table == "question_quality" else "ts"
        rows = [
            row | {time: BEGIN + timedelta(minutes=minute)}
            for minute, of, row in facts
            if of == table
        ]
        nothing = empty(table).drop("schema_version", "dt", strict=False)
        lake.upsert(table, pl.concat([nothing, pl.DataFrame(rows)], how="diagonal_relaxed"))


def judge() -> Judge:
    return Judge(POLICY, BandBook(Corrected(), BASELINE, 10.0), Facts())


async def streamed(lake: Lake) -> list[Alert]:
    """Minute by minute, with what the lake holds by then."""
    made, alerts, waiting = judge(), [], said()
    by_end = defaultdict(list)
    for bar in (bar for name in JUMPS for bar in bars(name)):
        by_end[bar.end_ms].append(bar)
    for minute in range(1, LAST + 1):
        end = BEGIN_MS + minute * MINUTE_MS
        if now := [one for one in waiting if one[0] <= minute]:
            waiting = waiting[len(now) :]
            put(lake, now)
            made.facts.read(lake, list(JUMPS))
        ones = tuple(bar for bar in by_end[end] if bar.interval_ms == MINUTE_MS)
        fives = tuple(bar for bar in by_end[end] if bar.interval_ms == FIVE_MS)
        alerts += await made.minute(MinuteClosed(end, ones, fives, ()))
        made.look_ahead(end)
    await made.bands.close()
    return alerts


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    made = Lake(tmp_path / "lake")
    made.upsert("bar", frame_of([bar for name in JUMPS for bar in bars(name)]))
    rows = pl.DataFrame([{"market_id": name, "tick_size": 0.01} for name in JUMPS])
    nothing = empty("market_registry").drop("schema_version")
    made.upsert("market_registry", pl.concat([nothing, rows], how="diagonal_relaxed"))
    return made


async def test_recorded_bars_raise_what_the_stream_raised(lake: Lake) -> None:
    alerts = await streamed(lake)
    found = {(one.market_id, one.severity.name) for one in alerts}
    assert found == {("a", "HIGH"), ("b", "MED"), ("c", "FYI"), ("d", "MED")}
    end = BEGIN + timedelta(minutes=LAST)
    recorded = RecordedFacts(
        lake, list(JUMPS), since_ms=BEGIN_MS, until_ms=BEGIN_MS + LAST * MINUTE_MS
    )
    again = await replayed(judge(), bars_of(lake, BEGIN, end), recorded)
    assert again == alerts


def test_a_trial_looks_back_beyond_its_first_minute_and_reports_from_there(lake: Lake) -> None:
    put(lake, said())
    settings = FlowSettings(lake=lake.url("bar").removesuffix("/derived/bar"), raw="unused")
    until = BEGIN + timedelta(hours=33)
    done = alert_quality.fn(as_of=until, flow_settings=settings, days=1, policy_file=DEFAULT_FILE)
    rows = lake.read("alert_quality", pl.col("run_id") == done.run_id)
    counts = dict(rows.select("severity", "alerts").iter_rows())
    assert counts == {"HIGH": 0, "MED": 1, "FYI": 2}  # a baseline's bands: one severity less
    assert rows["market_days"][0] == pytest.approx(4 * (LAST - FIRST) / 1440)
