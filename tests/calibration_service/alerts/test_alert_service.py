"""AlertService: pages, streams that resume, slow readers that harm nobody, acknowledgements."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
import sqlalchemy as sa
from google.protobuf.timestamp_pb2 import Timestamp

from calibration_service.alert_service import AlertService
from calibration_service.alerts import store
from calibration_service.alerts.feed import AlertFeed, Wanted
from calibration_service.alerts.values import Severity
from marketcal.aio import AsyncClient
from marketcal.errors import InvalidArgument, InvalidPageToken, NotFound, NotReady
from marketcal.v1 import alert_pb2 as pb
from marketcal.v1 import alert_pb2_grpc

DESK: Any = SimpleNamespace(caller="desk")
ANY_SEVERITY = Wanted(Severity.FYI)
DEADLINE = 20.0


@dataclass
class Service:
    """A service over a store, with its feed running."""

    engine: sa.Engine
    feed: AlertFeed
    service: AlertService
    tools: Any
    now: datetime

    async def raise_alerts(self, *minutes: int, **named: Any) -> list[str]:
        """Stores an alert for each minute, by a writer elsewhere."""
        alerts = [self.tools.alert(minute, **named) for minute in minutes]

        def write() -> None:
            with self.engine.begin() as connection:
                store.write_alerts(connection, alerts, (), now=self.now)

        await asyncio.to_thread(write)
        return [alert.alert_id for alert in alerts]

    def watch(self, **asked: Any) -> AsyncGenerator[pb.WatchAlertsResponse]:
        return self.service.WatchAlerts(pb.WatchAlertsRequest(**asked), DESK)


Scenario = Callable[[Service], Awaitable[None]]
Play = Callable[..., None]


@pytest.fixture
def play(sqlite: sa.Engine, tools: Any, now: datetime) -> Play:
    """Runs a scenario with the feed of a store."""

    def run(scenario: Scenario, **feed: Any) -> None:
        async def body() -> None:
            made = AlertFeed(sqlite, **{"poll_seconds": 0.005} | feed)
            service = AlertService(sqlite, made, now=lambda: now)
            running = asyncio.create_task(made.run())
            async with asyncio.timeout(DEADLINE):
                await until(lambda: made._position is not None)
                await scenario(Service(sqlite, made, service, tools, now))
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

        asyncio.run(body())

    return run


async def until(condition: Callable[[], bool]) -> None:
    """Waits for a condition within the deadline of the scenario."""
    while not condition():  # noqa: ASYNC110 - what changes it knows nothing of this test
        await asyncio.sleep(0.001)


async def take(messages: AsyncIterator[Any], count: int) -> list[Any]:
    return [await anext(messages) for _ in range(count)]


def ids(messages: list[pb.WatchAlertsResponse]) -> list[str]:
    return [one.alert.alert_id for one in messages if one.HasField("alert")]


def test_a_stream_begins_with_a_bookmark_and_then_tells_of_new_alerts(play: Play) -> None:
    async def scenario(on: Service) -> None:
        await on.raise_alerts(1)
        await until(lambda: on.feed._position != 0)
        stream = on.watch()
        (first,) = await take(stream, 1)
        assert first.WhichOneof("event") is None
        assert first.resume_token
        later = await on.raise_alerts(2, 3)
        assert ids(await take(stream, 2)) == later
        await stream.aclose()
        assert on.feed.watchers == 0

    play(scenario)


def test_nothing_is_lost_and_nothing_comes_twice_over_a_reconnect(play: Play) -> None:
    async def scenario(on: Service) -> None:
        stream = on.watch()
        await take(stream, 1)
        raised = await on.raise_alerts(*range(10))
        seen = await take(stream, 4)
        await stream.aclose()
        raised += await on.raise_alerts(*range(10, 1300))  # more than two pages
        resumed = on.watch(resume_token=seen[-1].resume_token)
        seen += (await take(resumed, 1 + len(raised) - 4))[1:]
        raised += await on.raise_alerts(2000)
        seen += await take(resumed, 1)
        await resumed.aclose()
        assert ids(seen) == raised

    play(scenario)


def test_alerts_that_are_raised_while_a_stream_resumes_are_all_there(play: Play) -> None:
    async def scenario(on: Service) -> None:
        start = (await take(on.watch(), 1))[0].resume_token
        raised: list[str] = []

        async def write() -> None:
            for minute in range(60):
                raised.extend(await on.raise_alerts(minute))

        async def read(pause: int) -> list[str]:
            for _ in range(pause):
                await asyncio.sleep(0.002)
            stream = on.watch(resume_token=start)
            found = ids((await take(stream, 61))[1:])
            await stream.aclose()
            return found

        writing = asyncio.create_task(write())
        found = await asyncio.gather(*(read(pause) for pause in (0, 5, 20, 50)))
        await writing
        assert found == [raised] * 4

    play(scenario)


def test_a_watcher_is_sent_what_it_asked_for(play: Play) -> None:
    async def scenario(on: Service) -> None:
        start = (await take(on.watch(), 1))[0].resume_token
        both, all_of_b = on.watch(), on.watch(
            min_severity=pb.ALERT_SEVERITY_FYI, market_ids=["b", "c"]
        )  # fmt: skip
        await take(both, 1)
        await take(all_of_b, 1)
        a, b = {"market": "a"}, {"market": "b"}
        high = await on.raise_alerts(1, severity=Severity.HIGH, **a)
        note = await on.raise_alerts(2, severity=Severity.FYI, **b)
        med = await on.raise_alerts(3, severity=Severity.MED, **b)
        await on.raise_alerts(4, severity=Severity.FYI, **a)
        assert ids(await take(both, 2)) == high + med
        assert ids(await take(all_of_b, 2)) == note + med
        from_table = on.watch(resume_token=start, market_ids=["b"])
        assert ids((await take(from_table, 2))[1:]) == med

    play(scenario)


def test_a_slow_watcher_loses_its_oldest_and_harms_nobody(play: Play) -> None:
    async def scenario(on: Service) -> None:
        slow, quick = on.watch(), on.watch()
        await take(slow, 1)
        await take(quick, 1)
        reading = asyncio.create_task(take(slow, 1))
        first = await on.raise_alerts(0)
        assert ids(await reading) == first  # it is among the watchers, and now stands still
        assert ids(await take(quick, 1)) == first
        raised: list[str] = []
        for minute in range(1, 41):
            raised += await on.raise_alerts(minute)
            assert ids(await take(quick, 1)) == raised[-1:]
        gap, *rest = await take(slow, 9)
        assert gap.missed == 32
        assert ids(rest) == raised[32:]
        assert on.feed.missed == 32
        resumed = on.watch(resume_token=gap.resume_token)
        assert ids((await take(resumed, 9))[1:]) == raised[32:]

    play(scenario, queue=8)


def test_a_burst_larger_than_a_queue_reaches_a_watcher_that_keeps_up(play: Play) -> None:
    async def scenario(on: Service) -> None:
        quick, still = on.watch(), on.watch()
        for stream in (quick, still):
            await take(stream, 1)
        joining = [asyncio.create_task(take(stream, 1)) for stream in (quick, still)]
        await until(lambda: on.feed.watchers == 2)
        raised = await on.raise_alerts(*range(100))
        seen = [one for reading in joining for one in await reading][:1]
        seen += await take(quick, 99)
        assert ids(seen) == raised
        assert (await take(still, 1))[0].missed > 80

    play(scenario, queue=8)


def test_a_watcher_that_hears_nothing_is_told_where_it_is(play: Play) -> None:
    async def scenario(on: Service) -> None:
        stream = on.watch(market_ids=["other"])
        first = (await take(stream, 1))[0]
        reading = asyncio.create_task(take(stream, 1))
        await on.raise_alerts(*range(5))
        later = (await reading)[0]
        while later.resume_token == first.resume_token:
            later = (await take(stream, 1))[0]
        assert later.WhichOneof("event") is None
        resumed = on.feed.watch(ANY_SEVERITY, 5)
        assert (await anext(resumed)).sequence == 5
        await resumed.aclose()

    play(scenario, bookmark_seconds=0.02)


def test_refuses_a_token_of_no_message(play: Play, tools: Any) -> None:
    async def scenario(on: Service) -> None:
        start = (await take(on.watch(), 1))[0].resume_token
        await on.raise_alerts(1)
        ahead = on.watch(resume_token=start)
        beyond = (await take(ahead, 2))[1].resume_token
        listed = await on.service.ListAlerts(pb.ListAlertsRequest(page_size=1), DESK)
        with on.engine.begin() as connection:
            connection.execute(store.ALERT.delete())
        on.feed._position = 0  # as after a start over another store
        for token in ("x", "é", beyond, listed.next_page_token or "AAAA"):
            with pytest.raises(InvalidArgument) as refused:
                await take(on.watch(resume_token=token), 1)
            assert refused.value.violations[0].field == "resume_token"
            assert refused.value.reason == "INVALID_FIELD"

    play(scenario)


def test_without_its_store_a_call_is_asked_to_come_back(play: Play) -> None:
    async def scenario(on: Service) -> None:
        with on.engine.begin() as connection:
            connection.execute(sa.text("ALTER TABLE alert RENAME TO away"))
        with pytest.raises(NotReady) as refused:
            await on.service.ListAlerts(pb.ListAlertsRequest(), DESK)
        assert refused.value.retry_after
        stream = on.watch()
        await take(stream, 1)
        reading = asyncio.create_task(take(stream, 1))
        with on.engine.begin() as connection:
            connection.execute(sa.text("ALTER TABLE away RENAME TO alert"))
        assert ids(await on_time(reading, await on.raise_alerts(1)))  # the feed came back too

    play(scenario)


async def on_time(reading: asyncio.Task[list[Any]], raised: list[str]) -> list[Any]:
    found = await reading
    assert ids(found) == raised
    return found


def test_a_feed_that_has_read_nothing_yet_says_so(sqlite: sa.Engine, now: datetime) -> None:
    service = AlertService(sqlite, AlertFeed(sqlite), now=lambda: now)
    with pytest.raises(NotReady):
        asyncio.run(take(service.WatchAlerts(pb.WatchAlertsRequest(), DESK), 1))


def test_pages_hold_every_alert_once_and_are_bound_to_their_filters(play: Play) -> None:
    async def scenario(on: Service) -> None:
        raised = await on.raise_alerts(*range(23))
        await on.raise_alerts(3, severity=Severity.FYI)
        seen, token = [], ""
        lowest = pb.ALERT_SEVERITY_MED
        while True:
            request = pb.ListAlertsRequest(page_size=7, page_token=token, min_severity=lowest)
            page = await on.service.ListAlerts(request, DESK)
            seen += [alert.alert_id for alert in page.alerts]
            token = page.next_page_token or ""
            if not token:
                break
            with pytest.raises(InvalidPageToken):
                await on.service.ListAlerts(pb.ListAlertsRequest(page_token=token), DESK)
        assert seen == raised[::-1]
        everything = await on.service.ListAlerts(pb.ListAlertsRequest(), DESK)
        assert len(everything.alerts) == 24

    play(scenario)


def test_an_instant_within_a_millisecond_bounds_the_list(play: Play) -> None:
    async def scenario(on: Service) -> None:
        await on.raise_alerts(1)
        at = (on.tools.START + on.tools.MINUTE) // 1000
        for nanos, count in ((0, 1), (1, 0)):
            since = Timestamp(seconds=at, nanos=nanos)
            page = await on.service.ListAlerts(pb.ListAlertsRequest(since=since), DESK)
            assert len(page.alerts) == count
        far = pb.ListAlertsRequest(since=Timestamp(seconds=1 << 62))
        assert not (await on.service.ListAlerts(far, DESK)).alerts

    play(scenario)


def test_an_alert_is_shown_whole_and_acknowledged_once(play: Play) -> None:
    async def scenario(on: Service) -> None:
        (alert_id,) = await on.raise_alerts(1, severity=Severity.HIGH)
        request = pb.AcknowledgeAlertRequest(alert_id=alert_id)
        first = (await on.service.AcknowledgeAlert(request, DESK)).alert
        other: Any = SimpleNamespace(caller="other")
        assert (await on.service.AcknowledgeAlert(request, other)).alert == first
        listed = (await on.service.ListAlerts(pb.ListAlertsRequest(), DESK)).alerts
        assert list(listed) == [first]
        assert first.acknowledged_by == "desk"
        assert first.acknowledged_time.ToDatetime(on.now.tzinfo) == on.now
        assert first.severity == pb.ALERT_SEVERITY_HIGH
        assert [fact.HasField("threshold") for fact in first.evidence] == [True, False]
        assert list(first.reason_codes) == ["BAND_LEFT"]
        assert first.time.ToMilliseconds() == on.tools.START + on.tools.MINUTE

    play(scenario)


def test_refuses_to_acknowledge_what_is_not_there(play: Play) -> None:
    async def scenario(on: Service) -> None:
        with pytest.raises(NotFound) as refused:
            await on.service.AcknowledgeAlert(pb.AcknowledgeAlertRequest(alert_id="none"), DESK)
        assert refused.value.resource == ("marketcal.v1.Alert", "none")
        with pytest.raises(InvalidArgument, match="alert_id"):
            await on.service.AcknowledgeAlert(pb.AcknowledgeAlertRequest(alert_id="\0"), DESK)

    play(scenario)


@asynccontextmanager
async def served(service: AlertService, port: int = 0) -> AsyncIterator[int]:
    server = grpc.aio.server()
    alert_pb2_grpc.add_AlertServiceServicer_to_server(service, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(0)


def test_the_client_goes_on_where_a_server_ended(play: Play) -> None:
    async def scenario(on: Service) -> None:
        stack = AsyncExitStack()
        async with stack:
            first = served(on.service)
            port = await first.__aenter__()
            client = await stack.enter_async_context(AsyncClient(f"127.0.0.1:{port}"))
            stream = client.watch_alerts()
            reading = asyncio.create_task(anext(stream))
            await until(lambda: on.feed.watchers > 0)
            raised = await on.raise_alerts(1)
            seen = [await reading]
            await first.__aexit__(None, None, None)
            raised += await on.raise_alerts(2, 3)
            await stack.enter_async_context(served(on.service, port))
            seen += await take(stream, 2)
            assert ids(seen) == raised

    play(scenario)
