"""One process at a time works on a control store; the lock falls with the process."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import sqlalchemy as sa


class AlreadyWorking(Exception):
    """Another process works on this store under the same name."""


@contextmanager
def sole(engine: sa.Engine, name: str) -> Iterator[Callable[[], None]]:
    """Works alone under ``name`` while the body runs; yields what finds out whether it does.

    On PostgreSQL it is an advisory lock of a connection that stays open, and falls where that is
    lost: what was yielded then raises DBAPIError. Beside a SQLite file it is a lock on a file of
    its own. A store in memory is nobody else's anyway.

    Raises:
        AlreadyWorking: another process does.
    """
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.detach()  # in a pool it would hold the lock on
            locked = sa.text("SELECT pg_try_advisory_lock(hashtext(:name))")
            if not connection.execute(locked, {"name": f"marketcal {name}"}).scalar():
                raise AlreadyWorking(f"another {name} works on this store")
            try:
                yield lambda: connection.execute(sa.text("SELECT 1")).close()
            finally:
                # A lost connection has lost its lock, whether that was noticed yet or not.
                with suppress(sa.exc.DBAPIError, sa.exc.PendingRollbackError):
                    connection.execute(sa.text("SELECT pg_advisory_unlock_all()"))
        return
    database = engine.url.database
    if not database or database.startswith((":", "file:")):
        yield _nothing
        return
    with Path(f"{database}.{name}.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyWorking(f"another {name} works on {database}") from None
        yield _nothing


def _nothing() -> None:
    """A lock on a file falls with the process alone."""
