"""The lake: schemas hold, and writing the same thing twice changes nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import write_deltalake
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from market_data.errors import DuplicateKeys, LakeError, SchemaMismatch, UnknownTable
from market_data.lake import Lake, empty, polars_schema
from market_data.lake_upkeep import tidy
from market_data.schemas import TABLES

BASE = datetime(2026, 9, 1, tzinfo=UTC)
Rows = Callable[..., pl.DataFrame]


ODD_FOLDERS = ("a b", "é", "a#b", "a?b", "a=b", "100%", "{a}")


@pytest.fixture(params=["plain", "a b/é #1?=%"])
def lake(tmp_path: Path, request: pytest.FixtureRequest) -> Lake:
    return Lake(tmp_path / request.param)


def test_an_absent_table_is_empty_and_has_no_version(lake: Lake) -> None:
    for name in TABLES:
        assert lake.version(name) is None
        assert lake.read(name).schema == empty(name).schema


def test_an_identical_upsert_makes_no_commit(lake: Lake, snapshot_rows: Rows) -> None:
    rows = snapshot_rows([("a", BASE, 0.1), ("b", BASE + timedelta(days=1), 0.2)])
    first = lake.upsert("market_snapshot", rows)
    again = lake.upsert("market_snapshot", rows.sample(fraction=1, shuffle=True, seed=1))
    assert (first.rows_new, again.rows_unchanged) == (2, 2)
    assert again.version == first.version == lake.version("market_snapshot")


def test_a_changed_row_replaces_the_stored_one(lake: Lake, snapshot_rows: Rows) -> None:
    lake.upsert("market_snapshot", snapshot_rows([("a", BASE, 0.1), ("b", BASE, 0.2)]))
    done = lake.upsert("market_snapshot", snapshot_rows([("a", BASE, 0.3), ("c", BASE, 0.4)]))
    assert (done.rows_changed, done.rows_new) == (1, 1)
    stored = lake.read("market_snapshot").sort("market_id")
    assert stored["p_yes"].to_list() == [0.3, 0.2, 0.4]


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    batches=st.lists(
        st.dictionaries(st.tuples(st.integers(0, 3), st.integers(0, 2)), st.floats(0, 1)),
        min_size=1,
        max_size=4,
    )
)
def test_upserts_leave_what_a_dictionary_would_hold(
    tmp_path_factory: Any, snapshot_rows: Rows, batches: list[dict[tuple[int, int], float]]
) -> None:
    lake = Lake(tmp_path_factory.mktemp("lake"))
    expected: dict[tuple[str, datetime], float] = {}
    for batch in batches:
        rows = [(f"m{m}", BASE + timedelta(hours=13 * h), p) for (m, h), p in batch.items()]
        lake.upsert("market_snapshot", snapshot_rows(rows))
        expected |= {(m, t): p for m, t, p in rows}
    stored = lake.read("market_snapshot", columns=["market_id", "ts", "p_yes"])
    assert {(m, t): p for m, t, p in stored.iter_rows()} == expected


def test_columns_that_only_say_when_do_not_make_a_row_new(lake: Lake, registry_rows: Rows) -> None:
    rows = registry_rows([("a", BASE, BASE)])
    lake.upsert(
        "market_registry",
        rows.with_columns(ingested_at=pl.lit(BASE).cast(rows.schema["ingested_at"])),
    )
    later = pl.lit(BASE + timedelta(days=1)).cast(rows.schema["ingested_at"])
    version = lake.version("market_registry")
    again = lake.upsert("market_registry", rows.with_columns(ingested_at=later))
    assert again.version == version


@pytest.mark.parametrize(
    ("spoil", "column"),
    [
        (lambda f: f.drop("bid"), "bid"),
        (lambda f: f.with_columns(bonus=1), "bonus"),
        (lambda f: f.with_columns(p_yes=pl.lit("x")), "p_yes"),
        (lambda f: f.with_columns(pl.col("ts").dt.replace_time_zone(None)), "ts"),
        (lambda f: f.with_columns(market_id=pl.lit(None, dtype=pl.String)), "market_id"),
    ],
)
def test_a_frame_that_does_not_fit_is_refused_by_table_and_column(
    lake: Lake, snapshot_rows: Rows, spoil: Callable[[pl.DataFrame], pl.DataFrame], column: str
) -> None:
    frame = spoil(snapshot_rows([("a", BASE, 0.1)]))
    with pytest.raises(SchemaMismatch, match=f"'market_snapshot'.*'{column}'"):
        lake.upsert("market_snapshot", frame)
    assert lake.version("market_snapshot") is None


def test_two_rows_of_one_key_are_refused(lake: Lake, snapshot_rows: Rows) -> None:
    with pytest.raises(DuplicateKeys):
        lake.upsert("market_snapshot", snapshot_rows([("a", BASE, 0.1), ("a", BASE, 0.2)]))


def test_an_unknown_table_is_an_error(lake: Lake) -> None:
    with pytest.raises(UnknownTable, match="no table 'nonsense'"):
        lake.read("nonsense")


def test_replace_removes_rows_that_are_gone_and_skips_an_equal_table(
    lake: Lake, snapshot_rows: Rows
) -> None:
    both = snapshot_rows([("a", BASE, 0.1), ("b", BASE, 0.2)])
    lake.replace("market_snapshot", both)
    assert lake.replace("market_snapshot", both).version == 0
    assert lake.replace("market_snapshot", both.head(1)).version == 1
    assert lake.read("market_snapshot").height == 1


def test_days_and_filters_prune_what_is_read(lake: Lake, snapshot_rows: Rows) -> None:
    rows = snapshot_rows([("a", BASE + timedelta(days=d), 0.1 * d) for d in range(5)])
    lake.upsert("market_snapshot", rows)
    found = lake.read("market_snapshot", days=("2026-09-02", "2026-09-03"), columns=["dt"])
    assert sorted(found["dt"]) == ["2026-09-02", "2026-09-03"]
    assert lake.read("market_snapshot", pl.col("p_yes") > 0.35).height == 1


def test_two_writers_at_once_lose_and_double_nothing(tmp_path: Path, snapshot_rows: Rows) -> None:
    batches = [
        snapshot_rows([(f"m{i}", BASE + timedelta(hours=h), 0.5) for i in range(w, w + 4)])
        for h in range(2)
        for w in range(3)
    ]
    with ThreadPoolExecutor(max_workers=len(batches)) as pool:
        list(pool.map(lambda rows: Lake(tmp_path).upsert("market_snapshot", rows), batches))
    stored = Lake(tmp_path).read("market_snapshot")
    assert stored.height == stored.select("market_id", "ts").n_unique() == 12


def test_replacing_a_part_removes_what_is_gone_from_it_and_leaves_the_rest(tmp_path: Path) -> None:
    lake = Lake(tmp_path)

    def letters(source: str, *names: str) -> pl.DataFrame:
        columns = ("record_id", "reason", "detail", "record", "raw_sha256", "settled_by")
        at = datetime(2026, 1, 1, tzinfo=UTC)
        return pl.DataFrame(
            [
                {"letter_id": source + name, "source": source, **dict.fromkeys(columns, "")}
                | {"first_seen_at": at, "settled_at": at}
                for name in names
            ]
        )

    def replace(source: str, *names: str) -> None:
        lake.replace_part("dead_letter", letters(source, *names), column="source", values=[source])

    replace("it's", "1", "2")
    replace("other", "3")
    version = lake.version("dead_letter")
    replace("it's", "2", "1")
    assert lake.version("dead_letter") == version
    replace("it's", "2")
    assert sorted(lake.read("dead_letter")["letter_id"]) == ["it's2", "other3"]
    with pytest.raises(SchemaMismatch, match="source"):
        lake.replace_part("dead_letter", letters("other", "4"), column="source", values=["it's"])


def test_days_before_another_are_removed_and_nothing_is_committed_where_there_is_none(
    lake: Lake, snapshot_rows: Rows
) -> None:
    assert lake.remove_days("market_snapshot", before="2030-01-01") == 0
    rows = snapshot_rows([(name, BASE + timedelta(days=day), 0.1) for name, day in (
        ("a", 0), ("b", 0), ("a", 1),
    )])  # fmt: skip
    lake.upsert("market_snapshot", rows)
    second = rows["dt"].max()
    assert isinstance(second, str)
    assert lake.remove_days("market_snapshot", before=second) == 2
    assert lake.read("market_snapshot")["dt"].to_list() == [second]
    version = lake.version("market_snapshot")
    assert lake.remove_days("market_snapshot", before=second) == 0
    assert lake.version("market_snapshot") == version


@pytest.mark.parametrize("name", ODD_FOLDERS)
def test_a_lake_lies_below_a_folder_of_any_usual_name(
    tmp_path: Path, snapshot_rows: Rows, name: str
) -> None:
    lake = Lake(tmp_path / name)
    rows = snapshot_rows([("a", BASE, 0.1), ("b", BASE + timedelta(days=1), 0.2)])
    lake.upsert("market_snapshot", rows)
    found = lake.read("market_snapshot", days=("2026-09-02", "2026-09-02"))
    assert found.equals(rows.tail(1))
    assert found.schema == rows.schema
    assert lake.upsert("market_snapshot", rows).rows_unchanged == 2
    assert (tmp_path / name / "derived").is_dir()


@pytest.mark.parametrize("name", ["a%20b", "%C3%A9", "a\\b", "a\nb"])
def test_a_folder_that_delta_takes_for_another_one_is_refused_by_name(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(LakeError, match=re.escape(repr(str(tmp_path / name)))):
        Lake(tmp_path / name)
    assert not list(tmp_path.iterdir())


def older_table(lake: Lake, rows: pl.DataFrame, lacks: str) -> None:
    """Store ``rows`` as they were written before their table had the column ``lacks``."""
    schema = TABLES["market_snapshot"].schema
    older = rows.drop(lacks).to_arrow().cast(schema.remove(schema.get_field_index(lacks)))
    write_deltalake(lake.url("market_snapshot"), older, partition_by=["dt"])


def test_a_column_that_an_older_table_lacks_is_read_as_null(
    lake: Lake, snapshot_rows: Rows
) -> None:
    rows = snapshot_rows([("a", BASE, 0.1)])
    older_table(lake, rows, "bid")
    stored = lake.read("market_snapshot")
    assert stored.schema == rows.schema
    assert stored["bid"].to_list() == [None]
    without = rows.with_columns(bid=pl.lit(None, dtype=pl.Float64))
    assert lake.upsert("market_snapshot", without).rows_unchanged == 1
    assert lake.version("market_snapshot") == 0


def upsert(lake: Lake, rows: pl.DataFrame) -> None:
    lake.upsert("market_snapshot", rows)


def replace(lake: Lake, rows: pl.DataFrame) -> None:
    lake.replace("market_snapshot", rows)


def replace_part(lake: Lake, rows: pl.DataFrame) -> None:
    lake.replace_part("market_snapshot", rows, column="liquidity_bucket", values=["LOW"])


@pytest.mark.parametrize("write", [upsert, replace, replace_part])
def test_an_older_table_gets_its_new_column_with_the_next_write(
    lake: Lake, snapshot_rows: Rows, write: Callable[[Lake, pl.DataFrame], None]
) -> None:
    rows = snapshot_rows([("a", BASE, 0.1), ("b", BASE, 0.2)])
    older_table(lake, rows.head(1), "bid")
    write(lake, rows)
    assert lake.read("market_snapshot").sort("market_id").equals(rows)


def test_a_table_without_a_column_of_its_key_is_refused(lake: Lake, snapshot_rows: Rows) -> None:
    older_table(lake, snapshot_rows([("a", BASE, 0.1)]), "market_id")
    with pytest.raises(SchemaMismatch, match=r"'market_snapshot'.*'market_id'"):
        lake.read("market_snapshot")


def drift_rows(run_id: str, slope: float) -> pl.DataFrame:
    named = polars_schema("calibration_drift")
    frame = pl.DataFrame({"run_id": [run_id] * 3, "segment_key": ["a", "b", "c"]})
    lacking = [c for c in named if c not in (*frame.columns, "schema_version")]
    nulls = [pl.lit(None, dtype=named[name]).alias(name) for name in lacking]
    return frame.with_columns(nulls).with_columns(test=pl.lit("X"), slope=pl.lit(slope))


def test_parts_that_are_replaced_at_once_lose_nothing(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    runs = [f"run {k}" for k in range(8)]

    def write(run: str) -> None:
        for slope in (1.0, 2.0, 3.0):
            rows = drift_rows(run, slope)
            lake.replace_part("calibration_drift", rows, column="run_id", values=[run])

    with ThreadPoolExecutor(max_workers=4) as pool:
        list(pool.map(write, runs))
    stored = lake.read("calibration_drift")
    assert sorted(stored["run_id"].unique()) == runs
    assert (stored.height, set(stored["slope"])) == (24, {3.0})


def test_a_table_that_is_replaced_while_it_is_compacted_is_replaced(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    for k in range(6):
        rows = drift_rows(f"run {k}", 1.0)
        lake.replace_part("calibration_drift", rows, column="run_id", values=[f"run {k}"])

    def replace(k: int) -> None:
        lake.replace("calibration_drift", drift_rows("new", float(k)))

    with ThreadPoolExecutor(max_workers=2) as pool:
        upkeep = pool.submit(lambda: [tidy(lake, "calibration_drift") for _ in range(5)])
        list(pool.map(replace, range(10)))
        upkeep.result()
    assert set(lake.read("calibration_drift")["slope"]) == {9.0}


def test_a_pinned_table_keeps_its_rows_while_others_write(lake: Lake, snapshot_rows: Rows) -> None:
    lake.upsert("market_snapshot", snapshot_rows([("a", BASE, 0.1)]))
    version, rows = lake.pinned("market_snapshot")
    lake.upsert("market_snapshot", snapshot_rows([("a", BASE, 0.9), ("b", BASE, 0.2)]))
    assert rows.collect()["p_yes"].to_list() == [0.1]
    assert version is not None
    assert lake.version("market_snapshot") == version + 1
