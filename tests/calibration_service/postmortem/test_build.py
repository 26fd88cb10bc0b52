"""A post-mortem says what the tables say, in any order of their rows, and nothing from later."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from calibration_service.frames import empty_frame
from calibration_service.postmortem.build import (
    ALERT_COLUMNS,
    SNAPSHOT_COLUMNS,
    Sources,
    build_postmortems,
)
from calibration_service.postmortem.recalibration_history import RecalibrationHistory
from market_data.calibration_tables import RECALIBRATION_CHOICE, RECALIBRATION_STATE
from market_data.lake import polars_schema
from market_data.question_tables import QUESTION_QUALITY

END = datetime(2026, 3, 10, 12, tzinfo=UTC)
START = END - timedelta(days=5)


def draw(prices: Any, path: Any, case: Any) -> bytes:
    """Stands for a picture: what would be drawn."""
    return f"{case.market_id} {prices.p_yes[path].tolist()}".encode()


def market(market_id: str = "m", label: str = "RESOLVED_FALSE", **fields: Any) -> dict[str, Any]:
    truth = {"RESOLVED_TRUE": 1.0, "RESOLVED_FALSE": 0.0}.get(label)
    return {
        "market_id": market_id, "question": f"Will {market_id}?", "category": "sports",
        "label": label, "outcome_yes": truth, "winner": "No", "reason": "FINAL_PRICES",
        "resolved_at": END, "inputs_digest": "d",
    } | fields  # fmt: skip


def markets(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(
        list(rows),
        schema_overrides={"resolved_at": pl.Datetime("us", "UTC"), "outcome_yes": pl.Float64},
    )


def snapshots(market_id: str = "m", prices: list[float] | None = None, **fields: Any) -> Any:
    """Hourly rows from five days before the end."""
    given = prices if prices is not None else [0.9] * 119
    count = len(given)
    columns = {
        "ts": [START + timedelta(hours=hour) for hour in range(count)],
        "market_id": [market_id] * count, "p_yes": given,
        "bid": [None] * count, "ask": [None] * count,
        "volume_24h": [100.0] * count, "open_interest": [None] * count,
    } | fields  # fmt: skip
    schema = polars_schema("market_snapshot")
    return pl.DataFrame(columns, schema={name: schema[name] for name in SNAPSHOT_COLUMNS})


def cutoffs(market_id: str = "m", p_yes: float = 0.9, **fields: Any) -> pl.DataFrame:
    """The two rows of a market, an hour and a day before its end."""
    rows = [
        {"market_id": market_id, "cutoff_type": name, "cutoff_ts": END - before,
         "selected_ts": END - before, "selection_rule": "NEAREST_EARLIER", "age_seconds": 0.0,
         "p_yes": p_yes, "liquidity_bucket": "LOW", "data_freshness_sec": 0.0,
         "spread": 0.01} | fields
        for name, before in (("T-24h", timedelta(days=1)), ("T-1h", timedelta(hours=1)))
    ]  # fmt: skip
    schema = polars_schema("cutoff_snapshot")
    frame = pl.DataFrame(rows, schema_overrides={k: v for k, v in schema.items() if k in rows[0]})
    missing = [pl.lit(None, dtype=v).alias(k) for k, v in schema.items() if k not in frame.columns]
    return frame.with_columns(missing).select(list(schema))


def alerts(*rows: tuple[str, str, datetime, str]) -> pl.DataFrame:
    schema = dict.fromkeys(ALERT_COLUMNS, pl.String()) | {"ts": pl.Datetime("us", "UTC")}
    return pl.DataFrame(list(rows), schema=schema, orient="row")


def questions(*rows: tuple[str, float]) -> pl.DataFrame:
    frame = empty_frame(QUESTION_QUALITY)
    given = pl.DataFrame(
        [
            {
                "market_id": market_id,
                "llm_model": "rules-1",
                "ambiguity": ambiguity,
                "resolution_risk": 0.1,
                "bullets": ["Time without a date: soon"],
            }
            for market_id, ambiguity in rows
        ]
    )
    return pl.concat([frame, given], how="diagonal_relaxed") if rows else frame


def history(*choices: tuple[datetime, str]) -> RecalibrationHistory:
    """Maps that take every price to a tenth of itself, chosen at these instants."""
    chosen = pl.DataFrame(
        [{"chosen_at": at, "version": version, "by": "flow", "reason": ""}
         for at, version in choices],
        schema={name: empty_frame(RECALIBRATION_CHOICE).schema[name]
                for name in ("chosen_at", "version", "by", "reason")},
    )  # fmt: skip
    grid = [0.0, 0.01, 0.25, 0.5, 0.75, 0.99, 1.0]
    tenth = [value / 10 for value in grid]
    states = [empty_frame(RECALIBRATION_STATE)] + [
        pl.DataFrame([{"version": version, "pool": "*", "method": "platt", "served": "own",
                       "price": grid, "value": tenth, "lo": tenth, "hi": tenth}])
        for _, version in choices
    ]  # fmt: skip
    return RecalibrationHistory(chosen, pl.concat(states, how="diagonal_relaxed"))


def sources(**fields: Any) -> Sources:
    given: dict[str, Any] = {
        "snapshots": snapshots(), "cutoffs": cutoffs(), "questions": questions(),
        "alerts": alerts(), "recalibrations": history(),
    } | fields  # fmt: skip
    return Sources(**given)


def one(row: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return build_postmortems(markets(row or market()), sources(**fields), draw).row(0, named=True)


def test_a_price_that_was_wrong_is_said_with_its_score_and_its_lesson() -> None:
    row = one()
    assert row["summary"].startswith(
        "It resolved NO on 2026-03-10 12:00 UTC. The price of YES was 0.900 (Brier 0.8100) 24 h "
        "and 0.900 (Brier 0.8100) 1 h before it."
    )
    day, hour = json.loads(row["cutoffs"])
    assert (day["cutoff"], hour["cutoff"]) == ("T-24h", "T-1h")
    assert day["brier"] == pytest.approx(0.81)
    assert (day["right"], day["calibrated"]) == (False, None)
    assert row["lesson_codes"] == ["THIN_AND_WRONG"]


def test_a_price_of_one_half_is_neither_right_nor_wrong() -> None:
    row = one(cutoffs=cutoffs(p_yes=0.5))
    assert [told["right"] for told in json.loads(row["cutoffs"])] == [None, None]


def test_the_order_of_rows_does_not_matter() -> None:
    rows = [market("a"), market("b", "RESOLVED_TRUE"), market("c", "VOID")]
    prices = [0.1 + 0.7 * (hour * 37 % 100) / 100 for hour in range(119)]
    given = {
        "snapshots": pl.concat([snapshots(name, prices) for name in "abc"]),
        "cutoffs": pl.concat([cutoffs(name) for name in "abc"]),
        "questions": questions(("a", 0.5), ("b", 0.1)),
        "alerts": alerts(("a", "2", START, "MED"), ("a", "1", START, "HIGH")),
    }
    plain = build_postmortems(markets(*rows), sources(**given), draw)
    turned = {name: frame.sample(fraction=1, shuffle=True, seed=3) for name, frame in given.items()}
    again = build_postmortems(markets(*reversed(rows)), sources(**turned), draw)
    assert plain.equals(again)
    assert plain["market_id"].to_list() == ["a", "b", "c"]


def test_nothing_from_the_resolution_on_changes_anything() -> None:
    late = snapshots(prices=[0.0] * 3, ts=[END, END + timedelta(1), END + timedelta(2)])
    chosen = history((END - timedelta(hours=2), "v1"), (END + timedelta(hours=1), "v2"))
    raised = alerts(("m", "1", END, "HIGH"), ("m", "0", END - timedelta(hours=3), "HIGH"))
    plain = one(alerts=raised.tail(1), recalibrations=history((END - timedelta(hours=2), "v1")))
    assert plain == one(
        snapshots=pl.concat([snapshots(), late]), alerts=raised, recalibrations=chosen
    )


def test_the_calibrated_probability_is_that_of_the_cutoff_s_own_time() -> None:
    row = one(recalibrations=history((END - timedelta(hours=2), "v1")))
    day, hour = json.loads(row["cutoffs"])
    assert day["calibrated"] is None
    assert hour["calibrated"] == pytest.approx(0.09, abs=0.01)  # the grid is coarse
    assert "CALIBRATION_WAS_CLOSER" in row["lesson_codes"]


@pytest.mark.parametrize("label", ["VOID", "MULTI_OUTCOME"])
def test_a_market_without_truth_says_why_it_has_no_score(label: str) -> None:
    row = one(market(label=label, winner=None))
    assert json.loads(row["cutoffs"]) == []
    assert "scored" in row["summary"]
    assert "Brier" not in row["summary"]
    assert row["path_p_yes"]


def test_a_market_without_prices_says_so_and_has_no_picture() -> None:
    row = one(snapshots=snapshots(prices=[]), cutoffs=cutoffs().head(0))
    assert "No price was recorded before." in row["summary"]
    assert (row["picture"], row["path_ts"], row["lessons"]) == (None, [], [])


LESSONS: list[tuple[str, dict[str, Any]]] = [
    ("THIN_AND_WRONG", {}),
    ("WRONG_LATE", {"cutoffs": cutoffs(liquidity_bucket="HIGH")}),
    ("MOVE_WITHOUT_VOLUME", {"snapshots": snapshots(prices=[0.2] * 60 + [0.6] * 59)}),
    ("STALE_PRICE", {"cutoffs": cutoffs(age_seconds=1_700.0, data_freshness_sec=200.0)}),
    ("NO_LATE_PRICE", {"cutoffs": cutoffs().filter(pl.col("cutoff_type") == "T-24h")}),
    ("WIDE_SPREAD", {"cutoffs": cutoffs(spread=0.11)}),
    ("CALIBRATION_WAS_CLOSER", {"recalibrations": history((START, "v1"))}),
    ("ALERT_BEFORE_MISS", {"alerts": alerts(("m", "1", START, "HIGH"))}),
    ("AMBIGUOUS_QUESTION", {"questions": questions(("m", 0.36))}),
]


@pytest.mark.parametrize(("code", "fields"), LESSONS, ids=[code for code, _ in LESSONS])
def test_each_lesson_follows_from_its_own_condition(code: str, fields: dict[str, Any]) -> None:
    right = cutoffs(p_yes=0.1)
    assert one(cutoffs=right)["lesson_codes"] == []
    row = one(**fields)
    assert code in row["lesson_codes"]
    assert len(row["lesson_codes"]) == len(row["lessons"])


def test_moves_say_what_went_with_them() -> None:
    count = 119
    grown = [100.0] * 60 + [300.0] * 59
    row = one(
        snapshots=snapshots(
            prices=[0.2] * 60 + [0.6] * 59,
            volume_24h=grown,
            open_interest=[50.0] * 60 + [75.0] * 59,
        )
    )
    (move,) = json.loads(row["moves"])
    assert (move["from"], move["to"]) == (0.2, 0.6)
    assert move["volume_ratio"] == pytest.approx(3.0)
    assert move["open_interest"] == pytest.approx(0.5)
    assert len(row["path_ts"]) == count
