"""One command starts everything, and nothing outlives it. The last test ends the platform."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from marketcal import Client

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
MAKE_COMMANDS = {"make run ONCE=1", "make test"}

pytestmark = pytest.mark.ray


def readme_commands() -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", README, flags=re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def test_prints_scoreboard_reliability_and_a_forecast_made_by_ray(platform):
    assert "Scoreboard: the ten most trustworthy prices" in platform.said
    assert re.search(r"Reliability over \d+ events: Brier 0\.\d+ \[", platform.said)
    assert "served by ray:Native" in platform.said
    assert f"--address {platform.address}" in platform.said


def test_the_development_key_is_for_its_owner_alone(platform):
    assert (platform.folder / "var" / "dev.key").stat().st_mode & 0o777 == 0o600


def test_the_client_gets_scores_and_forecasts(platform):
    key = (platform.folder / "var" / "dev.key").read_text().strip()
    with Client(platform.address, key=key) as client:
        score = next(iter(client.list_scores()))
        assert 0 <= score.trust.score <= 100
        answer = client.forecast("mine", [0.4, 0.41, 0.43] * 20, horizon_steps=5)
        assert answer.meta.served_by == "ray:Native"
        assert [path.level for path in answer.quantile_paths] == [0.1, 0.5, 0.9]


@pytest.mark.parametrize("line", [c for c in readme_commands() if c not in MAKE_COMMANDS])
def test_the_readme_s_command_works(platform, line):
    program, *arguments = shlex.split(line)
    assert program == ".venv/bin/marketcal"
    done = platform.run(*arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_readme_s_python_works(platform):
    (block,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    code = block.replace("127.0.0.1:50051", platform.address)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=platform.folder, env=platform.environment,
        capture_output=True, text=True, timeout=60, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("0.1") >= 1


def test_the_readme_s_make_command_is_the_command_of_these_tests():
    command = ["make", "--no-print-directory", "--dry-run", "run", "ONCE=1", "PORT=5"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("marketcal up --port 5   --once")


def test_a_second_start_in_the_same_folder_says_so_and_stops(platform):
    done = platform.run("up", "--port", "0")
    assert done.returncode == 4
    assert "already runs in this folder" in done.stderr


def test_a_taken_port_is_named(platform, new_platform):
    done = new_platform().run("up", "--port", str(platform.port))
    assert done.returncode == 3
    assert str(platform.port) in done.stderr


def test_nothing_listens_beyond_loopback(platform):
    assert beyond_loopback(platform) == []


def beyond_loopback(platform) -> list[str]:
    """Listening addresses of the platform's processes that others could reach."""
    inodes = set()
    for process in platform.alive():
        for descriptor in Path(f"/proc/{process.split()[0]}/fd").glob("*"):
            try:
                inodes.add(descriptor.readlink().name)
            except OSError:
                continue  # closed meanwhile
    found = []
    for name, loopback in (("tcp", "0100007F"), ("tcp6", "00000000000000000000000001000000")):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            parts = line.split()
            address = parts[1].split(":")[0]
            mapped = address.endswith("FFFF00000100007F")
            listens = parts[3] == "0A"
            if listens and f"socket:[{parts[9]}]" in inodes and address != loopback and not mapped:
                found.append(f"{name} {parts[1]}")
    return found


def test_a_part_that_dies_is_started_again_and_forecasts_go_on(platform):
    key = (platform.folder / "var" / "dev.key").read_text().strip()
    (ray,) = [line for line in platform.alive() if "serve forecast" in line]
    os.kill(int(ray.split()[0]), signal.SIGKILL)
    platform.wait_until_said("forecast ended with status -9; starting it again")
    with Client(platform.address, key=key) as client:
        served_by = set()
        deadline = time.monotonic() + 90
        while "ray:Native" not in served_by or "in-process" not in served_by:
            served_by.add(client.forecast("mine", [0.4, 0.41, 0.43] * 20).meta.served_by)
            assert time.monotonic() < deadline, f"only {served_by}"
            time.sleep(0.2)


def test_a_killed_supervisor_leaves_no_process(platform):
    platform.end(signal.SIGKILL)
    assert platform.wait_until_gone() == []


def test_starts_again_after_a_kill_and_stops_by_itself_when_asked_for_once(platform):
    assert platform.process is not None
    platform.start("--once")
    platform.said = ""
    platform.wait_until_said("READY")
    assert platform.process.wait(60) == 0
    assert platform.wait_until_gone() == []


def test_ctrl_c_while_starting_leaves_no_process(new_platform):
    started = new_platform()
    started.start()
    started.wait_until_said("replay venue")
    started.end(signal.SIGINT)
    assert started.wait_until_gone() == []
