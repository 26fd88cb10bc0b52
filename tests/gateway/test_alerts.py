"""Alerts at the front door: listed, streamed, acknowledged, and in the older form."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1 import health_pb2, health_pb2_grpc

from calibration_service.alerts.values import Severity
from gateway.keys import split_key
from marketcal.v1 import alert_pb2 as pb
from marketcal.v1 import legacy_pb2

HIGH = pb.ALERT_SEVERITY_HIGH
ACKNOWLEDGE = "/marketcal.v1.AlertService/AcknowledgeAlert"


def ids(answer: Any) -> list[str]:
    return [alert.alert_id for alert in answer.alerts]


def test_alerts_of_the_store_are_listed_newest_first(
    stubs: Any, as_viewer: Any, gateway: Any, raise_alerts: Any
) -> None:
    raised = raise_alerts(gateway, 3, market_id="list:1")
    severe = raise_alerts(gateway, market_id="list:1", severity=Severity.HIGH)

    def listed(**filters: Any) -> list[str]:
        request = pb.ListAlertsRequest(market_id="list:1", **filters)
        return ids(stubs.alerts.ListAlerts(request, metadata=as_viewer, timeout=20))

    assert listed() == [*severe, *reversed(raised)]
    assert listed(min_severity=HIGH) == severe
    assert listed(since=Timestamp(seconds=4_000_000_000)) == []


def test_a_stranger_sees_no_alerts(stubs: Any, refused: Any) -> None:
    assert refused(stubs.alerts.ListAlerts, pb.ListAlertsRequest()).reason == "CREDENTIAL_MISSING"
    watched = stubs.alerts.WatchAlerts(pb.WatchAlertsRequest(), timeout=20)
    with pytest.raises(grpc.RpcError) as caught:
        next(watched)
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_stream_says_where_it_stands_and_then_what_is_raised(
    stubs: Any, as_viewer: Any, gateway: Any, raise_alerts: Any
) -> None:
    request = pb.WatchAlertsRequest(market_ids=["watch:1"])
    stream = stubs.alerts.WatchAlerts(request, metadata=as_viewer, timeout=20)
    first = next(stream)
    assert first.WhichOneof("event") is None
    raise_alerts(gateway, market_id="watch:2")
    raised = raise_alerts(gateway, 2, market_id="watch:1")
    met = [next(stream), next(stream)]
    stream.cancel()
    assert [message.alert.alert_id for message in met] == raised

    request.resume_token = met[0].resume_token
    again = stubs.alerts.WatchAlerts(request, metadata=as_viewer, timeout=20)
    messages = [next(again), next(again)]
    again.cancel()
    assert messages[1].alert.alert_id == raised[1]


def test_an_acknowledgement_is_written_down_with_who_made_it(
    stubs: Any, bearer: Any, gateway: Any, raise_alerts: Any, refused: Any, as_viewer: Any
) -> None:
    [alert_id] = raise_alerts(gateway, market_id="acknowledge:1")
    first, second = (gateway.key("operator") for _ in range(2))
    request = pb.AcknowledgeAlertRequest(alert_id=alert_id)
    call = stubs.alerts.AcknowledgeAlert

    assert refused(call, request, as_viewer).reason == "SCOPE_MISSING"
    answers = [call(request, metadata=bearer(key), timeout=20) for key in (first, second)]

    who = split_key(first)[0]
    assert [answer.alert.acknowledged_by for answer in answers] == [who, who]
    rows = [row for row in gateway.parts.keys.audit.rows() if row.resource == alert_id]
    assert [(row.actor, row.action, row.outcome) for row in reversed(rows)] == [
        (who, ACKNOWLEDGE, "OK"), (split_key(second)[0], ACKNOWLEDGE, "OK"),
    ]  # fmt: skip


def test_an_alert_that_is_not_there_cannot_be_acknowledged(
    stubs: Any, as_admin: Any, refused: Any, gateway: Any
) -> None:
    request = pb.AcknowledgeAlertRequest(alert_id="nobody-raised-it")
    refusal = refused(stubs.alerts.AcknowledgeAlert, request, as_admin)
    assert (refusal.code, refusal.reason) == ("NOT_FOUND", "")
    [row] = [one for one in gateway.parts.keys.audit.rows() if one.resource == request.alert_id]
    assert row.outcome == "NOT_FOUND"


def test_the_older_path_has_the_same_alerts(
    stubs: Any, as_viewer: Any, gateway: Any, raise_alerts: Any
) -> None:
    [alert_id] = raise_alerts(gateway, market_id="older:1", severity=Severity.HIGH)
    answer = stubs.compat.Alerts(
        legacy_pb2.AlertsRequest(severity="HIGH", limit=1), metadata=as_viewer, timeout=20
    )
    [row] = answer.items
    assert answer.total >= 1
    assert (row["alert_id"], row["market_id"], row["severity"]) == (alert_id, "older:1", "HIGH")
    assert row["acknowledged_at"] is None
    assert row["evidence"][0]["threshold"] == 0.55


def test_the_service_says_that_it_serves(gateway: Any) -> None:
    stub = health_pb2_grpc.HealthStub(gateway.channel)
    asked = health_pb2.HealthCheckRequest(service="marketcal.v1.AlertService")
    assert stub.Check(asked, timeout=20).status == health_pb2.HealthCheckResponse.SERVING
    assert gateway.parts.gateway.unimplemented == frozenset()
