"""Each source has a lake of its own."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.settings import load
from gateway.supervisor.source import SourceError, places_of, read_manifest


def archive(folder: Path, **facts: object) -> Path:
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({"as_of": "2026-01-02T00:00:00Z", **facts}))
    return folder


def test_two_archives_are_two_sources_and_a_copy_is_the_same(tmp_path: Path) -> None:
    first, as_of = read_manifest(archive(tmp_path / "a", counts=1))
    second, _ = read_manifest(archive(tmp_path / "b", counts=2))
    copy, _ = read_manifest(archive(tmp_path / "c", counts=1))
    assert first == copy != second
    assert first.startswith("archive-")
    assert as_of == datetime(2026, 1, 2, tzinfo=UTC)


def test_lake_and_raw_answers_of_a_source_lie_in_its_folder(tmp_path: Path) -> None:
    places = places_of(tmp_path, "simulated", ())
    assert places == {
        "MARKETCAL_FLOWS__LAKE": f"{tmp_path}/sources/simulated/lake",
        "MARKETCAL_FLOWS__RAW": f"{tmp_path}/sources/simulated/raw",
    }
    assert set(places.values()).isdisjoint(places_of(tmp_path, "polymarket", ()).values())


@pytest.mark.parametrize("by", ["file", "environment"])
def test_a_lake_that_somebody_chose_stays(
    by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if by == "file":
        (tmp_path / "marketcal.toml").write_text("[flows]\nlake = 'mine'\n")
    else:
        monkeypatch.setenv("MARKETCAL_FLOWS__LAKE", "mine")
    places = places_of(tmp_path, "simulated", load().flows.model_fields_set)
    assert list(places) == ["MARKETCAL_FLOWS__RAW"]


@pytest.mark.parametrize("text", [None, "{", "[]", "{}", '{"as_of": 5}', '{"as_of": "2026-01-02"}'])
def test_a_folder_without_a_manifest_is_named(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(SourceError, match=r"manifest\.json"):
        read_manifest(tmp_path)
