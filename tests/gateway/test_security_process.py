"""A gateway as a process: where it listens, what its settings show, which secrets it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from gateway.cli.main import main
from gateway.placeholder_passwords import has_placeholder_password
from gateway.server_settings import is_loopback
from gateway.settings import SettingsError, load

SECRET = "b7f2c4d98e0a41369f5be2d17c6a8043"


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, an environment without our variables."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.upper().startswith("MARKETCAL_"):
            monkeypatch.delenv(name)
    return tmp_path


def listening(process: psutil.Process) -> set[tuple[str, str]]:
    """(kind, address) of each socket that takes what others send, of the whole family."""
    return {
        ("tcp" if connection.status == psutil.CONN_LISTEN else "udp", connection.laddr.ip)
        for one in [process, *process.children(recursive=True)]
        for connection in one.net_connections(kind="inet")
        if connection.status in (psutil.CONN_LISTEN, psutil.CONN_NONE)
    }


def test_nothing_listens_beyond_loopback_by_default(alone: Path) -> None:
    """The sockets of a real process; the ports alone are not the default ones."""
    environment = dict(os.environ) | {
        "MARKETCAL_FORECAST__IN_PROCESS": "always",
        "MARKETCAL_TELEMETRY__PROMETHEUS_PORT": "0",
    }
    ready, log = alone / "ready", alone / "log"
    with log.open("wb") as written:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway.cli.main", "serve", "gateway", "--port", "0",
             "--ready-file", ready],
            cwd=alone, env=environment, stdout=written, stderr=written,
        )  # fmt: skip
    try:
        end = time.monotonic() + 60
        while not ready.exists():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            threading.Event().wait(0.02)
        found = listening(psutil.Process(process.pid))
        assert "tcp" in {kind for kind, _ in found}
        assert [one for one in found if not is_loopback(one[1].removeprefix("::ffff:"))] == []
        assert json.loads(ready.read_text())["address"].startswith("127.0.0.1:")
    finally:
        process.terminate()
        process.wait(30)


def test_the_settings_that_are_shown_hold_no_secret(
    alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = {
        "MARKETCAL_UPSTREAM__SECRET": SECRET,
        "MARKETCAL_CONTROL__URL": f"postgresql+psycopg://me:{SECRET}@db.internal/control",
        "MARKETCAL_GATEWAY__REDIS_URL": f"redis://:{SECRET}@cache.internal:6379/0",
        "MARKETCAL_TELEMETRY__OTLP_ENDPOINT": "https://collector.example",
        "MARKETCAL_TELEMETRY__OTLP_HEADERS": f"authorization={SECRET}",
        "MARKETCAL_IDENTITY__JWKS_URL": f"https://login.example/keys?key={SECRET}",
        "MARKETCAL_IDENTITY__JWT_ISSUER": "https://login.example",
        "MARKETCAL_IDENTITY__JWT_AUDIENCE": "marketcal",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    for form in ("table", "json"):
        shown = CliRunner().invoke(main, ["config", "show", "--output", form])
        assert shown.exit_code == 0, shown.output
        assert SECRET not in shown.output
        assert "cache.internal" in shown.output


REFUSED: dict[str, tuple[str, str, str]] = {
    "a word in the store's URL": ("control", "url", "postgresql://m:changeme@db.internal/c"),
    "a word with digits": ("control", "url", "postgresql://m:Password1@db.internal/c"),
    "the user's own name": ("control", "url", "postgresql://ada:ada@db.internal/c"),
    "one letter": ("gateway", "redis_url", "redis://:aaaaaaaa@cache.internal/0"),
    "a row of digits": ("gateway", "redis_url", "redis://:123456@10.1.2.3/0"),
    "a word in the query": ("control", "url", "postgresql:///c?host=db.internal&password=secret"),
    "a word in letters of the URL": ("gateway", "redis_url", "redis://:%73ecret@cache.internal/0"),
    "of the lake": ("flows", "subgraph_url", "https://me:changeme@graph.example/x"),
    "a short secret": ("upstream", "secret", "short"),
    "a repeated secret": ("upstream", "secret", "ab" * 20),
    "a secret from an example": ("upstream", "secret", "changeme-" + SECRET),
}


@pytest.mark.parametrize(("section", "field", "value"), REFUSED.values(), ids=REFUSED.keys())
def test_a_secret_that_nobody_chose_is_refused_at_the_start(
    section: str, field: str, value: str, alone: Path
) -> None:
    with pytest.raises(SettingsError, match=rf"setting {section}\b") as refused:
        load({section: {field: value}})
    assert value not in str(refused.value), "and not repeated"
    assert "changeme" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///var/control.db", "postgresql://me@db.internal/c", "redis://cache.internal/0",
        "postgresql://me:changeme@127.0.0.1/c", "redis://:secret@localhost/0",
        "postgresql:///c?host=/run/postgresql&password=secret", "redis://[::1/0",
        f"postgresql://me:{SECRET}@db.internal/c", "s3://bucket/lake",
    ],
)  # fmt: skip
def test_what_protects_nothing_from_others_may_have_any_password(url: str) -> None:
    assert not has_placeholder_password(url)


BAD_IDENTITY: dict[str, tuple[dict[str, Any], str]] = {
    "keys in clear": ({"jwks_url": "http://login.example/k"}, "https"),
    "keys from a file": ({"jwks_url": "file:///etc/keys"}, "https"),
    "keys from nowhere": ({"jwks_url": "https://"}, "https"),
    "no audience": ({"jwks_url": "https://l.example/k", "jwt_issuer": "i"}, "go together"),
    "no issuer": ({"jwks_url": "https://l.example/k", "jwt_audience": "a"}, "go together"),
    "no keys": ({"jwt_issuer": "i", "jwt_audience": "a"}, "go together"),
    "a shared secret": ({"jwt_algorithms": ("HS256",)}, "jwt_algorithms"),
    "no signature": ({"jwt_algorithms": ("none",)}, "jwt_algorithms"),
    "no algorithm": ({"jwt_algorithms": ()}, "jwt_algorithms"),
    "a role that is none": ({"certificate_roles": {"x": "root"}}, "certificate_roles"),
}


@pytest.mark.parametrize(("given", "said"), BAD_IDENTITY.values(), ids=BAD_IDENTITY.keys())
def test_settings_under_which_anybody_could_be_somebody_are_refused(
    given: dict[str, Any], said: str, alone: Path
) -> None:
    with pytest.raises(SettingsError, match=f"setting identity.*{said}"):
        load({"identity": given})


def test_the_files_of_keys_are_their_owners_alone(alone: Path) -> None:
    from gateway.cli.loading import key_store
    from gateway.cli.up import dev_key

    (alone / "var").mkdir()
    dev_key()
    key_store().close()
    modes = {path.name: path.stat().st_mode & 0o777 for path in (alone / "var").iterdir()}
    assert modes.keys() >= {"dev.key", "control.db"}
    assert set(modes.values()) == {0o600}  # the store's files beside it too, while they are there
