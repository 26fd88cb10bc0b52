"""A client in another language, made from the contract alone, is served like ours."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from google.rpc import status_pb2

from marketcal import errors
from marketcal.status import decode_status

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".node-test"
PACKAGES = {"@grpc/grpc-js": "1.14.0", "@grpc/proto-loader": "0.8.0"}


@pytest.fixture(scope="module")
def node_modules() -> Path:
    """A folder with the packages of Node; the test skips where they cannot be had."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("Node is absent: node and npm are needed to be a foreign client")
    if not all((CACHE / "node_modules" / name / "package.json").exists() for name in PACKAGES):
        CACHE.mkdir(exist_ok=True)
        (CACHE / ".gitignore").write_text("*\n")
        manifest = {"private": True, "dependencies": PACKAGES}
        (CACHE / "package.json").write_text(json.dumps(manifest))
        command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"]
        try:
            done = subprocess.run(
                command, cwd=CACHE, capture_output=True, text=True, timeout=90, check=False
            )
        except subprocess.TimeoutExpired:
            pytest.skip("npm could not install the packages in time")
        if done.returncode:
            pytest.skip(f"npm cannot install the packages: {done.stderr[-200:]}")
    return CACHE


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The contract with all that it imports as one descriptor set."""
    tools = ROOT / ".venv-proto" / "bin" / "python"
    if not tools.exists():
        pytest.skip("no .venv-proto here; `make proto` or `make test` makes it")
    target = tmp_path_factory.mktemp("contract") / "image.binpb"
    command = [tools, "protos/generate.py", "--image", target]
    subprocess.run(command, cwd=ROOT, check=True, timeout=60)
    return target


def test_a_client_of_another_language_gets_answers_and_typed_errors(
    node_modules: Path, image: Path, gateway: Any
) -> None:
    script = Path(__file__).with_name("foreign_client.cjs")
    key = gateway.key("forecaster")
    done = subprocess.run(
        ["node", script, image, gateway.address, key, node_modules],
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer, invalid, stranger = map(json.loads, done.stdout.splitlines())

    assert answer["code"] == 0
    assert [path["level"] for path in answer["paths"]] == [0.1, 0.5, 0.9]
    assert all(len(path["values"]) == 12 for path in answer["paths"])
    assert answer["meta"]["served_by"] == "in-process"
    refusal = decode_status(status_pb2.Status.FromString(base64.b64decode(invalid["details"])))
    assert invalid["code"] == 3
    assert isinstance(refusal, errors.InvalidArgument)
    assert refusal.violations[0].field == "values[1]"
    refusal = decode_status(status_pb2.Status.FromString(base64.b64decode(stranger["details"])))
    assert stranger["code"] == 16
    assert isinstance(refusal, errors.CredentialInvalid)
    assert stranger["challenge"] == ['Bearer realm="marketcal"']
