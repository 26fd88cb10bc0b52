"""The venue client: retries what may heal, obeys Retry-After, refuses to be led in circles."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from market_data.errors import (
    PagingLoop,
    VenueBadPayload,
    VenueRateLimited,
    VenueRefused,
    VenueServerError,
    VenueUnreachable,
)
from market_data.replay.server import run_app
from market_data.venues.http import (
    HttpPolicy,
    Page,
    TokenBucket,
    VenueHttp,
    cursor_pages,
    offset_pages,
    retry_after,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def scripted(*answers: Response) -> tuple[Starlette, list[str]]:
    """An application that gives these answers in turn, the last one for ever."""
    asked: list[str] = []

    async def answer(request: Request) -> Response:
        asked.append(str(request.url))
        return answers[min(len(asked), len(answers)) - 1]

    return Starlette(routes=[Route("/x", answer)]), asked


def client(naps: list[float], attempts: int = 4) -> VenueHttp:
    async def nap(seconds: float) -> None:
        naps.append(seconds)

    policy = HttpPolicy(attempts=attempts, backoff_seconds=1.0, backoff_cap_seconds=60.0)
    return VenueHttp(policy, rng=random.Random(3), sleep=nap, now=lambda: NOW)


GOOD = Response(b'{"ok":1}', media_type="application/json")


@pytest.mark.parametrize(
    ("header", "wait"),
    [("7", 7.0), ("Thu, 01 Jan 2026 00:00:09 GMT", 9.0), ("999", 60.0)],
)
async def test_retry_after_is_obeyed_within_the_cap(header: str, wait: float) -> None:
    app, _ = scripted(PlainTextResponse("no", 429, headers={"Retry-After": header}), GOOD)
    naps: list[float] = []
    with run_app(app) as port:
        async with client(naps) as http:
            assert (await http.get(f"http://127.0.0.1:{port}/x")).value == {"ok": 1}
    assert naps == [wait]


async def test_waits_double_with_jitter_between_half_and_whole() -> None:
    app, asked = scripted(PlainTextResponse("no", 503))
    naps: list[float] = []
    with run_app(app) as port:
        async with client(naps) as http:
            with pytest.raises(VenueServerError) as caught:
                await http.get(f"http://127.0.0.1:{port}/x")
    assert len(asked) == caught.value.attempts == 4
    assert all(2.0**k / 2 <= nap <= 2.0**k for k, nap in enumerate(naps))


@pytest.mark.parametrize(
    ("answer", "error", "attempts"),
    [
        (PlainTextResponse("slow down", 429), VenueRateLimited, 4),
        (Response(b'{"half":', media_type="application/json"), VenueBadPayload, 4),
        (PlainTextResponse("no such thing", 404), VenueRefused, 1),
    ],
)
async def test_what_remains_is_a_typed_error(
    answer: Response, error: type[Exception], attempts: int
) -> None:
    app, asked = scripted(answer)
    with run_app(app) as port:
        async with client([]) as http:
            with pytest.raises(error):
                await http.get(f"http://127.0.0.1:{port}/x")
    assert len(asked) == attempts


async def test_truncated_json_is_asked_for_again() -> None:
    app, _ = scripted(Response(b'{"half":', media_type="application/json"), GOOD)
    with run_app(app) as port:
        async with client([]) as http:
            assert (await http.get(f"http://127.0.0.1:{port}/x")).value == {"ok": 1}


async def test_a_closed_port_is_unreachable() -> None:
    with run_app(scripted(GOOD)[0]) as port:
        pass
    async with client([], attempts=2) as http:
        with pytest.raises(VenueUnreachable):
            await http.get(f"http://127.0.0.1:{port}/x")


async def test_the_token_bucket_spaces_requests_after_its_burst() -> None:
    clock = [0.0]
    naps: list[float] = []

    async def nap(seconds: float) -> None:
        naps.append(seconds)
        clock[0] += seconds

    bucket = TokenBucket(2.0, sleep=nap, monotonic=lambda: clock[0])
    for _ in range(12):
        await bucket.take()
    assert clock[0] == pytest.approx(5.0)


def test_an_unreadable_retry_after_is_ignored() -> None:
    assert retry_after("soon", NOW) is None
    assert retry_after(None, NOW) is None


def listing(pages: dict[str, Page]) -> Callable[[str], Awaitable[Page]]:
    async def fetch(at: str) -> Page:
        return pages[at]

    return fetch


async def test_a_cursor_that_comes_back_is_a_loop() -> None:
    pages = {"": Page(b"1", [1], "a"), "a": Page(b"2", [2], "b"), "b": Page(b"3", [3], "a")}
    with pytest.raises(PagingLoop):
        _ = [page async for page in cursor_pages(listing(pages))]


async def test_a_page_that_comes_back_is_a_loop() -> None:
    async def fetch(_offset: int) -> Page:
        return Page(b"same", [1, 2])

    with pytest.raises(PagingLoop):
        _ = [page async for page in offset_pages(fetch)]


async def test_a_short_page_is_not_the_last_one() -> None:
    rows = list(range(10))

    async def fetch(offset: int) -> Page:
        part = rows[offset : offset + 3]
        return Page(str(part).encode(), part)

    assert [r async for page in offset_pages(fetch) for r in page.records] == rows
