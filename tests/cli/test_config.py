"""`marketcal config show`: every setting, and no secret."""

from __future__ import annotations

from typing import Any

import pytest


def test_a_password_is_not_shown(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARKETCAL_CONTROL__URL", "postgresql://me:geheim@db/x")
    result = run("config", "show", "--output", "json")
    assert (result.exit_code, "geheim" in result.output) == (0, False)
    assert "postgresql://***@db/x" in result.output


@pytest.mark.parametrize("command", [("config", "show"), ("keys", "list"), ("up", "--once")])
def test_a_wrong_setting_ends_with_2(
    command: tuple[str, ...], run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARKETCAL_FORECAST__DEFAULT_MODEL", "none")
    result = run(*command)
    assert (result.exit_code, "forecast.default_model" in result.output) == (2, True)
