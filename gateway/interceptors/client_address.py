"""Where a call comes from, where something trusted stands between the caller and this process."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.addresses import IpNetwork, forwarded_address, is_within
from gateway.call import Call

HEADER = "x-forwarded-for"


class ClientAddress:
    """Takes the caller's address from ``x-forwarded-for``, and from nobody who is not trusted.

    Trusted are the listed proxies, and a gateway whose handover was accepted, so this rule stands
    behind that of the handover.
    """

    def __init__(self, trusted: Sequence[IpNetwork]) -> None:
        self._trusted = tuple(trusted)

    def __call__(self, call: Call) -> None:
        """Sets ``call.forwarded_address``."""
        header = call.metadata.get(HEADER)
        if not isinstance(header, str):
            return
        if call.identity is not None or is_within(call.address, self._trusted):
            call.forwarded_address = forwarded_address(header, self._trusted)
