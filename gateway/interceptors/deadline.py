"""How long a call may take: the caller's deadline, never more than the contract allows."""

from __future__ import annotations

from gateway.call import Call
from marketcal.errors import OutOfTime


def clamp_deadline(call: Call) -> None:
    """Sets ``call.deadline_at``; refuses a call whose time is already over."""
    sent = call.context.time_remaining()
    allowed = call.method.max_deadline
    left = allowed if sent is None else min(sent, allowed)
    if left <= 0:
        raise OutOfTime("the deadline had passed when the call arrived")
    call.deadline_at = call.clock() + left
