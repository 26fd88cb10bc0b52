"""What a caller hears of a call that failed at the process behind.

A refusal with details is that process's own word to the caller and passes as it is, unless it is
about the handover, which no caller has made. A status without details comes from the transport or
from something else that answers at the address: the caller hears what that means to it.
"""

from __future__ import annotations

import logging

import grpc
from google.protobuf.message import DecodeError

from marketcal import status
from marketcal.errors import (
    InternalError,
    MarketcalError,
    MethodNotImplemented,
    NotReady,
    OutOfTime,
    TooLarge,
    TooManyFailedCredentials,
    Unauthenticated,
)

_LOG = logging.getLogger("gateway.forward")
RETRY_AFTER = 1.0
_OF_THE_HANDOVER = (Unauthenticated, TooManyFailedCredentials)
_AWAY = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})
_UNTRUSTED = frozenset({grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED})


def in_its_place(error: grpc.aio.AioRpcError, address: str) -> MarketcalError | None:
    """What the caller hears in place of ``error`` of the process at ``address``.

    None where the refusal passes as it is. What somebody has to put right is logged as an error.
    """
    refusal = _refusal(error)
    if refusal is not None and not isinstance(refusal, _OF_THE_HANDOVER):
        return None
    code, cause = error.code(), error.details()
    if refusal is not None or code in _UNTRUSTED:
        _LOG.error("the process at %s does not trust this gateway: %s", address, cause)
        return NotReady("the service behind cannot be used", retry_after=RETRY_AFTER)
    if code in _AWAY:
        _LOG.warning("the process at %s does not answer: %s", address, cause)
        return NotReady("the service behind does not answer", retry_after=RETRY_AFTER)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return OutOfTime("the deadline passed before an answer existed")
    _LOG.error("the process at %s fails: %s %s", address, code.name, cause)
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return MethodNotImplemented("the service behind does not have this method")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return TooLarge("the service behind does not take as much in one message")
    return InternalError("the service behind failed; quote the request id")


def _refusal(error: grpc.aio.AioRpcError) -> MarketcalError | None:
    """The refusal that ``error`` carries; None where it has no details that can be read."""
    if all(key != status.DETAILS_KEY for key, _ in error.trailing_metadata() or ()):
        return None
    try:
        return status.decode(error)
    except DecodeError:
        return None
