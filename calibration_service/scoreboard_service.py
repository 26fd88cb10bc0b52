"""ScoreboardService: one short method per RPC."""

from __future__ import annotations

from typing import Any

import polars as pl

from calibration_service import pages, wire
from calibration_service.publication import Publication
from calibration_service.segments import ANY, segment_key
from calibration_service.tables import Board, Tables, follows, sort_key
from marketcal.errors import InvalidArgument, MarketNotFound, SegmentNotFound
from marketcal.v1 import scoreboard_pb2 as pb
from marketcal.v1 import scoreboard_pb2_grpc

OVERALL = segment_key(ANY, ANY, ANY)


class ScoreboardService(scoreboard_pb2_grpc.ScoreboardServiceServicer):
    """How far prices can be trusted, from resolved history."""

    def __init__(self, publication: Publication) -> None:
        self._publication = publication

    async def ListScores(self, request: pb.ListScoresRequest, call: Any) -> pb.ListScoresResponse:
        """Markets with trust and scores, filtered, ordered, paged."""
        tables = self._publication.current()
        order = wire.ORDER_NAME[request.order_by]
        matching = _matching(board_of(tables, request.window).ordered(order), request)
        query = [request.window, request.platform, request.category, request.tag,
                 request.liquidity_bucket, request.tte_bucket, request.min_trust_score,
                 request.order_by]  # fmt: skip
        value = str if order == "market_id" else float | None
        after = pages.read_token(request.page_token, query, kinds=[value, str])
        size = pages.size_of(request.page_size)
        rest = matching if after is None else matching.filter(follows(order, after))
        shown = rest.head(size)
        more = rest.height > size
        return pb.ListScoresResponse(
            scores=[wire.score(row) for row in shown.iter_rows(named=True)],
            next_page_token=pages.write_token(query, sort_key(order, shown.row(-1, named=True)))
            if more
            else "",
            total_size=matching.height,
        )

    async def GetReliability(
        self, request: pb.GetReliabilityRequest, call: Any
    ) -> pb.GetReliabilityResponse:
        """The curve of a segment."""
        tables = self._publication.current()
        key = (request.window or wire.DEFAULT_WINDOW, wire.key_of(request.segment))
        board_of(tables, request.window)
        if key not in tables.metrics:
            raise SegmentNotFound(
                f"no resolved market of the segment {key[1]} in {key[0]}",
                resource=("marketcal.v1.Segment", key[1]),
            )
        return pb.GetReliabilityResponse(
            bins=[wire.bin_of(row) for row in tables.curves.get(key, ())],
            scores=wire.scores(tables.metrics[key]),
            as_of_time=wire.timestamp(tables.as_of),
            isotonic=[wire.bin_of(row) for row in tables.blocks.get(key, ())],
        )

    async def GetCalibrationQuality(
        self, request: pb.GetCalibrationQualityRequest, call: Any
    ) -> pb.GetCalibrationQualityResponse:
        """All segments of a window."""
        tables = self._publication.current()
        board_of(tables, request.window)
        window = request.window or wire.DEFAULT_WINDOW
        found = [row for (of, _), row in tables.metrics.items() if of == window]
        overall = tables.metrics.get((window, OVERALL))
        changes = [row for row in tables.drift if row["test"] == "REFERENCE"]
        answer = pb.GetCalibrationQualityResponse(
            overall=wire.scores(overall) if overall else None,
            segments=[wire.scores(row) for row in found if row["segment_key"] != OVERALL],
            as_of_time=wire.timestamp(tables.as_of),
            coverage=wire.coverage(tables.coverage) if tables.coverage else None,
            drift_tests=[wire.drift_test(row) for row in changes],
            recalibrations=wire.recalibrations(tables.recalibration),
        )
        if changes:
            answer.drift_detected = any(row["drifted"] for row in changes)
        return answer

    async def ExplainTrust(
        self, request: pb.ExplainTrustRequest, call: Any
    ) -> pb.ExplainTrustResponse:
        """What each component of a market's trust contributes, and what it rests on."""
        row = self._publication.current().trust_of(request.market_id)
        if row is None:
            raise MarketNotFound(
                f"no market '{request.market_id}' has a trust score",
                resource=("marketcal.v1.Market", request.market_id),
            )
        return wire.explanation(row)


def board_of(tables: Tables, window: str) -> Board:
    """The scoreboard of a window.

    Raises:
        InvalidArgument: the window is not computed.
    """
    board = tables.boards.get(window or wire.DEFAULT_WINDOW)
    if board is None:
        known = ", ".join(sorted(tables.boards, key=lambda name: int(name[:-1])))
        raise InvalidArgument.of("window", f"must be one of those that are computed: {known}")
    return board


def _matching(rows: pl.DataFrame, request: pb.ListScoresRequest) -> pl.DataFrame:
    wanted: list[pl.Expr] = []
    for column, text in (("platform", request.platform), ("category", request.category)):
        if text:
            wanted.append(pl.col(column) == text)
    if request.tag:
        wanted.append(pl.col("tags").list.contains(request.tag))
    if request.HasField("liquidity_bucket"):
        wanted.append(pl.col("liquidity_bucket") == wire.LIQUIDITY_NAME[request.liquidity_bucket])
    if request.HasField("tte_bucket"):
        wanted.append(pl.col("tte_bucket") == wire.TTE_NAME[request.tte_bucket])
    if request.min_trust_score > 0:
        wanted.append(pl.col("trust") >= request.min_trust_score)
    return rows.filter(*wanted) if wanted else rows
