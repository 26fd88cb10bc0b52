"""Whatever is wrong with an archive, a setting or a store is one line, never a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def ended(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own: it changes the environment, and installs handlers."""
    return subprocess.run(
        [sys.executable, "-m", "gateway.cli.main", *arguments],
        capture_output=True, text=True, timeout=60, check=False)  # fmt: skip


@pytest.mark.parametrize("manifest", [None, "{}"])
def test_a_folder_that_is_no_archive_is_refused(manifest: str | None, alone: Path) -> None:
    folder = alone / "archive"
    folder.mkdir()
    if manifest is not None:
        (folder / "manifest.json").write_text(manifest)
    done = ended("up", "--port", "0", "--archive", str(folder))
    assert done.returncode == 2
    assert done.stderr.startswith("Error: --archive: ")
    assert "manifest.json" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("role", ["gateway", "forecast"])
def test_a_part_refuses_a_bad_setting(role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARKETCAL_GATEWAY__PORT", "many")
    done = ended("serve", role)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: setting gateway.port: ")
    assert done.stderr.count("\n") == 1


def test_the_gateway_names_the_driver_that_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARKETCAL_CONTROL__URL", "postgresql+psycopg2://a:b@127.0.0.1:1/c")
    done = ended("serve", "gateway", "--port", "0")
    assert done.returncode == 2
    assert done.stderr.endswith(
        "Error: setting control.url: the driver psycopg2 is not installed\n"
    )


def test_the_doctor_shows_a_bad_setting_as_a_row(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARKETCAL_GATEWAY__PROT", "1")
    result = run("doctor", "--output", "json")
    rows = {row["check"]: row for row in json.loads(result.stdout)}
    assert result.exit_code == 1
    assert not rows["settings"]["good"]
    assert "MARKETCAL_GATEWAY__PROT" in rows["settings"]["found"]
    assert rows["python"]["good"]
