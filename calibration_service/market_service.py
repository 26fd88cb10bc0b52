"""MarketService: one short method per RPC."""

from __future__ import annotations

import asyncio
from typing import Any

import polars as pl

from calibration_service import pages, wire
from calibration_service.publication import Publication
from calibration_service.scoreboard_service import board_of
from calibration_service.tables import Row, Tables
from marketcal.errors import MarketNotFound
from marketcal.v1 import market_pb2 as pb
from marketcal.v1 import market_pb2_grpc

MAX_POINTS = 10_000
DETAILS_AT_ONCE = 4
"""Post-mortems that are read from the lake at once; others wait within their deadline."""


class MarketService(market_pb2_grpc.MarketServiceServicer):
    """Markets as the venues describe them, with prices and scores."""

    def __init__(self, publication: Publication) -> None:
        self._publication = publication
        self._details = asyncio.Semaphore(DETAILS_AT_ONCE)

    async def ListMarkets(
        self, request: pb.ListMarketsRequest, call: Any
    ) -> pb.ListMarketsResponse:
        """Markets by id, filtered and paged."""
        tables = self._publication.current()
        matching = _matching(tables.markets, request)
        query = [request.platform, request.category, request.status, request.event_id,
                 request.query]  # fmt: skip
        after = pages.read_token(request.page_token, query, kinds=[str])
        rest = matching if after is None else matching.filter(pl.col("market_id") > after[0])
        size = pages.size_of(request.page_size)
        page = rest.head(size)
        more = rest.height > size
        return pb.ListMarketsResponse(
            markets=[wire.market(row) for row in page.iter_rows(named=True)],
            next_page_token=pages.write_token(query, [page["market_id"][-1]]) if more else "",
            total_size=matching.height,
        )

    async def GetMarket(self, request: pb.GetMarketRequest, call: Any) -> pb.GetMarketResponse:
        """One market."""
        row = _known(self._publication.current(), request.market_id)
        return pb.GetMarketResponse(market=wire.market(row))

    async def GetMarketMetrics(
        self, request: pb.GetMarketMetricsRequest, call: Any
    ) -> pb.GetMarketMetricsResponse:
        """Trust of a market and the scores of its segment."""
        tables = self._publication.current()
        row = board_of(tables, request.window).row(request.market_id)
        if row is None:
            raise _not_found(request.market_id)
        return pb.GetMarketMetricsResponse(score=wire.score(row))

    async def GetPriceHistory(
        self, request: pb.GetPriceHistoryRequest, call: Any
    ) -> pb.GetPriceHistoryResponse:
        """Recorded prices, oldest first."""
        tables = self._publication.current()
        _known(tables, request.market_id)
        start = wire.micros(request.start_time) if request.HasField("start_time") else None
        end = wire.micros(request.end_time) if request.HasField("end_time") else None
        query = [request.market_id, start, end]
        after = pages.read_token(request.page_token, query, kinds=[int])
        first = start if after is None else int(after[0]) + 1
        prices = tables.prices
        found = prices.between(request.market_id, first, end)
        size = pages.size_of(request.page_size, default=1000, most=MAX_POINTS)
        shown = slice(found.start, min(found.start + size, found.stop))
        columns = (prices.ts, prices.p_yes, prices.bid, prices.ask)
        points = zip(*(column[shown].tolist() for column in columns), strict=True)
        more = found.stop > shown.stop
        return pb.GetPriceHistoryResponse(
            points=[wire.price(*point) for point in points],
            next_page_token=pages.write_token(query, [int(prices.ts[shown.stop - 1])])
            if more
            else "",
        )

    async def GetPostmortem(
        self, request: pb.GetPostmortemRequest, call: Any
    ) -> pb.GetPostmortemResponse:
        """One post-mortem with the price's path and picture, read from the lake."""
        found = self._publication.postmortems()
        row = found.row(request.market_id)
        if row is None:
            raise _no_postmortem(request.market_id)
        async with self._details:
            whole = await asyncio.to_thread(found.with_details, row)
        return pb.GetPostmortemResponse(postmortem=wire.postmortem(whole))

    async def ListPostmortems(
        self, request: pb.ListPostmortemsRequest, call: Any
    ) -> pb.ListPostmortemsResponse:
        """Post-mortems without path and picture, newest first, ties by market."""
        since = wire.micros(request.since) if request.HasField("since") else None
        query = [since]
        after = pages.read_token(request.page_token, query, kinds=[int, str])
        rows = self._publication.postmortems().listed
        at = pl.col("resolved_us")
        wanted = [] if since is None else [at >= _within(since)]
        if after is not None:
            wanted.append((at < after[0]) | ((at == after[0]) & (pl.col("market_id") > after[1])))
        rest = rows.filter(*wanted) if wanted else rows
        size = pages.size_of(request.page_size)
        page = rest.head(size).to_dicts()
        more = rest.height > size
        key = [page[-1]["resolved_us"], page[-1]["market_id"]] if more else []
        return pb.ListPostmortemsResponse(
            postmortems=[wire.postmortem(row) for row in page],
            next_page_token=pages.write_token(query, key) if more else "",
        )


def _known(tables: Tables, market_id: str) -> Row:
    row = tables.market(market_id)
    if row is None:
        raise _not_found(market_id)
    return row


def _not_found(market_id: str) -> MarketNotFound:
    return MarketNotFound(
        f"there is no market {market_id[:128]}", resource=("marketcal.v1.Market", market_id)
    )


def _no_postmortem(market_id: str) -> MarketNotFound:
    return MarketNotFound(
        f"there is no post-mortem of {market_id[:128]}: it has none, or there is no such market",
        resource=("marketcal.v1.Postmortem", market_id),
    )


def _within(micros: int) -> int:
    """An instant that fits into 64 bits, on the same side of every resolution."""
    return max(-(1 << 62), min(micros, 1 << 62))


def _matching(rows: pl.DataFrame, request: pb.ListMarketsRequest) -> pl.DataFrame:
    wanted: list[pl.Expr] = []
    for column, text in (
        ("platform", request.platform),
        ("category", request.category),
        ("event_id", request.event_id),
    ):
        if text:
            wanted.append(pl.col(column) == text)
    if request.HasField("status"):
        wanted.append(pl.col("status") == wire.STATUS_NAME[request.status])
    if request.query:
        wanted.append(
            pl.col("question").str.to_lowercase().str.contains(request.query.lower(), literal=True)
        )
    return rows.filter(*wanted) if wanted else rows
