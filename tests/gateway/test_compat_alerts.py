"""The old list of alerts: exact severities, all counted, over any v1 service of alerts."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.compat.service import MOST_ALERTS, CompatService
from marketcal.errors import InvalidPageToken, MethodNotImplemented
from marketcal.v1 import alert_pb2, alert_pb2_grpc
from marketcal.v1 import legacy_pb2 as pb

SEVERITIES = (alert_pb2.ALERT_SEVERITY_FYI, alert_pb2.ALERT_SEVERITY_HIGH)


class StoredAlerts(alert_pb2_grpc.AlertServiceServicer):
    """So many alerts, FYI and HIGH by turns, in pages of at most five hundred."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.asked: list[alert_pb2.ListAlertsRequest] = []

    async def ListAlerts(  # noqa: N802 - the contract names the methods
        self, request: alert_pb2.ListAlertsRequest, call: Any
    ) -> alert_pb2.ListAlertsResponse:
        self.asked.append(alert_pb2.ListAlertsRequest.FromString(request.SerializeToString()))
        start = int(request.page_token or 0)
        end = min(start + min(request.page_size or 50, 500), self.count)
        answer = alert_pb2.ListAlertsResponse(next_page_token=str(end) if end < self.count else "")
        for number in range(start, end):
            severity = SEVERITIES[number % 2]
            if severity >= request.min_severity:
                alert = answer.alerts.add(alert_id=f"a{number}", severity=severity)
                alert.time.FromSeconds(1_700_000_000 + number)
        return answer


def compat(alerts: Any) -> CompatService:
    """The old paths over a service of alerts alone."""
    return CompatService(None, None, None, alerts, baseline="ewma")


async def test_alerts_are_counted_over_all_pages() -> None:
    answer = await compat(StoredAlerts(1203)).Alerts(pb.AlertsRequest(limit=3), None)
    assert (answer.total, len(answer.items)) == (1203, 3)
    first = answer.items[0]
    assert (first["alert_id"], first["severity"]) == ("a0", "FYI")
    assert first["ts"] == "2023-11-14T22:13:20Z"
    assert first["acknowledged_at"] is None


async def test_a_severity_is_that_one_and_no_higher() -> None:
    answer = await compat(StoredAlerts(1000)).Alerts(pb.AlertsRequest(severity="FYI"), None)
    assert (answer.total, len(answer.items)) == (500, 50)
    assert {row["severity"] for row in answer.items} == {"FYI"}


async def test_an_instant_is_passed_on() -> None:
    stored = StoredAlerts(1)
    await compat(stored).Alerts(pb.AlertsRequest(since="2026-01-02T03:04:05+01:00"), None)
    assert stored.asked[0].since.ToJsonString() == "2026-01-02T02:04:05Z"


async def test_at_most_five_hundred_are_shown_and_two_thousand_counted() -> None:
    answer = await compat(StoredAlerts(MOST_ALERTS - 1)).Alerts(pb.AlertsRequest(limit=9999), None)
    assert (answer.total, len(answer.items)) == (MOST_ALERTS - 1, 500)


@pytest.mark.parametrize("severity", ["", "FYI"])
@pytest.mark.parametrize("count", [MOST_ALERTS + 1, 1_000_000])
async def test_more_alerts_than_are_counted_are_answered_with_few_calls(
    severity: str, count: int
) -> None:
    stored = StoredAlerts(count)
    answer = await compat(stored).Alerts(pb.AlertsRequest(severity=severity, limit=10), None)
    assert (answer.total, len(answer.items)) == (MOST_ALERTS, 10)
    assert len(stored.asked) <= 4


async def test_a_service_without_code_is_said_to_be_so() -> None:
    with pytest.raises(MethodNotImplemented, match="ListAlerts"):
        await compat(alert_pb2_grpc.AlertServiceServicer()).Alerts(pb.AlertsRequest(), None)


async def test_a_refusal_keeps_its_reason() -> None:
    class Refuses(StoredAlerts):
        async def ListAlerts(self, request: Any, call: Any) -> Any:  # noqa: N802
            raise InvalidPageToken.of("page_size", "is no such thing")

    with pytest.raises(InvalidPageToken) as refused:
        await compat(Refuses(1)).Alerts(pb.AlertsRequest(), None)
    assert refused.value.message == "limit: is no such thing"
    assert [one.field for one in refused.value.violations] == ["limit"]
