"""AlertService: one short method per RPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import datetime
from typing import Protocol, TypeVar

import sqlalchemy as sa

from calibration_service import pages
from calibration_service.alerts import store, wire
from calibration_service.alerts.errors import FeedNotReady, UnknownPlace
from calibration_service.alerts.feed import AlertFeed, Wanted
from calibration_service.alerts.values import Severity
from marketcal.errors import InvalidArgument, NotFound, NotReady
from marketcal.v1 import alert_pb2 as pb
from marketcal.v1 import alert_pb2_grpc

RETRY_AFTER = 1.0
"""Seconds after which a store that did not answer may be asked again."""
_T = TypeVar("_T")


class CallFacts(Protocol):
    """What a handler needs to know of its call."""

    @property
    def caller(self) -> str:
        """Name of who calls."""
        ...


class AlertService(alert_pb2_grpc.AlertServiceServicer):
    """Alerts as they are stored and as they are raised.

    Args:
        engine: the control store, whose alert tables are there.
        feed: tells of new alerts; somebody runs it.
        now: the time, aware.
    """

    def __init__(self, engine: sa.Engine, feed: AlertFeed, *, now: Callable[[], datetime]) -> None:
        self._engine = engine
        self._feed = feed
        self._now = now

    async def ListAlerts(
        self, request: pb.ListAlertsRequest, call: CallFacts
    ) -> pb.ListAlertsResponse:
        """Stored alerts, newest first, filtered and paged."""
        if "\0" in request.market_id:
            raise InvalidArgument.of("market_id", "holds a NUL character")
        since = wire.millis_from(request.since) if request.HasField("since") else None
        lowest = wire.severity(request.min_severity, Severity.FYI)
        query = [since, int(lowest), request.market_id]
        after = pages.read_token(request.page_token, query, kinds=[int, int])
        size = pages.size_of(request.page_size)
        found = await self._in_store(
            lambda connection: store.page(
                connection, limit=size + 1, since=since, min_severity=lowest,
                market_id=request.market_id, after=None if after is None else (after[0], after[1]),
            )
        )  # fmt: skip
        shown = found[:size]
        key = [shown[-1].alert.at_ms, shown[-1].sequence] if len(found) > size else []
        return pb.ListAlertsResponse(
            alerts=[wire.alert(one) for one in shown],
            next_page_token=pages.write_token(query, key) if key else "",
        )

    async def WatchAlerts(
        self, request: pb.WatchAlertsRequest, call: CallFacts
    ) -> AsyncGenerator[pb.WatchAlertsResponse]:
        """Where the caller stands, then alerts in the order of their commits; without end."""
        wanted = Wanted(
            wire.severity(request.min_severity, Severity.MED), frozenset(request.market_ids)
        )
        messages = self._feed.watch(wanted, wire.resume_after(request.resume_token))
        try:
            async with aclosing(messages):
                async for message in messages:
                    yield wire.watched(message)
        except UnknownPlace:
            raise wire.unknown_place() from None
        except (FeedNotReady, sa.exc.SQLAlchemyError):
            raise _away() from None

    async def AcknowledgeAlert(
        self, request: pb.AcknowledgeAlertRequest, call: CallFacts
    ) -> pb.AcknowledgeAlertResponse:
        """Marks an alert as seen by the caller; whoever was first stays."""
        if "\0" in request.alert_id:
            raise InvalidArgument.of("alert_id", "holds a NUL character")
        found = await self._in_store(
            lambda connection: store.acknowledge(
                connection, request.alert_id, who=call.caller, now=self._now()
            )
        )
        if found is None:
            raise NotFound(
                f"there is no alert {request.alert_id}",
                resource=("marketcal.v1.Alert", request.alert_id),
            )
        return pb.AcknowledgeAlertResponse(alert=wire.alert(found))

    async def _in_store(self, work: Callable[[sa.Connection], _T]) -> _T:
        """Runs work in a transaction, in a thread.

        Raises:
            NotReady: the store does not answer.
        """

        def within() -> _T:
            with self._engine.begin() as connection:
                return work(connection)

        try:
            return await asyncio.to_thread(within)
        except sa.exc.SQLAlchemyError:
            raise _away() from None


def _away() -> NotReady:
    return NotReady("the store of alerts does not answer now", retry_after=RETRY_AFTER)
