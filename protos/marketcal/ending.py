"""How a call ended, for both clients: what the transport raises becomes a `MarketcalError`."""

from __future__ import annotations

import asyncio

import grpc

from marketcal import status
from marketcal.errors import CallCancelled, InternalError, MarketcalError
from marketcal.methods import Response

FAILURES: tuple[type[BaseException], ...] = (
    grpc.RpcError,
    grpc.aio.UsageError,  # what gRPC raises where the asynchronous client was closed before,
    ValueError,  # and the synchronous one
    asyncio.CancelledError,  # of calls in flight when the asynchronous client was closed
)
"""What gRPC ends a call with."""

_NOT_READ = "Exception deserializing response!"
"""What the synchronous gRPC says of a mangled message, with the code of a lost connection."""
_UNREADABLE = "the server sent what cannot be read; it may speak another contract"


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
        decoded = status.decode(error)
        return InternalError(_UNREADABLE) if decoded.message == _NOT_READ else decoded
    if closed and not (isinstance(error, asyncio.CancelledError) and _given_up()):
        return CallCancelled("the client is closed")
    raise error


def readable(message: object, of: type[Response]) -> Response:
    """The message of a server; the asynchronous gRPC hands over nothing for one that is mangled.

    Raises:
        InternalError: it could not be read.
    """
    if not isinstance(message, of):
        raise InternalError(_UNREADABLE)
    return message


def _given_up() -> bool:
    """Whether somebody cancelled the task that runs now."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
