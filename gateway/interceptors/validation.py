"""Whether the request keeps the rules that stand in the contract (protovalidate)."""

from __future__ import annotations

import protovalidate
from google.protobuf.message import Message

from gateway.call import Call
from marketcal.errors import FieldViolation, InvalidArgument

MOST_VIOLATIONS = 16
LOOK_FURTHER_BYTES = 64 << 10
_VALIDATOR = protovalidate.Validator()


def check_rules(_call: Call, request: Message) -> None:
    """Refuses a request that breaks a rule, naming every field that does."""
    broken = violations(request)
    if broken:
        raise invalid(broken)


def violations(request: Message) -> list[FieldViolation]:
    """The broken rules, as full field path and sentence; at most `MOST_VIOLATIONS` of them.

    A large request that breaks a rule is not looked at further: one list of a million wrong
    entries would otherwise hold up the process and burst the trailers.
    """
    broken = _VALIDATOR.collect_violations(request, fail_fast=True)
    if broken and request.ByteSize() <= LOOK_FURTHER_BYTES:
        broken = _VALIDATOR.collect_violations(request)
    return [
        FieldViolation(_path(violation.proto), violation.proto.message)
        for violation in broken[:MOST_VIOLATIONS]
    ]


def invalid(broken: list[FieldViolation]) -> InvalidArgument:
    """The error for broken rules; its sentence names the first."""
    more = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
    return InvalidArgument(f"{broken[0].field}: {broken[0].description}{more}", violations=broken)


def _path(violation: object) -> str:
    elements = violation.field.elements if violation.field else ()  # type: ignore[attr-defined]
    text = ""
    for element in elements:
        text += ("." if text else "") + element.field_name
        subscript = element.subscript
        if subscript is not None and subscript.field == "index":
            text += f"[{subscript.value}]"
        elif subscript is not None:
            text += f"[{subscript.value!r}]"
    return text
