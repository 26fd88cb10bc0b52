"""Features day by day: what is written together is computed together, in bounded memory.

A day needs its own snapshots and a few earlier ones of their markets, which are carried along. A
day is computed anew only when the files behind it have changed: its own, those of an earlier day,
or the formula.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from calibration_service.features import FORMULA_VERSION, INPUTS, MEMORY_STEPS, build_features
from flows.batches import market_batches
from market_data.lake import Lake
from market_data.matching import prices_elsewhere

STAGE = "features"
_COLUMNS = ("ts", "market_id", *INPUTS)


def feature_days(
    lake: Lake,
    batches: Sequence[Sequence[str]],
    registry: pl.DataFrame,
    matches: pl.DataFrame | None = None,
) -> Iterator[tuple[Sequence[str], pl.DataFrame]]:
    """The ``feature_frame`` rows of each batch of days.

    Args:
        lake: holds ``market_snapshot``.
        batches: successive days of its partitions, oldest first.
        registry: market_id and event_id.
        matches: ``market_match`` rows: which markets of other platforms ask the same.
    """
    carried = _before(lake, batches[0][0]) if batches else pl.DataFrame()
    for days in batches:
        rows = lake.read("market_snapshot", columns=_COLUMNS, days=(days[0], days[-1]))
        earlier = carried.join(rows, on="market_id", how="semi")
        elsewhere = None
        if matches is not None and matches.height:
            elsewhere = prices_elsewhere(rows, matches, pl.concat([carried, rows]))
        known = pl.concat([earlier, rows])
        built = build_features(known, registry=registry, elsewhere=elsewhere)
        yield days, built.filter(pl.col("dt") >= days[0])
        carried = _newest(pl.concat([carried, rows]))


def unfinished(
    lake: Lake, batches: Sequence[Sequence[str]], inputs: Mapping[str, str]
) -> list[list[str]]:
    """What is left of the batches from the first day on that came from other inputs than these."""
    known = lake.read("stage_input", pl.col("stage") == STAGE, columns=("part", "digest"))
    stored, came_from = lake.files("feature_frame"), dict(known.iter_rows())
    days = [day for batch in batches for day in batch]
    stale = [day for day in days if day not in stored or came_from.get(day) != inputs[day]]
    left = [[day for day in batch if stale and day >= stale[0]] for batch in batches]
    return [batch for batch in left if batch]


def inputs_of(lake: Lake) -> dict[str, str]:
    """Digest of what each day's features are computed from; a day depends on those before it.

    Its data files, and of the markets that have prices on it, the events and the markets of other
    platforms that they belong to.
    """
    facts, found = _facts(lake), {}
    digest = FORMULA_VERSION
    for day, files in lake.files("market_snapshot").items():
        said = "\n".join([digest, str(facts.get(day, 0)), *files])
        digest = hashlib.sha256(said.encode()).hexdigest()
        found[day] = digest
    return found


def _facts(lake: Lake) -> dict[str, int]:
    """One number of each day, another one when an event or a match of its markets is another."""
    registry = lake.read("market_registry", columns=("market_id", "event_id"))
    matches = lake.read("market_match", columns=("market_id", "other_id"))
    said = pl.concat(
        [
            registry.select("market_id", _fact=pl.struct("market_id", "event_id").hash(1)),
            matches.select("market_id", _fact=pl.struct("market_id", "other_id").hash(2)),
        ]
    )
    of_market = said.group_by("market_id").agg(pl.col("_fact").sum())
    present = lake.scan("market_snapshot").select("dt", "market_id").unique()
    days = present.join(of_market.lazy(), on="market_id", how="left").group_by("dt")
    numbers = days.agg(pl.col("_fact").sum()).collect(engine="streaming")
    return dict(numbers.iter_rows())


def remember(lake: Lake, days: Sequence[str], inputs: Mapping[str, str]) -> None:
    """Notes that these days are stored as computed from these inputs."""
    rows = {"stage": STAGE, "part": days, "digest": [inputs[day] for day in days]}
    lake.upsert("stage_input", pl.DataFrame(rows))


def _before(lake: Lake, day: str) -> pl.DataFrame:
    """The last snapshots of every market before a day."""
    return pl.concat(
        _newest(lake.read("market_snapshot", batch.holds() & (pl.col("dt") < day),
                          columns=_COLUMNS))
        for batch in market_batches(lake)
    )  # fmt: skip


def _newest(rows: pl.DataFrame) -> pl.DataFrame:
    ordered = rows.sort("market_id", "ts").group_by("market_id", maintain_order=True)
    return ordered.tail(MEMORY_STEPS).select(_COLUMNS)
