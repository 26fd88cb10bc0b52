"""What the tests of the command line share: a folder and an environment of their own."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli.main import main

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, an environment without our variables."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.upper().startswith("MARKETCAL_"):
            monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def run() -> Run:
    """Runs a command; whatever ends it but an exit code is an error of the test."""

    def invoke(*arguments: str) -> Result:
        result = CliRunner().invoke(main, arguments)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke
