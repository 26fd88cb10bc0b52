"""Post-mortems from tables: the same tables give the same rows, whatever the order of theirs.

Nothing at or after the resolution counts: no price, no alert, no recalibration chosen later than a
cutoff. What was said of the question counts whenever it was said, because it was said of the text
alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from calibration_service.frames import conform, empty_frame
from calibration_service.postmortem.case import SCORED, WITHOUT_SCORE, Alert, Case, Cutoff, Risk
from calibration_service.postmortem.lessons import lessons_of
from calibration_service.postmortem.price_path import (
    INPUTS,
    IntArray,
    Prices,
    largest_moves,
    prices_of,
    thinned,
)
from calibration_service.postmortem.recalibration_history import RecalibrationHistory
from calibration_service.postmortem.summary import summary_of
from market_data.cutoffs import T_MINUS
from market_data.postmortem_tables import POSTMORTEM
from market_data.schemas import MARKET_SNAPSHOT

RULES_VERSION = "postmortem-1"
LABELS = (*SCORED, *WITHOUT_SCORE)
"""Labels of markets that get a post-mortem."""
MARKET_COLUMNS = (
    "market_id", "question", "category", "label", "outcome_yes", "winner", "reason", "resolved_at",
    "inputs_digest",
)  # fmt: skip
SNAPSHOT_COLUMNS = INPUTS
ALERT_COLUMNS = ("market_id", "alert_id", "ts", "severity")

_NO_SNAPSHOTS = empty_frame(MARKET_SNAPSHOT)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Row = dict[str, Any]
Draw = Callable[[Prices, IntArray, Case], bytes]
"""Draws a path as a picture; the same input gives the same bytes."""


@dataclass(frozen=True, slots=True, eq=False)
class Sources:
    """The rows that post-mortems are made from, in any order.

    Attributes:
        snapshots: ``SNAPSHOT_COLUMNS`` of ``market_snapshot``.
        cutoffs: rows of ``cutoff_snapshot``.
        questions: the counting rows of ``question_quality``.
        alerts: ``ALERT_COLUMNS``.
        recalibrations: what was in force when.
    """

    snapshots: pl.DataFrame
    cutoffs: pl.DataFrame
    questions: pl.DataFrame
    alerts: pl.DataFrame
    recalibrations: RecalibrationHistory


def build_postmortems(markets: pl.DataFrame, sources: Sources, draw: Draw) -> pl.DataFrame:
    """Rows of ``postmortem``, ordered by market.

    Args:
        markets: ``MARKET_COLUMNS``, one row for each resolved market; labels are of ``LABELS``.
        sources: rows of these markets, others are passed over.
        draw: makes the picture of a path that has a point.
    """
    before = sources.snapshots.join(markets.select("market_id", "resolved_at"), on="market_id")
    known = before.filter(pl.col("ts") < pl.col("resolved_at"))
    parts = {
        "snapshots": _by_market(known),
        "cutoffs": _by_market(sources.cutoffs),
        "questions": _by_market(sources.questions),
        "alerts": _by_market(sources.alerts),
    }
    rows = []
    for market in markets.sort("market_id").iter_rows(named=True):
        own = {name: part.get(market["market_id"]) for name, part in parts.items()}
        rows.append(_postmortem(market, own, sources.recalibrations, draw))
    if not rows:
        return empty_frame(POSTMORTEM)
    schema = empty_frame(POSTMORTEM).schema
    return conform(pl.DataFrame(rows, schema={n: schema[n] for n in rows[0]}), POSTMORTEM)


def digest_of(parts: Iterable[Any]) -> str:
    """sha256 of plain values."""
    text = json.dumps([RULES_VERSION, *parts], default=str, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _by_market(rows: pl.DataFrame) -> Mapping[str, pl.DataFrame]:
    parts = rows.partition_by("market_id", as_dict=True)
    return {str(market_id): part for (market_id,), part in parts.items()}


def _postmortem(
    market: Row,
    own: Mapping[str, pl.DataFrame | None],
    recalibrations: RecalibrationHistory,
    draw: Draw,
) -> Row:
    snapshots = own["snapshots"]
    prices = prices_of(_NO_SNAPSHOTS if snapshots is None else snapshots)
    path = thinned(prices.p_yes)
    case = Case(
        market_id=market["market_id"],
        label=market["label"],
        winner=market["winner"] or "",
        reason=market["reason"] or "",
        resolved_at=market["resolved_at"],
        prices=int(prices.ts.size),
        cutoffs=_cutoffs(own["cutoffs"], market, recalibrations),
        moves=tuple(largest_moves(prices, path)),
        risk=_risk(own["questions"]),
        alerts=_alerts(own["alerts"], market["resolved_at"]),
    )
    return _row(market, case) | _path(prices, path, draw(prices, path, case) if path.size else None)


def _cutoffs(
    rows: pl.DataFrame | None, market: Row, recalibrations: RecalibrationHistory
) -> tuple[Cutoff, ...]:
    if rows is None or market["label"] not in SCORED:
        return ()
    ordered = rows.filter(
        pl.col("cutoff_type").is_in(list(T_MINUS)),
        pl.col("p_yes").is_not_null(),
        pl.col("cutoff_ts") < market["resolved_at"],
    ).sort("cutoff_ts")
    latest = {row["cutoff_type"]: row for row in ordered.iter_rows(named=True)}
    return tuple(
        _cutoff(latest[name], market, recalibrations) for name in T_MINUS if name in latest
    )


def _cutoff(row: Row, market: Row, recalibrations: RecalibrationHistory) -> Cutoff:
    p_yes, outcome = row["p_yes"], market["outcome_yes"]
    given = (row["age_seconds"], row["data_freshness_sec"])
    ages = [age for age in given if age is not None]
    return Cutoff(
        name=row["cutoff_type"],
        time=row["selected_ts"],
        p_yes=p_yes,
        brier=(p_yes - outcome) ** 2,
        right=None if p_yes == 0.5 else (p_yes > 0.5) == (outcome == 1.0),
        calibrated=recalibrations.calibrated(p_yes, market["category"], row["cutoff_ts"]),
        age_seconds=sum(ages) if ages else None,
        liquidity=row["liquidity_bucket"] or "",
        spread=row["spread"],
    )


def _risk(rows: pl.DataFrame | None) -> Risk | None:
    if rows is None:
        return None
    row = rows.row(0, named=True)
    notes = tuple(row["bullets"] or ())
    return Risk(row["ambiguity"], row["resolution_risk"], row["llm_model"], notes)


def _alerts(rows: pl.DataFrame | None, until: datetime) -> tuple[Alert, ...]:
    if rows is None:
        return ()
    known = rows.filter(pl.col("ts") < until).sort("ts", "alert_id")
    return tuple(Alert(*one) for one in known.select(ALERT_COLUMNS[1:]).iter_rows())


def _row(market: Row, case: Case) -> Row:
    lessons = lessons_of(case)
    return {
        "market_id": case.market_id,
        "question": market["question"] or "",
        "label": case.label,
        "winner": case.winner,
        "resolved_at": case.resolved_at,
        "summary": summary_of(case),
        "cutoffs": _json([
            {"cutoff": one.name, "time": micros(one.time), "p_yes": one.p_yes, "brier": one.brier,
             "right": one.right, "calibrated": one.calibrated} for one in case.cutoffs
        ]),
        "moves": _json([
            {"start": one.start, "end": one.end, "from": one.before, "to": one.after,
             "volume_ratio": one.volume_ratio, "open_interest": one.open_interest_change}
            for one in case.moves
        ]),
        "question_risk": None if case.risk is None else _json(
            {"ambiguity": case.risk.ambiguity, "resolution_risk": case.risk.resolution_risk,
             "scored_by": case.risk.scored_by, "notes": list(case.risk.notes)}
        ),
        "alerts": _json([
            {"alert_id": one.alert_id, "time": micros(one.time), "severity": one.severity}
            for one in case.alerts
        ]),
        "lesson_codes": [lesson.code for lesson in lessons],
        "lessons": [lesson.text for lesson in lessons],
        "rules_version": RULES_VERSION,
        "inputs_digest": market["inputs_digest"],
    }  # fmt: skip


def _path(prices: Prices, path: IntArray, picture: bytes | None) -> Row:
    times = pl.from_epoch(pl.Series(prices.ts[path]), time_unit="us").dt.replace_time_zone("UTC")

    def known(values: Sequence[float]) -> list[float | None]:
        return [None if value != value else value for value in values]

    return {
        "path_ts": times.to_list(),
        "path_p_yes": prices.p_yes[path].tolist(),
        "path_bid": known(prices.bid[path].tolist()),
        "path_ask": known(prices.ask[path].tolist()),
        "picture": picture,
    }


def micros(time: datetime) -> int:
    """UTC microseconds of an instant."""
    return (time - _EPOCH) // timedelta(microseconds=1)


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
