"""Every block of the page of examples runs as it stands, against a gateway behind Envoy."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "examples.md").read_text()
ALERT = "019a9d2e-0000-7000-8000-000000000000"
KEYS = {"quantilePaths", "scores", "details", "alerts", "alert"}
GOES_ON = r"go on with --resume \S+\n"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)


def blocks(kind: str) -> list[Any]:
    found = [text for name, text in BLOCKS if name == kind]
    return [pytest.param(text, id=str(number)) for number, text in enumerate(found)]


@pytest.fixture(scope="module")
def key(gateway: Any) -> str:
    return str(gateway.key("operator"))


@pytest.fixture(scope="module", autouse=True)
def raised(gateway: Any, market_id: str, raise_alerts: Any) -> Iterator[str]:
    """Raises an alert, and then one whenever somebody has begun to watch; the id of the first."""
    [first] = raise_alerts(gateway, market_id=market_id)
    over = threading.Event()

    def go_on() -> None:
        feed = gateway.parts.hosting.alerts
        while not over.wait(0.05):
            if feed.watchers:
                raise_alerts(gateway, market_id=market_id)

    raising = threading.Thread(target=go_on)
    raising.start()
    yield first
    over.set()
    raising.join(20)


@pytest.fixture(scope="module")
def placed(gateway: Any, front: Any, market_id: str, key: str, raised: str) -> Any:
    """Puts the addresses, key, market and alert of this test in place of those of the page."""

    def put(text: str) -> str:
        assert "500000" not in market_id
        assert ALERT not in raised
        return (
            text.replace("127.0.0.1:50051", gateway.address)
            .replace("127.0.0.1:8080", f"127.0.0.1:{front.port}")
            .replace("polymarket:500000", market_id)
            .replace(ALERT, raised)
            .replace("$MARKETCAL_KEY", key)
        )

    return put


@pytest.fixture
def variables(gateway: Any, key: str) -> dict[str, str]:
    return {"MARKETCAL_KEY": key, "MARKETCAL_ADDRESS": gateway.address}


@pytest.mark.parametrize("text", blocks("python"))
def test_python(text: str, placed: Any, key: str) -> None:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(placed(text), "examples.md", "exec"), {"key": key})
    assert said.getvalue().strip()


@pytest.mark.parametrize("text", blocks("ts"))
def test_typescript(text: str, placed: Any, run_typescript: Any, variables: Any) -> None:
    assert run_typescript(placed(text), **variables).strip()


@pytest.mark.parametrize("text", blocks("console")[1:])
def test_commands(text: str, placed: Any, variables: Any) -> None:
    _, *arguments = shlex.split(placed(text))
    done = subprocess.run(
        [sys.executable, "-m", "gateway.cli.main", *arguments], env=os.environ | variables,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, re.sub(GOES_ON, "", done.stderr)) == (0, "")
    assert done.stdout.strip()


@pytest.mark.parametrize("text", blocks("grpcurl"))
def test_grpcurl(text: str, placed: Any, buf_curl: Any) -> None:
    """grpcurl is no package of any index: buf curl sends what its command says."""
    words = shlex.split(placed(text).replace("\\\n", " "))
    assert words[:2] == ["grpcurl", "-plaintext"]
    header, data = words[words.index("-H") + 1], words[words.index("-d") + 1]
    address, method = words[-2:]

    answer = json.loads(buf_curl(f"http://{address}/{method}", header, data))

    assert answer.keys() & {"quantilePaths", "scores", "alerts"}


@pytest.mark.parametrize("text", blocks("curl"))
def test_curl(text: str, placed: Any, curl: str) -> None:
    words = shlex.split(placed(text).replace("\\\n", " "))
    done = subprocess.run(
        [curl, *words[1:]], capture_output=True, text=True, timeout=60, check=True
    )
    assert json.loads(done.stdout).keys() & KEYS


def test_every_block_is_run_by_one_of_these_tests() -> None:
    assert {name for name, _ in BLOCKS} == {"python", "ts", "console", "grpcurl", "curl"}
