"""API keys: made, stored as digests, checked in constant time, revoked without a restart.

A key reads ``mk_<id>_<secret><checksum>``. The id is public and finds the row; the secret has 160
random bits, so a plain SHA-256 of it is a sound digest at rest; the checksum tells a mistyped key
from a wrong one without a look-up. Keys live in the control store (SQLAlchemy); the gateway holds
them in memory and looks for changes at a short interval.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import math
import re
import secrets
import threading
import zlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from gateway.audit import UNNAMED, Actor, AuditLog
from gateway.call import Identity
from gateway.control_tables import API_KEY, KEY_ROTATION
from gateway.roles import ROLES
from market_data.control_store import as_utc
from marketcal.errors import CredentialExpired, CredentialInvalid, CredentialRevoked

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
_KEY = re.compile(r"mk_([0-9a-z]{8})_([0-9a-z]{32}[0-9a-z]{6})")


class KeyIsRotated(Exception):
    """A key has a successor already; the message names it."""


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key as it is stored; the secret itself is not."""

    key_id: str
    secret_sha256: str
    role: str
    note: str
    rate_per_minute: float
    burst: int
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = None


def new_key() -> tuple[str, str, str]:
    """A fresh key: (the text to hand out once, its id, the digest to store)."""
    key_id = "".join(secrets.choice(_ALPHABET) for _ in range(8))
    secret = "".join(secrets.choice(_ALPHABET) for _ in range(32))
    secret += _checksum(key_id, secret)
    return f"mk_{key_id}_{secret}", key_id, _digest(secret)


def split_key(text: str) -> tuple[str, str]:
    """(id, secret with its checksum) of a key.

    Raises:
        CredentialInvalid: it is not of the form.
    """
    match = _KEY.fullmatch(text)
    if match is None:
        raise CredentialInvalid("the API key is malformed: keys read mk_<id>_<secret>")
    return match[1], match[2]


def _checksum(key_id: str, secret: str) -> str:
    number = zlib.crc32(f"{key_id}_{secret}".encode())
    digits = ""
    for _ in range(6):
        number, digit = divmod(number, 36)
        digits = _ALPHABET[digit] + digits
    return digits


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


class KeyStore:
    """Keys in the control store; each change leaves a row in the audit in the same transaction.

    Args:
        engine: the store.
        now: the wall clock.
        actor: who changes keys here.

    Attributes:
        audit: the audit of the same store.
    """

    def __init__(
        self, engine: sa.Engine, now: Callable[[], datetime], actor: Actor = UNNAMED
    ) -> None:
        self.audit = AuditLog(engine, now)
        self._engine = engine
        self._now = now
        self._actor = actor

    def create(
        self,
        role: str,
        *,
        note: str = "",
        lifetime: timedelta | None = None,
        rate_per_minute: float | None = None,
        burst: int | None = None,
    ) -> tuple[str, KeyRow]:
        """Makes and stores a key; the returned text is the only copy of its secret.

        Args:
            role: one of `ROLES`.
            note: what it is for.
            lifetime: above zero; None for a key without an end.
            rate_per_minute: above zero; None for the role's.
            burst: at least 1; None for the role's.

        Raises:
            ValueError: a limit is out of its range.
        """
        if lifetime is not None and lifetime <= timedelta(0):
            raise ValueError("lifetime must be above zero")
        if rate_per_minute is not None and not 0 < rate_per_minute < math.inf:
            raise ValueError("rate_per_minute must be a finite number above zero")
        if burst is not None and burst < 1:
            raise ValueError("burst must be at least 1")
        text, row = self._made(role, note, lifetime, rate_per_minute, burst)
        with self._engine.begin() as connection:
            _insert(connection, row)
            self._note(connection, "keys create", row.key_id)
        return text, row

    def _made(
        self,
        role: str,
        note: str,
        lifetime: timedelta | None,
        rate_per_minute: float | None,
        burst: int | None,
    ) -> tuple[str, KeyRow]:
        """A key that is not stored yet."""
        text, key_id, digest = new_key()
        now = self._now()
        own = ROLES[role]
        row = KeyRow(
            key_id=key_id,
            secret_sha256=digest,
            role=role,
            note=note,
            rate_per_minute=own.rate_per_minute if rate_per_minute is None else rate_per_minute,
            burst=own.burst if burst is None else burst,
            created_at=now,
            expires_at=None if lifetime is None else now + lifetime,
            revoked_at=None,
        )
        return text, row

    def rotate(self, key_id: str, overlap: timedelta) -> tuple[str, KeyRow]:
        """A new key with the old one's role, limits and lifetime; the old ends after ``overlap``.

        A key is rotated once: from then on its end is that of the overlap, which says nothing
        about how long a successor should live. Whoever rotates again rotates the successor.

        Raises:
            KeyError: there is no such key, or it is revoked or has expired.
            KeyIsRotated: it has a successor.
        """
        now = self._now()
        old = next((row for row in self.rows() if row.key_id == key_id), None)
        if old is None or old.revoked_at is not None:
            raise KeyError(key_id)
        if old.expires_at is not None and old.expires_at <= now:
            raise KeyError(key_id)
        lifetime = None if old.expires_at is None else old.expires_at - old.created_at
        text, row = self._made(old.role, old.note, lifetime, old.rate_per_minute, old.burst)
        end = now + overlap if old.expires_at is None else min(now + overlap, old.expires_at)
        try:
            with self._engine.begin() as connection:
                connection.execute(
                    KEY_ROTATION.insert().values(key_id=key_id, successor_id=row.key_id)
                )
                _insert(connection, row)
                connection.execute(
                    API_KEY.update().where(API_KEY.c.key_id == key_id).values(expires_at=end)
                )
                self._note(connection, "keys rotate", f"{key_id} {row.key_id}")
        except sa.exc.IntegrityError:
            raise self._rotated(key_id) from None
        return text, row

    def _rotated(self, key_id: str) -> KeyIsRotated:
        with self._engine.connect() as connection:
            successor = connection.execute(
                sa.select(KEY_ROTATION.c.successor_id).where(KEY_ROTATION.c.key_id == key_id)
            ).scalar_one()
        return KeyIsRotated(f"the key {key_id} was rotated before; its successor is {successor}")

    def revoke(self, key_id: str) -> None:
        """Ends a key now.

        Raises:
            KeyError: there is no such key.
        """
        with self._engine.begin() as connection:
            statement = API_KEY.update().where(API_KEY.c.key_id == key_id)
            if connection.execute(statement.values(revoked_at=self._now())).rowcount == 0:
                raise KeyError(key_id)
            self._note(connection, "keys revoke", key_id)

    def write_uses(self, key_ids: Collection[str]) -> None:
        """Notes that the keys were used until now."""
        now = self._now()
        unused = API_KEY.c.last_used_at.is_(None) | (API_KEY.c.last_used_at < now)
        statement = API_KEY.update().where(API_KEY.c.key_id == sa.bindparam("used"), unused)
        with self._engine.begin() as connection:
            connection.execute(
                statement.values(last_used_at=now), [{"used": key_id} for key_id in sorted(key_ids)]
            )

    def rows(self) -> list[KeyRow]:
        """All keys, oldest first."""
        with self._engine.connect() as connection:
            found = connection.execute(API_KEY.select().order_by(API_KEY.c.created_at)).mappings()
            return [_row(mapping) for mapping in found]

    def close(self) -> None:
        """Lets go of the connections to the store."""
        self._engine.dispose()

    def _note(self, connection: sa.Connection, action: str, resource: str) -> None:
        self.audit.write_command(connection, self._actor, action, resource)


