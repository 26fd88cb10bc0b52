"""Settings: where they come from, and that nothing is silently ignored."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.settings import Settings, SettingsError, describe, load


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without a file, an environment without our variables."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.upper().startswith("MARKETCAL_"):
            monkeypatch.delenv(name)


def write(text: str) -> None:
    Path("marketcal.toml").write_text(text)


def test_the_environment_is_stronger_than_the_file_and_the_file_than_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write("[gateway]\nport = 1111\nmax_streams = 7\n")
    monkeypatch.setenv("MARKETCAL_GATEWAY__PORT", "2222")

    settings = load({"gateway": {"host": "::1"}})

    assert (settings.gateway.port, settings.gateway.max_streams) == (2222, 7)
    assert (settings.gateway.host, settings.forecast.default_model) == ("::1", "ewma")
    sources = {key: source for key, _, source, _ in describe(settings)}
    assert sources["gateway.port"] == "environment"
    assert sources["gateway.max_streams"] == "marketcal.toml"
    assert sources["gateway.host"] == "command line"
    assert sources["control.url"] == "default"


def test_every_setting_is_described_once() -> None:
    keys = [key for key, *_ in describe(load())]
    fields = sum(
        len(info.annotation.model_fields)  # type: ignore[union-attr]
        for info in Settings.model_fields.values()
    )
    assert len(set(keys)) == len(keys) == fields


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[gateway]\nprot = 1\n", "gateway.prot"),
        ("[gatway]\nport = 1\n", "gatway"),
        ("[gateway]\nport = 70000\n", "gateway.port"),
        ("[gateway]\nanonymous_role = 'admin'\n", "gateway.anonymous_role"),
        ("[forecast]\nin_process = 'sometimes'\n", "forecast.in_process"),
        ("[gateway\n", "marketcal.toml"),
        ("gateway = 5\n", "gateway"),
    ],
)
def test_a_wrong_file_is_an_error_that_names_the_key(text: str, named: str) -> None:
    write(text)
    with pytest.raises(SettingsError, match=named.replace(".", r"\.")):
        load()


@pytest.mark.parametrize(
    "name", ["MARKETCAL_GATEWAY__PROT", "MARKETCAL_PORT", "MARKETCAL_GATEWAY", "marketcal_x__y"]
)
def test_an_unknown_variable_is_an_error_that_names_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(SettingsError, match=name):
        load()


def test_a_wrong_variable_is_an_error_that_names_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARKETCAL_GATEWAY__PORT", "many")
    with pytest.raises(SettingsError, match=r"gateway\.port"):
        load()


def test_a_limit_above_that_of_the_transport_is_an_error() -> None:
    """Else the transport would refuse before we can say why."""
    with pytest.raises(SettingsError, match="transport_bytes"):
        load({"gateway": {"max_request_bytes": 2 << 20, "transport_bytes": 1 << 20}})
    with pytest.raises(SettingsError, match="transport_bytes"):
        load({"gateway": {"max_response_bytes": 2 << 20, "transport_bytes": 1 << 20,
                          "max_request_bytes": 1 << 20}})  # fmt: skip


def test_settings_cannot_be_changed() -> None:
    settings = load()
    with pytest.raises(ValueError, match="frozen"):
        settings.gateway.port = 1  # type: ignore[misc]
