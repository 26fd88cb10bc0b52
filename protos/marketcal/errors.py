"""Every way in which a call can be refused, the same classes on both sides of the wire.

The server raises them, the gateway turns them into ``google.rpc.Status`` with details, and the
client turns that status back into the same class (`marketcal.status`)::

    MarketcalError
    ├── InvalidArgument                 InvalidField is its usual reason
    │   └── InvalidPageToken
    ├── Unauthenticated
    │   ├── CredentialMissing · CredentialInvalid · CredentialExpired · CredentialRevoked
    ├── ScopeMissing
    ├── ResourceExhausted
    │   ├── RateLimited · TooManyFailedCredentials · TooLarge
    ├── Unavailable
    │   ├── Overloaded · Draining · NotReady
    ├── NotFound
    │   ├── MarketNotFound · ModelNotFound · SegmentNotFound
    ├── OutOfTime · CallCancelled
    ├── FailedPrecondition
    │   ├── WrongState · KillSwitchOn · RiskLimit
    ├── IdempotencyKeyReused
    ├── MethodNotImplemented
    └── InternalError

A class that stands for a published reason carries it in ``reason`` (the ``ErrorReason`` of the
contract without its prefix) and the gRPC code in ``code``; both are the error table of the
contract, and a test proves that the two agree and that no reason is without a class.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

DOMAIN = "marketcal.v1"
"""``ErrorInfo.domain`` of every error of this platform."""


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field that is wrong.

    Attributes:
        field: full path of the field, for example ``items[3].horizon_steps``.
        description: what is wrong with it, one sentence without the value where that may be long.
    """

    field: str
    description: str


class MarketcalError(Exception):
    """A refused call.

    Attributes:
        code: name of the gRPC status code.
        reason: name of the published reason, or None for a group of reasons.
        message: one sentence for people.
        metadata: facts for programs, text to text.
        retry_after: seconds after which a retry may succeed; None where a retry is pointless.
        violations: fields that are wrong, for InvalidArgument.
        resource: (type, name) of what is missing or in the wrong state.
        request_id: id of the call, where the server sent one.
        by_transport: whether gRPC or a proxy ended the call, and no server of this platform.
    """

    code: str = "UNKNOWN"
    reason: ClassVar[str | None] = None

    def __init__(
        self,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
        violations: Iterable[FieldViolation] = (),
        resource: tuple[str, str] | None = None,
        request_id: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = dict(metadata or {})
        self.retry_after = retry_after
        self.violations = tuple(violations)
        self.resource = resource
        self.request_id = request_id
        self.by_transport = False


class InvalidArgument(MarketcalError):
    """A field is missing, out of range or contradicts another."""

    code = "INVALID_ARGUMENT"
    reason = "INVALID_FIELD"

    @classmethod
    def of(cls, field: str, description: str) -> Self:
        """The error for one field."""
        return cls(f"{field}: {description}", violations=[FieldViolation(field, description)])


class InvalidPageToken(InvalidArgument):
    """The page token was not made by this server for this query."""

    reason = "INVALID_PAGE_TOKEN"


class Unauthenticated(MarketcalError):
    """The caller is not known."""

    code = "UNAUTHENTICATED"


class CredentialMissing(Unauthenticated):
    """No credential was sent."""

    reason = "CREDENTIAL_MISSING"


class CredentialInvalid(Unauthenticated):
    """The credential is malformed, unknown or wrong."""

    reason = "CREDENTIAL_INVALID"


class CredentialExpired(Unauthenticated):
    """The credential has expired."""

    reason = "CREDENTIAL_EXPIRED"


class CredentialRevoked(Unauthenticated):
    """The credential was revoked."""

    reason = "CREDENTIAL_REVOKED"


class ScopeMissing(MarketcalError):
    """The caller is known and may not do this; ``metadata["required_scope"]`` names the scope."""

    code = "PERMISSION_DENIED"
    reason = "SCOPE_MISSING"


class ResourceExhausted(MarketcalError):
    """A limit is used up or would be passed."""

    code = "RESOURCE_EXHAUSTED"


class RateLimited(ResourceExhausted):
    """The caller's rate limit is used up until ``retry_after``."""

    reason = "RATE_LIMITED"


class TooManyFailedCredentials(ResourceExhausted):
    """Too many failed credentials from this address until ``retry_after``."""

    reason = "TOO_MANY_FAILED_CREDENTIALS"


class TooLarge(ResourceExhausted):
    """Request or answer would pass a product limit; the same call never succeeds."""

    reason = "TOO_LARGE"


class Unavailable(MarketcalError):
    """Not now; ``retry_after`` says when to try again."""

    code = "UNAVAILABLE"


class Overloaded(Unavailable):
    """Queues are full."""

    reason = "OVERLOADED"


class Draining(Unavailable):
    """The server is shutting down."""

    reason = "DRAINING"


class NotReady(Unavailable):
    """Data or a dependency is not there yet."""

    reason = "NOT_READY"


class NotFound(MarketcalError):
    """The named thing does not exist."""

    code = "NOT_FOUND"


class MarketNotFound(NotFound):
    """The named market does not exist."""

    reason = "MARKET_NOT_FOUND"


class ModelNotFound(NotFound):
    """The named model does not exist."""

    reason = "MODEL_NOT_FOUND"


class SegmentNotFound(NotFound):
    """The named segment has no scores."""

    reason = "SEGMENT_NOT_FOUND"


class OutOfTime(MarketcalError):
    """The deadline passed before an answer existed."""

    code = "DEADLINE_EXCEEDED"
    reason = "DEADLINE_EXCEEDED"


class CallCancelled(MarketcalError):
    """The caller gave up."""

    code = "CANCELLED"
    reason = "CANCELLED"


class FailedPrecondition(MarketcalError):
    """The state of the resource forbids the call."""

    code = "FAILED_PRECONDITION"


class WrongState(FailedPrecondition):
    """The resource is not in a state that allows the call."""

    reason = "WRONG_STATE"


class KillSwitchOn(FailedPrecondition):
    """The kill switch is on."""

    reason = "KILL_SWITCH_ON"


class RiskLimit(FailedPrecondition):
    """A risk limit would be passed."""

    reason = "RISK_LIMIT"


class IdempotencyKeyReused(MarketcalError):
    """The idempotency key was used with another payload."""

    code = "ALREADY_EXISTS"
    reason = "IDEMPOTENCY_KEY_REUSED"


class MethodNotImplemented(MarketcalError):
    """The method is in the contract and not yet in this server."""

    code = "UNIMPLEMENTED"
    reason = "NOT_IMPLEMENTED"


class InternalError(MarketcalError):
    """Something unforeseen; quote ``request_id``."""

    code = "INTERNAL"
    reason = "INTERNAL"


def subclasses(cls: type[MarketcalError] = MarketcalError) -> Iterator[type[MarketcalError]]:
    """Every class below ``cls``, itself included."""
    yield cls
    for child in cls.__subclasses__():
        yield from subclasses(child)


BY_REASON: dict[str, type[MarketcalError]] = {
    error.reason: error for error in subclasses() if error.reason is not None
}
"""The error table: published reason to the class that stands for it."""
