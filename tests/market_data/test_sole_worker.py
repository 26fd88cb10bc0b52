"""One worker at a time on a store, and another as soon as it has ended, however it ended."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from market_data.sole_worker import AlreadyWorking, sole

HOLD = """
import sys, sqlalchemy as sa
from market_data.sole_worker import sole
with sole(sa.create_engine(sys.argv[1]), "stream-worker"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_one_is_refused_and_let_in_when_the_first_has_gone(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'control.db'}")
    with sole(engine, "stream-worker"):
        with pytest.raises(AlreadyWorking, match="stream-worker"), sole(engine, "stream-worker"):
            pass
        with sole(engine, "another work"):
            pass
    with sole(engine, "stream-worker"):
        pass


def test_a_lock_falls_with_a_process_that_was_killed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'control.db'}"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(AlreadyWorking), sole(sa.create_engine(url), "stream-worker"):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait(10)
    holder.stdin.close()
    holder.stdout.close()
    with sole(sa.create_engine(url), "stream-worker"):
        pass


def test_on_postgresql_a_lock_is_given_back_and_a_lost_one_is_noticed(postgresql: str) -> None:
    first, second = sa.create_engine(postgresql), sa.create_engine(postgresql)
    for _ in range(3):
        with sole(first, "stream-worker") as alone:
            alone()
            with pytest.raises(AlreadyWorking), sole(second, "stream-worker"):
                pass
        with sole(second, "stream-worker"):
            pass
    admin = sa.create_engine(postgresql, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    cut = sa.text("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")

    def cut_and_ask(alone: Callable[[], None]) -> None:
        with admin.connect() as connection:
            connection.execute(cut)
        alone()

    with pytest.raises(sa.exc.DBAPIError), sole(first, "stream-worker") as alone:
        cut_and_ask(alone)
    first.dispose()
    second.dispose()
