"""What a child that failed leaves to read."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from gateway.supervisor.child import ChildError, start

FAILS = [sys.executable, "-c", "import sys; print('so it was'); sys.exit(5)"]


def test_the_end_of_the_log_is_shown(tmp_path: Path) -> None:
    child = start("part", FAILS, folder=tmp_path, environment=os.environ)
    with pytest.raises(ChildError) as failed:
        child.wait_finished()
    assert str(failed.value) == (
        f"part ended with status 5; {tmp_path}/part.log ends with:\n  so it was"
    )


def test_what_went_to_the_terminal_is_not_followed_by_an_empty_log(tmp_path: Path) -> None:
    child = start("run", FAILS, folder=tmp_path, environment=os.environ, attached=True)
    with pytest.raises(ChildError) as failed:
        child.wait_finished()
    assert str(failed.value) == "run ended with status 5"
