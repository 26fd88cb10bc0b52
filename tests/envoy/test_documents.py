"""The OpenAPI document and the reference say what the contract says."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from google.api import annotations_pb2
from google.protobuf import descriptor_pb2
from openapi_spec_validator import OpenAPIV31SpecValidator

from gateway.contract import services

ROOT = Path(__file__).resolve().parents[2]
METHODS = [method for service in services() for method in service.methods]


@pytest.fixture(scope="module")
def document() -> Any:
    """The committed document; that it is fresh is proven with the other generated parts."""
    return json.loads((ROOT / "docs" / "openapi.json").read_text())


def body_of(document: Any, path: str) -> Any:
    """Properties of the body of a POST route."""
    body = document["paths"][path]["post"]["requestBody"]
    return body["content"]["application/json"]["schema"]["properties"]


def test_the_document_is_valid(document: Any) -> None:
    assert [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


def test_the_document_has_every_route_and_no_other(document: Any) -> None:
    declared = set()
    for method in METHODS:
        rule = method.GetOptions().Extensions[annotations_pb2.http]
        verb = rule.WhichOneof("pattern")
        if verb:
            declared.add((verb, getattr(rule, verb)))
    written = {(verb, path) for path, verbs in document["paths"].items() for verb in verbs}
    assert written == declared


def test_the_older_paths_are_marked_as_deprecated(document: Any) -> None:
    for path, verbs in document["paths"].items():
        for operation in verbs.values():
            assert operation.get("deprecated", False) == (not path.startswith("/v1/")), path


def test_limits_of_the_contract_stand_in_the_document(document: Any) -> None:
    body = body_of(document, "/v1/forecasts")
    assert (body["values"]["minItems"], body["values"]["maxItems"]) == (2, 20_000)
    assert (body["horizonSteps"]["minimum"], body["horizonSteps"]["maximum"]) == (1, 2016)
    items = body["quantiles"]["items"]
    assert (items["exclusiveMinimum"], items["exclusiveMaximum"]) == (0, 1)
    assert body["marketId"]["maxLength"] == 256
    assert "horizon_steps" in body_of(document, "/tsfm/forecast")
    assert "market_id" not in body_of(document, "/v1/markets/{market_id}:compare")


def test_every_operation_says_how_it_is_refused_and_what_it_needs(document: Any) -> None:
    for path, verbs in document["paths"].items():
        for operation in verbs.values():
            codes = {"400", "401", "403", "404", "413", "429", "500", "501", "503", "504"}
            assert codes <= set(operation["responses"]), path
            assert operation["x-scope"] in operation["description"]
    retry = document["components"]["responses"]["429"]["headers"]["retry-after"]
    assert retry["schema"]["type"] == "integer"


def test_every_field_of_the_document_is_described(document: Any) -> None:
    bare = [
        f"{name}.{field}"
        for name, schema in document["components"]["schemas"].items()
        if name not in ("StatusDetail", "Double")
        for field, about in schema.get("properties", {}).items()
        if not about.get("description")
    ]
    assert bare == []


def test_the_reference_names_every_method_with_its_route() -> None:
    text = (ROOT / "docs" / "api.md").read_text()
    for method in METHODS:
        assert f"\n### {method.name}\n" in text
        rule = method.GetOptions().Extensions[annotations_pb2.http]
        verb = rule.WhichOneof("pattern")
        if verb:
            assert f"`{verb.upper()} {getattr(rule, verb)}`" in text


def test_comments_are_read_as_the_compiler_reads_them(tmp_path: Path) -> None:
    tools = ROOT / ".venv-proto" / "bin" / "python"
    if not tools.exists():
        pytest.skip("no .venv-proto here; `make proto` or `make test` makes it")
    image = tmp_path / "image.binpb"
    subprocess.run(
        [tools, "protos/generate.py", "--image", image], cwd=ROOT, check=True, timeout=60
    )
    files = descriptor_pb2.FileDescriptorSet.FromString(image.read_bytes()).file
    compiled: dict[str, str] = {}
    for file in files:
        if file.package == "marketcal.v1":
            compiled |= comments_in(file)
    spec = importlib.util.spec_from_file_location("proto_comments", ROOT / "docs/proto_comments.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.read_comments() == compiled


def comments_in(file: Any) -> dict[str, str]:
    """Comments of a compiled file by full name, but for the package and extensions."""
    found = {}
    for location in file.source_code_info.location:
        if not location.leading_comments or len(location.path) % 2:
            continue
        names, at = [file.package], file
        for number, index in zip(location.path[::2], location.path[1::2], strict=False):
            field = at.DESCRIPTOR.fields_by_number[number]
            at = getattr(at, field.name)[index]
            if field.name != "extension":
                names.append(at.name)
        if len(names) > 1:
            found[".".join(names)] = " ".join(
                line.strip() for line in location.leading_comments.strip().splitlines()
            )
    return found
