"""``marketcal backfill | refit | recalibration | retention | dead-letters``."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from market_data.lake import Lake


@pytest.fixture
def lake(publish: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    made = publish(tmp_path / "lake", markets=120, seed=5)
    monkeypatch.setenv("MARKETCAL_FLOWS__LAKE", str(made.lake))
    monkeypatch.setenv("MARKETCAL_FLOWS__RAW", str(tmp_path / "raw"))
    return made


def rows_of(result: Any) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return list(json.loads(result.stdout))


def test_a_backfill_says_what_it_would_do_and_then_does_it(run: Any, lake: Any) -> None:
    last = lake.as_of.date() - timedelta(days=1)
    asked = ("backfill", str(last - timedelta(days=1)), str(last), "--only-failed")
    planned = rows_of(run(*asked, "--dry-run", "--output", "json"))
    assert [row["note"] for row in planned] == [
        "would run: it has no run",
        "stays: its run is SUCCESS",
    ]
    done = rows_of(run(*asked, "--output", "json"))
    assert [row["stage"] for row in done][-2:] == [row["stage"] for row in planned]
    again = rows_of(run(*asked, "--dry-run", "--output", "json"))
    assert {row["note"] for row in again} == {"stays: its run is SUCCESS"}


def test_a_range_that_ends_before_it_begins_is_one_line(run: Any, lake: Any) -> None:
    result = run("backfill", "2026-09-02", "2026-09-01")
    assert result.exit_code == 5
    assert "the first day 2026-09-02 lies behind the last day 2026-09-01" in result.output


def test_a_fit_is_asked_for_chosen_and_taken_back(run: Any, lake: Any) -> None:
    asked = rows_of(run("refit", "--as-of", f"{lake.as_of:%Y-%m-%d}", "--output", "json"))
    assert [row["stage"] for row in asked] == ["drift", "recalibration", "conformal_refresh"]
    assert "it was asked for" in asked[1]["note"]
    (version, *_) = Lake(lake.lake).read("recalibration_state")["version"].unique().to_list()
    listed = rows_of(run("recalibration", "list", "--output", "json"))
    assert {(row["version"], row["in force"]) for row in listed} == {(version, True)}
    assert all(row["verdict"] for row in listed)

    said = run("recalibration", "use", "identity", "--reason", "it looks odd")
    assert said.output.startswith("identity is in force; the next scoreboard serves it")
    listed = rows_of(run("recalibration", "list", "--output", "json"))
    assert [row["version"] for row in listed if row["in force"]] == ["identity"]
    assert listed[0]["chosen"].endswith(": it looks odd")

    back = ("recalibration", "back", "--reason", "it was fine")
    assert run(*back).output.startswith(f"{version} is in force")
    assert run(*back).output.startswith("identity is in force")
    assert Lake(lake.lake).read("recalibration_choice").height == 4


def test_a_choice_needs_a_reason_and_a_version_that_is_there(run: Any, lake: Any) -> None:
    assert run("recalibration", "use", "identity").exit_code == 2
    assert run("recalibration", "use", "identity", "--reason", " ").exit_code == 2
    result = run("recalibration", "use", "none such", "--reason", "why not")
    assert (result.exit_code, result.output) == (
        1, "Error: recalibration_state: no version none such\n",
    )  # fmt: skip


def test_retention_tells_each_step(run: Any, lake: Any) -> None:
    rows = rows_of(run("retention", "--output", "json"))
    assert [row["stage"] for row in rows] == ["old_days", "old_runs", "old_answers", "upkeep"]


def test_letters_are_listed_and_read_again(run: Any, lake: Any) -> None:
    assert run("dead-letters", "list").output == "(nothing)\n"
    rows = rows_of(run("dead-letters", "replay", "--output", "json"))
    assert [(row["stage"], row["note"]) for row in rows] == [("letters", "none is open")]


def test_post_mortems_are_made_and_written_as_files(run: Any, lake: Any, tmp_path: Path) -> None:
    folder, as_of = tmp_path / "files", f"{lake.as_of:%Y-%m-%d}"
    asked = ("--as-of", as_of, "--days", "20", "--export-to", str(folder), "--output", "json")
    rows = rows_of(run("postmortems", *asked))
    assert [row["stage"] for row in rows] == ["postmortems", "export"]
    assert len(list(folder.iterdir())) >= rows[0]["rows out"] > 0
