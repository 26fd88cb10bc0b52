"""Compiles the contract: descriptors, Python code and stubs beside the ``.proto`` files.

Runs in an environment of its own (``make proto``) with grpcio-tools 1.71, so that the committed
code imports under every protobuf from 5.29 on. Two imports do not come from this folder:

* ``google/api`` and ``google/rpc`` from googleapis-common-protos;
* ``buf/validate/validate.proto`` from ``buf_validate.binpb``, the descriptor that the protovalidate
  wheel carries (it has no text of it). Its Python code goes to ``marketcal/_vendor`` so that it
  never overwrites a ``buf`` package of somebody else's.

``--check`` compiles to memory and compares descriptors with the committed modules instead.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import google.api
from google.protobuf import descriptor_pb2
from grpc_tools import protoc

HERE = Path(__file__).resolve().parent
VALIDATE = "buf/validate/validate.proto"
VENDOR = HERE / "marketcal" / "_vendor"


def sources() -> list[str]:
    """The project's ``.proto`` files, relative to this folder, sorted."""
    return sorted(str(path.relative_to(HERE)) for path in HERE.glob("marketcal/v1/*.proto"))


def run_protoc(*arguments: str) -> None:
    """Runs protoc; raises SystemExit with its exit code when it fails."""
    code = protoc.main(["protoc", *arguments])
    if code:
        sys.exit(code)


def imported_descriptors(folder: Path) -> Path:
    """Writes the descriptors of everything that the contract imports; returns the file."""
    google_set = folder / "google.binpb"
    includes = [
        str(Path(google.api.__path__[0]).parents[1]),
        str(Path(protoc.__file__).parent / "_proto"),
    ]
    run_protoc(
        *(f"-I{include}" for include in includes),
        "--include_imports",
        f"--descriptor_set_out={google_set}",
        "google/api/annotations.proto",
        "google/rpc/status.proto",
        "google/rpc/error_details.proto",
        "google/protobuf/descriptor.proto",
        "google/protobuf/duration.proto",
        "google/protobuf/timestamp.proto",
        "google/protobuf/field_mask.proto",
        "google/protobuf/struct.proto",
    )
    merged = descriptor_pb2.FileDescriptorSet.FromString(google_set.read_bytes())
    validate = descriptor_pb2.FileDescriptorProto.FromString(
        (HERE / "buf_validate.binpb").read_bytes()
    )
    merged.file.append(validate)
    target = folder / "imports.binpb"
    target.write_bytes(merged.SerializeToString())
    return target


def write_image(imports: Path, target: Path, *more: str) -> None:
    """Writes the contract with comments and imports as one descriptor set, as buf reads it.

    ``more`` are files that the contract itself does not import.
    """
    run_protoc(
        f"-I{HERE}",
        f"--descriptor_set_in={imports}",
        "--include_imports",
        "--include_source_info",
        f"--descriptor_set_out={target}",
        *sources(),
        *more,
    )


def write_python(imports: Path) -> None:
    """Writes ``*_pb2.py``, ``*_pb2.pyi`` and ``*_pb2_grpc.py`` in place."""
    run_protoc(
        f"-I{HERE}",
        f"--descriptor_set_in={imports}",
        f"--python_out={HERE}",
        f"--pyi_out={HERE}",
        f"--grpc_python_out={HERE}",
        *sources(),
    )
    VENDOR.mkdir(exist_ok=True)
    run_protoc(
        f"--descriptor_set_in={imports}", f"--python_out={VENDOR}", f"--pyi_out={VENDOR}", VALIDATE
    )
    for path in (HERE / "marketcal" / "v1").glob("*_pb2*.py*"):
        text = path.read_text()
        if path.name.endswith("_grpc.py") and "class " not in text:
            path.unlink()  # a file without services
            continue
        path.write_text(
            text.replace(
                "from buf.validate import validate_pb2",
                "from marketcal._vendor.buf.validate import validate_pb2",
            )
        )


def check(imports: Path, folder: Path) -> list[str]:
    """Names of the files whose committed descriptor differs from one compiled now."""
    image = folder / "now.binpb"
    run_protoc(
        f"-I{HERE}", f"--descriptor_set_in={imports}", f"--descriptor_set_out={image}", *sources()
    )
    compiled = descriptor_pb2.FileDescriptorSet.FromString(image.read_bytes())
    sys.path.insert(0, str(HERE))
    stale = []
    for file in compiled.file:
        module = __import__(
            file.name.removesuffix(".proto").replace("/", ".") + "_pb2", fromlist=["DESCRIPTOR"]
        )
        committed = descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
        for message in (file, committed):
            message.ClearField("source_code_info")
            for descriptor in message.DESCRIPTOR.fields:
                if descriptor.name == "json_name":
                    message.ClearField(descriptor.name)
        if _without_json_names(file) != _without_json_names(committed):
            stale.append(file.name)
    return stale


def _without_json_names(file: descriptor_pb2.FileDescriptorProto) -> bytes:
    """The descriptor without the JSON names that protoc fills in on some paths only."""

    def clear(messages: list[descriptor_pb2.DescriptorProto]) -> None:
        for message in messages:
            for field in (*message.field, *message.extension):
                field.ClearField("json_name")
            clear(list(message.nested_type))

    copy = descriptor_pb2.FileDescriptorProto.FromString(file.SerializeToString())
    clear(list(copy.message_type))
    for extension in copy.extension:
        extension.ClearField("json_name")
    return copy.SerializeToString(deterministic=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="compare with the committed code; write nothing"
    )
    parser.add_argument("--image", type=Path, help="write the contract as a buf image and stop")
    parser.add_argument(
        "--with-details", action="store_true", help="the image holds the error details too"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        imports = imported_descriptors(folder)
        if arguments.image:
            details = ["google/rpc/error_details.proto"] if arguments.with_details else []
            write_image(imports, arguments.image, *details)
        elif arguments.check:
            stale = check(imports, folder)
            sys.exit(f"stale generated code, run `make proto`: {', '.join(stale)}" if stale else 0)
        else:
            write_python(imports)


if __name__ == "__main__":
    main()
