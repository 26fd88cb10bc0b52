"""Scoreboard, markets and prices: filters, orders, pages, and one publication after another."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from market_data.lake import Lake
from marketcal.v1 import market_pb2, scoreboard_pb2, segments_pb2


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as open_things:
        yield open_things


def pages(method: Any, request: Any, field: str, metadata: Any) -> Iterator[list[Any]]:
    while True:
        answer = method(request, metadata=metadata, timeout=20)
        yield list(getattr(answer, field))
        if not answer.next_page_token:
            return
        request.page_token = answer.next_page_token


def scores(stubs: Any, metadata: Any, **fields: Any) -> list[Any]:
    request = scoreboard_pb2.ListScoresRequest(page_size=500, **fields)
    found = pages(stubs.scores.ListScores, request, "scores", metadata)
    return [score for page in found for score in page]


ORDERS = scoreboard_pb2.ScoreOrder.values()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("size", [1, 7, 50])
def test_pages_hold_every_score_once_and_in_order(
    order: int, size: int, stubs: Any, as_viewer: Any
) -> None:
    whole = [s.market_id for s in scores(stubs, as_viewer, order_by=order)]
    request = scoreboard_pb2.ListScoresRequest(order_by=order, page_size=size)
    if size == 1:
        request.category = scores(stubs, as_viewer)[0].category
        whole = [
            s.market_id for s in scores(stubs, as_viewer, order_by=order, category=request.category)
        ]

    paged = list(pages(stubs.scores.ListScores, request, "scores", as_viewer))

    assert [s.market_id for page in paged for s in page] == whole
    assert len(set(whole)) == len(whole) > 0
    assert all(len(page) == size for page in paged[:-1])


def test_orders_are_what_they_say(stubs: Any, as_viewer: Any) -> None:
    def of(order: int) -> list[Any]:
        return scores(stubs, as_viewer, order_by=order)

    best = [s.trust.score for s in of(scoreboard_pb2.SCORE_ORDER_TRUST_DESC) if s.HasField("trust")]
    worst = [s.trust.score for s in of(scoreboard_pb2.SCORE_ORDER_TRUST_ASC) if s.HasField("trust")]
    names = [s.market_id for s in of(scoreboard_pb2.SCORE_ORDER_MARKET_ID)]
    brier = [
        s.segment_scores.brier.value
        for s in of(scoreboard_pb2.SCORE_ORDER_BRIER_ASC)
        if s.segment_scores.HasField("brier")
    ]
    assert best == sorted(best, reverse=True)
    assert worst == sorted(worst)
    assert names == sorted(names)
    assert brier == sorted(brier)
    assert of(scoreboard_pb2.SCORE_ORDER_UNSPECIFIED) == of(scoreboard_pb2.SCORE_ORDER_TRUST_DESC)


def test_what_is_unknown_comes_last(stubs: Any, as_viewer: Any) -> None:
    for order in (scoreboard_pb2.SCORE_ORDER_TRUST_DESC, scoreboard_pb2.SCORE_ORDER_TRUST_ASC):
        known = [s.HasField("trust") for s in scores(stubs, as_viewer, order_by=order)]
        assert known == sorted(known, reverse=True)


def test_filters_keep_what_matches_and_nothing_else(stubs: Any, as_viewer: Any) -> None:
    everything = scores(stubs, as_viewer)
    one = next(s for s in everything if s.tags and s.HasField("trust"))
    filters: list[tuple[dict[str, Any], Any]] = [
        ({"category": one.category}, lambda s: s.category == one.category),
        ({"platform": one.platform}, lambda s: s.platform == one.platform),
        ({"tag": one.tags[0]}, lambda s: one.tags[0] in s.tags),
        (
            {"liquidity_bucket": one.liquidity_bucket},
            lambda s: s.liquidity_bucket == one.liquidity_bucket,
        ),
        ({"tte_bucket": one.tte_bucket}, lambda s: s.tte_bucket == one.tte_bucket),
        (
            {"min_trust_score": one.trust.score},
            lambda s: s.HasField("trust") and s.trust.score >= one.trust.score,
        ),
    ]
    for fields, keep in filters:
        found = scores(stubs, as_viewer, **fields)
        assert found == [s for s in everything if keep(s)]
        assert one in found


@pytest.mark.parametrize(
    "fields",
    [
        {"category": "no such"},
        {"platform": "no such"},
        {"tag": "no such"},
        {"min_trust_score": 100},
    ],
)
def test_a_filter_that_matches_nothing_gives_an_empty_page(
    fields: Any, stubs: Any, as_viewer: Any
) -> None:
    answer = stubs.scores.ListScores(
        scoreboard_pb2.ListScoresRequest(**fields), metadata=as_viewer, timeout=20
    )
    assert (list(answer.scores), answer.next_page_token, answer.total_size) == ([], "", 0)


@pytest.mark.parametrize("size", [501, 2**31 - 1])
def test_an_oversize_page_is_cut(size: int, stubs: Any, as_viewer: Any) -> None:
    request = market_pb2.ListMarketsRequest(page_size=size)
    assert len(stubs.markets.ListMarkets(request, metadata=as_viewer, timeout=20).markets) <= 500


TOKENS = ["x", "é", "AAAA", "bnVsbA", "W10", "W1tdLFtdXQ", "WzEsMl0", "W1tbW1tbW1tbW1tb"]


@pytest.mark.parametrize("token", TOKENS)
def test_a_page_token_of_somebody_else_is_refused(
    token: str, stubs: Any, refused: Any, as_viewer: Any
) -> None:
    for method, request in (
        (stubs.scores.ListScores, scoreboard_pb2.ListScoresRequest(page_token=token)),
        (stubs.markets.ListMarkets, market_pb2.ListMarketsRequest(page_token=token)),
    ):
        refusal = refused(method, request, as_viewer)
        assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "INVALID_PAGE_TOKEN")
        assert refusal.fields == ["page_token"]


def test_a_page_token_belongs_to_its_filters(stubs: Any, refused: Any, as_viewer: Any) -> None:
    first = stubs.scores.ListScores(
        scoreboard_pb2.ListScoresRequest(page_size=1), metadata=as_viewer, timeout=20
    )
    other = scoreboard_pb2.ListScoresRequest(
        page_size=1, page_token=first.next_page_token, min_trust_score=1.0
    )

    assert refused(stubs.scores.ListScores, other, as_viewer).reason == "INVALID_PAGE_TOKEN"


def test_a_window_that_is_not_computed_is_refused_and_the_others_named(
    stubs: Any, refused: Any, as_viewer: Any
) -> None:
    for method, request in (
        (stubs.scores.ListScores, scoreboard_pb2.ListScoresRequest(window="17d")),
        (stubs.scores.GetReliability, scoreboard_pb2.GetReliabilityRequest(window="17d")),
        (
            stubs.scores.GetCalibrationQuality,
            scoreboard_pb2.GetCalibrationQualityRequest(window="17d"),
        ),
    ):
        refusal = refused(method, request, as_viewer)
        assert (refusal.code, refusal.fields) == ("INVALID_ARGUMENT", ["window"])
        assert "30d, 90d" in refusal.message


def test_a_market_is_found_and_an_unknown_one_named(
    stubs: Any, refused: Any, as_viewer: Any
) -> None:
    listed = stubs.markets.ListMarkets(
        market_pb2.ListMarketsRequest(page_size=3), metadata=as_viewer, timeout=20
    ).markets
    for market in listed:
        request = market_pb2.GetMarketRequest(market_id=market.market_id)
        assert stubs.markets.GetMarket(request, metadata=as_viewer, timeout=20).market == market

    unknown = market_pb2.GetMarketRequest(market_id="polymarket:none")
    refusal = refused(stubs.markets.GetMarket, unknown, as_viewer)
    assert (refusal.code, refusal.reason) == ("NOT_FOUND", "MARKET_NOT_FOUND")
    assert refusal.details["ResourceInfo"].resource_name == "polymarket:none"


def test_market_filters_keep_what_matches(stubs: Any, as_viewer: Any) -> None:
    def markets(**fields: Any) -> list[Any]:
        request = market_pb2.ListMarketsRequest(page_size=100, **fields)
        found = pages(stubs.markets.ListMarkets, request, "markets", as_viewer)
        return [market for page in found for market in page]

    everything = markets()
    one = everything[7]
    word = one.question.split()[-1].upper()
    assert [m.market_id for m in everything] == sorted({m.market_id for m in everything})
    assert markets(event_id=one.event_id) == [m for m in everything if m.event_id == one.event_id]
    assert markets(status=one.status) == [m for m in everything if m.status == one.status]
    assert markets(query=word) == [m for m in everything if word in m.question.upper()]
    assert markets(query=".*") == []


def test_a_market_on_the_board_has_metrics(stubs: Any, refused: Any, as_viewer: Any) -> None:
    one = scores(stubs, as_viewer)[0]
    request = market_pb2.GetMarketMetricsRequest(market_id=one.market_id)
    assert stubs.markets.GetMarketMetrics(request, metadata=as_viewer, timeout=20).score == one
    unknown = market_pb2.GetMarketMetricsRequest(market_id="none")
    assert refused(stubs.markets.GetMarketMetrics, unknown, as_viewer).code == "NOT_FOUND"


def history(stubs: Any, metadata: Any, market_id: str, **fields: Any) -> list[Any]:
    request = market_pb2.GetPriceHistoryRequest(market_id=market_id, **fields)
    found = pages(stubs.markets.GetPriceHistory, request, "points", metadata)
    return [point for page in found for point in page]


def micros(point: Any) -> int:
    return int(point.time.ToMicroseconds())


def test_price_pages_hold_every_point_once_oldest_first(stubs: Any, as_viewer: Any) -> None:
    market = next(s.market_id for s in scores(stubs, as_viewer) if s.HasField("p_yes"))
    whole = history(stubs, as_viewer, market)

    assert len(whole) > 10
    assert history(stubs, as_viewer, market, page_size=7) == whole
    assert [micros(p) for p in whole] == sorted({micros(p) for p in whole})
    assert all(0.0 <= p.p_yes <= 1.0 for p in whole)


def test_a_price_range_takes_its_start_and_leaves_its_end(stubs: Any, as_viewer: Any) -> None:
    market = next(s.market_id for s in scores(stubs, as_viewer) if s.HasField("p_yes"))
    whole = history(stubs, as_viewer, market)
    start, end = whole[3].time, whole[9].time

    assert history(stubs, as_viewer, market, start_time=start, end_time=end) == whole[3:9]
    assert (
        history(stubs, as_viewer, market, start_time=start, end_time=end, page_size=2)
        == (whole[3:9])
    )
    assert history(stubs, as_viewer, market, start_time=end, end_time=start) == []
    far = Timestamp(seconds=2**62)
    assert history(stubs, as_viewer, market, start_time=far) == []
    assert history(stubs, as_viewer, market, end_time=far) == whole
    assert history(stubs, as_viewer, market, end_time=Timestamp(seconds=-(2**62))) == []


def test_the_prices_of_an_unknown_market_are_not_found(
    stubs: Any, refused: Any, as_viewer: Any
) -> None:
    request = market_pb2.GetPriceHistoryRequest(market_id="none")
    assert refused(stubs.markets.GetPriceHistory, request, as_viewer).reason == "MARKET_NOT_FOUND"


def test_reliability_of_all_markets_and_of_a_segment(stubs: Any, as_viewer: Any) -> None:
    def curve(**fields: Any) -> Any:
        request = scoreboard_pb2.GetReliabilityRequest(**fields)
        return stubs.scores.GetReliability(request, metadata=as_viewer, timeout=20)

    overall = curve()
    assert curve(segment=segments_pb2.Segment(), window="90d") == overall
    assert sum(b.sample_size for b in overall.bins) == overall.scores.sample_size
    means = [b.mean_price for b in overall.bins]
    assert means == sorted(means)
    quality = stubs.scores.GetCalibrationQuality(
        scoreboard_pb2.GetCalibrationQualityRequest(), metadata=as_viewer, timeout=20
    )
    assert quality.overall == overall.scores
    for segment_scores in quality.segments:
        assert curve(segment=segment_scores.segment).scores == segment_scores


@pytest.mark.parametrize(
    ("segment", "code", "reason"),
    [
        ({"category": "no such"}, "NOT_FOUND", "SEGMENT_NOT_FOUND"),
        ({"category": "a|liquidity=LOW"}, "NOT_FOUND", "SEGMENT_NOT_FOUND"),
        ({"category": "c" * 65}, "INVALID_ARGUMENT", "INVALID_FIELD"),
        ({"category": "c" * 4_000_000}, "INVALID_ARGUMENT", "INVALID_FIELD"),
        ({"liquidity_bucket": 99}, "INVALID_ARGUMENT", "INVALID_FIELD"),
        ({"tte_bucket": 99}, "INVALID_ARGUMENT", "INVALID_FIELD"),
    ],
)
def test_a_segment_without_scores_is_refused(
    segment: Any, code: str, reason: str, stubs: Any, refused: Any, as_viewer: Any
) -> None:
    request = scoreboard_pb2.GetReliabilityRequest(segment=segments_pb2.Segment(**segment))

    refusal = refused(stubs.scores.GetReliability, request, as_viewer)

    assert (refusal.code, refusal.reason) == (code, reason)


def test_a_newer_publication_is_taken_over_and_outlives_its_lake(
    serve_gateway: Any, stack: ExitStack, published: Any, stubs_on: Any, bearer: Any, until: Any,
    tmp_path: Any, publish: Any,
) -> None:  # fmt: skip
    shutil.copytree(published.folder, tmp_path / "stores")
    own = serve_gateway(stack, flows={"lake": str(tmp_path / "stores" / "lake")})
    until(lambda: own.parts.publication.ready)
    stubs, viewer = stubs_on(own.channel), bearer(own.key("viewer"))
    before = own.parts.publication.current()
    by_market = scoreboard_pb2.ListScoresRequest(
        page_size=20, order_by=scoreboard_pb2.SCORE_ORDER_MARKET_ID
    )
    walk = pages(stubs.scores.ListScores, by_market, "scores", viewer)
    seen = [score.market_id for score in next(walk)]

    publish(tmp_path / "stores", markets=340, seed=2)
    until(lambda: own.parts.publication.current().version != before.version)
    seen += [score.market_id for page in walk for score in page]

    after = [score.market_id for score in scores(stubs, viewer)]
    assert seen == sorted(after), "each market once, although the board was replaced on the way"
    assert len(after) == 340
    shutil.rmtree(tmp_path / "stores")
    assert [score.market_id for score in scores(stubs, viewer)] == after


def test_a_damaged_publication_leaves_the_old_one_and_the_keys_in_force(
    serve_gateway: Any, stack: ExitStack, published: Any, stubs_on: Any, bearer: Any, until: Any,
    tmp_path: Any, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    lake = Lake(str(shutil.copytree(published.lake, tmp_path / "lake")))
    own = serve_gateway(stack, flows={"lake": str(tmp_path / "lake")})
    until(lambda: own.parts.publication.ready)
    stubs, key = stubs_on(own.channel), own.key("viewer")
    before = scores(stubs, bearer(key))
    with caplog.at_level("ERROR", "gateway"):
        for part in Path(lake.url("market_registry")).rglob("*.parquet"):
            part.write_bytes(b"not parquet")
        lake.replace("scoreboard", lake.read("scoreboard").head(10))
        until(lambda: any("cannot refresh" in record.message for record in caplog.records))

    assert scores(stubs, bearer(key)) == before
    later, _ = own.parts.keys.create("viewer")

    def is_known() -> bool:
        try:
            return bool(scores(stubs, bearer(later)))
        except grpc.RpcError:
            return False

    until(is_known)
