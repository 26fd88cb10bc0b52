"""Faults of streams: drawn by number, counted, bounded, and nothing is lost by most of them."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_data.replay.stream_capture import Record
from market_data.replay.stream_faults import (
    KINDS,
    Break,
    Deliver,
    StreamFaultPlan,
    StreamFaults,
    Wait,
)

RECORDS = [Record(1000 + 40 * n, "polymarket", b'{"n":%d}' % n) for n in range(1000)]


def played(plan: StreamFaultPlan) -> tuple[list, StreamFaults]:
    faults = StreamFaults(plan)
    steps = [step for n, record in enumerate(RECORDS) for step in faults.push(n, record)]
    return steps + faults.flush(), faults


def sent(steps: list) -> list[Record]:
    return [
        record
        for step in steps
        if isinstance(step, Deliver) and not step.is_unknown
        for record in step.records
    ]


def test_without_a_plan_nothing_happens() -> None:
    steps, faults = played(StreamFaultPlan())

    assert steps == [Deliver((record,)) for record in RECORDS]
    assert not faults.injected


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_counted_and_visible(kind: str) -> None:
    steps, faults = played(StreamFaultPlan(**{kind: 0.05}, seed=2, freeze_ms=70.0))
    count = faults.injected[kind]
    order = sent(steps)
    visible = {
        "latency": sum(step == Wait(0.02) for step in steps),
        "freeze": sum(step == Wait(0.07) for step in steps),
        "disconnect": sum(step == Break("polymarket") for step in steps),
        "duplicate": len(order) - len(set(order)),
        "truncate": sum(isinstance(step, Deliver) and step.is_truncated for step in steps),
        "unknown": sum(isinstance(step, Deliver) and step.is_unknown for step in steps),
        "array": sum(isinstance(step, Deliver) and len(step.records) > 1 for step in steps),
        "reorder": sum(a.recv_ms > b.recv_ms for a, b in itertools.pairwise(order)),
    }[kind]

    assert faults.injected == Counter({kind: count})
    assert 20 < count < 90
    assert visible == pytest.approx(count, abs=count * 0.15 if kind == "reorder" else 0)
    assert set(order) == set(RECORDS) or kind == "disconnect"


def test_the_same_frames_are_harmed_whenever_they_are_played() -> None:
    plan = StreamFaultPlan(duplicate=0.1, truncate=0.1, seed=9)

    assert played(plan)[0] == played(plan)[0]
    assert played(plan)[0] != played(StreamFaultPlan(duplicate=0.1, truncate=0.1, seed=8))[0]


def test_a_frame_that_is_sent_again_is_whole() -> None:
    faults = StreamFaults(StreamFaultPlan(truncate=1.0, disconnect=1.0))

    assert faults.push(0, RECORDS[0]) == [Break("polymarket")]
    assert faults.push(0, RECORDS[0]) == [Deliver((RECORDS[0],), is_truncated=True)]
    assert faults.push(0, RECORDS[0]) == [Deliver((RECORDS[0],))]


@given(seed=st.integers(0, 10_000), frames=st.integers(1, 20), ms=st.integers(0, 2000))
def test_reordering_keeps_its_bounds(seed: int, frames: int, ms: int) -> None:
    plan = StreamFaultPlan(reorder=0.2, reorder_frames=frames, reorder_ms=ms, seed=seed)
    faults = StreamFaults(plan)
    order = sent(
        [step for n, record in enumerate(RECORDS[:200]) for step in faults.push(n, record)]
        + faults.flush()
    )

    assert sorted(order) == RECORDS[:200]
    latest = 0
    for record in order:
        latest = max(latest, record.recv_ms)
        assert latest - record.recv_ms <= ms
        # Others that are kept back are passed too, so the bound counts frames of the capture.
        assert (latest - record.recv_ms) / 40 <= frames


def test_market_records_of_the_rest_interface_are_never_harmed() -> None:
    faults = StreamFaults(StreamFaultPlan(**dict.fromkeys(KINDS, 1.0)))
    record = Record(1, "gamma", b"{}")

    assert faults.push(0, record) == [Deliver((record,))]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("drop=1", "unknown fault 'drop'"),
        ("freeze=often", "freeze is not a number"),
        ("freeze=2", "freeze must be in"),
    ],
)
def test_refuses_a_plan_that_cannot_be(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StreamFaultPlan.parse(spec)
