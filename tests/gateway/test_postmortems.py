"""Post-mortems as callers see them: whole ones, pages of short ones, and none that is made up."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from marketcal.v1 import market_pb2


def listed(stubs: Any, metadata: Any, **fields: Any) -> list[Any]:
    request = market_pb2.ListPostmortemsRequest(**fields)
    found: list[Any] = []
    while True:
        answer = stubs.markets.ListPostmortems(request, metadata=metadata, timeout=20)
        found += answer.postmortems
        if not answer.next_page_token:
            return found
        assert len(answer.postmortems) == (request.page_size or 50)
        request.page_token = answer.next_page_token


def whole(stubs: Any, metadata: Any, market_id: str) -> Any:
    request = market_pb2.GetPostmortemRequest(market_id=market_id)
    return stubs.markets.GetPostmortem(request, metadata=metadata, timeout=20).postmortem


def test_the_newest_come_first_and_without_path_or_picture(stubs: Any, as_viewer: Any) -> None:
    found = listed(stubs, as_viewer)
    order = [(-one.resolved_time.ToNanoseconds(), one.market_id) for one in found]
    assert order == sorted(order)
    assert len(found) > 10
    assert not any(one.price_picture or one.price_path for one in found)


@pytest.mark.parametrize("size", [1, 7])
def test_pages_hold_every_post_mortem_once(size: int, stubs: Any, as_viewer: Any) -> None:
    assert listed(stubs, as_viewer, page_size=size) == listed(stubs, as_viewer, page_size=500)


def test_since_keeps_what_was_resolved_then_or_later(stubs: Any, as_viewer: Any) -> None:
    everything = listed(stubs, as_viewer)
    middle = everything[len(everything) // 2].resolved_time
    kept = [
        one for one in everything if one.resolved_time.ToNanoseconds() >= middle.ToNanoseconds()
    ]
    assert listed(stubs, as_viewer, since=middle) == kept
    assert listed(stubs, as_viewer, since=Timestamp(seconds=253402300799)) == []
    assert listed(stubs, as_viewer, since=Timestamp(seconds=-62135596800)) == everything


def test_one_post_mortem_holds_what_the_list_shows_and_path_and_picture(
    stubs: Any, as_viewer: Any
) -> None:
    short = next(one for one in listed(stubs, as_viewer) if one.cutoffs)
    found = whole(stubs, as_viewer, short.market_id)
    assert found.price_picture.startswith(b"\x89PNG\r\n")
    assert 0 < len(found.price_path) <= 300
    times = [point.time.ToNanoseconds() for point in found.price_path]
    assert times == sorted(times)
    assert times[-1] < found.resolved_time.ToNanoseconds()
    found.ClearField("price_path")
    found.ClearField("price_picture")
    assert found == short


def test_scores_follow_from_the_prices_that_are_shown(stubs: Any, as_viewer: Any) -> None:
    for one in listed(stubs, as_viewer):
        for cutoff in one.cutoffs:
            miss = cutoff.brier**0.5
            assert miss == pytest.approx(cutoff.p_yes, abs=1e-6) or miss == pytest.approx(
                1 - cutoff.p_yes, abs=1e-6
            )
            if cutoff.HasField("right"):
                assert cutoff.right == (miss < 0.5)
            assert cutoff.time.ToNanoseconds() < one.resolved_time.ToNanoseconds()
        assert one.summary
        assert one.rules_version
        assert one.question_risk.scored_by == "rules-1"


@pytest.mark.parametrize("name", ["nobody:1", "mkt-1", "../../etc/passwd", "x" * 256])
def test_nothing_is_made_up_for_an_unknown_market(
    name: str, stubs: Any, refused: Any, as_viewer: Any
) -> None:
    request = market_pb2.GetPostmortemRequest(market_id=name)
    refusal = refused(stubs.markets.GetPostmortem, request, as_viewer)
    assert (refusal.code, refusal.reason) == ("NOT_FOUND", "MARKET_NOT_FOUND")


def test_an_open_market_has_none(stubs: Any, refused: Any, as_viewer: Any) -> None:
    request = market_pb2.ListMarketsRequest(status=market_pb2.MARKET_STATUS_ACTIVE, page_size=1)
    market = stubs.markets.ListMarkets(request, metadata=as_viewer, timeout=20).markets[0]
    wanted = market_pb2.GetPostmortemRequest(market_id=market.market_id)
    assert refused(stubs.markets.GetPostmortem, wanted, as_viewer).code == "NOT_FOUND"


@pytest.mark.parametrize("token", ["x", "AAAA", "W10"])
def test_a_page_token_of_somebody_else_is_refused(
    token: str, stubs: Any, refused: Any, as_viewer: Any
) -> None:
    request = market_pb2.ListPostmortemsRequest(page_token=token)
    assert refused(stubs.markets.ListPostmortems, request, as_viewer).reason == "INVALID_PAGE_TOKEN"


def test_trust_names_who_judged_the_question(stubs: Any, as_viewer: Any) -> None:
    from marketcal.v1 import scoreboard_pb2

    shown = stubs.scores.ListScores(
        scoreboard_pb2.ListScoresRequest(page_size=1), metadata=as_viewer, timeout=20
    ).scores[0]
    answer = stubs.scores.ExplainTrust(
        scoreboard_pb2.ExplainTrustRequest(market_id=shown.market_id),
        metadata=as_viewer,
        timeout=20,
    )
    said = {part.component: part.evidence for part in answer.contributions}
    assert "by rules-1: " in said["question_quality"]
    assert "question_quality" not in shown.trust.unknown_components
