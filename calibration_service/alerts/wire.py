"""Stored alerts as protobuf messages; nothing else here knows both."""

from __future__ import annotations

from functools import lru_cache

from google.protobuf.timestamp_pb2 import Timestamp

from calibration_service import pages
from calibration_service.alerts.feed import QUEUE, Message
from calibration_service.alerts.store import StoredAlert
from calibration_service.alerts.values import Severity
from calibration_service.wire import timestamp, timestamp_of_micros
from marketcal.errors import InvalidArgument, InvalidPageToken
from marketcal.v1 import alert_pb2 as pb

_STREAM = ["WatchAlerts"]


def alert(stored: StoredAlert) -> pb.Alert:
    """An alert as the contract has it."""
    raised = stored.alert
    return pb.Alert(
        alert_id=raised.alert_id,
        market_id=raised.market_id,
        time=timestamp_of_micros(raised.at_ms * 1000),
        severity=f"ALERT_SEVERITY_{raised.severity.name}",
        reason_codes=[str(code) for code in raised.reason_codes],
        evidence=[
            pb.AlertEvidence(name=fact.name, value=fact.value, threshold=fact.threshold)
            for fact in raised.evidence
        ],
        explanation_lines=raised.explanation_lines,
        policy_version=raised.policy_version,
        acknowledged_by=stored.acknowledged_by,
        acknowledged_time=timestamp(stored.acknowledged_at),
    )


@lru_cache(maxsize=QUEUE)
def watched(message: Message) -> pb.WatchAlertsResponse:
    """A message of the stream; a bookmark is a token alone.

    It is made once for all watchers who are told the same, so nobody may change it.
    """
    token = pages.write_token(_STREAM, [message.sequence])
    if message.stored is not None:
        return pb.WatchAlertsResponse(alert=alert(message.stored), resume_token=token)
    if message.missed:
        return pb.WatchAlertsResponse(missed=message.missed, resume_token=token)
    return pb.WatchAlertsResponse(resume_token=token)


def resume_after(token: str) -> int | None:
    """The sequence in a resume token; None for none.

    Raises:
        InvalidArgument: the token was not made by this server.
    """
    try:
        key = pages.read_token(token, _STREAM, kinds=[int])
    except InvalidPageToken:
        raise unknown_place() from None
    if key is not None and key[0] < 0:
        raise unknown_place()
    return None if key is None else int(key[0])


def unknown_place() -> InvalidArgument:
    """The refusal of a resume token."""
    return InvalidArgument.of("resume_token", "is of no message of this stream")


def severity(asked: int, unset: Severity) -> Severity:
    """The lowest severity that a request asks for."""
    return Severity(asked) if asked else unset


def millis_from(time: Timestamp) -> int:
    """The first UTC millisecond that is not before an instant, within 63 bits."""
    millis = int(time.seconds) * 1000 - (-int(time.nanos) // 1_000_000)
    return max(-(1 << 62), min(millis, 1 << 62))
