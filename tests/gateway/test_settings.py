"""Settings: where they come from, and that nothing is silently ignored."""

from __future__ import annotations

import doctest
import os
from pathlib import Path

import pytest

from gateway import settings as settings_module
from gateway.settings import Settings, SettingsError, describe, load, without_secrets


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
    assert (settings.gateway.host, settings.forecast.default_model) == ("::1", "native")
    sources = {key: source for key, _, source, _ in describe(settings)}
    assert sources["gateway.port"] == "environment"
    assert sources["gateway.max_streams"] == "marketcal.toml"
    assert sources["gateway.host"] == "command line"
    assert sources["control.url"] == "default"


def test_every_setting_is_described_once() -> None:
    keys = [key for key, *_ in describe(load())]
    assert len(set(keys)) == len(keys)
    assert {"gateway.port", "forecast.policy.model_seconds"} <= set(keys)
    assert {key.partition(".")[0] for key in keys} == set(Settings.model_fields)


def test_a_section_within_a_section_is_read_from_file_and_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write(
        "[forecast.policy]\nprobe_every = 7\n"
        "[[forecast.policy.routes]]\nname = 'thin'\nliquidity = 'MID'\nmodel = 'auto'\n"
    )
    monkeypatch.setenv("MARKETCAL_FORECAST__POLICY__MODEL_SECONDS", "0.7")

    settings = load()

    policy = settings.forecast.policy
    assert (policy.probe_every, policy.model_seconds, policy.routes[0].name) == (7, 0.7, "thin")
    sources = {key: source for key, _, source, _ in describe(settings)}
    assert sources["forecast.policy.probe_every"] == "marketcal.toml"
    assert sources["forecast.policy.model_seconds"] == "environment"
    assert sources["forecast.policy.routes"] == "marketcal.toml"
    assert sources["forecast.policy.cache_bytes"] == "default"


@pytest.mark.parametrize(
    "text",
    [
        "routes = [{name = 'r', model = 'none'}]",
        "routes = [{name = 'asked', model = 'ewma'}]",
        "fallback_model = 'none'",
        "cache_stale_seconds = 1",
        "prob_every = 1",
    ],
)
def test_a_wrong_policy_is_an_error_that_names_its_section(text: str) -> None:
    write(f"[forecast.policy]\n{text}\n")
    with pytest.raises(SettingsError, match=r"forecast\.policy"):
        load()


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


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "gateway.example", ""])
def test_plaintext_beyond_loopback_is_refused_unless_it_is_allowed(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARKETCAL_GATEWAY__HOST", host)
    with pytest.raises(SettingsError, match=r"gateway\.host.*gateway\.allow_plaintext"):
        load()
    monkeypatch.setenv("MARKETCAL_GATEWAY__ALLOW_PLAINTEXT", "true")
    assert load().gateway.host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"])
def test_loopback_needs_no_leave(host: str) -> None:
    assert load({"gateway": {"host": host}}).gateway.host == host


def test_a_default_model_that_is_none_is_an_error_that_names_the_models() -> None:
    with pytest.raises(SettingsError, match=r"^setting forecast\.default_model: .*'ewmaa'.*ewma"):
        load({"forecast": {"default_model": "ewmaa"}})


def test_fewest_replicas_above_most_is_an_error() -> None:
    with pytest.raises(SettingsError, match=r"^setting forecast\.min_replicas: 3 is above"):
        load({"forecast": {"min_replicas": 3, "max_replicas": 2}})


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("postgresql+psycopg://me:geheim@db:5432/x", "postgresql+psycopg://***@db:5432/x"),
        ("postgresql://me:ge/h@geheim@db/x", "postgresql://***@db/x"),
        ("postgresql://db/x?password=geheim", "postgresql://db/x?…"),
        ("https://me:geheim/1@graph.example/x", "https://…"),
        ("https://geheim@graph.example/x", "https://graph.example/…"),
        ("https://g.example/api/geheim0123456789ab/subgraphs/id/Z", "https://g.example/…"),
        ("https://g.example/x?key=geheim", "https://g.example/…"),
        ("https://gamma-api.polymarket.com", "https://gamma-api.polymarket.com"),
        ("http://127.0.0.1:8000/subgraph/activity", "http://127.0.0.1:8000/subgraph/activity"),
        ("sqlite:////srv/a-folder-with-a-long-name/control.db",) * 2,
        ("s3://a-bucket/a-prefix-that-is-quite-long/lake",) * 2,
        ("var/lake", "var/lake"),
    ],
)
def test_secrets_in_urls_are_not_shown(value: str, shown: str) -> None:
    assert without_secrets(value) == shown
    assert "geheim" not in shown


def test_the_examples_are_true() -> None:
    assert doctest.testmod(settings_module).failed == 0


def test_the_description_of_settings_shows_no_secret() -> None:
    settings = load(
        {
            "control": {"url": "postgresql://me:geheim@db/x"},
            "flows": {"subgraph_url": "https://g.example/api/geheim0123456789ab/subgraphs"},
        }
    )
    assert "geheim" not in str(describe(settings))


def test_settings_cannot_be_changed() -> None:
    settings = load()
    with pytest.raises(ValueError, match="frozen"):
        settings.gateway.port = 1  # type: ignore[misc]
