"""Alerts in a real SQLite and a real PostgreSQL: once, in order, and quick to read."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from calibration_service.alerts import store
from calibration_service.alerts.policy import AlertPolicy
from calibration_service.alerts.store import ALERT, DELIVERY, SinkRule, StoredAlert
from calibration_service.alerts.values import Severity, derived_id

HOOK = SinkRule("hook")
ALL = SinkRule("all", Severity.FYI)


def written(engine: sa.Engine, alerts: Any, now: datetime, *sinks: SinkRule) -> list[int]:
    with engine.begin() as connection:
        return store.write_alerts(connection, alerts, sinks, now=now)


def listed(engine: sa.Engine, **asked: Any) -> list[StoredAlert]:
    with engine.connect() as connection:
        return store.page(connection, **{"limit": 100} | asked)


def deliveries(engine: sa.Engine) -> list[tuple[int, str]]:
    with engine.connect() as connection:
        rows = connection.execute(sa.select(DELIVERY.c.sequence, DELIVERY.c.sink))
        return sorted((row[0], row[1]) for row in rows)


def test_an_alert_comes_back_as_it_was_raised(
    engine: sa.Engine, tools: Any, policy: AlertPolicy, now: datetime
) -> None:
    raised = tools.fold(tools.path([0.5] * 7 + [0.7] * 3, trust=70.5), policy).alerts
    with engine.begin() as connection:
        store.write_alerts(connection, raised, (), now=now, event_ids={tools.MARKET: "e"})
    found = listed(engine)
    assert [one.alert for one in found] == raised
    assert (found[0].event_id, found[0].acknowledged_by, found[0].acknowledged_at) == (
        "e",
        "",
        None,
    )


def test_the_same_alert_again_changes_nothing(engine: sa.Engine, tools: Any, now: datetime) -> None:
    first = tools.alert(1)
    assert len(written(engine, [first, first], now, HOOK)) == 1
    with engine.begin() as connection:
        store.acknowledge(connection, first.alert_id, who="desk", now=now)
    assert written(engine, [replace(first, policy_version="other")], now, HOOK) == []
    assert len(deliveries(engine)) == 1
    assert listed(engine)[0].alert.policy_version == first.policy_version
    assert listed(engine)[0].acknowledged_by == "desk"


def test_an_episode_that_is_raised_a_bar_later_after_a_crash_is_the_same_alert(
    engine: sa.Engine, tools: Any, policy: AlertPolicy, now: datetime
) -> None:
    bars = tools.path([0.5] * 7 + [0.7] * 4, open_interest_change_60m=-0.2)
    (first,) = tools.fold(bars, policy).alerts
    place = [one.at_ms for one in bars].index(first.at_ms)
    bars[place] = replace(bars[place], suppressed="STALE_FEED")  # begun again, still without a feed
    (later,) = tools.fold(bars, policy).alerts
    assert later.at_ms == first.at_ms + tools.MINUTE
    assert later.alert_id == first.alert_id
    assert len(written(engine, [first], now, HOOK)) == 1
    assert written(engine, [later], now, HOOK) == []
    assert [one.alert for one in listed(engine)] == [first]
    assert len(deliveries(engine)) == 1


def test_an_episode_has_one_alert_of_a_severity_whatever_its_id(
    engine: sa.Engine, tools: Any, now: datetime
) -> None:
    first = tools.alert(1)
    other = replace(first, alert_id=derived_id(0, "other"))
    worse = replace(other, severity=Severity.HIGH)
    assert len(written(engine, [first, other, worse], now, HOOK)) == 2
    assert {one.alert.severity for one in listed(engine)} == {Severity.MED, Severity.HIGH}


def test_a_store_of_an_earlier_version_learns_that_an_alert_stands_there_once(
    engine: sa.Engine, tools: Any, now: datetime, caplog: pytest.LogCaptureFixture
) -> None:
    first = tools.alert(1)
    other = replace(first, alert_id=derived_id(0, "other"))
    with engine.begin() as connection:
        connection.execute(sa.text("DROP INDEX alert_once"))
    store.prepare_alerts(engine)
    assert len(written(engine, [first, other], now)) == 1
    with engine.begin() as connection:
        connection.execute(sa.text("DROP INDEX alert_once"))
    assert len(written(engine, [other], now)) == 1
    store.prepare_alerts(engine)
    assert "two stored alerts" in caplog.text
    assert len(written(engine, [first, other], now)) == 0


def test_a_code_of_a_later_version_is_read_as_the_text_that_it_is(
    engine: sa.Engine, tools: Any, now: datetime
) -> None:
    alert = replace(tools.alert(1), reason_codes=("BAND_LEFT", "ADDED_LATER"))
    written(engine, [alert], now)
    assert listed(engine)[0].alert.reason_codes == ("BAND_LEFT", "ADDED_LATER")


def test_alerts_deliveries_and_the_callers_rows_are_one_transaction(
    engine: sa.Engine, tools: Any, now: datetime
) -> None:
    with pytest.raises(RuntimeError), engine.begin() as connection:  # noqa: PT012
        store.write_alerts(connection, [tools.alert(1)], (HOOK,), now=now)
        raise RuntimeError("the worker ends here")
    assert listed(engine) == []
    assert deliveries(engine) == []


def test_a_sink_gets_what_it_asked_for(engine: sa.Engine, tools: Any, now: datetime) -> None:
    alerts = [tools.alert(number, Severity(number)) for number in (1, 2, 3)]
    one, two, three = written(engine, alerts, now, HOOK, ALL)
    assert deliveries(engine) == [(one, "all"), (two, "all"), (two, "hook"),
                                  (three, "all"), (three, "hook")]  # fmt: skip


def test_pages_are_newest_first_and_meet_every_alert_once(
    engine: sa.Engine, tools: Any, now: datetime
) -> None:
    minutes = [5, 1, 3, 3, 2, 3, 4]
    alerts = [
        tools.alert(minute, Severity(1 + number % 3), f"m{number}")
        for number, minute in enumerate(minutes)
    ]
    written(engine, alerts, now)
    for lowest in Severity:
        seen: list[StoredAlert] = []
        while found := listed(
            engine, limit=2, min_severity=lowest,
            after=(seen[-1].alert.at_ms, seen[-1].sequence) if seen else None,
        ):  # fmt: skip
            seen += found
        wanted = [(a.at_ms, s) for s, a in enumerate(alerts, 1) if a.severity >= lowest]
        assert [(one.alert.at_ms, one.sequence) for one in seen] == sorted(wanted, reverse=True)


def test_a_page_holds_what_was_asked_for(engine: sa.Engine, tools: Any, now: datetime) -> None:
    written(engine, [tools.alert(minute, market=f"m{minute % 2}") for minute in range(6)], now)
    found = listed(engine, market_id="m1", since=tools.START + 3 * tools.MINUTE)
    assert [one.alert.at_ms - tools.START for one in found] == [300_000, 180_000]


def test_the_first_to_acknowledge_stays(engine: sa.Engine, tools: Any, now: datetime) -> None:
    alert = tools.alert(1)
    written(engine, [alert], now)
    for who in ("desk", "other", "desk"):
        with engine.begin() as connection:
            later = now + timedelta(hours=len(who))
            found = store.acknowledge(connection, alert.alert_id, who=who, now=later)
        assert found is not None
        assert (found.acknowledged_by, found.acknowledged_at) == ("desk", now + timedelta(hours=4))
    with engine.begin() as connection:
        assert store.acknowledge(connection, "none", who="desk", now=now) is None


def test_a_reader_behind_concurrent_writers_skips_nothing(
    engine: sa.Engine, tools: Any, now: datetime
) -> None:
    writers, each = 3, 10
    done = threading.Event()

    def write(writer: int) -> None:
        for minute in range(each):
            with engine.begin() as connection:
                store.write_alerts(
                    connection, [tools.alert(minute, market=f"m{writer}")], (), now=now
                )
                connection.execute(sa.text("SELECT 1"))  # work of the caller after the write

    def tail() -> list[int]:
        seen: list[int] = []
        while True:
            ended = done.is_set()
            with engine.connect() as connection:
                found = store.after(connection, seen[-1] if seen else 0, limit=7)
            seen += [one.sequence for one in found]
            if ended and not found:
                return seen

    with ThreadPoolExecutor(writers + 1) as threads:
        tailed = threads.submit(tail)
        list(threads.map(write, range(writers)))
        done.set()
        seen = tailed.result(60)
    assert len(seen) == writers * each
    assert seen == sorted(set(seen))


def test_a_writer_that_commits_late_does_not_let_a_later_sequence_pass(
    engine: sa.Engine, tools: Any, now: datetime
) -> None:
    second = threading.Thread(
        target=lambda: written(engine, [tools.alert(2, market="late")], now), daemon=True
    )
    with engine.begin() as connection:
        store.write_alerts(connection, [tools.alert(1, market="early")], (), now=now)
        second.start()
        second.join(0.2)
        with engine.connect() as other:
            assert store.after(other, 0, limit=9) == []
    second.join(20)
    with engine.connect() as connection:
        found = store.after(connection, 0, limit=9)
        assert store.latest_sequence(connection) == found[-1].sequence
    assert [one.alert.market_id for one in found] == ["early", "late"]


@pytest.fixture
def full(engine: sa.Engine, tools: Any, now: datetime) -> sa.Engine:
    """A store with 100,000 alerts of 500 markets, a tenth of them above FYI."""
    template = store._values(tools.alert(0)) | {"stored_at": now, "event_id": ""}
    rows = [
        template
        | {
            "alert_id": derived_id(number, number), "episode_id": derived_id(0, number),
            "market_id": f"polymarket:{number % 500}",
            "at": tools.START + number * 1000,
            "severity": 3 if number % 100 == 0 else 2 if number % 10 == 0 else 1,
        }
        for number in range(100_000)
    ]  # fmt: skip
    with engine.begin() as connection:
        connection.execute(ALERT.insert(), rows)
        connection.execute(sa.text("ANALYZE"))
    return engine


def test_a_page_of_100_000_alerts_is_read_in_a_few_milliseconds(
    full: sa.Engine, tools: Any, best_of: Callable[..., float]
) -> None:
    deep = (tools.START + 50_000 * 1000, 50_001)
    for asked in (
        {}, {"min_severity": Severity.MED}, {"min_severity": Severity.HIGH, "after": deep},
        {"market_id": "polymarket:7"}, {"after": deep},
    ):  # fmt: skip
        with full.connect() as connection:
            assert len(store.page(connection, limit=50, **asked)) == 50  # type: ignore[arg-type]
            spent = best_of(lambda: store.page(connection, limit=50, **asked))  # noqa: B023
        print(f"{full.dialect.name} {asked}: {1000 * spent:.2f} ms")
        assert spent < 0.02, asked


@pytest.fixture
def best_of() -> Callable[..., float]:
    def measure(work: Callable[[], object]) -> float:
        times = []
        for _ in range(15):
            began = time.perf_counter()
            work()
            times.append(time.perf_counter() - began)
        return min(times)

    return measure
