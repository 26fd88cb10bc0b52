"""``docs/openapi.json``: the REST routes of the contract as an OpenAPI 3.1 document.

Everything in it comes from the contract: routes from ``google.api.http``, schemas from messages,
words from comments, limits from the rules of ``buf.validate``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from google.api import annotations_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from schemas import Schema, Schemas, is_needed, json_name, reachable

from gateway.contract import read_methods, services
from marketcal.v1 import errors_pb2

VERSION = "1.0.0"
OLD_SERVICE = "CompatService"
REFUSALS = {
    "400": "A field or parameter is wrong (INVALID_ARGUMENT), or the state of what is named forbids"
    " the call (FAILED_PRECONDITION).",
    "401": "No credential, or a bad one.",
    "403": "The credential lacks the scope.",
    "404": "What is named does not exist, or there is no such path.",
    "408": "The request took too long to arrive.",
    "409": "The idempotency key was used with another payload.",
    "413": "The body is above 24 MiB.",
    "429": "The rate limit is used up: `retry-after` says when to come back. Without that header"
    " the request or its answer is too large and never succeeds as it is.",
    "500": "Something unforeseen; quote the request id.",
    "501": "In the contract and not yet in this server.",
    "503": "Not now; `retry-after` says when to come back.",
    "504": "The deadline passed before an answer existed.",
}
_WAITS = ("429", "503")


def openapi_page(comments: Mapping[str, str]) -> str:
    """The document as JSON text."""
    return json.dumps(document(comments), indent=1, ensure_ascii=False) + "\n"


def document(comments: Mapping[str, str]) -> Schema:
    """The document."""
    routed = [
        (service, method)
        for service in services()
        for method in service.methods
        if route_of(method) is not None
    ]
    schemas = Schemas(comments, frozenset(reachable([method.output_type for _, method in routed])))
    paths: dict[str, Schema] = {}
    for _, method in routed:
        verb, path = route_of(method) or ("", "")
        paths.setdefault(path, {})[verb] = operation(method, path, schemas)
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "marketcal",
            "version": VERSION,
            "description": "How far a prediction market's price can be trusted, and where it may go"
            " next. Generated from the contract by `make docs`. 64-bit integers are written as"
            " text; a field that is absent in an answer is unknown.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "http://127.0.0.1:8080", "description": "Envoy on this machine"}],
        "security": [{"bearer": []}, {"apiKey": []}],
        "tags": [
            {"name": service.name, "description": comments[service.full_name]}
            for service in services()
        ],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
            "schemas": dict(sorted((schemas.found | _errors(comments)).items())),
            "responses": {code: _refusal(code, text) for code, text in REFUSALS.items()},
        },
    }


def route_of(method: MethodDescriptor) -> tuple[str, str] | None:
    """Verb and path of a method; None when REST does not have it."""
    options: Any = method.GetOptions().Extensions
    rule = options[annotations_pb2.http]
    verb = rule.WhichOneof("pattern")
    return (verb, getattr(rule, verb)) if verb else None


def operation(method: MethodDescriptor, path: str, schemas: Schemas) -> Schema:
    """A method as an operation of its path."""
    service = method.containing_service
    facts = read_methods()[f"/{service.full_name}/{method.name}"]
    old = service.name == OLD_SERVICE
    in_path = tuple(name for name in method.input_type.fields_by_name if f"{{{name}}}" in path)
    verb, _ = route_of(method) or ("", "")
    about = schemas.comments[method.full_name]
    cost = (
        f"{facts.fixed_cost}"
        if facts.cost_field is None
        else f"one per entry of {facts.cost_field}"
    )
    answer: Schema = {
        "operationId": f"{service.name}_{method.name}",
        "tags": [service.name],
        "summary": about.partition(". ")[0].removesuffix("."),
        "description": f"{about}\n\nScope `{facts.scope}`; cost {cost}; answered within"
        f" {facts.max_deadline:g} s.",
        "parameters": _parameters(method.input_type, in_path, verb, old, schemas),
        "responses": {
            "200": {
                "description": "The answer.",
                "headers": {"x-request-id": {"schema": {"type": "string"}}},
                "content": _json(schemas.reference(method.output_type, old=old, sent=False)),
            },
            **{code: {"$ref": f"#/components/responses/{code}"} for code in REFUSALS},
        },
        "x-scope": facts.scope,
        "x-max-deadline-seconds": facts.max_deadline,
    }
    if verb == "post":
        body = schemas.of_message(method.input_type, old=old, sent=True, without=in_path)
        answer["requestBody"] = {"required": True, "content": _json(body)}
    if old:
        answer["deprecated"] = True
    return answer


def _parameters(
    message: Descriptor, in_path: tuple[str, ...], verb: str, old: bool, schemas: Schemas
) -> list[Schema]:
    found = []
    for one in message.fields:
        if one.name in in_path:
            found.append(_parameter(one, one.name, "path", schemas) | {"required": True})
        elif verb == "get":
            found += _query(one, json_name(one, old=old), old, schemas)
    return found


def _query(one: FieldDescriptor, name: str, old: bool, schemas: Schemas) -> list[Schema]:
    kind = one.message_type
    if kind is None or kind.full_name.startswith("google.protobuf."):
        return [_parameter(one, name, "query", schemas)]
    return [
        parameter
        for inner in kind.fields
        for parameter in _query(inner, f"{name}.{json_name(inner, old=old)}", old, schemas)
    ]


def _parameter(one: FieldDescriptor, name: str, place: str, schemas: Schemas) -> Schema:
    schema = schemas.of_field(one, old=False, sent=True)
    about = schema.pop("description", "")
    needed = {"required": True} if is_needed(one) else {}
    return {"name": name, "in": place, "description": about, "schema": schema} | needed


def _errors(comments: Mapping[str, str]) -> dict[str, Schema]:
    enum = errors_pb2.DESCRIPTOR.enum_types_by_name["ErrorReason"]
    lines = [f"- `{value.name}`: {comments[f'{enum.full_name}.{value.name}']}"
             for value in enum.values if value.number]  # fmt: skip
    return {
        "Status": {
            "description": "Why a call was refused (google.rpc.Status).",
            "type": "object",
            "properties": {
                "code": {"description": "gRPC status code.", "type": "integer"},
                "message": {"description": "One sentence for people.", "type": "string"},
                "details": {
                    "description": "Facts for programs: google.rpc.ErrorInfo with the reason,"
                    " BadRequest, RetryInfo and others by `@type`. Empty where a proxy refused.",
                    "type": "array",
                    "items": {"$ref": "#/components/schemas/StatusDetail"},
                },
            },
            "required": ["code", "message", "details"],
        },
        "StatusDetail": {
            "type": "object",
            "properties": {
                "@type": {"type": "string", "pattern": r"^type\.googleapis\.com/google\.rpc\."},
                "reason": {"$ref": "#/components/schemas/ErrorReason"},
            },
            "required": ["@type"],
        },
        "ErrorReason": {
            "description": "\n".join(["The `reason` of a refusal.", "", *lines]),
            "type": "string",
            "enum": [value.name for value in enum.values if value.number],
        },
    }


def _refusal(code: str, text: str) -> Schema:
    refusal: Schema = {
        "description": text,
        "content": _json({"$ref": "#/components/schemas/Status"}),
    }
    if code in _WAITS:
        about = "Seconds after which the same call may succeed."
        refusal["headers"] = {
            "retry-after": {"description": about, "schema": {"type": "integer", "minimum": 1}}
        }
    if code == "401":
        refusal["headers"] = {"www-authenticate": {"schema": {"type": "string"}}}
    return refusal


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}
