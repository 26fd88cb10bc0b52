"""Whether the request keeps the rules that stand in the contract (protovalidate)."""

from __future__ import annotations

import protovalidate
from google.protobuf.message import Message

from gateway.call import Call
from marketcal.errors import FieldViolation, InvalidArgument

_VALIDATOR = protovalidate.Validator()


def check_rules(_call: Call, request: Message) -> None:
    """Refuses a request that breaks a rule, naming every field that does."""
    broken = violations(request)
    if broken:
        raise invalid(broken)


def violations(request: Message) -> list[FieldViolation]:
    """Every broken rule, as full field path and sentence."""
    return [
        FieldViolation(_path(violation.proto), violation.proto.message)
        for violation in _VALIDATOR.collect_violations(request)
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
