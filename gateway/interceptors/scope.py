"""Whether the caller may use the method: the scope stands in the contract."""

from __future__ import annotations

from gateway.call import Call
from marketcal.errors import ScopeMissing


def require_scope(call: Call) -> None:
    """Refuses a caller without the method's scope."""
    scope = call.method.scope
    if scope is None:
        return
    if call.identity is None or scope not in call.identity.scopes:
        raise ScopeMissing(
            f"this credential lacks the scope {scope}", metadata={"required_scope": scope}
        )
