"""What makes two events the same one, and what is remembered of those that came."""

from __future__ import annotations

import math

import pytest

from market_data.streaming.dedupe import Ledger, Recent
from market_data.streaming.events import (
    Codec,
    Feed,
    Kline,
    Mark,
    NewMarket,
    OpenInterest,
    Quote,
    Resolved,
    Span,
    TickSize,
    Trade,
    Unreadable,
    coalesce_key,
    event_id,
    kind_of,
    merged,
)

EVENTS = [
    Quote("m", 5, "k", 9, 0.4, 0.5, 1.0, math.inf),
    Quote("m", 5, "k", 9, 0.4, 0.5, 1.0, 2.0, Span(1, "a", 0.4, 5, "k", 0.45, 0.5, 0.4, 3)),
    Trade("m", 5, "k", 9, 0.4, 1_000_000, -1),
    TickSize("m", 5, "k", 9, 0.001),
    NewMarket("m", 5, "k", 9, "Will it?", "will-it", ("1", "2"), ("Yes", "No"), ("x",)),
    Resolved("m", 5, "k", 9, "1", "Yes"),
    Mark("m", 5, "k", 9, 3_000.0, 3_001.0, 0.0001),
    Kline("m", 5, "k", 9, "1m", 0, 1.0, 2.0, 0.5, 1.5, 7, 3, True),
    OpenInterest("m", 5, "k", 9, 12_345.5),
    Feed("v:*", 5, "k", 9, ("m",), "CONNECTION_SILENT"),
    Unreadable("v:unreadable", 5, "k", 9, "NOT_JSON", "why", b"\xff{"),
]


@pytest.mark.parametrize("event", EVENTS, ids=[f"{n}-{kind_of(e)}" for n, e in enumerate(EVENTS)])
def test_an_event_survives_its_bytes(event: object) -> None:
    codec = Codec()
    assert codec.decode(codec.encode(event)) == event  # type: ignore[arg-type]


def test_bytes_that_are_no_event_are_refused() -> None:
    for raw in (b"", b"\x00", b"\x93\xa5quote\x01\x02", b"{}"):
        with pytest.raises(ValueError):  # noqa: PT011
            Codec().decode(raw)


def test_receipt_is_no_part_of_an_identity_and_everything_else_is() -> None:
    one = Trade("m", 5, "k", 9, 0.4, 1, 1)
    assert event_id(one) == event_id(Trade("m", 5, "k", 99, 0.4, 1, 1))
    others = [
        Trade("n", 5, "k", 9, 0.4, 1, 1), Trade("m", 6, "k", 9, 0.4, 1, 1),
        Trade("m", 5, "l", 9, 0.4, 1, 1), TickSize("m", 5, "k", 9, 0.1),
    ]  # fmt: skip
    assert len({event_id(other) for other in [one, *others]}) == 5


def test_what_must_not_be_dropped_has_no_coalescing_key() -> None:
    keys = {kind_of(event): coalesce_key(event) for event in EVENTS}
    kept = {kind for kind, key in keys.items() if not key}
    assert kept == {
        "trade", "tick_size", "new_market", "resolved", "kline", "feed", "unreadable", "mark",
    }  # fmt: skip


def test_merging_is_the_same_in_either_order() -> None:
    older, newer = Quote("m", 1, "a", 1, 0.2, 0.3, 1.0, 1.0), EVENTS[0]
    assert merged(older, newer) == merged(newer, older)  # type: ignore[arg-type]
    last = merged(older, newer)  # type: ignore[arg-type]
    assert isinstance(last, Quote)
    assert (last.ms, last.bid) == (5, 0.4)
    assert last.span == Span(1, "a", 0.25, 5, "k", 0.45, 0.45, 0.25, 2)


def test_a_bounded_memory_forgets_the_oldest_first() -> None:
    recent = Recent(100)
    assert all(recent.is_new(number) for number in range(150))
    assert not any(recent.is_new(number) for number in range(50, 150))
    assert recent.duplicates == 100
    assert all(recent.is_new(number) for number in range(1_000, 1_400))
    assert recent.is_new(0)


def test_a_ledger_keeps_identities_by_the_time_of_the_venue() -> None:
    ledger = Ledger(1_000, [("old", 0)])
    assert not ledger.is_new("old", 0)
    assert ledger.is_new("one", 500)
    assert ledger.new() == [("one", 500)]
    ledger.sweep(1_200)
    assert ledger.is_new("old", 0)
    assert not ledger.is_new("one", 500)
    assert len(ledger) == 2


def test_what_is_not_written_down_yet_stays_new() -> None:
    ledger = Ledger(1_000)
    ledger.is_new("one", 1)
    before = ledger.new()
    ledger.is_new("two", 2)
    ledger.written(len(before))
    assert ledger.new() == [("two", 2)]