def _insert(connection: sa.Connection, row: KeyRow) -> None:
    values = {column.name: getattr(row, column.name) for column in API_KEY.columns}
    connection.execute(API_KEY.insert().values(values))


def _row(mapping: sa.RowMapping) -> KeyRow:
    values = dict(mapping)
    for name in ("created_at", "expires_at", "revoked_at", "last_used_at"):
        values[name] = as_utc(values[name])
    return KeyRow(**values)


class KeyRing:
    """The keys in memory, as the gateway checks them on each call.

    Attributes:
        used: ids of the keys that passed since somebody last wrote them down and emptied it.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.used: set[str] = set()
        self._now = now
        self._rows: dict[str, tuple[KeyRow, Identity]] = {}
        self._numbers = itertools.count(1)
        self._latest = 0
        self._lock = threading.Lock()

    def begin_reading(self) -> int:
        """A number for `replace`, taken before the store is read."""
        return next(self._numbers)

    def replace(self, rows: list[KeyRow], number: int | None = None) -> None:
        """Takes over the stored keys, unless later ones were taken over since ``number``."""
        mine = self.begin_reading() if number is None else number
        with self._lock:
            if mine > self._latest:
                self._latest = mine
                self._rows = {row.key_id: (row, _identity(row)) for row in rows}

    def has_ended(self, name: str) -> bool:
        """Whether ``name`` is that of a key whose time is over, or that was revoked."""
        found = self._rows.get(name)
        if found is None:
            return False  # somebody who does not call with a key
        row, now = found[0], self._now()
        return row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= now)

    def authenticate(self, text: str) -> Identity:
        """Who holds this key.

        Raises:
            CredentialInvalid: malformed, unknown or wrong.
            CredentialRevoked: it was revoked.
            CredentialExpired: its time is over.
        """
        key_id, secret = split_key(text)
        found = self._rows.get(key_id)
        digest = _digest(secret)
        if not hmac.compare_digest(digest, found[0].secret_sha256 if found else "0" * 64):
            mistyped = secret[32:] != _checksum(key_id, secret[:32])
            raise CredentialInvalid(f"the API key is {'mistyped' if mistyped else 'not known'}")
        assert found is not None
        row, identity = found
        if row.revoked_at is not None:
            raise CredentialRevoked(f"the API key {key_id} was revoked")
        if row.expires_at is not None and row.expires_at <= self._now():
            raise CredentialExpired(f"the API key {key_id} has expired")
        self.used.add(key_id)
        return identity


def _identity(row: KeyRow) -> Identity:
    return Identity(row.key_id, row.role, ROLES[row.role].scopes, row.rate_per_minute, row.burst)
