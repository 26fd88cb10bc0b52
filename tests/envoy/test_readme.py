"""What deploy/README.md says to run does run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "deploy" / "README.md").read_text()
COMMANDS = [
    line
    for block in re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
]
ASKS = [line for line in COMMANDS if line.startswith("curl ")]


def test_envoy_takes_the_file_as_it_is() -> None:
    """The very command, but for the wish to check the file alone."""
    start = next(line for line in COMMANDS if "envoy" in line)
    assert start in (ROOT / "deploy" / "envoy.yaml").read_text()
    binary, *rest = start.split()
    assert binary == ".venv/bin/envoy"
    envoy = Path(sys.executable).parent / "envoy"
    if not envoy.exists():
        pytest.skip("no envoy beside this Python; `make setup` installs it")
    done = subprocess.run(
        [envoy, *rest, "--mode", "validate"], cwd=ROOT, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr.lower()


@pytest.mark.parametrize("line", ASKS)
def test_what_curl_asks_is_answered(
    line: str, front: Any, as_forecaster: Any, curl: str, tmp_path: Path
) -> None:
    (tmp_path / "var").mkdir()
    key = as_forecaster["authorization"].removeprefix("Bearer ")
    (tmp_path / "var" / "dev.key").write_text(key + "\n")
    command = line.replace("127.0.0.1:8080", f"127.0.0.1:{front.port}")
    done = subprocess.run(
        ["bash", "-c", f"{command} --fail --max-time 20"], cwd=tmp_path, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout)


def test_every_file_of_the_folder_is_named() -> None:
    files = {path.name for path in (ROOT / "deploy").iterdir() if path.is_file()} - {"README.md"}
    assert files == set(re.findall(r"^\| `([\w.]+)` \|", TEXT, re.MULTILINE))
