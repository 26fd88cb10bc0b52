"""One call on its way through the gateway, and what the contract says of its method."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message import Message

from gateway.addresses import address_of_peer, caller_network


@dataclass(frozen=True, slots=True)
class Method:
    """A method of the contract with the options that the gateway enforces.

    Attributes:
        name: full name as on the wire, ``/marketcal.v1.ForecastService/Forecast``.
        scope: permission that a caller needs; None for health and reflection.
        max_deadline: seconds; the longest that a call may take.
        fixed_cost: rate-limit tokens per call.
        cost_field: repeated request field whose items cost a token each; None for a fixed cost.
        largest_cost: what one call can cost at most.
        changes_state: whether a call may change something, and so leaves an audit row.
        parse: bytes to request message.
    """

    name: str
    scope: str | None
    max_deadline: float
    fixed_cost: int
    cost_field: str | None
    largest_cost: int
    changes_state: bool
    parse: Callable[[bytes], Message]

    def cost(self, request: Message) -> int:
        """Tokens that this request costs."""
        if self.cost_field is None:
            return self.fixed_cost
        return max(1, len(getattr(request, self.cost_field)))


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is calling.

    Attributes:
        name: key id, ``jwt:<subject>``, ``cert:<name>``, or ``anonymous`` with an address.
        role: viewer, forecaster, operator or admin.
        scopes: permissions of the role.
        rate_per_minute: rate-limit tokens that flow back per minute.
        burst: tokens that can be spent at once.
        unlimited: whether a process in front has taken the cost already.
    """

    name: str
    role: str
    scopes: frozenset[str]
    rate_per_minute: float
    burst: int
    unlimited: bool = False


@dataclass(slots=True)
class Call:
    """One call: what is known of it so far.

    Attributes:
        method: what is called.
        context: the transport's side of it.
        metadata: what the caller sent beside the request.
        started_at: ``clock`` at its arrival, seconds.
        request_id: id in logs, answers and traces.
        identity: who calls; None before that is known.
        deadline_at: ``clock`` until which it must be answered.
        trailers: metadata that goes with the answer.
        code: name of the gRPC code that it ends with.
        forwarded_address: the caller's address where a trusted proxy named it; else None.
        resource: what the request is about, for the audit; "" where that is not known.
    """

    method: Method
    context: grpc.aio.ServicerContext
    metadata: dict[str, str | bytes]
    started_at: float
    request_id: str = ""
    identity: Identity | None = None
    deadline_at: float = float("inf")
    clock: Callable[[], float] = field(default=lambda: 0.0, repr=False)
    trailers: list[tuple[str, str | bytes]] = field(default_factory=list)
    code: str = "OK"
    forwarded_address: str | None = None
    resource: str = ""

    @property
    def caller(self) -> str:
        """Name of who calls; "" before that is known."""
        return self.identity.name if self.identity else ""

    @property
    def address(self) -> str:
        """Where the call comes from, without the port."""
        return self.forwarded_address or address_of_peer(str(self.context.peer()))

    @property
    def network(self) -> str:
        """What is limited as one caller where no credential tells: the address, or its /64."""
        return caller_network(self.address)

    def time_remaining(self) -> float:
        """Seconds until the call must be answered; never more than the method allows."""
        return self.deadline_at - self.clock()


Admission = Callable[[Call], Awaitable[None] | None]
"""A rule that needs no request: it runs before the request is parsed, and raises to refuse.

What it returns is awaited, where that is something: a rule that looks elsewhere is a coroutine.
"""

Check = Callable[[Call, Any], None]
"""A rule of the parsed request; it raises to refuse."""
