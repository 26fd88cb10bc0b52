"""Archives survive the disk, and a bad one says where it is bad."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from market_data.errors import ArchiveError
from market_data.replay.__main__ import main
from market_data.replay.archive import Archive, read_archive, write_archive


def test_an_archive_is_read_back_as_it_was_written(archive: Archive, tmp_path: Path) -> None:
    write_archive(archive, tmp_path)
    back = read_archive(tmp_path)
    assert back.prices.equals(archive.prices)
    for name in ("as_of", "markets", "events", "splits", "merges", "redemptions", "truth"):
        assert getattr(back, name) == getattr(archive, name), name


def test_a_recorded_archive_needs_no_truth(archive: Archive, tmp_path: Path) -> None:
    write_archive(archive, tmp_path)
    (tmp_path / "truth.json").unlink()
    assert read_archive(tmp_path).truth is None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("manifest.json", "{", r"manifest\.json: not JSON"),
        ("manifest.json", '{"format": 1, "as_of": "2026-01-01"}', "'as_of' has no time zone"),
        ("manifest.json", '{"format": 9}', "'format' must be 1"),
        ("markets.jsonl", '{"id": "1"}\n', r"markets\.jsonl:1: field 'conditionId' is missing"),
        ("splits.jsonl", '{"id": "1"\n', r"splits\.jsonl:1: not JSON"),
        ("merges.jsonl", "", r"counts\.merges says"),
    ],
)
def test_a_bad_file_is_named_with_line_and_field(
    archive: Archive, tmp_path: Path, name: str, content: str, message: str
) -> None:
    write_archive(archive, tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(ArchiveError, match=message):
        read_archive(tmp_path)


def test_a_missing_file_and_a_wrong_column_are_named(archive: Archive, tmp_path: Path) -> None:
    write_archive(archive, tmp_path)
    pl.DataFrame({"token_id": ["1"]}).write_parquet(tmp_path / "prices.parquet")
    with pytest.raises(ArchiveError, match="column 't' must be"):
        read_archive(tmp_path)
    (tmp_path / "prices.parquet").unlink()
    with pytest.raises(ArchiveError, match=r"prices\.parquet: missing"):
        read_archive(tmp_path)


def test_the_command_writes_an_archive_that_can_be_read(tmp_path: Path) -> None:
    options = ["--out", str(tmp_path), "--markets", "30", "--snapshots", "6", "--seed", "3"]
    assert main([*options, "--as-of", "2026-11-20T00:00:00"]) == 0
    archive = read_archive(tmp_path)
    assert len(archive.markets) == 30
    assert archive.as_of.isoformat() == "2026-11-20T00:00:00+00:00"
    assert main([*options, "--as-of", "today"]) == 2
