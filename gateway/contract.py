"""What the contract says of each method: scope, cost and deadline, read from the descriptors."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from gateway.call import Method
from marketcal._vendor.buf.validate import validate_pb2
from marketcal.v1 import (
    alert_pb2,
    forecast_pb2,
    legacy_pb2,
    market_pb2,
    options_pb2,
    scoreboard_pb2,
)

FILES = (forecast_pb2, scoreboard_pb2, market_pb2, alert_pb2, legacy_pb2)
INFRASTRUCTURE_DEADLINE = 3600.0
"""Seconds that a health watch may last."""


def services() -> list[ServiceDescriptor]:
    """The services of the contract in the order of its files."""
    return [service for file in FILES for service in file.DESCRIPTOR.services_by_name.values()]


def read_methods() -> dict[str, Method]:
    """Every method of the contract by its full name.

    Raises:
        ValueError: a method has no scope, or its cost names a field that is not there.
    """
    methods = (_read(method) for service in services() for method in service.methods)
    return {method.name: method for method in methods}


def infrastructure_method(method: MethodDescriptor, scope: str | None) -> Method:
    """A method of health or reflection: no cost, and a scope only where the server says so."""
    return Method(
        name=f"/{method.containing_service.full_name}/{method.name}",
        scope=scope,
        max_deadline=INFRASTRUCTURE_DEADLINE,
        fixed_cost=1,
        cost_field=None,
        largest_cost=1,
        changes_state=False,
        parse=message_factory.GetMessageClass(method.input_type).FromString,
    )


def _read(method: MethodDescriptor) -> Method:
    options: Any = method.GetOptions().Extensions
    name = f"/{method.containing_service.full_name}/{method.name}"
    scope = options[options_pb2.scope]
    if not scope:
        raise ValueError(f"{name} has no (marketcal.v1.scope)")
    cost = options[options_pb2.cost]
    deadline = options[options_pb2.max_deadline]
    return Method(
        name=name,
        scope=scope,
        max_deadline=deadline.seconds + deadline.nanos / 1e9,
        fixed_cost=cost.fixed or 1,
        cost_field=cost.per_item_of or None,
        largest_cost=_largest_cost(method, cost.per_item_of, cost.fixed),
        changes_state=method.GetOptions().idempotency_level
        != descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS,
        parse=message_factory.GetMessageClass(method.input_type).FromString,
    )


def _largest_cost(method: MethodDescriptor, per_item_of: str, fixed: int) -> int:
    if not per_item_of:
        return fixed or 1
    field = method.input_type.fields_by_name.get(per_item_of)
    if field is None or not field.is_repeated:
        raise ValueError(f"{method.full_name}: its cost names {per_item_of!r}, no repeated field")
    options: Any = field.GetOptions().Extensions
    rules = options[validate_pb2.field]
    if not rules.repeated.HasField("max_items"):
        raise ValueError(f"{method.full_name}: {per_item_of} has a cost per item and no max_items")
    return int(rules.repeated.max_items)
