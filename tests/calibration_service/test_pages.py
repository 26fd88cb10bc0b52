"""Page tokens: bound to their query, safe to forge, and stable while rows come and go."""

from __future__ import annotations

import base64
import json
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration_service import pages
from calibration_service.tables import ORDERS, Board, follows, sort_key
from marketcal.errors import InvalidPageToken

ROWS = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=3),
    st.tuples(
        st.one_of(st.none(), st.sampled_from([0.0, 12.5, 50.0, 100.0])),
        st.one_of(st.none(), st.sampled_from([0.0, 0.1, 0.25])),
    ),
    max_size=25,
)


def board(rows: dict[str, tuple[float | None, float | None]]) -> Board:
    return Board(
        pl.DataFrame(
            {
                "market_id": list(rows),
                "trust": [trust for trust, _ in rows.values()],
                "brier": [brier for _, brier in rows.values()],
            },
            schema={"market_id": pl.String, "trust": pl.Float64, "brier": pl.Float64},
        ).sort("market_id")
    )


def page(rows: Board, order: str, after: list[Any] | None, size: int) -> pl.DataFrame:
    ordered = rows.ordered(order)
    return (ordered if after is None else ordered.filter(follows(order, after))).head(size)


@given(
    before=ROWS, gone=st.sets(st.text("abcdefgh", min_size=1, max_size=3)), new=ROWS,
    order=st.sampled_from(ORDERS), size=st.integers(1, 9),
)  # fmt: skip
def test_rows_that_stay_are_met_once_while_others_come_and_go(
    before: Any, gone: set[str], new: Any, order: str, size: int
) -> None:
    after = {name: row for name, row in before.items() if name not in gone}
    after |= {name: row for name, row in new.items() if name not in before}
    seen: list[str] = []
    rows, last = board(before), None
    while True:
        found = page(rows, order, last, size)
        seen += found["market_id"].to_list()
        if found.height < size:
            break
        last = json.loads(json.dumps(sort_key(order, found.row(-1, named=True))))
        rows = board(after)

    assert len(seen) == len(set(seen))
    assert set(before) & set(after) <= set(seen)


@given(query=st.lists(st.one_of(st.text(), st.integers(), st.none())), key=st.text())
def test_a_token_gives_back_its_key_to_its_own_query_alone(query: list[Any], key: str) -> None:
    token = pages.write_token(query, [key])

    assert pages.read_token(token, query, kinds=[str]) == [key]
    with pytest.raises(InvalidPageToken):
        pages.read_token(token, [*query, "other"], kinds=[str])


@given(token=st.text(min_size=1, max_size=200))
def test_whatever_is_sent_as_a_token_is_refused_as_a_token(token: str) -> None:
    with pytest.raises(InvalidPageToken):
        pages.read_token(token, ["query"], kinds=[str])


@pytest.mark.parametrize("key", [[1], [None], [["a"]], [{}], "a", {}, [], ["a", "b"]])
def test_a_forged_key_of_another_kind_is_refused(key: Any) -> None:
    digest = json.loads(base64.urlsafe_b64decode(pages.write_token(["query"], ["a"]) + "=="))[0]
    forged = base64.urlsafe_b64encode(json.dumps([digest, key]).encode()).decode().rstrip("=")

    with pytest.raises(InvalidPageToken):
        pages.read_token(forged, ["query"], kinds=[str])


def test_no_token_is_the_first_page() -> None:
    assert pages.read_token("", ["query"], kinds=[str]) is None


@pytest.mark.parametrize(("asked", "given_size"), [(0, 50), (1, 1), (500, 500), (501, 500)])
def test_oversize_pages_are_cut(asked: int, given_size: int) -> None:
    assert pages.size_of(asked) == given_size


@pytest.mark.parametrize("key", ["\ud800", 1 << 63, -(1 << 63) - 1])
def test_a_key_that_no_column_could_hold_is_refused(key: Any) -> None:
    token = pages.write_token(["q"], [key])
    with pytest.raises(InvalidPageToken):
        pages.read_token(token, ["q"], kinds=[str | int])
