"""Real records are odd; each oddity is read or rejected by name."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_data.errors import RecordRejected
from market_data.venues.fields import parse_time
from market_data.venues.polymarket.parse import decode_page, parse_history, parse_market

Record = Callable[..., dict[str, Any]]


def test_a_list_may_be_json_text_or_a_list(record: Record) -> None:
    text = parse_market(record())
    plain = parse_market(
        record(outcomes=["Yes", "No"], outcomePrices=[1, 0], clobTokenIds=["11", "22"])
    )
    assert text == plain


def test_an_event_id_is_taken_from_the_nested_event_or_the_market_itself(record: Record) -> None:
    assert parse_market(record()).event_id == "polymarket:77"
    assert parse_market(record(events=None)).event_id == "polymarket:market-1"
    assert parse_market(record(id=5, events=[])).market_id == "polymarket:5"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"id": None}, "ID_MISSING"),
        ({"closed": None}, "CLOSED_MISSING"),
        ({"closed": "true"}, "CLOSED_MISSING"),
        ({"outcomes": None}, "OUTCOMES_MISSING"),
        ({"outcomes": "Yes|No"}, "OUTCOMES_UNREADABLE"),
        ({"outcomes": '["Yes"]'}, "OUTCOMES_MISSING"),
        ({"outcomePrices": '["1"]'}, "PRICES_UNREADABLE"),
        ({"outcomePrices": '["1.2", "0"]'}, "PRICES_OUT_OF_RANGE"),
        ({"outcomePrices": '["NaN", "0"]'}, "PRICES_UNREADABLE"),
        ({"clobTokenIds": '["1"]'}, "TOKENS_MISMATCH"),
        ({"endDate": "soon"}, "TIME_UNREADABLE"),
    ],
)
def test_what_cannot_be_read_is_rejected_by_name(
    record: Record, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(RecordRejected) as caught:
        parse_market(record(**changes))
    assert caught.value.reason == reason


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
        max_leaves=8,
    ),
    st.sampled_from(["id", "outcomes", "outcomePrices", "endDate", "events", "closed", "tags"]),
)
def test_any_json_is_read_or_rejected(junk: Any, name: str) -> None:
    whole = {"id": "1", "closed": True, "outcomes": ["Yes", "No"], "outcomePrices": ["1", "0"]}
    for candidate in (junk, whole | {name: junk}):
        reasons: list[str] = []
        try:
            parse_market(candidate)
        except RecordRejected as rejected:
            reasons.append(rejected.reason)
        assert all(reason.isupper() for reason in reasons)


@pytest.mark.parametrize(
    "value",
    [
        1_770_394_157,
        1_770_394_157_000,
        1_770_394_157_000_000,
        "1770394157",
        "1770394157000",
        "2026-02-06T16:09:17Z",
        "2026-02-06 16:09:17+00",
        "2026-02-06T16:09:17",
        "2026-02-06T17:09:17+01:00",
    ],
)
def test_times_in_every_recorded_form_are_the_same_instant(value: Any) -> None:
    assert parse_time(value) == datetime(2026, 2, 6, 16, 9, 17, tzinfo=UTC)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("wrap", [lambda r: r, lambda r: {"value": r}, lambda r: {"markets": r}])
def test_a_page_is_read_in_every_encoding_and_wrapping(encoding: str, wrap: Any) -> None:
    text = orjson.dumps(wrap([{"id": "é"}])).decode()
    assert decode_page(text.encode(encoding)) == [{"id": "é"}]


def test_a_page_that_is_no_json_is_rejected() -> None:
    with pytest.raises(RecordRejected, match="PAGE_UNREADABLE"):
        decode_page(b"<html>")


@pytest.mark.parametrize(
    "value",
    ["Infinity", "inf", "-inf", "nan", float("inf"), 1e30, 10**30, 10**400, "1e300"],
)
def test_a_number_that_is_no_time_is_rejected(value: Any) -> None:
    with pytest.raises(RecordRejected, match="TIME_UNREADABLE"):
        parse_time(value)


@pytest.mark.parametrize(
    "at",
    [1_770_394_157, 1_770_394_157_000, 1_770_394_157_000_000, "1770394157", 1_770_394_157_123.0],
)
def test_times_in_a_history_are_read_in_every_unit(at: Any) -> None:
    t, _, rejects = parse_history({"history": [{"t": at, "p": 0.2}]})
    assert (t, rejects) == ([1_770_394_157], [])


@pytest.mark.parametrize("at", [1, 946_684_799, 4_102_444_800, 10**30, 1e30, -1_770_394_157])
def test_a_point_at_an_impossible_time_is_set_apart_and_no_other_is_lost(at: Any) -> None:
    good = [{"t": 946_684_800, "p": 0.1}, {"t": 4_102_444_799, "p": 0.2}]
    t, p, rejects = parse_history({"history": [good[0], {"t": at, "p": 0.5}, good[1]]})
    assert (t, p) == ([946_684_800, 4_102_444_799], [0.1, 0.2])
    assert rejects == [("TIME_OUT_OF_RANGE", {"t": at, "p": 0.5})]


def test_bad_points_are_set_apart_with_their_reason() -> None:
    at = 1_770_394_157
    points = [{"t": at, "p": 0.2}, {"t": at, "p": 1.5}, {"p": 0.1}, {"t": "x", "p": 0.1}]
    points.append({"t": "inf", "p": 0.1})
    t, p, rejects = parse_history({"history": points})
    assert (t, p) == ([at], [0.2])
    assert [reason for reason, _ in rejects] == [
        "PRICE_OUT_OF_RANGE",
        "POINT_UNREADABLE",
        "POINT_UNREADABLE",
        "POINT_UNREADABLE",
    ]
