"""The post-mortem flow: nothing twice, nothing outdated, and files that stay in their folder."""

from __future__ import annotations

import json
import shutil
import unicodedata
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flows.postmortem import postmortem
from flows.postmortem_export import file_name, write_postmortems
from flows.runs import NoDataError, Run
from flows.settings import FlowSettings
from market_data.lake import Lake


@pytest.fixture
def settings(published: Any, tmp_path: Path) -> FlowSettings:
    """The published lake, to be changed; a few markets are enough."""
    lake = shutil.copytree(published.lake, tmp_path / "lake")
    shutil.rmtree(lake / "derived" / "postmortem")
    return FlowSettings(lake=str(lake), raw=str(tmp_path / "raw"), windows=("5d",))


@pytest.fixture
def look_back(published: Any, settings: FlowSettings) -> Any:
    def run(**fields: Any) -> Run:
        return postmortem.fn(as_of=published.as_of, flow_settings=settings, **fields)

    return run


def rows_of(settings: FlowSettings) -> pl.DataFrame:
    return Lake(settings.lake).read("postmortem").sort("market_id")


def test_a_second_run_changes_nothing_and_a_new_one_makes_the_same_bytes(
    look_back: Any, settings: FlowSettings
) -> None:
    first = look_back().stages["postmortems"]
    made, version = rows_of(settings), Lake(settings.lake).version("postmortem")
    assert first.rows_written == first.rows_out == made.height > 5
    again = look_back().stages["postmortems"]
    assert (again.rows_out, again.rows_written) == (first.rows_out, 0)
    assert Lake(settings.lake).version("postmortem") == version
    shutil.rmtree(Path(settings.lake) / "derived" / "postmortem")
    look_back()
    assert rows_of(settings).equals(made)
    assert made["picture"].drop_nulls()[0].startswith(b"\x89PNG")


def test_pictures_carry_no_text_and_no_time(look_back: Any, settings: FlowSettings) -> None:
    look_back()
    for picture in rows_of(settings)["picture"].drop_nulls():
        assert not any(chunk in picture for chunk in (b"tEXt", b"iTXt", b"tIME", b"zTXt"))


def test_only_what_changed_is_made_anew(look_back: Any, settings: FlowSettings) -> None:
    look_back()
    lake, before = Lake(settings.lake), rows_of(settings)
    chosen = before.filter(pl.col("label") == "RESOLVED_TRUE")["market_id"][0]
    label = lake.read("label_status", pl.col("market_id") == chosen)
    moved = pl.col("resolved_at") + timedelta(days=1)
    flipped = label.with_columns(
        pl.lit("RESOLVED_FALSE").alias("label"), pl.lit(0.0).alias("outcome_yes"),
        (pl.col("resolved_at") - timedelta(days=1)).alias("resolved_at"),
    )  # fmt: skip
    lake.upsert("label_status", flipped)
    assert look_back().stages["postmortems"].rows_written == 1
    after = rows_of(settings)
    assert after["market_id"].to_list() == before["market_id"].to_list()
    kept = pl.col("market_id") != chosen
    assert after.filter(kept).equals(before.filter(kept))
    row, old = after.filter(~kept), before.filter(~kept)
    assert row["label"].to_list() == ["RESOLVED_FALSE"]
    assert row.select(moved)["resolved_at"][0] == old["resolved_at"][0]


def test_a_market_that_lost_its_outcome_loses_its_post_mortem(
    look_back: Any, settings: FlowSettings
) -> None:
    look_back()
    lake, before = Lake(settings.lake), rows_of(settings)
    chosen = before["market_id"][0]
    label = lake.read("label_status", pl.col("market_id") == chosen)
    lake.upsert("label_status", label.with_columns(pl.lit("UNRESOLVED").alias("label")))
    look_back()
    assert rows_of(settings)["market_id"].to_list() == before["market_id"].to_list()[1:]


def test_where_nothing_was_resolved_the_run_fails(published: Any, settings: FlowSettings) -> None:
    early = published.as_of - timedelta(days=4000)
    with pytest.raises(NoDataError, match="no market has an outcome"):
        postmortem.fn(as_of=early, flow_settings=settings)


def test_files_hold_what_the_table_holds(
    look_back: Any, settings: FlowSettings, tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    count = look_back(export_to=folder).stages["export"].rows_out
    rows = rows_of(settings)
    assert count == rows.height == len(list(folder.glob("*.json")))
    row = rows.filter(pl.col("picture").is_not_null()).row(0, named=True)
    name = file_name(row["market_id"])
    assert (folder / f"{name}.png").read_bytes() == row["picture"]
    told = json.loads((folder / f"{name}.json").read_text())
    assert (told["market_id"], told["summary"]) == (row["market_id"], row["summary"])
    assert len(told["path_ts"]) == len(row["path_ts"])


HOSTILE = ["../../etc/passwd", "a:b", "", "x" * 5_000, "Ünï–códe:ключ", "CON", "a/b\\c", ".",
           "a\x00b", "-rf", "a\nb", "\ud800"]  # fmt: skip


@pytest.mark.parametrize("market_id", [name for name in HOSTILE if name != "\ud800"])
def test_no_id_leads_out_of_the_folder(
    market_id: str, look_back: Any, settings: FlowSettings, tmp_path: Path
) -> None:
    row = _some_row(settings, look_back).with_columns(
        pl.lit(market_id).alias("market_id"), pl.lit("<script>alert(1)</script>").alias("question")
    )
    folder = tmp_path / "inner" / "files"
    write_postmortems(row, folder)
    assert {path.parent for path in (tmp_path / "inner").rglob("*") if path.is_file()} == {folder}
    page = next(folder.glob("*.html")).read_text()
    assert "<script>" not in page
    assert json.loads(next(folder.glob("*.json")).read_text())["market_id"] == market_id


def _some_row(settings: FlowSettings, look_back: Any) -> pl.DataFrame:
    if Lake(settings.lake).version("postmortem") is None:
        look_back()
    return rows_of(settings).head(1)


@given(st.lists(st.text(max_size=80) | st.sampled_from(HOSTILE), max_size=12, unique=True))
@example(["a:b", "A:B", "a b", "a-b", "A-B", "é", "e\u0301"])
def test_names_are_plain_short_and_differ_on_every_disk(ids: list[str]) -> None:
    names = [file_name(market_id) for market_id in ids]
    assert len({unicodedata.normalize("NFKC", name).casefold() for name in names}) == len(ids)
    for name in names:
        assert 0 < len(name) <= 105
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
        assert not name.startswith("-")
    assert names == [file_name(market_id) for market_id in ids]
