"""Errors on the wire: each class comes back as itself with all it carries."""

from __future__ import annotations

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from marketcal import errors, status
from marketcal.errors import FieldViolation, MarketcalError

CLASSES = sorted(errors.BY_REASON.values(), key=lambda cls: cls.__name__)
SECONDS = st.floats(0.001, 86_400.0)


def details(encoded: status_pb2.Status) -> set[str]:
    return {detail.type_url.rsplit(".", 1)[1] for detail in encoded.details}


def trailers(error: MarketcalError) -> dict[str, str | bytes]:
    return dict(status.trailers(error, status.encode(error, "id-1")))


@pytest.mark.parametrize("cls", CLASSES)
@given(
    message=st.text(max_size=50),
    metadata=st.dictionaries(st.text("abc_", min_size=1, max_size=8), st.text(max_size=20)),
    retry_after=st.one_of(st.none(), SECONDS),
    request_id=st.text("abc-", max_size=8),
    fields=st.lists(st.tuples(st.text(max_size=9), st.text(max_size=9)), max_size=3),
)
def test_every_class_comes_back_as_itself(
    cls: type[MarketcalError], message: str, metadata: dict[str, str], retry_after: float | None,
    request_id: str, fields: list[tuple[str, str]],
) -> None:  # fmt: skip
    error = cls(
        message,
        metadata=metadata,
        retry_after=retry_after,
        violations=[FieldViolation(*pair) for pair in fields],
        resource=("marketcal.v1.Market", "m") if issubclass(cls, errors.NotFound) else None,
    )
    wire = status_pb2.Status.FromString(status.encode(error, request_id).SerializeToString())

    back = status.decode_status(wire)

    assert type(back) is cls
    assert (back.message, back.metadata, back.violations) == (
        message, metadata, error.violations,
    )  # fmt: skip
    assert (back.resource, back.request_id) == (error.resource, request_id)
    if retry_after is None:
        assert back.retry_after is None
    else:
        assert back.retry_after is not None
        assert retry_after <= back.retry_after <= retry_after + 0.0011


@pytest.mark.parametrize("cls", CLASSES)
def test_every_refusal_says_its_reason_and_domain(cls: type[MarketcalError]) -> None:
    encoded = status.encode(cls("sentence"))
    info = error_details_pb2.ErrorInfo()
    assert encoded.details[0].Unpack(info)
    assert (info.reason, info.domain) == (f"ERROR_REASON_{cls.reason}", "marketcal.v1")


def test_details_are_those_of_the_error_table() -> None:
    retry = {"RetryInfo"}
    wanted: list[tuple[MarketcalError, set[str]]] = [
        (errors.InvalidArgument.of("values[0]", "is wrong"), {"BadRequest"}),
        (errors.CredentialMissing("x"), set()),
        (errors.ScopeMissing("x"), set()),
        (errors.RateLimited("x", retry_after=1), retry | {"QuotaFailure"}),
        (errors.TooLarge("x"), set()),
        (errors.Overloaded("x", retry_after=1), retry),
        (errors.KillSwitchOn("x"), {"PreconditionFailure"}),
        (errors.IdempotencyKeyReused("x"), set()),
        (errors.MarketNotFound("x", resource=("Market", "m")), {"ResourceInfo"}),
        (errors.OutOfTime("x"), set()),
        (errors.InternalError("x"), set()),
    ]
    for error, more in wanted:
        assert details(status.encode(error)) == {"ErrorInfo"} | more, error
        assert details(status.encode(error, "id")) == {"ErrorInfo", "RequestInfo"} | more, error


