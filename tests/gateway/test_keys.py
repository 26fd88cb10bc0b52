"""API keys: their form, what is stored of them, their end."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract import read_methods
from gateway.keys import KeyIsRotated, KeyRing, KeyStore, new_key, split_key
from gateway.roles import ROLES, smallest_burst
from marketcal.errors import (
    CredentialExpired,
    CredentialInvalid,
    CredentialRevoked,
    Unauthenticated,
)


class Clock:
    """A wall clock that a test moves."""

    def __init__(self) -> None:
        self.now = datetime(2026, 10, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[KeyStore]:
    keys = KeyStore(sa.create_engine(f"sqlite:///{tmp_path}/control.db"), clock)
    yield keys
    keys.close()


def ring_of(store: KeyStore, clock: Clock) -> KeyRing:
    ring = KeyRing(clock)
    ring.replace(store.rows())
    return ring


def test_a_key_has_an_id_a_secret_of_160_bits_and_a_checksum() -> None:
    text, key_id, _ = new_key()
    assert re.fullmatch(r"mk_[0-9a-z]{8}_[0-9a-z]{38}", text)
    assert split_key(text)[0] == key_id
    assert 36**32 > 2**160


@given(position=st.integers(0, 49), letter=st.sampled_from("0123456789abcdefghijklmnopqrstuvwxyz"))
def test_one_wrong_letter_is_told_from_a_wrong_key_by_the_checksum(
    position: int, letter: str
) -> None:
    text, _, _ = new_key()
    typed = text[:position] + letter + text[position + 1 :]
    if typed == text:
        return
    with pytest.raises(CredentialInvalid, match=r"malformed|mistyped"):
        KeyRing(Clock()).authenticate(typed)


@given(text=st.text(max_size=80))
def test_whatever_is_sent_as_a_key_is_refused_as_a_credential(text: str) -> None:
    with pytest.raises(Unauthenticated):
        KeyRing(lambda: datetime(2026, 1, 1, tzinfo=UTC)).authenticate(text)


def test_no_secret_is_at_rest(store: KeyStore, tmp_path: Path) -> None:
    text, row = store.create("viewer", note="a note")
    secret = text.split("_")[2][:32]
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert row.key_id.encode() in stored
    assert secret.encode() not in stored
    assert text.encode() not in stored


def test_a_key_is_compared_in_constant_time(
    store: KeyStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[str, str]] = []

    def spy(left: str, right: str) -> bool:
        compared.append((left, right))
        return left == right

    text, row = store.create("viewer")
    ring = ring_of(store, clock)
    monkeypatch.setattr("hmac.compare_digest", spy)

    ring.authenticate(text)
    with pytest.raises(CredentialInvalid):
        ring.authenticate(new_key()[0])

    assert (row.secret_sha256, row.secret_sha256) in compared
    assert any(right == "0" * 64 for _, right in compared), "an unknown id takes as long"


def test_a_key_carries_role_scopes_and_limits(store: KeyStore, clock: Clock) -> None:
    text, _ = store.create("forecaster", rate_per_minute=7.0, burst=1_234)
    identity = ring_of(store, clock).authenticate(text)
    assert (identity.role, identity.rate_per_minute, identity.burst) == ("forecaster", 7.0, 1_234)
    assert identity.scopes == ROLES["forecaster"].scopes


def test_rotation_overlaps_and_then_ends_the_old_key(store: KeyStore, clock: Clock) -> None:
    old, row = store.create("operator", note="desk", burst=77)
    new, new_row = store.rotate(row.key_id, timedelta(hours=1))
    ring = ring_of(store, clock)

    assert ring.authenticate(old).role == ring.authenticate(new).role == "operator"
    assert (new_row.note, new_row.burst) == ("desk", 77)
    clock.now += timedelta(hours=1)
    with pytest.raises(CredentialExpired):
        ring.authenticate(old)
    assert ring.authenticate(new).name == new_row.key_id


def test_rotation_never_lengthens_a_life(store: KeyStore, clock: Clock) -> None:
    _, row = store.create("viewer", lifetime=timedelta(minutes=10))
    _, new_row = store.rotate(row.key_id, timedelta(days=9))

    old_row = next(found for found in store.rows() if found.key_id == row.key_id)
    assert old_row.expires_at == row.expires_at
    assert new_row.expires_at == clock.now + timedelta(minutes=10)


def test_a_key_at_its_end_cannot_be_rotated(store: KeyStore, clock: Clock) -> None:
    _, expired = store.create("viewer", lifetime=timedelta(minutes=1))
    _, revoked = store.create("viewer")
    store.revoke(revoked.key_id)
    clock.now += timedelta(minutes=1)
    for row in (expired, revoked):
        with pytest.raises(KeyError):
            store.rotate(row.key_id, timedelta(hours=1))
    with pytest.raises(KeyError):
        store.rotate("nobody00", timedelta(hours=1))


def test_a_key_is_rotated_once_and_its_successor_lives_as_long_as_it_was_to(
    store: KeyStore, clock: Clock
) -> None:
    """An everlasting key that is on its way out has an end, and must not hand it on."""
    _, row = store.create("viewer")
    _, successor = store.rotate(row.key_id, timedelta(hours=1))
    assert successor.expires_at is None

    with pytest.raises(KeyIsRotated, match=f"{row.key_id}.*{successor.key_id}"):
        store.rotate(row.key_id, timedelta(hours=1))

    assert len(store.rows()) == 2, "the refused rotation left nothing behind"
    assert store.rotate(successor.key_id, timedelta(hours=1))[1].expires_at is None


@pytest.mark.parametrize(
    "limits",
    [
        {"lifetime": timedelta(0)},
        {"lifetime": timedelta(days=-1)},
        {"rate_per_minute": 0.0},
        {"rate_per_minute": math.nan},
        {"rate_per_minute": math.inf},
        {"burst": 0},
    ],
)
def test_a_limit_out_of_its_range_makes_no_key(store: KeyStore, limits: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(limits))):
        store.create("viewer", **limits)
    assert store.rows() == []


def test_a_revoked_key_is_refused_and_says_so(store: KeyStore, clock: Clock) -> None:
    text, row = store.create("viewer")
    store.revoke(row.key_id)
    with pytest.raises(CredentialRevoked):
        ring_of(store, clock).authenticate(text)
    with pytest.raises(KeyError):
        store.revoke("nobody00")


def test_a_stranger_does_not_learn_that_a_key_was_revoked(store: KeyStore, clock: Clock) -> None:
    text, row = store.create("viewer")
    other, _ = store.create("viewer")
    store.revoke(row.key_id)
    forged = new_key()[0]
    with pytest.raises(CredentialInvalid):
        ring_of(store, clock).authenticate(forged)
    assert text != other


def test_times_come_back_as_utc(store: KeyStore, clock: Clock) -> None:
    _, row = store.create("viewer", lifetime=timedelta(days=1))
    assert store.rows() == [row]


@pytest.mark.parametrize("role", ROLES)
def test_the_burst_of_every_role_covers_its_dearest_call(role: str) -> None:
    assert ROLES[role].burst >= smallest_burst(role, read_methods().values())


def test_keys_that_were_read_earlier_do_not_replace_later_ones(
    store: KeyStore, clock: Clock
) -> None:
    ring = KeyRing(clock)
    slow = ring.begin_reading()
    before = store.rows()
    text, _ = store.create("viewer")
    ring.replace(store.rows())
    ring.replace(before, slow)
    assert ring.authenticate(text).role == "viewer"
