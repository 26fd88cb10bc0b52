"""Messages of v1 as rows in the old form: snake_case names, plain numbers, short enum names."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from marketcal.v1 import alert_pb2, market_pb2, scoreboard_pb2

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PREFIXES = {
    "LiquidityBucket": "LIQUIDITY_BUCKET_",
    "TteBucket": "TTE_BUCKET_",
    "MarketStatus": "MARKET_STATUS_",
    "AlertSeverity": "ALERT_SEVERITY_",
}
_RENAMED = {
    "as_of_time": "as_of_ts", "price_time": "price_ts", "time": "ts", "created_time": "created_ts",
    "end_time": "end_ts", "resolved_time": "resolved_ts", "acknowledged_time": "acknowledged_at",
}  # fmt: skip
"""Fields that had other names; all others keep theirs."""


def score_row(score: scoreboard_pb2.Score) -> Struct:
    """A market on the scoreboard, its trust and the scores of its segment beside the rest."""
    row = _row(score)
    trust = row.pop("trust", None)
    if trust is not None:
        row["trust_score"] = trust.pop("score")
        row["trust_components"] = trust
    return _struct(row)


def market_row(market: market_pb2.Market) -> Struct:
    """A market."""
    return _struct(_row(market))


def alert_row(alert: alert_pb2.Alert) -> Struct:
    """An alert."""
    return _struct(_row(alert))


def postmortem_text(postmortem: market_pb2.Postmortem) -> str:
    """The post-mortem as one Markdown text; it says nothing that the message does not."""
    resolved = instant(postmortem.resolved_time)
    lines = [
        f"# {postmortem.question or postmortem.market_id}",
        "",
        f"Resolved {postmortem.winner} at {resolved}."
        if postmortem.winner
        else f"Resolved at {resolved}.",
        "",
        postmortem.summary,
    ]
    if postmortem.cutoffs:
        lines += ["", "| cutoff | price | Brier score |", "|---|---|---|"]
        lines += [
            f"| {one.cutoff} | {one.p_yes:.4f} | {one.brier:.4f} |" for one in postmortem.cutoffs
        ]
    if postmortem.lessons:
        lines += ["", "## Lessons", "", *(f"- {lesson}" for lesson in postmortem.lessons)]
    return "\n".join(lines) + "\n"


def instant(time: Timestamp) -> str:
    """An instant as RFC 3339 text in UTC, to the microsecond."""
    at = _EPOCH + timedelta(seconds=time.seconds, microseconds=time.nanos // 1000)
    return at.isoformat().replace("+00:00", "Z")


def _row(message: Message) -> dict[str, Any]:
    """Fields by old name; an absent one is null, as it was."""
    row: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        name = _RENAMED.get(field.name, field.name)
        value = getattr(message, field.name)
        if field.is_repeated:
            row[name] = [_plain(field, one) for one in value]
        elif field.has_presence and not message.HasField(field.name):
            row[name] = None
        else:
            row[name] = _plain(field, value)
    return row


def _plain(field: Any, value: Any) -> Any:
    if isinstance(value, Timestamp):
        return instant(value)
    if isinstance(value, Message):
        return _row(value)
    if field.enum_type is not None:
        name = field.enum_type.values_by_number[value].name
        return name.removeprefix(_PREFIXES[field.enum_type.name])
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no such number
    return value


def _struct(row: dict[str, Any]) -> Struct:
    struct = Struct()
    struct.update(row)
    return struct
