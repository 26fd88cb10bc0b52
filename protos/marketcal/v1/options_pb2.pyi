from google.protobuf import descriptor_pb2 as _descriptor_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor
SCOPE_FIELD_NUMBER: _ClassVar[int]
scope: _descriptor.FieldDescriptor
COST_FIELD_NUMBER: _ClassVar[int]
cost: _descriptor.FieldDescriptor
MAX_DEADLINE_FIELD_NUMBER: _ClassVar[int]
max_deadline: _descriptor.FieldDescriptor

class Cost(_message.Message):
    __slots__ = ("fixed", "per_item_of")
    FIXED_FIELD_NUMBER: _ClassVar[int]
    PER_ITEM_OF_FIELD_NUMBER: _ClassVar[int]
    fixed: int
    per_item_of: str
    def __init__(self, fixed: _Optional[int] = ..., per_item_of: _Optional[str] = ...) -> None: ...
