"""The contract as one descriptor set, for a proxy that turns REST into gRPC."""

from __future__ import annotations

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.rpc import error_details_pb2

from gateway.contract import FILES


def descriptor_set() -> bytes:
    """A serialized ``FileDescriptorSet``: the contract, what it imports, and error details.

    Imports come before what imports them. The details of ``google.rpc`` stand in no import of the
    contract, and a proxy can write an error as JSON only when it knows them.
    """
    found: dict[str, FileDescriptor] = {}
    for root in (*(file.DESCRIPTOR for file in FILES), error_details_pb2.DESCRIPTOR):
        _collect(root, found)
    answer = FileDescriptorSet()
    for file in found.values():
        answer.file.add().MergeFromString(file.serialized_pb)
    return answer.SerializeToString(deterministic=True)


def _collect(file: FileDescriptor, found: dict[str, FileDescriptor]) -> None:
    for imported in file.dependencies:
        _collect(imported, found)
    found.setdefault(file.name, file)
