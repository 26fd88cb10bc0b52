"""Messages of the contract as JSON schemas, with their comments and rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from marketcal._vendor.buf.validate import validate_pb2

Schema = dict[str, Any]

_KNOWN: dict[str, Schema] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$"},
    "google.protobuf.Struct": {"type": "object"},
    "google.rpc.Status": {"$ref": "#/components/schemas/Status"},
}
_F = FieldDescriptor
_SCALARS: dict[int, Schema] = {
    _F.TYPE_BOOL: {"type": "boolean"},
    _F.TYPE_STRING: {"type": "string"},
    _F.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    _F.TYPE_INT32: {"type": "integer", "format": "int32"},
    _F.TYPE_UINT32: {"type": "integer", "format": "uint32", "minimum": 0},
    _F.TYPE_INT64: {"type": "string", "format": "int64", "pattern": "^-?[0-9]+$"},
}
DOUBLE: Schema = {
    "description": "A number; what is none is written as text.",
    "anyOf": [
        {"type": "number", "format": "double"},
        {"type": "string", "enum": ["NaN", "Infinity", "-Infinity"]},
    ],
}
_BOUNDS = {
    "gte": "minimum", "gt": "exclusiveMinimum", "lte": "maximum", "lt": "exclusiveMaximum",
}  # fmt: skip


@dataclass
class Schemas:
    """Collects the schemas that operations refer to.

    A message that is both sent and answered has two schemas, since an answer always holds the
    fields that a request may leave out; the one for requests ends in ``Input``.

    Attributes:
        comments: by full name.
        found: schemas by name.
    """

    comments: Mapping[str, str]
    answered: frozenset[str]
    found: dict[str, Schema] = field(default_factory=dict)

    def reference(self, message: Descriptor, *, old: bool, sent: bool) -> Schema:
        """A reference to the schema of ``message``, which is made when it is not there."""
        if message.full_name in _KNOWN:
            return dict(_KNOWN[message.full_name])
        name = message.name + ("Input" if sent and message.full_name in self.answered else "")
        if name not in self.found:
            self.found[name] = {}
            self.found[name] = self.of_message(message, old=old, sent=sent)
        return {"$ref": f"#/components/schemas/{name}"}

    def of_message(
        self, message: Descriptor, *, old: bool, sent: bool, without: tuple[str, ...] = ()
    ) -> Schema:
        """The schema of a message; fields in ``without`` come in the path."""
        properties: dict[str, Schema] = {}
        required = []
        for one in message.fields:
            if one.name in without:
                continue
            name = json_name(one, old=old)
            properties[name] = self.of_field(one, old=old, sent=sent)
            if is_needed(one) if sent else not one.has_presence:
                required.append(name)
        schema: Schema = {"type": "object", "properties": properties}
        if required:
            schema["required"] = required
        return self._described(message.full_name, schema)

    def of_field(self, one: FieldDescriptor, *, old: bool, sent: bool) -> Schema:
        """The schema of a field with its rules."""
        rules = rules_of(one) if sent else validate_pb2.FieldRules()
        kind = one.message_type
        if kind is not None and kind.GetOptions().map_entry:
            value = kind.fields_by_name["value"]
            schema: Schema = {
                "type": "object",
                "additionalProperties": self._single(value, rules.map.values, old=old, sent=sent),
            }
            if rules.map.HasField("max_pairs"):
                schema["maxProperties"] = rules.map.max_pairs
        elif one.is_repeated:
            schema = {
                "type": "array",
                "items": self._single(one, rules.repeated.items, old=old, sent=sent),
            }
            for rule, word in (("min_items", "minItems"), ("max_items", "maxItems")):
                if rules.repeated.HasField(rule):
                    schema[word] = getattr(rules.repeated, rule)
        else:
            schema = self._single(one, rules, old=old, sent=sent)
        return self._described(one.full_name, schema)

    def _single(self, one: FieldDescriptor, rules: Any, *, old: bool, sent: bool) -> Schema:
        if one.enum_type is not None:
            return self._of_enum(one.enum_type)
        if one.message_type is not None:
            return self.reference(one.message_type, old=old, sent=sent)
        if one.type == _F.TYPE_DOUBLE:
            bounds = _bounds(rules.double)
            self.found.setdefault("Double", DOUBLE)
            return (
                {"type": "number", **bounds} if bounds else {"$ref": "#/components/schemas/Double"}
            )
        schema = dict(_SCALARS[one.type])
        if one.type == _F.TYPE_STRING:
            schema |= _text_rules(rules.string)
        if one.type == _F.TYPE_INT32:
            schema |= {"minimum": -(1 << 31), "maximum": (1 << 31) - 1} | _bounds(rules.int32)
        return schema

    def _of_enum(self, enum: EnumDescriptor) -> Schema:
        if enum.name not in self.found:
            values = [value.name for value in enum.values]
            lines = [f"- `{value.name}`: {self.comments[f'{enum.full_name}.{value.name}']}"
                     for value in enum.values]  # fmt: skip
            about = "\n".join([self.comments[enum.full_name], "", *lines])
            self.found[enum.name] = {"description": about, "type": "string", "enum": values}
        return {"$ref": f"#/components/schemas/{enum.name}"}

    def _described(self, name: str, schema: Schema) -> Schema:
        about = self.comments.get(name)
        return {"description": about, **schema} if about else schema


def json_name(one: FieldDescriptor, *, old: bool) -> str:
    """A field's name in JSON; the old paths keep the names of the contract."""
    return str(one.name if old else one.json_name)


def rules_of(one: FieldDescriptor) -> Any:
    """The rules of a field (``buf.validate``)."""
    options: Any = one.GetOptions().Extensions
    return options[validate_pb2.field]


def is_needed(one: FieldDescriptor) -> bool:
    """Whether a request without the field breaks a rule."""
    rules = rules_of(one)
    return bool(rules.required or rules.string.min_len or rules.repeated.min_items)


def reachable(messages: list[Descriptor]) -> Iterator[str]:
    """Full names of the messages that ``messages`` hold, themselves included."""
    seen: set[str] = set()
    waiting = list(messages)
    while waiting:
        message = waiting.pop()
        if message.full_name not in seen:
            seen.add(message.full_name)
            waiting += [one.message_type for one in message.fields if one.message_type is not None]
    return iter(sorted(seen))


def _bounds(rules: Any) -> Schema:
    return {
        word: _number(getattr(rules, rule))
        for rule, word in _BOUNDS.items()
        if rules.HasField(rule)
    }


def _number(value: float) -> float:
    return int(value) if float(value).is_integer() else value


def _text_rules(rules: Any) -> Schema:
    schema: Schema = {}
    for rule, word in (("min_len", "minLength"), ("max_len", "maxLength"), ("pattern", "pattern")):
        if rules.HasField(rule):
            schema[word] = getattr(rules, rule)
    values = list(getattr(rules, "in"))
    return schema | ({"enum": values} if values else {})
