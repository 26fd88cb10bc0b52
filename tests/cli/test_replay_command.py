"""``marketcal replay``: what it shows, and what it never removes."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli.replay import replay

DAY = "n_conditions=4,duration_s=2400,n_jumps=2,seed=1,symbols="


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_simulated_stream_is_played_to_its_alerts_twice_the_same(here: Path) -> None:
    shown = []
    for _ in range(2):
        done = CliRunner().invoke(replay, ["--simulate", DAY, "--json"])
        assert done.exit_code == 0, done.output
        shown.append(json.loads(done.output))
    first, second = shown
    assert first["alerts"] == second["alerts"]
    assert first["bars"] == second["bars"] > 150
    assert len(first["alerts"]) >= 1
    assert first["rejected"] == {}


@pytest.mark.parametrize("kind", ["text", "database", "empty"])
def test_a_file_that_is_no_replay_stays_as_it_is(here: Path, kind: str) -> None:
    file = here / "mine.db"
    if kind == "database":
        with sqlite3.connect(file) as connection:
            connection.execute("CREATE TABLE api_key (key_id TEXT)")
        connection.close()
    else:
        file.write_text("notes" if kind == "text" else "")
    before = file.read_bytes()
    done = CliRunner().invoke(replay, ["--simulate", DAY, "--into", str(file)])
    assert done.exit_code != 0
    assert "mine.db" in done.output
    assert file.read_bytes() == before


def test_a_capture_or_a_simulation_is_needed_and_not_both(here: Path) -> None:
    assert CliRunner().invoke(replay, []).exit_code != 0
    wrong = CliRunner().invoke(replay, ["--simulate", "n_markets=3"])
    assert "n_markets" in wrong.output
