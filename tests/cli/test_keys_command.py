"""`marketcal keys`: what it refuses, and that looking changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.keys import split_key


@pytest.mark.parametrize(
    "options",
    [
        ("--days", "0"), ("--days", "-1"), ("--days", "nan"), ("--days", "inf"),
        ("--days", "36501"), ("--rate", "0"), ("--rate", "-5"), ("--rate", "nan"),
        ("--rate", "inf"), ("--burst", "0"), ("--note", "x" * 201),
    ],
)  # fmt: skip
def test_a_limit_out_of_its_range_is_refused(
    options: tuple[str, str], run: Any, alone: Path
) -> None:
    result = run("keys", "create", "--role", "viewer", *options)
    assert (result.exit_code, options[0] in result.output) == (2, True)
    assert list(alone.iterdir()) == []


@pytest.mark.parametrize("days", ["36500", "0.000000000001"])
def test_the_ends_of_the_range_make_a_key(days: str, run: Any) -> None:
    assert run("keys", "create", "--role", "viewer", "--days", days).exit_code == 0


@pytest.mark.parametrize("hours", ["-1", "nan", "1e9"])
def test_an_overlap_out_of_its_range_is_refused(hours: str, run: Any) -> None:
    assert run("keys", "rotate", "abcdefgh", "--overlap-hours", hours).exit_code == 2


def test_a_second_rotation_of_a_key_names_the_successor(run: Any) -> None:
    first, _ = split_key(run("keys", "create", "--role", "viewer").output.strip())
    second, _ = split_key(run("keys", "rotate", first).output.strip())
    result = run("keys", "rotate", first)
    assert (result.exit_code, second in result.output) == (1, True)


@pytest.mark.parametrize("command", ["rotate", "revoke"])
def test_a_key_that_is_not_there_is_named(command: str, run: Any) -> None:
    result = run("keys", command, "nobody00")
    assert (result.exit_code, "nobody00" in result.output) == (1, True)


def test_a_list_of_no_keys_makes_no_store(run: Any, alone: Path) -> None:
    result = run("keys", "list")
    assert (result.exit_code, result.output) == (0, "(nothing)\n")
    assert list(alone.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql+psycopg2://a:geheim@127.0.0.1:1/d", "driver psycopg2"),
        ("postgresql+pg8000://a:geheim@127.0.0.1:1/d", "driver pg8000"),
        ("nosuch://a:geheim@h/d", "nosuch"),
        ("geheim", "no SQLAlchemy URL"),
    ],
)
@pytest.mark.parametrize("command", [("list",), ("create", "--role", "viewer")])
def test_a_store_that_cannot_be_opened_is_a_wrong_setting(
    command: tuple[str, ...], url: str, said: str, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARKETCAL_CONTROL__URL", url)
    result = run("keys", *command)
    assert result.exit_code == 2
    assert result.output.startswith("Error: setting control.url: ")
    assert said in result.output
    assert "geheim" not in result.output


def test_a_store_in_a_file_that_is_none_is_said(
    run: Any, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (alone / "text").write_text("no database" * 100)
    monkeypatch.setenv("MARKETCAL_CONTROL__URL", "sqlite:///text")
    result = run("keys", "list")
    assert (result.exit_code, "control store" in result.output) == (1, True)
