"""Errors on their way out: ours with details, unknown ones as a fixed sentence and a request id."""

from __future__ import annotations

import asyncio
import logging
from typing import NoReturn

import grpc

from gateway.call import Call
from marketcal import status
from marketcal.errors import CallCancelled, InternalError, MarketcalError, OutOfTime

_LOG = logging.getLogger("gateway.errors")
_CODES = {code.name: code for code in grpc.StatusCode}


def as_refusal(error: BaseException, call: Call) -> MarketcalError:
    """The error that the caller may see; whatever else is known goes to the log with the id."""
    if isinstance(error, MarketcalError):
        return error
    if isinstance(error, TimeoutError):
        return OutOfTime("the deadline passed before an answer existed")
    if isinstance(error, asyncio.CancelledError):
        return CallCancelled("the call was cancelled")
    if isinstance(error, grpc.aio.InternalError):  # a message for a caller who has gone away
        return CallCancelled("the connection of the call is lost")
    _LOG.error(
        "unforeseen error in %s",
        call.method.name,
        exc_info=error,
        extra={"request_id": call.request_id},
    )
    return InternalError("something unforeseen happened; quote the request id")


async def send_refusal(error: MarketcalError, call: Call) -> NoReturn:
    """Ends a call with code, details and trailers, and with no message before them.

    A unary handler that sets a code and returns sends an empty message first, and a proxy that
    turns answers into JSON then shows that message in place of the error.

    Raises:
        grpc.aio.AbortError: always; the server waits for it to leave the handler.
    """
    await call.context.abort(_CODES[error.code], error.message, _trailers(error, call))
    raise AssertionError("a call goes on after its end")


def _trailers(error: MarketcalError, call: Call) -> status.Trailers:
    encoded = status.encode(error, call.request_id)
    return tuple(call.trailers) + status.trailers(error, encoded)
