"""A publication is taken over whole, and the last one outlives its lake."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration_service import tables
from calibration_service.publication import Publication, UnreadableLakeError
from market_data.lake import Lake
from marketcal.errors import NotReady


def test_an_empty_lake_is_not_ready(tmp_path: Path) -> None:
    publication = Publication(Lake(str(tmp_path / "lake")))

    assert not publication.refresh()
    assert not publication.ready
    with pytest.raises(NotReady) as caught:
        publication.current()
    assert caught.value.retry_after


def test_the_same_version_is_loaded_once(published: Any) -> None:
    publication = Publication(Lake(str(published.lake)))

    assert publication.refresh()
    first = publication.current()
    assert not publication.refresh()
    assert publication.current() is first


def test_a_newer_version_replaces_the_old_one_whole(published: Any, tmp_path: Path) -> None:
    lake = Lake(str(shutil.copytree(published.lake, tmp_path / "lake")))
    publication = Publication(lake)
    publication.refresh()
    first = publication.current()
    lake.replace("scoreboard", lake.read("scoreboard").head(10))

    assert publication.refresh()

    assert publication.current().version > first.version
    assert sum(board.frame.height for board in publication.current().boards.values()) == 10
    assert sum(board.frame.height for board in first.boards.values()) > 10


def test_newer_post_mortems_are_taken_over_without_a_newer_scoreboard(
    published: Any, tmp_path: Path
) -> None:
    lake = Lake(str(shutil.copytree(published.lake, tmp_path / "lake")))
    publication = Publication(lake)
    publication.refresh()
    board, first = publication.current(), publication.postmortems()
    lake.replace("postmortem", lake.read("postmortem").head(2))

    assert publication.refresh()
    assert not publication.refresh()

    assert publication.current() is board
    assert publication.postmortems().listed.height == 2 < first.listed.height


def test_damaged_post_mortems_hold_no_scoreboard_back(published: Any, tmp_path: Path) -> None:
    lake = Lake(str(shutil.copytree(published.lake, tmp_path / "lake")))
    for part in (tmp_path / "lake" / "derived" / "postmortem").rglob("*.parquet"):
        part.write_bytes(b"not parquet")
    publication = Publication(lake)

    with pytest.raises(Exception, match=r"."):
        publication.refresh()

    assert publication.ready
    with pytest.raises(NotReady):
        publication.postmortems()


@pytest.mark.parametrize("damage", [lambda part: part.write_bytes(b"not parquet"), Path.unlink])
def test_what_was_served_stays_when_a_newer_publication_cannot_be_read(
    damage: Callable[[Path], object], published: Any, tmp_path: Path
) -> None:
    lake = Lake(str(shutil.copytree(published.lake, tmp_path / "lake")))
    publication = Publication(lake)
    publication.refresh()
    first = publication.current()
    lake.replace("scoreboard", lake.read("scoreboard").head(10))
    parts = list(Path(lake.url("market_registry")).rglob("*.parquet"))
    for part in parts:
        damage(part)
    assert parts

    with pytest.raises((UnreadableLakeError, OSError)):
        publication.refresh()
    assert publication.current() is first

    shutil.rmtree(tmp_path / "lake")
    assert not publication.refresh()
    assert publication.current() is first


def test_prices_between_are_those_of_one_market_in_the_range(published: Any) -> None:
    loaded = tables.load(Lake(str(published.lake)))
    assert loaded is not None
    prices = loaded.prices
    for market, (first, last) in list(prices.start.items())[:20]:
        times = prices.ts[first:last]
        assert (np.diff(times) > 0).all()
        assert prices.between(market, None, None) == slice(first, last)
        middle = int(times[times.size // 2])
        head, tail = prices.between(market, None, middle), prices.between(market, middle, None)
        assert (head.start, head.stop, tail.stop) == (first, tail.start, last)
        assert prices.between(market, middle, middle - 10).start >= first
    assert prices.between("none", None, None) == slice(0, 0)
