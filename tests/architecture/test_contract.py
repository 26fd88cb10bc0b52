"""The contract is whole: every method has its options and a server, every reason its class."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2

from gateway.contract import read_methods, services
from gateway.roles import ROLES
from marketcal import errors
from marketcal.v1 import errors_pb2, options_pb2

METHODS = [method for service in services() for method in service.methods]
SCOPES = frozenset().union(*(role.scopes for role in ROLES.values()))
UNKNOWN = descriptor_pb2.MethodOptions.IDEMPOTENCY_UNKNOWN


def options(method: Any) -> Any:
    return method.GetOptions().Extensions


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
def test_a_method_has_scope_cost_deadline_and_idempotency(method: Any) -> None:
    assert options(method)[options_pb2.scope] in SCOPES
    cost = options(method)[options_pb2.cost]
    assert bool(cost.fixed) != bool(cost.per_item_of)
    deadline = options(method)[options_pb2.max_deadline]
    assert 0 < deadline.seconds <= 86_400
    assert method.GetOptions().idempotency_level != UNKNOWN


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
def test_a_method_that_changes_something_needs_a_scope_to_write(method: Any) -> None:
    changes = method.GetOptions().idempotency_level != (
        descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS
    )
    scope = options(method)[options_pb2.scope]
    assert changes == (scope.endswith(".write") or scope == "admin")


def test_the_gateway_serves_every_service_of_the_contract(gateway: Any) -> None:
    assert set(gateway.parts.gateway.services) == {service.full_name for service in services()}
    assert len(read_methods()) == len(METHODS)


def test_every_service_file_of_the_contract_is_read(root: Path) -> None:
    declared = {
        line.split()[1]
        for path in (root / "protos" / "marketcal" / "v1").glob("*.proto")
        for line in path.read_text().splitlines()
        if line.startswith("service ")
    }
    assert declared == {service.name for service in services()}


def test_every_published_reason_has_exactly_one_class() -> None:
    published = {
        name.removeprefix("ERROR_REASON_")
        for name in errors_pb2.ErrorReason.keys()  # noqa: SIM118
    } - {"UNSPECIFIED"}
    own = [cls.__dict__["reason"] for cls in errors.subclasses() if cls.__dict__.get("reason")]
    assert sorted(own) == sorted(published)
    assert errors.BY_REASON.keys() == published


def test_every_class_has_a_grpc_code_other_than_ok() -> None:
    codes = {code.name for code in grpc.StatusCode} - {"OK", "UNKNOWN"}
    for cls in errors.subclasses():
        if cls is not errors.MarketcalError:
            assert cls.code in codes, cls
        parent = cls.__mro__[1]
        if parent not in (errors.MarketcalError, Exception):
            assert cls.code == parent.code, f"{cls} leaves the code of its group"


def test_the_tree_of_errors_is_drawn_in_full() -> None:
    drawn = errors.__doc__ or ""
    assert [cls.__name__ for cls in errors.subclasses() if cls.__name__ not in drawn] == []


def test_the_contract_states_the_code_of_each_reason_as_the_table_has_it(root: Path) -> None:
    text = (root / "protos/marketcal/v1/errors.proto").read_text().splitlines()
    for before, line in itertools.pairwise(text):
        name = line.strip().removeprefix("ERROR_REASON_").partition(" ")[0]
        if line.strip().startswith("ERROR_REASON_") and name in errors.BY_REASON:
            assert f" {errors.BY_REASON[name].code}" in before, line


def test_generated_code_is_fresh(root: Path) -> None:
    tools = root / ".venv-proto" / "bin" / "python"
    if not tools.exists():
        pytest.skip("no .venv-proto here; `make proto` or `make test` makes it")
    done = subprocess.run(
        [tools, "protos/generate.py", "--check"], cwd=root, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
