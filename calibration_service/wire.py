"""Rows of the published tables as protobuf messages; nothing else here knows both."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from calibration_service.explanation import explain
from calibration_service.segments import ANY, segment_key
from calibration_service.tables import Row
from marketcal.errors import InvalidArgument
from marketcal.v1 import market_pb2, scoreboard_pb2, segments_pb2

_LIQUIDITY: dict[str, Any] = {
    name.removeprefix("LIQUIDITY_BUCKET_"): number
    for name, number in segments_pb2.LiquidityBucket.items()
}
_TTE: dict[str, Any] = {
    name.removeprefix("TTE_BUCKET_"): number for name, number in segments_pb2.TteBucket.items()
}
_STATUS: dict[str, Any] = {
    name.removeprefix("MARKET_STATUS_"): number for name, number in market_pb2.MarketStatus.items()
}
LIQUIDITY_NAME = {number: name for name, number in _LIQUIDITY.items()}
TTE_NAME = {number: name for name, number in _TTE.items()}
STATUS_NAME = {number: name for name, number in _STATUS.items()}
ORDER_NAME = {
    scoreboard_pb2.SCORE_ORDER_UNSPECIFIED: "trust_desc",
    scoreboard_pb2.SCORE_ORDER_TRUST_DESC: "trust_desc",
    scoreboard_pb2.SCORE_ORDER_TRUST_ASC: "trust_asc",
    scoreboard_pb2.SCORE_ORDER_MARKET_ID: "market_id",
    scoreboard_pb2.SCORE_ORDER_BRIER_ASC: "brier_asc",
}
DEFAULT_WINDOW = "90d"
MAX_CATEGORY = 64
_SERVED = {"own": "promoted", "pool": "the map of all categories is in force"}


def key_of(segment: segments_pb2.Segment) -> str:
    """Key of a segment; an unset dimension is pooled.

    Raises:
        InvalidArgument: a dimension cannot have this value.
    """
    if len(segment.category) > MAX_CATEGORY:
        raise InvalidArgument.of("segment.category", f"has more than {MAX_CATEGORY} characters")
    for field, names in (("liquidity_bucket", LIQUIDITY_NAME), ("tte_bucket", TTE_NAME)):
        if getattr(segment, field) not in names:
            raise InvalidArgument.of(f"segment.{field}", "is not a value of its enum")
    liquidity = ANY
    if segment.HasField("liquidity_bucket"):
        liquidity = LIQUIDITY_NAME[segment.liquidity_bucket]
    tte = TTE_NAME[segment.tte_bucket] if segment.HasField("tte_bucket") else ANY
    return segment_key(segment.category or ANY, liquidity, tte)


def micros(time: Timestamp) -> int:
    """UTC microseconds of an instant."""
    return int(time.seconds * 1_000_000 + time.nanos // 1000)


def timestamp(value: datetime | None) -> Timestamp | None:
    """An instant; None stays None."""
    if value is None:
        return None
    time = Timestamp()
    time.FromDatetime(value)
    return time


def timestamp_of_micros(value: int) -> Timestamp:
    """An instant from UTC microseconds."""
    return Timestamp(seconds=value // 1_000_000, nanos=value % 1_000_000 * 1000)


def segment_of(key: str) -> segments_pb2.Segment:
    """The segment with a key."""
    category, liquidity, tte = (part.split("=", 1)[1] for part in key.split("|"))
    segment = segments_pb2.Segment(category="" if category == ANY else category)
    if liquidity != ANY:
        segment.liquidity_bucket = _LIQUIDITY[liquidity]
    if tte != ANY:
        segment.tte_bucket = _TTE[tte]
    return segment


def scores(row: Row) -> segments_pb2.SegmentScores:
    """Scores of a segment from a row of ``calibration_metrics`` or ``scoreboard``."""
    return segments_pb2.SegmentScores(
        segment=segment_of(row["segment_key"]),
        sample_size=row["sample_size"],
        event_count=row["event_count"],
        low_confidence=row["low_confidence"],
        base_rate=row["base_rate"],
        brier=_estimate(row, "brier"),
        log_loss=_estimate(row, "log_loss"),
        ece=row["ece"],
        ece_bias_corrected=row["ece_bias_corrected"],
        ece_if_calibrated=segments_pb2.Estimate(
            value=(row["ece_null_lo"] + row["ece_null_hi"]) / 2,
            lower=row["ece_null_lo"],
            upper=row["ece_null_hi"],
        ),
        slope=_estimate(row, "slope"),
        intercept=_estimate(row, "intercept"),
        max_calibration_error=row["max_calibration_error"],
        ece_equal_mass=row["ece_equal_mass"],
        sharpness=row["sharpness"],
        brier_decomposition=_decomposition(row),
    )


def _decomposition(row: Row) -> segments_pb2.BrierDecomposition | None:
    if row["miscalibration"] is None:
        return None
    return segments_pb2.BrierDecomposition(
        miscalibration=row["miscalibration"],
        discrimination=row["discrimination"],
        uncertainty=row["uncertainty"],
    )


def score(row: Row) -> scoreboard_pb2.Score:
    """A market on the scoreboard."""
    return scoreboard_pb2.Score(
        market_id=row["market_id"],
        event_id=row["event_id"],
        platform=row["platform"],
        question=row["question"],
        category=row["category"],
        tags=row["tags"] or (),
        liquidity_bucket=_LIQUIDITY[row["liquidity_bucket"]],
        tte_bucket=_TTE[row["tte_bucket"]],
        p_yes=row["p_yes"],
        price_time=timestamp(row["price_ts"]),
        calibrated_probability=_calibrated(row),
        trust=_trust(row),
        segment_scores=scores(row) if row["segment_key"] is not None else None,
        as_of_time=timestamp(row["as_of"]),
        recalibration_method=row["recalibration_method"],
        recalibration_version=row["recalibration_version"],
    )


def bin_of(row: Row) -> scoreboard_pb2.ReliabilityBin:
    """A bin of a reliability curve."""
    return scoreboard_pb2.ReliabilityBin(
        lower=row["bin_lower"],
        upper=row["bin_upper"],
        mean_price=row["mean_price"],
        observed_rate=row["observed_rate"],
        sample_size=row["sample_size"],
        event_count=row["event_count"],
        consistency_lower=row["consistency_lo"],
        consistency_upper=row["consistency_hi"],
    )


def market(row: Row) -> market_pb2.Market:
    """A market."""
    return market_pb2.Market(
        market_id=row["market_id"],
        event_id=row["event_id"],
        platform=row["platform"],
        slug=row["slug"],
        question=row["question"],
        outcomes=row["outcomes"] or (),
        category=row["category"],
        tags=row["tags"] or (),
        neg_risk=row["neg_risk"],
        status=_STATUS[row["status"]],
        winner=row["winner"],
        status_reason=row["reason"],
        created_time=timestamp(row["created_at"]),
        end_time=timestamp(row["end_at"]),
        resolved_time=timestamp(row["resolved_at"]),
        p_yes=row["p_yes"],
        price_time=timestamp(row["price_ts"]),
        liquidity_bucket=_LIQUIDITY[row["liquidity_bucket"] or "UNSPECIFIED"],
        tte_bucket=_TTE[row["tte_bucket"] or "UNSPECIFIED"],
        volume_total_usd=row["volume_total"],
        calibrated_probability=_calibrated(row),
        structure=row["market_structure"],
        matching_market_ids=row["matching_market_ids"] or (),
    )


def price(ts: int, p_yes: float, bid: float, ask: float) -> market_pb2.PricePoint:
    """A recorded price."""
    return market_pb2.PricePoint(
        time=timestamp_of_micros(ts),
        p_yes=p_yes,
        bid=None if math.isnan(bid) else bid,
        ask=None if math.isnan(ask) else ask,
    )


def postmortem(row: Row) -> market_pb2.Postmortem:
    """A post-mortem; path and picture are there when the row has them."""
    risk = json.loads(row["question_risk"]) if row["question_risk"] is not None else None
    return market_pb2.Postmortem(
        market_id=row["market_id"],
        resolved_time=timestamp(row["resolved_at"]),
        winner=row["winner"],
        summary=row["summary"],
        cutoffs=[_cutoff(one) for one in json.loads(row["cutoffs"])],
        lessons=row["lessons"],
        question=row["question"],
        price_path=_price_path(row) if "path_ts" in row else (),
        price_picture=row.get("picture") or b"",
        moves=[_move(one) for one in json.loads(row["moves"])],
        question_risk=None if risk is None else market_pb2.QuestionRisk(**risk),
        alerts=[
            market_pb2.PostmortemAlert(
                alert_id=one["alert_id"],
                time=timestamp_of_micros(one["time"]),
                severity=one["severity"],
            )
            for one in json.loads(row["alerts"])
        ],
        rules_version=row["rules_version"],
    )


def _cutoff(one: Row) -> market_pb2.PostmortemCutoff:
    return market_pb2.PostmortemCutoff(
        cutoff=one["cutoff"],
        p_yes=one["p_yes"],
        brier=one["brier"],
        time=timestamp_of_micros(one["time"]),
        right=one["right"],
        calibrated_probability=one["calibrated"],
    )


def _move(one: Row) -> market_pb2.PostmortemMove:
    return market_pb2.PostmortemMove(
        start_time=timestamp_of_micros(one["start"]),
        end_time=timestamp_of_micros(one["end"]),
        from_p_yes=one["from"],
        to_p_yes=one["to"],
        volume_ratio=one["volume_ratio"],
        open_interest_change=one["open_interest"],
    )


def _price_path(row: Row) -> list[market_pb2.PricePoint]:
    columns = (row[f"path_{name}"] for name in ("ts", "p_yes", "bid", "ask"))
    return [
        market_pb2.PricePoint(time=timestamp(ts), p_yes=p_yes, bid=bid, ask=ask)
        for ts, p_yes, bid, ask in zip(*columns, strict=True)
    ]


def explanation(row: Row) -> scoreboard_pb2.ExplainTrustResponse:
    """The parts of a row of ``trust_score``."""
    return scoreboard_pb2.ExplainTrustResponse(
        trust=_trust({**row, "trust": row["score"]}),
        contributions=[
            scoreboard_pb2.TrustContribution(
                component=part.component,
                value=part.value,
                weight=part.weight,
                points=part.points,
                evidence=part.evidence,
            )
            for part in explain(row)
        ],
        formula_version=row["formula_version"],
    )


def drift_test(row: Row) -> scoreboard_pb2.DriftTest:
    """A row of ``calibration_drift``."""
    return scoreboard_pb2.DriftTest(
        segment=segment_of(row["segment_key"]),
        drifted=row["drifted"],
        p_value=row["p_value"],
        p_value_adjusted=row["p_adjusted"],
        slope_change=_estimate(row, "slope_change"),
        intercept_change=_estimate(row, "intercept_change"),
        event_count=row["event_count"],
        reference_event_count=row["reference_event_count"],
    )


def recalibrations(rows: Sequence[Row]) -> list[scoreboard_pb2.Recalibration]:
    """Rows of ``recalibration_state`` of one version."""
    methods = {row["pool"]: row["method"] for row in rows}
    return [
        scoreboard_pb2.Recalibration(
            version=row["version"],
            category="" if row["pool"] == ANY else row["pool"],
            method={"own": row["method"], "pool": methods[ANY]}.get(row["served"], "identity"),
            brier_difference=_estimate(row, "difference"),
            event_count=row["validation_events"],
            reason=_reason(row),
        )
        for row in rows
    ]


def _reason(row: Row) -> str:
    """Why a map is in force or not."""
    if row["served"] in _SERVED:
        return _SERVED[row["served"]]
    withheld = ("the map of all categories was worse here",) if row["promoted"] else ()
    return "; ".join([*withheld, *(row["reasons"] or ())])


def coverage(row: Row) -> segments_pb2.Estimate:
    """The measured coverage in a row of ``conformal_coverage``."""
    return segments_pb2.Estimate(value=row["after"], lower=row["after_lo"], upper=row["after_hi"])


def _estimate(row: Row, name: str) -> segments_pb2.Estimate | None:
    value: Any = row[name]
    if value is None:
        return None
    return segments_pb2.Estimate(value=value, lower=row[f"{name}_lo"], upper=row[f"{name}_hi"])


def _calibrated(row: Row) -> segments_pb2.Estimate | None:
    value = row["calibrated_probability"]
    if value is None:
        return None
    return segments_pb2.Estimate(
        value=value, lower=row["calibrated_lo"], upper=row["calibrated_hi"]
    )


def _trust(row: Row) -> scoreboard_pb2.Trust | None:
    if row["trust"] is None:
        return None
    return scoreboard_pb2.Trust(
        score=row["trust"],
        liquidity_depth=row["liquidity_depth"],
        stability=row["stability"],
        question_quality=row["question_quality"],
        manipulation_suspect=row["manipulation_suspect"],
        unknown_components=row["unknown_components"] or (),
    )
