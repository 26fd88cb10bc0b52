"""Deliveries to a real server on loopback: at least once, signed, and never twice at a time."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
import json
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from calibration_service.alerts import store
from calibration_service.alerts.errors import DeliveryError
from calibration_service.alerts.outbox import NO_SINK, Counts, Outbox, Patience, _End
from calibration_service.alerts.sinks import LogSink, Webhook
from calibration_service.alerts.store import DELIVERY, SinkRule
from calibration_service.alerts.values import Severity

SECRET = b"0123456789abcdef0123456789abcdef"
HOOK = SinkRule("hook")


@dataclass
class Receiver:
    """Answers with the given statuses in turn, the last for ever; keeps what it got."""

    answers: list[int | threading.Event] = field(default_factory=lambda: [200])
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""

    def next(self) -> int | threading.Event:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def alert_ids(self) -> list[str]:
        return [json.loads(body)["alertId"] for _, body in self.got]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            made.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
            answer = made.next()
            if isinstance(answer, threading.Event):
                answer.wait(20)
                answer = 200
            self.send_response(answer)
            self.send_header("location", made.url + "/elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield made
    server.shutdown()
    server.server_close()
    thread.join(20)


Send = Callable[..., Counts]


@pytest.fixture
def send(sqlite: sa.Engine, receiver: Receiver) -> Send:
    """Delivers what is due by a new outbox, as after a restart."""

    def deliver(now: datetime, *, timeout: float = 5.0, **patience: int) -> Counts:
        async def run() -> Counts:
            async with httpx.AsyncClient(timeout=timeout) as http:
                hook = Webhook(HOOK, url=receiver.url, secret=SECRET, http=http)
                outbox = Outbox(sqlite, [hook], Patience(**patience), monotonic=lambda: 0.0)
                return await outbox.deliver_due(now)

        return asyncio.run(run())

    return deliver


@pytest.fixture
def alert_ids(sqlite: sa.Engine, tools: Any, now: datetime) -> list[str]:
    """Ids of three stored alerts of which two are for the webhook."""
    alerts = [tools.alert(number, Severity(number)) for number in (1, 2, 3)]
    with sqlite.begin() as connection:
        store.write_alerts(connection, alerts, (HOOK,), now=now)
    return [alert.alert_id for alert in alerts if alert.severity > Severity.FYI]


def rows(engine: sa.Engine) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(sa.select(DELIVERY).order_by(DELIVERY.c.delivery_id)))


def test_alerts_are_posted_once_with_a_signature_that_holds(
    send: Send, receiver: Receiver, alert_ids: list[str], now: datetime
) -> None:
    assert send(now) == Counts(delivered=2)
    assert send(now + timedelta(days=1)) == Counts()
    assert sorted(receiver.alert_ids()) == sorted(alert_ids)
    for headers, body in receiver.got:
        stamp, signature = headers["x-marketcal-signature"].split(",")
        assert stamp == f"t={int(now.timestamp())}"
        signed = stamp.removeprefix("t=").encode() + b"." + body
        assert signature == "v1=" + hmac.digest(SECRET, signed, hashlib.sha256).hex()
        assert headers["x-marketcal-alert-id"] == json.loads(body)["alertId"]


def test_a_failure_is_tried_again_after_a_wait_that_doubles(
    send: Send, receiver: Receiver, sqlite: sa.Engine, alert_ids: list[str], now: datetime
) -> None:
    receiver.answers = [500, 503, 429, 429, 200]
    assert send(now) == Counts(retried=2)
    assert {row.failed_reason[:5] for row in rows(sqlite)} == {"HTTP "}
    assert send(now + timedelta(milliseconds=999)) == Counts()
    assert send(now + timedelta(seconds=1)) == Counts(retried=2)
    assert send(now + timedelta(seconds=2.9)) == Counts()
    assert send(now + timedelta(seconds=3)) == Counts(delivered=2)
    assert {row.failed_reason for row in rows(sqlite)} == {None}
    assert sorted(set(receiver.alert_ids())) == sorted(alert_ids)


@pytest.mark.parametrize("status", [301, 400, 405, 410])
def test_what_is_refused_for_good_keeps_its_reason(
    send: Send, receiver: Receiver, sqlite: sa.Engine, alert_ids: list[str], now: datetime,
    status: int,
) -> None:  # fmt: skip
    receiver.answers = [status]
    assert send(now) == Counts(failed=2)
    assert send(now + timedelta(days=1)) == Counts()
    assert {row.failed_reason for row in rows(sqlite)} == {f"HTTP {status}"}
    assert len(receiver.got) == 2  # no redirect was followed either


def test_a_delivery_is_given_up_after_its_attempts(
    send: Send, receiver: Receiver, sqlite: sa.Engine, alert_ids: list[str], now: datetime
) -> None:
    receiver.answers = [500]
    ends = [send(now + timedelta(hours=hour), attempts=3) for hour in range(4)]
    assert ends == [Counts(retried=2), Counts(retried=2), Counts(failed=2), Counts()]
    assert {(row.attempts, row.next_attempt_at, row.failed_reason) for row in rows(sqlite)} == {
        (3, None, "HTTP 500")
    }


def test_a_receiver_that_does_not_answer_is_tried_again(
    send: Send, receiver: Receiver, sqlite: sa.Engine, alert_ids: list[str], now: datetime
) -> None:
    silent = threading.Event()
    receiver.answers = [silent, silent, 200]
    assert send(now, timeout=0.2) == Counts(retried=2)
    silent.set()
    assert {row.failed_reason for row in rows(sqlite)} == {"ReadTimeout"}
    assert send(now + timedelta(seconds=1)) == Counts(delivered=2)


def test_a_sink_may_not_outlast_its_lease(
    send: Send, receiver: Receiver, sqlite: sa.Engine, alert_ids: list[str], now: datetime
) -> None:
    silent = threading.Event()
    receiver.answers = [silent, silent, 200]
    assert send(now, lease_ms=400) == Counts(retried=2)
    silent.set()
    assert {row.failed_reason for row in rows(sqlite)} == {"no answer in time"}


def test_a_worker_that_ends_in_the_middle_loses_nothing(
    send: Send, receiver: Receiver, sqlite: sa.Engine, alert_ids: list[str], now: datetime
) -> None:
    crashed = Outbox(sqlite, [], Patience())
    claims, _ = crashed._claim(sa.true(), int(now.timestamp() * 1000))  # and the process is gone
    assert len(claims) == 2
    assert send(now + timedelta(seconds=59)) == Counts()  # somebody may still be at it
    assert send(now + timedelta(seconds=60)) == Counts(delivered=2)
    assert sorted(receiver.alert_ids()) == sorted(alert_ids)


def test_two_workers_do_not_send_the_same_delivery(
    sqlite: sa.Engine, tools: Any, now: datetime
) -> None:
    with sqlite.begin() as connection:
        alerts = [tools.alert(minute) for minute in range(60)]
        store.write_alerts(connection, alerts, (HOOK,), now=now)
    sent: list[str] = []

    class Counted:
        rule = HOOK

        async def send(self, stored: store.StoredAlert, now: datetime) -> None:
            sent.append(stored.alert.alert_id)

    async def run() -> list[Counts]:
        workers = [Outbox(sqlite, [Counted()], Patience(at_once=25)) for _ in range(3)]
        found: list[Counts] = []
        for _ in range(4):
            found += await asyncio.gather(*(worker.deliver_due(now) for worker in workers))
        return found

    assert sum(count.delivered for count in asyncio.run(run())) == 60
    assert sorted(sent) == sorted(alert.alert_id for alert in alerts)


def test_the_end_of_an_old_claim_does_not_undo_a_newer_one(
    send: Send, sqlite: sa.Engine, alert_ids: list[str], now: datetime
) -> None:
    slow = Outbox(sqlite, [], Patience())
    millis = int(now.timestamp() * 1000)
    claims, _ = slow._claim(sa.true(), millis)
    assert send(now + timedelta(seconds=61)) == Counts(delivered=2)
    for claim in claims:
        slow._note(claim, _End("HTTP 500", is_final=False), millis + 62_000)
    assert all(row.delivered_at and row.next_attempt_at is None for row in rows(sqlite))


def test_attempts_go_on_for_more_than_a_day_and_ever_more_slowly() -> None:
    patience = Patience()
    waits = [patience.wait_ms(attempt) for attempt in range(1, patience.attempts)]
    assert waits == sorted(waits)
    assert max(waits) == 600_000
    assert sum(waits) >= 24 * 3_600_000


@pytest.mark.parametrize("status", [401, 403, 404, 408, 425, 429])
def test_what_a_receiver_may_say_while_it_is_set_up_anew_is_tried_again(
    send: Send, receiver: Receiver, alert_ids: list[str], now: datetime, status: int
) -> None:
    receiver.answers = [status, status, 200]
    assert send(now) == Counts(retried=2)
    assert send(now + timedelta(seconds=1)) == Counts(delivered=2)


def test_a_final_failure_is_logged_with_sink_and_reason_and_without_the_secret(
    send: Send, receiver: Receiver, alert_ids: list[str], now: datetime,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    receiver.answers = [410]
    send(now)
    said = [one.message for one in caplog.records if one.name == "calibration_service.alerts"]
    assert len(said) == 2
    assert all("hook" in one and "HTTP 410" in one for one in said)
    assert SECRET.decode() not in caplog.text


class Told:
    """Does what it is told."""

    def __init__(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        self.rule = SinkRule(name)
        self.work = work

    async def send(self, stored: store.StoredAlert, now: datetime) -> None:
        await self.work()


async def nothing() -> None:
    """Takes an alert."""


def test_a_wait_is_counted_from_the_end_of_the_attempt(
    sqlite: sa.Engine, alert_ids: list[str], now: datetime
) -> None:
    time = [0.0]

    async def slow() -> None:
        time[0] = 20.0
        raise DeliveryError("HTTP 503")

    outbox = Outbox(sqlite, [Told("hook", slow)], monotonic=lambda: time[0])
    assert asyncio.run(outbox.deliver_due(now)) == Counts(retried=2)
    began = int(now.timestamp() * 1000)
    assert {row.next_attempt_at for row in rows(sqlite)} == {began + 21_000}


def test_a_slow_sink_does_not_hold_the_deliveries_of_another(
    sqlite: sa.Engine, tools: Any, now: datetime
) -> None:
    with sqlite.begin() as connection:
        both = [SinkRule("slow"), SinkRule("quick")]
        alerts = [tools.alert(minute) for minute in range(150)]
        store.write_alerts(connection, alerts, both, now=now)

    async def run() -> Counts:
        never = asyncio.Event()

        async def hangs() -> None:
            await never.wait()

        sinks = [Told("slow", hangs), Told("quick", nothing)]
        outbox = Outbox(sqlite, sinks, Patience(at_once=150))
        slow = asyncio.create_task(outbox.deliver_due_to("slow", now))
        quick = await outbox.deliver_due_to("quick", now)
        assert not slow.done()
        never.set()
        await slow
        return quick

    assert asyncio.run(run()) == Counts(delivered=150)


def test_an_unexpected_error_leaves_no_other_delivery_unnoted(
    sqlite: sa.Engine, alert_ids: list[str], now: datetime
) -> None:
    calls = itertools.count()

    async def breaks_once() -> None:
        if next(calls) == 0:
            raise RuntimeError("a mistake")

    outbox = Outbox(sqlite, [Told("hook", breaks_once)])
    with pytest.raises(RuntimeError, match="a mistake"):
        asyncio.run(outbox.deliver_due(now))
    assert [row.delivered_at is not None for row in rows(sqlite)] == [False, True]


def test_a_sink_that_is_gone_is_said(
    sqlite: sa.Engine, alert_ids: list[str], now: datetime
) -> None:
    assert asyncio.run(Outbox(sqlite, []).deliver_due(now)) == Counts(failed=2)
    assert {row.failed_reason for row in rows(sqlite)} == {NO_SINK}


def test_the_secret_is_neither_logged_nor_stored(
    send: Send, receiver: Receiver, sqlite: sa.Engine, alert_ids: list[str], now: datetime,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    receiver.answers = [500]
    send(now)
    stored = "".join(map(str, rows(sqlite)))
    assert SECRET.decode() not in caplog.text + stored + repr(receiver.got)


def test_the_log_takes_one_line_of_json(
    sqlite: sa.Engine, tools: Any, now: datetime, caplog: pytest.LogCaptureFixture
) -> None:
    rule = SinkRule("log", Severity.FYI)
    with sqlite.begin() as connection:
        store.write_alerts(connection, [tools.alert(1, Severity.FYI)], (rule,), now=now)
    assert asyncio.run(Outbox(sqlite, [LogSink(rule)]).deliver_due(now)) == Counts(delivered=1)
    said = json.loads(caplog.messages[-1])
    assert (said["severity"], said["time"]) == ("ALERT_SEVERITY_FYI", "2026-09-21T14:16:00.000Z")
    assert said["evidence"] == [
        {"name": "price", "value": 0.7, "threshold": 0.55}, {"name": "tick_size", "value": 0.01}
    ]  # fmt: skip


@pytest.mark.parametrize("url", ["", "ftp://h/x", "http://", "no address", "http://[::1"])
def test_refuses_an_address_that_is_none(url: str) -> None:
    async def make() -> None:
        async with httpx.AsyncClient() as http:
            Webhook(HOOK, url=url, secret=SECRET, http=http)

    with pytest.raises(ValueError, match="url"):
        asyncio.run(make())
