"""Every call has an id: the caller's own where it is harmless, else a new one."""

from __future__ import annotations

import itertools
import re
import secrets

from gateway.call import Call

HEADER = "x-request-id"
_PROCESS = secrets.token_hex(8)
"""Tells the ids of this process from those of others."""
_NUMBERS = itertools.count()
_HARMLESS = re.compile(r"[A-Za-z0-9._-]{1,64}")


def assign_request_id(call: Call) -> None:
    """Sets ``call.request_id`` and sends it back as a trailer."""
    sent = call.metadata.get(HEADER)
    harmless = isinstance(sent, str) and _HARMLESS.fullmatch(sent)
    call.request_id = str(sent) if harmless else f"{_PROCESS}{next(_NUMBERS):016x}"
    call.trailers.append((HEADER, call.request_id))
