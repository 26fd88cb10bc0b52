"""Every published reason arrives as its class with all that it carries, in calls and streams."""

from __future__ import annotations

from typing import Any

import pytest

from marketcal import Backoff, errors
from marketcal.errors import FieldViolation, MarketcalError
from marketcal.testing import FakeServer
from marketcal.v1 import alert_pb2, errors_pb2

REASONS = [
    name.removeprefix("ERROR_REASON_")
    for name in errors_pb2.ErrorReason.keys()  # noqa: SIM118  # an enum's wrapper, no mapping
    if not name.endswith("_UNSPECIFIED")
]


def refusal(reason: str) -> MarketcalError:
    """An error that carries everything its class can carry."""
    cls = errors.BY_REASON[reason]
    return cls(
        f"the sentence of {reason}",
        metadata={"required_scope": "alert.write", "identity": "key-1"},
        retry_after=0.002,
        violations=[FieldViolation("items[3].values[1]", "must be in [0, 1]")],
        resource=("marketcal.v1.Market", "m") if issubclass(cls, errors.NotFound) else None,
        request_id="0190-abc",
    )


def facts(error: MarketcalError) -> dict[str, Any]:
    return {"class": type(error), "code": error.code, "reason": error.reason, **vars(error)}


@pytest.mark.parametrize("reason", REASONS)
def test_a_refused_call_raises_what_the_server_raised(
    reason: str, server: FakeServer, use: Any
) -> None:
    sent = refusal(reason)
    server.answer("GetMarket", sent)
    with pytest.raises(MarketcalError) as caught:
        use(server, lambda client: client.get_market("m"))
    assert facts(caught.value) == facts(sent)
    assert str(caught.value) == sent.message


@pytest.mark.parametrize("reason", REASONS)
def test_a_broken_stream_raises_what_the_server_raised(
    reason: str, server: FakeServer, use: Any
) -> None:
    sent = refusal(reason)
    first = alert_pb2.WatchAlertsResponse(missed=1, resume_token="1")
    server.answer("WatchAlerts", [first, sent])
    with pytest.raises(MarketcalError) as caught:
        use(server, lambda client: client.watch_alerts(), backoff=Backoff(attempts=1))
    assert facts(caught.value) == facts(sent)


def test_a_call_without_an_answer_ends_with_its_deadline(
    server: FakeServer, use: Any, until: Any
) -> None:
    gone = []

    def hang(request: Any) -> Any:
        until(lambda: bool(gone))
        return errors.InternalError("too late")

    server.answer("GetMarket", hang)
    with pytest.raises(errors.OutOfTime):
        use(server, lambda client: client.get_market("m", timeout=0.2))
    gone.append(True)


def test_the_first_page_that_is_refused_is_the_list_that_is_refused(
    server: FakeServer, use: Any
) -> None:
    server.answer("ListAlerts", errors.InvalidPageToken.of("page_token", "is of another query"))
    with pytest.raises(errors.InvalidPageToken) as caught:
        use(server, lambda client: client.list_alerts(page_token="x"))
    assert caught.value.violations == (FieldViolation("page_token", "is of another query"),)
