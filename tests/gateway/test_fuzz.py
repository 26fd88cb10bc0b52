"""Theorem: whatever bytes and metadata a caller sends, the answer is an answer or one of our
refusals, never INTERNAL, it tells nothing of paths or secrets, and the process goes on.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor

from gateway.contract import services

INPUTS_PER_METHOD = 80
MANY = 5_000
"""Inputs per method in the soak: more than 100,000 in all."""
METHODS = [
    method for service in services() for method in service.methods if not method.server_streaming
]
FORESEEN = {
    "OK", "INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED", "RESOURCE_EXHAUSTED",
}  # fmt: skip
OF_METADATA = FORESEEN | {"UNAUTHENTICATED", "PERMISSION_DENIED", "DEADLINE_EXCEEDED"}
LEAKS = re.compile(
    r"Traceback|File \"|\.py\b|/(?:home|root|tmp|usr|work)/|site-packages|mk_[0-9a-z]{8}_"
)
"""What no refusal may hold."""
NAMES = (
    "authorization", "x-api-key", "x-request-id", "traceparent", "tracestate", "x-forwarded-for",
    "x-marketcal-caller", "grpc-previous-rpc-attempts", "accept-language", "x-bin", "odd-bin",
    "baggage", "cookie", "x-" + "n" * 200,
)  # fmt: skip
NUMBERS = (0, 1, -1, 2, 12, 2_016, 2_017, 2**31 - 1, -(2**31))
LONG_NUMBERS = (*NUMBERS, 2**63 - 1, -(2**63), 253_402_300_800)
REALS = (0.0, 0.5, 1.0, 0.1, 0.9, -0.1, 1.1, math.nan, math.inf, -math.inf, 5e-324, 1e308, 1e-17)
TEXTS = (
    "", "m", "polymarket:500001", "5m", "0m", "90d", "30d", "1d", "ewma", "auto", "x" * 64,
    "x" * 300,
    "é\u0000\n\N{GRINNING FACE}", "'; DROP TABLE api_key; --", "*", "politics",
)  # fmt: skip


def number(dice: random.Random, of: tuple[Any, ...]) -> Any:
    return dice.choice(of)


MAKERS: dict[int, Callable[[random.Random, FieldDescriptor], Any]] = {
    FieldDescriptor.CPPTYPE_INT32: lambda dice, _: number(dice, NUMBERS),
    FieldDescriptor.CPPTYPE_INT64: lambda dice, _: number(dice, LONG_NUMBERS),
    FieldDescriptor.CPPTYPE_UINT32: lambda dice, _: abs(number(dice, NUMBERS)),
    FieldDescriptor.CPPTYPE_UINT64: lambda dice, _: abs(number(dice, LONG_NUMBERS)),
    FieldDescriptor.CPPTYPE_DOUBLE: lambda dice, _: number(dice, REALS),
    FieldDescriptor.CPPTYPE_FLOAT: lambda dice, _: number(dice, REALS),
    FieldDescriptor.CPPTYPE_BOOL: lambda dice, _: dice.random() < 0.5,
    FieldDescriptor.CPPTYPE_ENUM: lambda dice, _: dice.choice((0, 1, 2, 3, 4, 99, -1)),
}


def value(dice: random.Random, field: FieldDescriptor) -> Any:
    if field.cpp_type != FieldDescriptor.CPPTYPE_STRING:
        return MAKERS[field.cpp_type](dice, field)
    text = dice.choice(TEXTS)
    return text.encode() if field.type == FieldDescriptor.TYPE_BYTES else text


def fill(dice: random.Random, message: Any, depth: int = 0) -> Any:
    """Sets about half of the fields of ``message`` to something that may be wrong."""
    for field in message.DESCRIPTOR.fields:
        if dice.random() < 0.45 or depth > 3:
            continue
        entry = field.message_type
        if entry is not None and entry.GetOptions().map_entry:
            fill_map(dice, getattr(message, field.name), entry, depth)
            continue
        if field.is_repeated:
            many = getattr(message, field.name)
            for _ in range(dice.choice((1, 2, 3, 60))):
                if entry is None:
                    many.append(value(dice, field))
                else:
                    fill(dice, many.add(), depth + 1)
        elif entry is not None:
            fill(dice, getattr(message, field.name), depth + 1)
        else:
            setattr(message, field.name, value(dice, field))
    return message


def fill_map(dice: random.Random, entries: Any, entry: Any, depth: int) -> None:
    """Adds entries with odd keys to a map."""
    held = entry.fields_by_name["value"]
    for _ in range(dice.choice((1, 3))):
        key = value(dice, entry.fields_by_name["key"])
        if held.message_type is None:
            entries[key] = value(dice, held)
        else:
            fill(dice, entries[key], depth + 1)


def mutate(dice: random.Random, raw: bytes) -> bytes:
    """``raw`` with a few bytes changed, cut out or repeated."""
    changed = bytearray(raw)
    for _ in range(dice.randrange(1, 5)):
        if not changed:
            return dice.randbytes(dice.randrange(40))
        place = dice.randrange(len(changed))
        kind = dice.randrange(3)
        if kind == 0:
            changed[place] = dice.randrange(256)
        elif kind == 1:
            del changed[place : place + dice.randrange(1, 9)]
        else:
            changed[place:place] = changed[place : place + dice.randrange(1, 9)]
    return bytes(changed)


def odd_metadata(dice: random.Random) -> tuple[tuple[str, Any], ...]:
    """A few entries that a client can put on the wire, and hardly ever means."""
    entries = []
    for _ in range(dice.randrange(1, 6)):
        name = dice.choice(NAMES)
        if name.endswith("-bin"):
            entries.append((name, dice.randbytes(dice.randrange(60))))
            continue
        printable = "".join(chr(dice.randrange(32, 127)) for _ in range(dice.randrange(80)))
        known = (
            "Bearer mk_00000000_x",
            "Bearer a.b.c",
            "00-" + "0" * 32,
            "-1",
            "2" * 20,
            "Basic x",
        )
        entries.append((name, dice.choice((printable, printable, dice.choice(known)))))
    return tuple(entries)


def outcome(call: Any, raw: bytes, metadata: Any) -> str:
    """The code that a call ends with; fails where what is said leaks."""
    try:
        call(raw, metadata=metadata, timeout=20)
    except grpc.RpcError as error:
        refused: Any = error
        said = f"{refused.details()} {dict(refused.trailing_metadata() or ())}"
        assert not LEAKS.search(said), said
        return str(refused.code().name)
    return "OK"


COUNTS = [INPUTS_PER_METHOD, pytest.param(MANY, marks=pytest.mark.soak)]


@pytest.mark.parametrize("inputs", COUNTS)
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
def test_no_input_is_unforeseen(
    method: Any, inputs: int, gateway: Any, as_admin_without_limit: Any
) -> None:
    dice = random.Random(method.full_name)
    kind = message_factory.GetMessageClass(method.input_type)
    call = gateway.channel.unary_unary(f"/{method.containing_service.full_name}/{method.name}")
    codes: dict[str, bytes] = {}
    for i in range(inputs):
        raw = fill(dice, kind()).SerializeToString()
        if i % 3 == 0:
            raw = mutate(dice, raw)
        codes[outcome(call, raw, as_admin_without_limit)] = raw

    assert codes.keys() <= FORESEEN, {name: codes[name] for name in codes.keys() - FORESEEN}


@pytest.mark.parametrize("inputs", [400, pytest.param(20_000, marks=pytest.mark.soak)])
def test_no_metadata_is_unforeseen(inputs: int, serve_gateway: Any) -> None:
    """Of strangers and, each second time, of a caller whose key comes first or last."""
    dice = random.Random(inputs)
    codes: dict[str, Any] = {}
    with ExitStack() as stack:
        own = serve_gateway(stack)
        key = ("x-api-key", own.key("admin", rate_per_minute=1e9, burst=10_000_000))
        call = own.channel.unary_unary("/marketcal.v1.ForecastService/ListModels")
        for i in range(inputs):
            metadata = odd_metadata(dice)
            if i % 2:
                metadata = (*metadata, key) if i % 4 == 1 else (key, *metadata)
            codes[outcome(call, b"", metadata)] = metadata

    assert codes.keys() <= OF_METADATA, {n: codes[n] for n in codes.keys() - OF_METADATA}
    assert {"OK", "UNAUTHENTICATED"} <= codes.keys()


@pytest.fixture(scope="module")
def as_admin_without_limit(gateway: Any, bearer: Any) -> Any:
    return bearer(gateway.key("admin", rate_per_minute=1e9, burst=10_000_000))