def test_trailers_are_those_of_the_error_table() -> None:
    limited = errors.RateLimited(
        "x", retry_after=0.7, metadata={"ratelimit": "r", "ratelimit-policy": "p"}
    )
    assert trailers(limited).keys() == {
        "grpc-status-details-bin", "retry-after", "grpc-retry-pushback-ms", "ratelimit",
        "ratelimit-policy",
    }  # fmt: skip
    assert trailers(limited)["retry-after"] == "1"
    assert trailers(limited)["grpc-retry-pushback-ms"] == "700"
    assert trailers(errors.Overloaded("x", retry_after=0.1)).keys() == {
        "grpc-status-details-bin", "retry-after", "grpc-retry-pushback-ms",
    }  # fmt: skip
    assert trailers(errors.CredentialExpired("x")).keys() == {
        "grpc-status-details-bin", "www-authenticate",
    }  # fmt: skip
    for plain in (errors.TooLarge("x"), errors.InvalidArgument("x"), errors.InternalError("x")):
        assert trailers(plain).keys() == {"grpc-status-details-bin"}


@pytest.mark.parametrize(("retry_after", "pushback"), [(1.0, "1000"), (1.01, "-1"), (10, "-1")])
def test_a_long_wait_is_left_to_the_caller(retry_after: float, pushback: str) -> None:
    sent = trailers(errors.NotReady("x", retry_after=retry_after))
    assert sent["grpc-retry-pushback-ms"] == pushback
    assert int(sent["retry-after"]) >= retry_after


def test_a_status_of_a_stranger_becomes_the_group_of_its_code() -> None:
    assert type(status.decode_status(status_pb2.Status(code=5))) is errors.NotFound
    assert type(status.decode_status(status_pb2.Status(code=14))) is errors.Unavailable
    assert type(status.decode_status(status_pb2.Status(code=8))) is errors.ResourceExhausted
    assert type(status.decode_status(status_pb2.Status(code=11))) is MarketcalError
    newer = status_pb2.Status(code=5)
    newer.details.add().Pack(error_details_pb2.ErrorInfo(reason="ERROR_REASON_FROM_2030"))
    assert type(status.decode_status(newer)) is errors.NotFound


def test_a_group_without_a_published_reason_sends_none() -> None:
    assert details(status.encode(errors.NotFound("x", resource=("Service", "s")))) == {
        "ResourceInfo"
    }


class Failed(grpc.RpcError):
    """A failed call, as gRPC hands it over."""

    def __init__(self, code: grpc.StatusCode, details: bytes | None) -> None:
        super().__init__()
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return "sentence"

    def trailing_metadata(self) -> tuple[tuple[str, bytes], ...]:
        return () if self._details is None else ((status.DETAILS_KEY, self._details),)


def test_mangled_details_leave_the_class_of_the_code() -> None:
    back = status.decode(Failed(grpc.StatusCode.UNAVAILABLE, b"\xff\xff"))
    assert (type(back), back.message, back.by_transport) == (errors.Unavailable, "sentence", True)
    whole = status.encode(errors.RateLimited("x", retry_after=3.0))
    for detail in whole.details:
        if "RetryInfo" in detail.type_url:
            detail.value = b"\xff\xff"
    limited = status.decode(Failed(grpc.StatusCode.RESOURCE_EXHAUSTED, whole.SerializeToString()))
    assert (type(limited), limited.retry_after) == (errors.RateLimited, None)


def test_a_wait_of_any_length_is_read() -> None:
    endless = status_pb2.Status(code=14)
    endless.details.add().Pack(error_details_pb2.RetryInfo(retry_delay={"seconds": 2**62}))
    assert status.decode_status(endless).retry_after == 2.0**62


def test_an_error_tells_whether_a_server_of_this_platform_gave_it() -> None:
    encoded = status.encode(errors.InternalError("x")).SerializeToString()
    ours = status.decode(Failed(grpc.StatusCode.INTERNAL, encoded))
    theirs = status.decode(Failed(grpc.StatusCode.INTERNAL, None))
    assert (ours.by_transport, theirs.by_transport) == (False, True)
    assert type(ours) is type(theirs) is errors.InternalError


@pytest.mark.parametrize("code", ["ABORTED", "OUT_OF_RANGE", "DATA_LOSS", "UNKNOWN"])
def test_a_code_without_a_class_keeps_its_name(code: str) -> None:
    number = grpc.StatusCode[code]
    assert status.decode(Failed(number, None)).code == code
    assert status.decode_status(status_pb2.Status(code=number.value[0])).code == code
    assert MarketcalError("x").code == "UNKNOWN"
