"""Keys and audit in a real SQLite and a real PostgreSQL, and stores of the version before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from gateway.audit import Actor, AuditLog
from gateway.keys import KeyIsRotated, KeyRing, KeyStore
from marketcal.errors import CredentialRevoked

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
DESK = Actor("desk", "", "cli")
BEFORE = (
    "CREATE TABLE api_key (key_id VARCHAR(8) NOT NULL PRIMARY KEY, "
    "secret_sha256 VARCHAR(64) NOT NULL, role VARCHAR(16) NOT NULL, note VARCHAR(200) NOT NULL, "
    "rate_per_minute FLOAT NOT NULL, burst INTEGER NOT NULL, created_at {time} NOT NULL, "
    "expires_at {time}, revoked_at {time})",
    "CREATE TABLE key_rotation (key_id VARCHAR(8) NOT NULL PRIMARY KEY, "
    "successor_id VARCHAR(8) NOT NULL)",
    "INSERT INTO api_key VALUES ('abcdefgh', '{digest}', 'viewer', 'old', 600, 200, "
    "'2026-10-01 00:00:00.000000', NULL, NULL)",
)
"""The store as the version before made it, with a key."""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty store."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/control.db"
        return
    server = str(request.getfixturevalue("postgresql"))
    admin = sa.create_engine(server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        connection.execute(sa.text("DROP DATABASE IF EXISTS control WITH (FORCE)"))
        connection.execute(sa.text("CREATE DATABASE control"))
    yield server.replace("/postgres?", "/control?")


@pytest.fixture
def engine(url: str) -> Iterator[sa.Engine]:
    made = sa.create_engine(url)
    yield made
    made.dispose()


def make_the_store_of_before(engine: sa.Engine, digest: str = "0" * 64) -> None:
    kind = "DATETIME" if engine.dialect.name == "sqlite" else "TIMESTAMP WITH TIME ZONE"
    with engine.begin() as connection:
        for statement in BEFORE:
            connection.execute(sa.text(statement.format(time=kind, digest=digest)))


@pytest.fixture
def store(engine: sa.Engine) -> KeyStore:
    return KeyStore(engine, lambda: NOW, DESK)


def test_keys_live_in_either_store(store: KeyStore) -> None:
    text, row = store.create("operator", note="ü", lifetime=timedelta(days=2))
    successor, new_row = store.rotate(row.key_id, timedelta(hours=1))
    with pytest.raises(KeyIsRotated):
        store.rotate(row.key_id, timedelta(hours=1))
    store.revoke(row.key_id)

    ring = KeyRing(lambda: NOW)
    ring.replace(store.rows())
    with pytest.raises(CredentialRevoked):
        ring.authenticate(text)
    assert ring.authenticate(successor).name == new_row.key_id
    assert {found.created_at for found in store.rows()} == {NOW}
    assert {found.created_at.utcoffset() for found in store.rows()} == {timedelta(0)}


def test_a_change_of_a_key_and_its_audit_row_are_one(store: KeyStore) -> None:
    _, row = store.create("viewer")
    _, successor = store.rotate(row.key_id, timedelta(hours=1))
    store.revoke(successor.key_id)
    with pytest.raises(KeyIsRotated):
        store.rotate(row.key_id, timedelta(hours=1))
    with pytest.raises(KeyError):
        store.revoke("nobody00")

    assert [(found.action, found.resource) for found in store.audit.rows()] == [
        ("keys revoke", successor.key_id),
        ("keys rotate", f"{row.key_id} {successor.key_id}"),
        ("keys create", row.key_id),
    ]
    assert {(f.actor, f.address, f.outcome, f.at) for f in store.audit.rows()} == {
        ("desk", "cli", "done", NOW)
    }


def test_without_its_audit_row_a_key_is_not_changed(store: KeyStore, engine: sa.Engine) -> None:
    _, row = store.create("viewer")
    before = store.rows()
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE audit"))

    changes: tuple[Callable[[], object], ...] = (
        lambda: store.create("viewer"),
        lambda: store.rotate(row.key_id, timedelta(hours=1)),
        lambda: store.revoke(row.key_id),
    )
    for change in changes:
        with pytest.raises(sa.exc.DBAPIError):
            change()

    assert store.rows() == before


def test_the_last_use_is_kept_and_never_goes_back(engine: sa.Engine) -> None:
    times = iter([NOW, NOW, NOW + timedelta(hours=1), NOW, NOW])
    store = KeyStore(engine, lambda: next(times))
    _, row = store.create("viewer")  # the row, and its line in the audit
    store.write_uses({row.key_id, "gone0000"})
    store.write_uses({row.key_id})

    assert [found.last_used_at for found in store.rows()] == [NOW + timedelta(hours=1)]


def test_an_outcome_is_set_once(engine: sa.Engine) -> None:
    audit = AuditLog(engine, lambda: NOW)
    number = audit.write_attempt(Actor("k", "operator", "192.0.2.1"), "/a/B", "thing", "r-1")
    assert audit.rows()[0].outcome is None
    audit.write_outcome(number, "NOT_FOUND")
    audit.write_outcome(number, "OK")
    assert audit.rows()[0].outcome == "NOT_FOUND"


def test_rows_are_read_newest_first_within_bounds(engine: sa.Engine) -> None:
    hours = iter(range(100))
    audit = AuditLog(engine, lambda: NOW + timedelta(hours=next(hours)))
    for number in range(5):
        audit.write_attempt(DESK, f"step {number}", "", "")
    assert [row.action for row in audit.rows(limit=2)] == ["step 4", "step 3"]
    since = (NOW + timedelta(hours=3)).astimezone()
    assert [row.action for row in audit.rows(since=since)] == ["step 4", "step 3"]


def test_what_is_longer_than_its_column_is_cut(engine: sa.Engine) -> None:
    audit = AuditLog(engine, lambda: NOW)
    audit.write_attempt(Actor("k" * 999, "r" * 99, "a" * 999), "x" * 999, "y" * 999, "z" * 999)
    row = audit.rows()[0]
    assert (len(row.actor), len(row.resource), len(row.request_id)) == (200, 200, 64)


def test_a_store_of_the_version_before_gets_what_it_lacks(engine: sa.Engine) -> None:
    text, digest = made_key()
    make_the_store_of_before(engine, digest)

    store = KeyStore(engine, lambda: NOW)

    old = store.rows()[0]
    assert (old.key_id, old.note, old.last_used_at) == ("abcdefgh", "old", None)
    assert old.created_at == datetime(2026, 10, 1, tzinfo=UTC)
    ring = KeyRing(lambda: NOW)
    ring.replace(store.rows())
    assert ring.authenticate(text).role == "viewer"
    store.write_uses(ring.used)
    assert store.rows()[0].last_used_at == NOW
    store.rotate("abcdefgh", timedelta(hours=1))
    assert [row.action for row in store.audit.rows()] == ["keys rotate"]


def made_key() -> tuple[str, str]:
    """A key with the id of the stored one, and its digest."""
    from gateway import keys

    secret = "s" * 32
    secret += keys._checksum("abcdefgh", secret)
    return f"mk_abcdefgh_{secret}", keys._digest(secret)


def test_the_version_before_goes_on_beside_this_one(engine: sa.Engine) -> None:
    make_the_store_of_before(engine)
    KeyStore(engine, lambda: NOW)
    with engine.begin() as connection:  # it names the columns that it knows
        connection.execute(
            sa.text(
                "INSERT INTO api_key (key_id, secret_sha256, role, note, rate_per_minute, burst, "
                "created_at) VALUES ('second00', 'x', 'viewer', '', 1, 1, '2026-10-02 00:00:00')"
            )
        )
    assert len(KeyStore(engine, lambda: NOW).rows()) == 2


def test_processes_that_start_at_once_prepare_a_store_together(url: str) -> None:
    before = sa.create_engine(url, poolclass=sa.NullPool)
    make_the_store_of_before(before)
    engines = [sa.create_engine(url, poolclass=sa.NullPool) for _ in range(6)]
    with ThreadPoolExecutor(6) as threads:
        stores = list(threads.map(lambda engine: KeyStore(engine, lambda: NOW), engines))
    assert [len(store.rows()) for store in stores] == [1] * 6
