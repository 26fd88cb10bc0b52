"""A closed client refuses with an error of ours, and a cancelled caller stays cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from marketcal import errors
from marketcal.testing import FakeServer


@pytest.fixture
def holding(server: FakeServer, until: Any) -> Iterator[FakeServer]:
    """A server that holds a call until the test is over."""
    over: list[bool] = []

    def hold(_request: Any) -> Any:
        until(lambda: bool(over))
        raise errors.Draining("the test is over")

    server.answer("GetMarket", hold)
    yield server
    over.append(True)


def test_a_closed_client_refuses_with_an_error_of_ours(server: FakeServer) -> None:
    client = server.client()
    client.close()
    with pytest.raises(errors.CallCancelled, match="closed"):
        client.get_market("m")
    with pytest.raises(errors.CallCancelled, match="closed"):
        next(client.watch_alerts())
    with pytest.raises(errors.CallCancelled, match="closed"):
        list(client.list_scores())


async def test_a_closed_asynchronous_client_refuses_with_an_error_of_ours(
    server: FakeServer,
) -> None:
    client = server.async_client()
    await client.close()
    with pytest.raises(errors.CallCancelled, match="closed"):
        await client.get_market("m")
    with pytest.raises(errors.CallCancelled, match="closed"):
        await anext(client.watch_alerts())


async def test_closing_ends_a_call_under_way_with_an_error_of_ours(
    holding: FakeServer, until: Any
) -> None:
    client = holding.async_client()
    asking = asyncio.create_task(client.get_market("m"))
    await asyncio.to_thread(until, lambda: bool(holding.calls))
    await client.close()
    with pytest.raises(errors.CallCancelled, match="closed"):
        await asking
    assert not asking.cancelled()


async def test_a_cancelled_caller_is_cancelled(holding: FakeServer, until: Any) -> None:
    async with holding.async_client() as client:
        asking = asyncio.create_task(client.get_market("m"))
        await asyncio.to_thread(until, lambda: bool(holding.calls))
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_a_caller_that_is_cancelled_while_the_client_closes_is_cancelled(
    holding: FakeServer, until: Any
) -> None:
    client = holding.async_client()
    asking = asyncio.create_task(client.get_market("m"))
    await asyncio.to_thread(until, lambda: bool(holding.calls))
    asking.cancel()
    await client.close()
    with pytest.raises(asyncio.CancelledError):
        await asking
