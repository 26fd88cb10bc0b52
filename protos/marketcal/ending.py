"""How a call ended, for both clients: what the transport raises becomes a `MarketcalError`."""

from __future__ import annotations

import asyncio

import grpc

from marketcal import status
from marketcal.errors import CallCancelled, MarketcalError

FAILURES: tuple[type[BaseException], ...] = (
    grpc.RpcError,
    grpc.aio.UsageError,  # what gRPC raises where the asynchronous client was closed before,
    ValueError,  # and the synchronous one
    asyncio.CancelledError,  # of calls in flight when the asynchronous client was closed
)
"""What gRPC ends a call with."""


def refusal(error: BaseException, *, closed: bool) -> MarketcalError:
    """The error that one of `FAILURES` stands for.

    Args:
        error: what was raised.
        closed: whether the client is closed.

    Raises:
        BaseException: ``error`` itself, where the caller's own task was cancelled, or where the
            transport could not be called for another reason than a closed client.
    """
    if isinstance(error, grpc.RpcError):
        return status.decode(error)
    if closed and not (isinstance(error, asyncio.CancelledError) and _given_up()):
        return CallCancelled("the client is closed")
    raise error


def _given_up() -> bool:
    """Whether somebody cancelled the task that runs now."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
