"""Says which file of the lake is damaged where reading failed; an engine's error names no table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import polars as pl
import pyarrow as pa
from deltalake.exceptions import DeltaError

from market_data.errors import TableDamaged
from market_data.lake import Lake
from market_data.schemas import TABLES

_OF_READS = (pl.exceptions.PolarsError, pl.exceptions.PanicException, DeltaError, OSError)
"""Where a file was cut short, the reader panics."""


@contextmanager
def naming_damage(lake: Lake) -> Iterator[None]:
    """Gives an error of a read its table and file, when a file of the lake cannot be read.

    Raises:
        TableDamaged: at least one file is damaged or gone. Other errors pass as they are.
    """
    try:
        yield
    except _OF_READS as error:
        found = damaged_files(lake)
        if not found:
            raise
        named = "; ".join(f"table '{table}': {path}" for table, path in found[:5])
        raise TableDamaged(f"{named} cannot be read; nothing was written over it") from error


def damaged_files(lake: Lake) -> list[tuple[str, str]]:
    """(table, file) of every data file that cannot be read whole; reads all of them."""
    found: list[tuple[str, str]] = []
    for table in TABLES:
        delta = lake.open(table)
        if delta is None:
            continue
        for fragment in delta.to_pyarrow_dataset().get_fragments():
            try:
                for _ in fragment.to_batches():
                    pass
            except (OSError, pa.ArrowException):
                found.append((table, fragment.path))
    return found
