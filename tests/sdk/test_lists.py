"""Lists go on after a failure, begin again after their end, and never end before it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from marketcal import errors
from marketcal.testing import FakeServer
from marketcal.v1 import scoreboard_pb2


def page(ids: Iterable[str], token: str = "") -> scoreboard_pb2.ListScoresResponse:
    scores = [scoreboard_pb2.Score(market_id=one) for one in ids]
    return scoreboard_pb2.ListScoresResponse(scores=scores, next_page_token=token)


def test_a_list_asks_again_for_the_page_that_failed(server: FakeServer) -> None:
    limited = errors.RateLimited("slow", retry_after=5)
    server.answer("ListScores", page("ab", "x"), limited, page("cd", "y"), limited, page("e"))
    with server.client() as client:
        found: list[str] = []
        scores = client.list_scores()
        for _ in range(2):
            with pytest.raises(errors.RateLimited):
                found.extend(score.market_id for score in scores)
        assert [*found, *(score.market_id for score in scores)] == list("abcde")
    asked = [request.page_token for request in server.requests("ListScores")]
    assert asked == ["", "x", "x", "y", "y"]


def test_whole_pages_go_on_after_a_failure_as_well(server: FakeServer) -> None:
    server.answer("ListScores", page("a", "x"), errors.RateLimited("slow"), page("b"))
    with server.client() as client:
        pages = client.list_scores().pages()
        assert len(next(pages).scores) == 1
        with pytest.raises(errors.RateLimited):
            next(pages)
        assert [one.scores[0].market_id for one in pages] == ["b"]
        assert list(pages) == []


async def test_an_asynchronous_list_goes_on_and_begins_again(server: FakeServer) -> None:
    answers = [page("a", "x"), errors.RateLimited("slow"), page("b"), page("c")]
    server.answer("ListScores", *answers)
    async with server.async_client() as client:
        scores = client.list_scores()
        assert (await anext(scores)).market_id == "a"
        with pytest.raises(errors.RateLimited):
            await anext(scores)
        assert [score.market_id async for score in scores] == ["b"]
        assert [score.market_id async for score in scores] == ["c"]


def test_a_list_that_is_read_twice_is_asked_for_twice(server: FakeServer) -> None:
    server.answer("ListScores", page("ab"))
    with server.client() as client:
        scores = client.list_scores()
        assert [len(list(scores)) for _ in range(3)] == [2, 2, 2]
        next(iter(scores))
        assert len(list(scores)) == 1, "a break goes on"
    assert len(server.calls) == 4


def test_a_server_that_names_the_same_page_again_is_refused(server: FakeServer, use: Any) -> None:
    server.answer("ListScores", page("a", "x"))
    with pytest.raises(errors.InternalError, match="next_page_token"):
        use(server, lambda client: client.list_scores())
    assert len(server.calls) == 2


def test_the_time_of_a_list_is_that_of_each_page(server: FakeServer, use: Any) -> None:
    server.answer("ListScores", page("a", "x"), page("b"))
    use(server, lambda client: client.list_scores(timeout=7))
    assert [round(call.seconds or 0) for call in server.calls] == [7, 7]
