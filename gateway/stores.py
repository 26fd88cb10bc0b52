"""Opens the control store."""

from __future__ import annotations

import contextlib
from pathlib import Path

import sqlalchemy as sa

from market_data.control_store import write_ahead


def open_store(url: str) -> sa.Engine:
    """The control store at ``url``; a new SQLite file is its owner's alone."""
    parsed = sa.make_url(url)
    database = parsed.database or ":memory:"
    if parsed.get_backend_name() == "sqlite" and not database.startswith((":", "file:")):
        file = Path(database)
        file.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError):  # SQLite says what is wrong with the file
            file.touch(0o600)
    return write_ahead(sa.create_engine(parsed))
