"""A flow that publishes while others read never shows half of a table."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import polars as pl
import pytest

from market_data.lake import Lake
from marketcal.v1 import scoreboard_pb2

PUBLICATIONS = 3


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as open_things:
        yield open_things


def test_a_reader_sees_one_publication_or_the_next_and_never_a_mixture(
    serve_gateway: Any, stack: ExitStack, published: Any, stubs_on: Any, bearer: Any, until: Any,
    tmp_path: Any,
) -> None:  # fmt: skip
    shutil.copytree(published.folder, tmp_path / "stores")
    lake = Lake(tmp_path / "stores" / "lake")
    own = serve_gateway(stack, flows={"lake": str(tmp_path / "stores" / "lake")})
    until(lambda: own.parts.publication.ready)
    stubs, viewer = (
        stubs_on(own.channel),
        bearer(own.key("viewer", rate_per_minute=1e7, burst=1_000_000)),
    )
    board = lake.read("scoreboard").drop("schema_version")
    began = own.parts.publication.current().as_of

    def publish() -> None:
        for number in range(1, PUBLICATIONS + 1):
            as_of = began + timedelta(seconds=number)
            marked = board.with_columns(trust=pl.lit(float(number)), as_of=pl.lit(as_of))
            lake.replace("scoreboard", marked.cast({"as_of": board.schema["as_of"]}))
            until(lambda as_of=as_of: own.parts.publication.current().as_of == as_of)

    writer = stack.enter_context(ThreadPoolExecutor(1)).submit(publish)
    request = scoreboard_pb2.ListScoresRequest(page_size=500)
    seen = set()
    while not writer.done():
        answer = stubs.scores.ListScores(request, metadata=viewer, timeout=20)
        instants = {score.as_of_time.ToMicroseconds() for score in answer.scores}
        assert len(instants) == 1
        assert len(answer.scores) == min(500, answer.total_size)
        second = (instants.pop() - int(began.timestamp() * 1e6)) // 1_000_000
        if second:
            assert {score.trust.score for score in answer.scores} == {float(second)}
        seen.add(second)
    writer.result()
    assert len(seen) > 1


def test_a_run_that_is_under_way_is_taken_up_when_it_has_ended(
    serve_gateway: Any, stack: ExitStack, published: Any, until: Any, tmp_path: Any
) -> None:
    shutil.copytree(published.folder, tmp_path / "stores")
    lake = Lake(tmp_path / "stores" / "lake")
    own = serve_gateway(stack, flows={"lake": str(tmp_path / "stores" / "lake")})
    until(lambda: own.parts.publication.ready)
    before = own.parts.publication.current()
    board = lake.read("scoreboard").drop("schema_version")
    made_by = pl.col("run_id").is_in(board["run_id"].unique().to_list())
    row = lake.read("run_metadata", made_by).drop("schema_version")
    assert row["status"].to_list() == ["SUCCESS"]

    lake.upsert("run_metadata", row.with_columns(status=pl.lit("RUNNING")))
    scores = lake.read("calibration_metrics").drop("schema_version")
    lake.replace("calibration_metrics", scores.with_columns(brier=pl.lit(0.125)))
    lake.replace("scoreboard", board.with_columns(trust=pl.lit(1.0)))
    assert own.parts.publication.refresh() is False
    assert own.parts.publication.current() is before

    lake.upsert("run_metadata", row)
    until(lambda: own.parts.publication.current() is not before)
    assert own.parts.publication.current().metrics != before.metrics
