"""Who may do what: every method that is served, for every role, over a real connection."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor

from gateway.contract import read_methods, services
from gateway.keys import _checksum
from gateway.roles import ROLES
from gateway.server import HEALTH, REFLECTION, REFLECTION_V1
from marketcal.v1 import options_pb2

READS = {"scoreboard.read", "alert.read"}
FORECASTS = READS | {"forecast.read"}
OPERATES = FORECASTS | {"alert.write", "execution.read", "execution.write"}
MAY = {
    "viewer": READS,
    "forecaster": FORECASTS,
    "operator": OPERATES,
    "admin": OPERATES | {"admin"},
}
"""What each role may do, written down a second time: widening one is to be said twice."""
OPEN = {f"/{HEALTH}/Check", f"/{HEALTH}/Watch", f"/{HEALTH}/List"}
"""Methods that need no credential anywhere."""
OPEN_ON_LOOPBACK = {f"/{service}/ServerReflectionInfo" for service in (REFLECTION, REFLECTION_V1)}
METHODS: dict[str, MethodDescriptor] = {
    f"/{service.full_name}/{method.name}": method
    for service in services()
    for method in service.methods
}


def outcome(
    channel: grpc.Channel, name: str, method: MethodDescriptor | None, metadata: Any, read: Any
) -> tuple[str, str]:
    """(code, reason) of a call with an empty request; a stream is left after its first message."""
    call: Any
    if method is None or method.server_streaming:
        call = channel.unary_stream(name)(b"", metadata=metadata, timeout=20)
        try:
            next(call, None)
            call.cancel()
        except grpc.RpcError as error:
            refusal = read(error)
            return refusal.code, refusal.reason
        return "OK", ""
    try:
        channel.unary_unary(name)(b"", metadata=metadata, timeout=20)
    except grpc.RpcError as error:
        refusal = read(error)
        return refusal.code, refusal.reason
    return "OK", ""


def scope_of(method: MethodDescriptor) -> str:
    options: Any = method.GetOptions().Extensions
    return str(options[options_pb2.scope])


def test_no_method_is_without_a_scope() -> None:
    assert {name for name, method in METHODS.items() if not scope_of(method)} == set()
    assert set(METHODS) == set(read_methods())
    assert {scope_of(method) for method in METHODS.values()} <= MAY["admin"]


def test_a_role_may_what_is_written_down_and_no_more() -> None:
    assert {name: set(role.scopes) for name, role in ROLES.items()} == MAY


def test_no_method_that_is_served_can_be_called_by_a_stranger(
    gateway: Any, read_refusal: Any
) -> None:
    """Each service that the running server names, with health and reflection listed here."""
    served = {*gateway.parts.gateway.services, HEALTH, REFLECTION, REFLECTION_V1}
    contract = {name.split("/")[1] for name in METHODS}
    assert served == contract | {HEALTH, REFLECTION, REFLECTION_V1}

    answers = {
        name: outcome(gateway.channel, name, method, (), read_refusal)
        for name, method in METHODS.items()
    }
    assert set(answers.values()) == {("UNAUTHENTICATED", "CREDENTIAL_MISSING")}


def test_health_needs_no_key_and_reflection_none_on_loopback(
    gateway: Any, read_refusal: Any
) -> None:
    for name in sorted(OPEN | OPEN_ON_LOOPBACK):
        code, _ = outcome(gateway.channel, name, None, (), read_refusal)
        assert code in ("OK", "UNIMPLEMENTED"), name  # health has no List


@pytest.fixture
def beyond(serve_gateway: Any) -> Iterator[Any]:
    with ExitStack() as stack:
        yield serve_gateway(stack, gateway={"host": "0.0.0.0", "allow_plaintext": True})


def test_reflection_needs_a_key_where_strangers_can_reach_it(
    beyond: Any, read_refusal: Any, bearer: Any
) -> None:
    for name in sorted(OPEN_ON_LOOPBACK):
        answer = outcome(beyond.channel, name, None, (), read_refusal)
        assert answer == ("UNAUTHENTICATED", "CREDENTIAL_MISSING")
        viewer = bearer(beyond.key("viewer"))
        assert outcome(beyond.channel, name, None, viewer, read_refusal)[0] == "OK"


@pytest.mark.parametrize("role", MAY)
def test_a_role_passes_where_it_has_the_scope_and_nowhere_else(
    role: str, gateway: Any, read_refusal: Any, bearer: Any
) -> None:
    key = bearer(gateway.key(role, rate_per_minute=1e7, burst=1_000_000))
    passed = set()
    for name, method in METHODS.items():
        code, reason = outcome(gateway.channel, name, method, key, read_refusal)
        assert code != "UNAUTHENTICATED", name
        assert (code == "PERMISSION_DENIED") == (reason == "SCOPE_MISSING"), name
        if code != "PERMISSION_DENIED":
            passed.add(name)
    allowed = {name for name, method in METHODS.items() if scope_of(method) in MAY[role]}
    assert passed == allowed


def test_a_method_that_does_not_exist_is_no_way_in(
    gateway: Any, read_refusal: Any, bearer: Any
) -> None:
    for name in ("/marketcal.v1.ForecastService/Nothing", "/x.Y/Z", "/"):
        assert outcome(gateway.channel, name, None, (), read_refusal)[0] == "UNIMPLEMENTED"


@pytest.mark.parametrize("rest", ["/", "//", "?x", "%2f", " ", "\t"])
def test_another_spelling_of_a_method_is_no_way_in(
    rest: str, gateway: Any, read_refusal: Any
) -> None:
    for name in (f"/marketcal.v1.ForecastService/ListModels{rest}",
                 "/Marketcal.v1.forecastservice/ListModels"):  # fmt: skip
        code, _ = outcome(gateway.channel, name, None, (), read_refusal)
        assert code in ("UNIMPLEMENTED", "UNAUTHENTICATED", "INTERNAL", "UNKNOWN"), name
        assert code != "OK"


LINK = re.compile(r"\[`(test_\w+)`\]\(\.\./(tests/\S+\.py)\)")


def test_each_line_of_the_security_page_names_a_test_that_exists(root: Path) -> None:
    page = (root / "docs" / "security.md").read_text().partition("## Claims")[2]
    links = LINK.findall(page)
    claims = [line for line in page.splitlines() if line.startswith("| ")][1:]
    assert len(claims) == len(links) > 40, "a line without its test"
    for name, path in links:
        assert f"def {name}(" in (root / path).read_text(), f"{path}::{name}"


def test_each_test_of_security_stands_on_the_page(root: Path) -> None:
    linked = {name for name, _ in LINK.findall((root / "docs" / "security.md").read_text())}
    found = set()
    for path in sorted((root / "tests" / "gateway").glob("test_security*.py")):
        found |= set(re.findall(r"^(?:async )?def (test_\w+)\(", path.read_text(), re.MULTILINE))
    of_the_page = {name for name in found if "security" in name}
    assert found - linked - of_the_page == set()


@pytest.fixture(scope="session")
def root() -> Path:
    return Path(__file__).resolve().parents[2]


def test_no_secret_of_a_machine_is_in_the_repository(root: Path) -> None:
    """Neither an API key that could be one nor a private key."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True,
                            check=False)  # fmt: skip
    if listed.returncode:
        pytest.skip("this is no git checkout")
    private = b"-----BEGIN " + b"PRIVATE KEY-----"
    found = []
    for name in filter(None, listed.stdout.split("\0")):
        held = (root / name).read_bytes() if (root / name).is_file() else b""
        keys = re.findall(rb"mk_([0-9a-z]{8})_([0-9a-z]{32})([0-9a-z]{6})", held)
        if private in held or any(_is_whole(*map(bytes.decode, key)) for key in keys):
            found.append(name)
    assert found == []


def _is_whole(key_id: str, secret: str, checksum: str) -> bool:
    """Whether a key is more than something of its form."""
    return _checksum(key_id, secret) == checksum
