"""`marketcal audit list`: who changed keys, newest first, and within bounds."""

from __future__ import annotations

import json
import os
import pwd
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.loading import key_store
from gateway.keys import split_key


def listed(run: Any, *options: str) -> list[dict[str, Any]]:
    result = run("audit", "list", "--output", "json", *options)
    assert result.exit_code == 0, result.output
    rows: list[dict[str, Any]] = json.loads(result.output)
    return rows


def test_each_command_that_changes_a_key_is_there_newest_first(run: Any) -> None:
    first, _ = split_key(run("keys", "create", "--role", "viewer").output.strip())
    second, _ = split_key(run("keys", "rotate", first).output.strip())
    run("keys", "revoke", second)
    run("keys", "revoke", "nobody00")
    run("keys", "list")

    rows = listed(run)

    assert [(row["what"], row["resource"]) for row in rows] == [
        ("keys revoke", second),
        ("keys rotate", f"{first} {second}"),
        ("keys create", first),
    ]
    own = pwd.getpwuid(os.getuid()).pw_name
    assert {(row["who"], row["from"], row["outcome"]) for row in rows} == {(own, "cli", "done")}


def test_who_it_was_does_not_come_from_the_environment(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("USER", "LOGNAME", "USERNAME", "LNAME"):
        monkeypatch.setenv(name, "somebody-else")
    run("keys", "create", "--role", "viewer")
    assert listed(run)[0]["who"] == pwd.getpwuid(os.getuid()).pw_name


def test_no_secret_is_in_the_audit(run: Any) -> None:
    text = run("keys", "create", "--role", "admin", "--note", "a note").output.strip()
    assert split_key(text)[1] not in run("audit", "list", "--output", "json").output


def test_limit_and_since_bound_the_list(run: Any) -> None:
    for _ in range(3):
        run("keys", "create", "--role", "viewer")
    assert len(listed(run, "--limit", "2")) == 2
    now = datetime.now(UTC)
    hour = timedelta(hours=1)
    assert len(listed(run, "--since", f"{now - hour:%Y-%m-%dT%H:%M:%S}")) == 3
    assert listed(run, "--since", f"{now + hour:%Y-%m-%dT%H:%M:%S}") == []
    assert len(listed(run, "--since", f"{now - hour:%Y-%m-%dT%H:%M:%S}-02:00")) == 0


@pytest.mark.parametrize("options", [("--since", "yesterday"), ("--limit", "0")])
def test_bounds_that_are_none_are_refused(options: tuple[str, str], run: Any) -> None:
    result = run("audit", "list", *options)
    assert (result.exit_code, options[0] in result.output) == (2, True)


def test_an_audit_of_nothing_makes_no_store(run: Any, alone: Path) -> None:
    result = run("audit", "list")
    assert (result.exit_code, result.output) == (0, "(nothing)\n")
    assert list(alone.iterdir()) == []


def test_the_list_of_keys_shows_when_each_was_last_used(run: Any) -> None:
    key_id, _ = split_key(run("keys", "create", "--role", "viewer").output.strip())
    run("keys", "create", "--role", "viewer")
    store = key_store()
    store.write_uses({key_id})
    store.close()
    rows = json.loads(run("keys", "list", "--output", "json").output)
    used = {row["id"]: row["last used"] for row in rows}
    assert used.pop(key_id).startswith(str(datetime.now(UTC).year))
    assert list(used.values()) == [None]
