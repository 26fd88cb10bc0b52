"""A real Envoy with the real file before the gateway that most tests call."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 20.0
NPM_FAILED = 75
STRICT = ["--target", "ES2022", "--module", "NodeNext", "--moduleResolution", "NodeNext",
          "--strict", "--skipLibCheck"]  # fmt: skip

Headers = dict[str, str]


@dataclass(frozen=True)
class Front:
    """A running Envoy.

    Attributes:
        port: where it listens on 127.0.0.1.
        http: a client of it that speaks HTTP/1.1.
        process: its process.
        log: file of its access log.
    """

    port: int
    http: httpx.Client
    process: subprocess.Popen[bytes]
    log: Path


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def configured(listener: int, gateway: int) -> str:
    """The file as it is, with the two ports and the one path of a test."""
    text = (ROOT / "deploy" / "envoy.yaml").read_text()
    assert text.count("port_value: 8080") == text.count("port_value: 50051") == 1
    return (
        text.replace("port_value: 8080", f"port_value: {listener}")
        .replace("port_value: 50051", f"port_value: {gateway}")
        .replace("deploy/marketcal.binpb", str(ROOT / "deploy" / "marketcal.binpb"))
    )


@pytest.fixture(scope="session")
def start_envoy(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Front]:
    """Starts Envoys: ``start_envoy(stack, gateway_port)``; they end with the ExitStack.

    ``change`` turns the text of the file into another one, ``verify`` is how a client of TLS knows
    the Envoy.
    """
    binary = Path(sys.executable).parent / "envoy"
    if not binary.exists():
        pytest.skip("no envoy beside this Python; `make setup` installs it")

    def start(
        stack: ExitStack,
        gateway_port: int,
        change: Callable[[str], str] = lambda text: text,
        verify: ssl.SSLContext | None = None,
    ) -> Front:
        folder = tmp_path_factory.mktemp("envoy")
        port = free_port()
        config = folder / "envoy.yaml"
        config.write_text(change(configured(port, gateway_port)))
        log, errors = folder / "access.log", folder / "errors.log"
        process = subprocess.Popen(
            [binary, "--config-path", config, "--concurrency", "1", "--disable-hot-restart",
             "--log-level", "warning", "--file-flush-interval-msec", "50"],
            stdout=stack.enter_context(log.open("wb")),
            stderr=stack.enter_context(errors.open("wb")),
        )  # fmt: skip
        stack.callback(_stop, process)
        scheme = "http" if verify is None else "https"
        client = httpx.Client(
            base_url=f"{scheme}://127.0.0.1:{port}",
            timeout=DEADLINE,
            verify=True if verify is None else verify,
        )
        stack.enter_context(client)
        _wait(process, client, errors)
        return Front(port, client, process, log)

    return start


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(DEADLINE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(DEADLINE)


def _wait(process: subprocess.Popen[bytes], client: httpx.Client, errors: Path) -> None:
    """Waits until the gateway answers through Envoy."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        assert process.poll() is None, errors.read_text()
        try:
            if client.get("/v1/models").status_code == httpx.codes.UNAUTHORIZED:
                return
        except httpx.TransportError:
            pass
        threading.Event().wait(0.02)
    raise AssertionError(f"no answer through Envoy: {errors.read_text()}")


@pytest.fixture(scope="session")
def front(start_envoy: Any, gateway: Any) -> Iterator[Front]:
    """The Envoy before the gateway that most tests call."""
    with ExitStack() as stack:
        yield start_envoy(stack, gateway.port)


@pytest.fixture(scope="session")
def as_forecaster(gateway: Any) -> Headers:
    """Headers of a forecaster whose limit no test reaches."""
    key = gateway.key("forecaster", rate_per_minute=1e7, burst=1_000_000)
    return {"authorization": f"Bearer {key}"}


@pytest.fixture(scope="session")
def as_viewer(gateway: Any) -> Headers:
    """Headers of a viewer, who sends the key in the other header."""
    return {"x-api-key": gateway.key("viewer", rate_per_minute=1e7, burst=1_000_000)}


@pytest.fixture(scope="session")
def as_admin(gateway: Any) -> Headers:
    """Headers of an admin."""
    return {"authorization": f"Bearer {gateway.key('admin')}"}


@pytest.fixture(scope="session")
def market_id(front: Front, as_viewer: Headers) -> str:
    """A market with scores."""
    scores = front.http.get("/v1/scoreboard", headers=as_viewer).json()["scores"]
    return str(scores[0]["marketId"])


@pytest.fixture(scope="session")
def alert_id(gateway: Any, raise_alerts: Any) -> str:
    """An alert that nobody has seen yet."""
    return str(raise_alerts(gateway)[0])


@pytest.fixture(scope="session")
def curl() -> str:
    """The real curl."""
    found = shutil.which("curl")
    if found is None:
        pytest.skip("no curl here")
    return found


@pytest.fixture(scope="session")
def package() -> Path:
    """The built TypeScript client; the test skips where Node or what npm fetches cannot be had."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("Node is absent: the TypeScript client cannot be built")
    if not (ROOT / ".venv-proto" / "bin" / "python").exists():
        pytest.skip("no .venv-proto here; `make proto` or `make test` makes it")
    target = ROOT / ".node-test" / "typescript"
    target.parent.mkdir(exist_ok=True)
    (target.parent / ".gitignore").write_text("*\n")
    done = subprocess.run(
        [sys.executable, ROOT / "protos" / "typescript" / "build.py", target],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode == NPM_FAILED:
        pytest.skip(f"npm cannot install what the client needs: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stdout + done.stderr
    return target


@pytest.fixture(scope="session")
def run_typescript(package: Path) -> Callable[..., str]:
    """What a program prints that is compiled against the package, as its users' would be."""
    folder = package / "examples"
    folder.mkdir(exist_ok=True)

    def run(text: str, **environment: str) -> str:
        (folder / "example.ts").write_text(text)
        compiler = package / "node_modules" / ".bin" / "tsc"
        subprocess.run([compiler, *STRICT, "example.ts"], cwd=folder, check=True, timeout=120)
        done = subprocess.run(
            ["node", "example.js"], cwd=folder, env=os.environ | environment,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def buf_curl(package: Path) -> Callable[[str, str, str], str]:
    """Calls a gateway by reflection: ``buf_curl(url, header, json)``; what it prints."""

    def call(url: str, header: str, data: str) -> str:
        done = subprocess.run(
            [package / "node_modules" / ".bin" / "buf", "curl", "--protocol", "grpc",
             "--http2-prior-knowledge", "--header", header, "--data", data, url],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.stdout or done.stderr

    return call
