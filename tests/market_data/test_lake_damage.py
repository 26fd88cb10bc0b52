"""A damaged file of the lake is named with its table, and nothing takes its place."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from market_data.errors import TableDamaged
from market_data.lake import Lake
from market_data.lake_damage import damaged_files, naming_damage

BASE = datetime(2026, 9, 1, tzinfo=UTC)
Rows = Callable[..., pl.DataFrame]


def stored_file(lake: Lake, rows: pl.DataFrame) -> Path:
    """The one data file of a table that holds these rows."""
    lake.upsert("market_snapshot", rows)
    (file,) = Path(lake.url("market_snapshot")).rglob("*.parquet")
    return file


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def overwrite_middle(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[4:400] = bytes(396)
    file.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [cut, overwrite_middle, Path.unlink])
def test_a_damaged_file_is_named_with_its_table(
    tmp_path: Path, snapshot_rows: Rows, damage: Callable[[Path], None]
) -> None:
    lake = Lake(tmp_path)
    file = stored_file(lake, snapshot_rows([("a", BASE, 0.1)]))
    assert damaged_files(lake) == []
    damage(file)
    version = lake.version("market_snapshot")
    said = rf"table 'market_snapshot': .*{file.name} cannot be read"
    with pytest.raises(TableDamaged, match=said), naming_damage(lake):
        lake.upsert("market_snapshot", snapshot_rows([("a", BASE, 0.2)]))
    assert lake.version("market_snapshot") == version


def test_an_error_that_is_none_of_the_lakes_passes_as_it_is(
    tmp_path: Path, snapshot_rows: Rows
) -> None:
    lake = Lake(tmp_path)
    stored_file(lake, snapshot_rows([("a", BASE, 0.1)]))
    with pytest.raises(FileNotFoundError), naming_damage(lake):
        (tmp_path / "elsewhere").read_bytes()
