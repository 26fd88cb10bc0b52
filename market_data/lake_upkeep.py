"""Upkeep of the lake: small files become large ones, and files that nobody reads any more go.

Rows never change here. Each commit of a stage adds files; readers open every file of what they
read, so many small ones are slow. Files that a newer version of a table has replaced stay for
readers that are still at the older one, until `vacuum` removes them; files of a write that was
killed stay as long, because one that is under way has no version either.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from pyarrow.fs import FileType

from market_data.lake import Lake

KEEP = timedelta(days=7)
"""How long files of older versions stay by default: far longer than any reader needs."""


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What was done to a table.

    Attributes:
        table: its name.
        merged_from, merged_into: small files before, and the files that took their place.
        removed: files of older versions, or of no version, that are gone.
        lost: whether another writer committed first, so that nothing was merged this time.
    """

    table: str
    merged_from: int
    merged_into: int
    removed: int
    lost: bool = False


def tidy(lake: Lake, table: str, *, keep: timedelta = KEEP) -> Upkeep:
    """Merges small files, writes a checkpoint of the log, and removes files of older versions.

    Args:
        lake: the lake.
        table: a table of it; one that does not exist is left alone.
        keep: files of versions younger than this stay, and younger files of no version.
    """
    delta = lake.open(table)
    if delta is None:
        return Upkeep(table, 0, 0, 0)
    lost, merged = False, {"numFilesRemoved": 0, "numFilesAdded": 0}
    try:
        merged |= delta.optimize.compact()
    except CommitFailedError:  # a stage wrote at the same time: the next upkeep comes
        lost = True
    delta.update_incremental()
    delta.create_checkpoint()
    removed = _vacuum(delta, keep)
    delta.cleanup_metadata()
    return Upkeep(table, merged["numFilesRemoved"], merged["numFilesAdded"], removed, lost)


def _vacuum(delta: DeltaTable, keep: timedelta) -> int:
    """Removes files of older versions, and those that no version names; counts them.

    A write that was killed before its commit leaves files that no version names. Delta names every
    file that was ever replaced, also those that are gone; without a file there is no commit.
    """
    hours = int(keep.total_seconds() // 3600)
    named = delta.vacuum(hours, dry_run=True, enforce_retention_duration=False, full=True)
    files = delta.to_pyarrow_dataset().filesystem.get_file_info(named)
    left = len([file for file in files if file.type is not FileType.NotFound])
    if left:
        delta.vacuum(hours, dry_run=False, enforce_retention_duration=False, full=True)
    return left
