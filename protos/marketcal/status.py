"""Errors on the wire: `marketcal.errors` to ``google.rpc.Status`` with details, and back."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from marketcal.errors import (
    BY_REASON,
    DOMAIN,
    FailedPrecondition,
    FieldViolation,
    MarketcalError,
    NotFound,
    RateLimited,
    Unauthenticated,
    subclasses,
)

DETAILS_KEY = "grpc-status-details-bin"
LONGEST_PUSHBACK_SECONDS = 1.0
"""Longest wait that gRPC's own retries are asked for; a longer one is the caller's to decide on."""
_CODES = {code.name: code for code in grpc.StatusCode}
_GROUP_BY_CODE: dict[str, type[MarketcalError]] = {}
for _error in subclasses():  # parents first: a code without a known reason is its group
    _GROUP_BY_CODE.setdefault(_error.code, _error)

Trailers = tuple[tuple[str, str | bytes], ...]


def encode(error: MarketcalError, request_id: str = "") -> status_pb2.Status:
    """The status that stands for ``error``, with one detail per kind of fact that it carries."""
    status = status_pb2.Status(code=_CODES[error.code].value[0], message=error.message)
    for detail in _details(error, request_id or error.request_id):
        status.details.add().Pack(detail)
    return status


def code(error: MarketcalError) -> grpc.StatusCode:
    """The gRPC status code that stands for ``error``."""
    return _CODES[error.code]


def _details(error: MarketcalError, request_id: str) -> Iterator[Message]:
    if error.reason:
        yield error_details_pb2.ErrorInfo(
            reason=f"ERROR_REASON_{error.reason}", domain=DOMAIN, metadata=error.metadata
        )
    if error.violations:
        yield _bad_request(error)
    if error.retry_after is not None:
        yield error_details_pb2.RetryInfo(retry_delay=_duration(error.retry_after))
    if isinstance(error, RateLimited):
        subject = error.metadata.get("identity", "")
        quota = error_details_pb2.QuotaFailure()
        quota.violations.add(subject=subject, description=error.message)
        yield quota
    kind, name = error.resource or ("", "")
    if isinstance(error, NotFound) and error.resource:
        yield error_details_pb2.ResourceInfo(resource_type=kind, resource_name=name)
    if isinstance(error, FailedPrecondition):
        failure = error_details_pb2.PreconditionFailure()
        failure.violations.add(type=kind, subject=name, description=error.message)
        yield failure
    if request_id:
        yield error_details_pb2.RequestInfo(request_id=request_id)


def _bad_request(error: MarketcalError) -> error_details_pb2.BadRequest:
    bad = error_details_pb2.BadRequest()
    for violation in error.violations:
        bad.field_violations.add(field=violation.field, description=violation.description)
    return bad


def trailers(error: MarketcalError, status: status_pb2.Status) -> Trailers:
    """Trailing metadata that goes with ``status``: details, and hints that proxies understand."""
    pairs: list[tuple[str, str | bytes]] = [(DETAILS_KEY, status.SerializeToString())]
    if isinstance(error, Unauthenticated):
        pairs.append(("www-authenticate", 'Bearer realm="marketcal"'))
    if error.retry_after is not None:
        pairs.append(("retry-after", str(max(1, math.ceil(error.retry_after)))))
        pairs.append(("grpc-retry-pushback-ms", _pushback(error.retry_after)))
    if isinstance(error, RateLimited):
        pairs.extend(
            (key, error.metadata[key])
            for key in ("ratelimit", "ratelimit-policy")
            if key in error.metadata
        )
    return tuple(pairs)


def _pushback(retry_after: float) -> str:
    """Milliseconds after which gRPC may retry by itself; "-1" forbids it.

    gRPC waits as long as it is told to, whatever the deadline, and then knows of nothing but the
    deadline. So a long wait is left to the caller, who gets the refusal and `retry_after` at once.
    """
    if retry_after > LONGEST_PUSHBACK_SECONDS:
        return "-1"
    return str(max(1, math.ceil(retry_after * 1000)))


def decode_status(status: status_pb2.Status) -> MarketcalError:
    """The error that ``status`` stands for; an unknown reason becomes the class of its code."""
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    resource = error_details_pb2.ResourceInfo()
    request = error_details_pb2.RequestInfo()
    found = {
        type(message)
        for detail in status.details
        for message in (info, bad, retry, resource, request)
        if _unpack(detail, message)
    }
    reason = info.reason.removeprefix("ERROR_REASON_")
    code = next(
        (name for name, value in _CODES.items() if value.value[0] == status.code), "UNKNOWN"
    )
    return _of_code(
        BY_REASON.get(reason),
        code,
        status.message,
        metadata=dict(info.metadata),
        retry_after=retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
        if type(retry) in found
        else None,
        violations=[FieldViolation(v.field, v.description) for v in bad.field_violations],
        resource=(resource.resource_type, resource.resource_name)
        if type(resource) in found
        else None,
        request_id=request.request_id,
    )


def decode(call: grpc.RpcError) -> MarketcalError:
    """The error that a failed client call stands for.

    A failure without our details (the transport's own, a proxy's), or with mangled ones, becomes
    the class of its code.
    """
    for key, value in call.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            with contextlib.suppress(DecodeError):
                return decode_status(status_pb2.Status.FromString(value))
    error = _of_code(None, call.code().name, call.details() or call.code().name)
    error.by_transport = True
    return error


def _of_code(
    cls: type[MarketcalError] | None, code: str, message: str, **facts: Any
) -> MarketcalError:
    """An error of ``cls``, else of the group of ``code``; one without a group keeps its code."""
    cls = cls or _GROUP_BY_CODE.get(code)
    error = (cls or MarketcalError)(message, **facts)
    if cls is None:
        error.code = code
    return error


def _unpack(detail: any_pb2.Any, message: Message) -> bool:
    try:
        return bool(detail.Unpack(message))
    except DecodeError:
        message.Clear()
        return False


def _duration(seconds: float) -> duration_pb2.Duration:
    duration = duration_pb2.Duration()
    duration.FromMilliseconds(max(1, math.ceil(seconds * 1000)))
    return duration
