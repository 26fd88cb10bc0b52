"""Runs: what each stage did, kept in ``run_metadata`` as it happens."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from importlib.metadata import version
from typing import Any

import polars as pl

from flows.settings import FlowSettings
from market_data.lake import Lake, polars_schema
from market_data.schemas import SCHEMA_VERSION


class FlowError(Exception):
    """A run cannot go on; the message says why.

    ::

        FlowError
        └── NoDataError    a stage found nothing to work on: never a success
    """


class NoDataError(FlowError):
    """A stage found no data."""


@dataclass(frozen=True, slots=True)
class StageCount:
    """What a stage did.

    Attributes:
        rows_in: rows that it read.
        rows_out: rows that it produced.
        rows_written: rows of those that were new or changed.
        set_aside: rows that it put aside with a reason (dead letters, unscorable ones).
        note: what a reader should know.
        seconds: how long it took, filled in by whoever runs the stage.
    """

    rows_in: int
    rows_out: int
    rows_written: int = 0
    set_aside: int = 0
    note: str = ""
    seconds: float = 0.0


@dataclass(slots=True)
class Run:
    """One run of a pipeline over a data interval.

    ``run_id`` is derived from pipeline, interval and configuration: the same work has the same id,
    so that a repeated run writes the same rows.
    """

    pipeline: str
    lake: Lake
    settings: FlowSettings
    interval_start: datetime
    interval_end: datetime
    now: Callable[[], datetime]
    stages: dict[str, StageCount] = field(default_factory=dict)
    started_at: datetime | None = None

    @property
    def run_id(self) -> str:
        """Same work, same id."""
        until = self.interval_end.strftime("%Y-%m-%dT%H:%M:%SZ")
        return f"{self.pipeline}:{until}:{self.config_hash[:12]}"

    @property
    def config_hash(self) -> str:
        """Digest of what shapes the result; where the data lie does not."""
        shaping = {"windows": self.settings.windows, "seed": self.settings.seed}
        return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Keeps the run's row up to date: RUNNING, then SUCCESS or FAILED with its stage."""
        self.started_at = self.now()
        self._record("RUNNING")
        try:
            yield
        except BaseException as error:
            # Also for a cancelled run: the row must not say RUNNING for ever.
            self._record("FAILED", error=f"{type(error).__name__}: {error}"[:1000])
            raise
        self._record("SUCCESS")

    def finished(self, stage: str, count: StageCount) -> StageCount:
        """Notes what a stage did."""
        self.stages[stage] = count
        self._record("RUNNING")
        return count

    def _record(self, status: str, error: str | None = None) -> None:
        done = status in ("SUCCESS", "FAILED")
        counts = {name: asdict(count) for name, count in self.stages.items()}
        row: dict[str, Any] = {
            "run_id": self.run_id,
            "pipeline": self.pipeline,
            "code_version": version("marketcal-platform"),
            "config_hash": self.config_hash,
            "interval_start": self.interval_start,
            "interval_end": self.interval_end,
            "status": status,
            "error_stage": _next_stage(self.stages) if status == "FAILED" else None,
            "error": error,
            "stage_rows": json.dumps(counts),
            "started_at": self.started_at,
            "finished_at": self.now() if done else None,
            "schema_version": SCHEMA_VERSION,
        }
        frame = pl.DataFrame([row], schema=polars_schema("run_metadata"), orient="row")
        self.lake.upsert("run_metadata", frame)


STAGES = (
    "markets",
    "open_interest",
    "prices",
    "labels",
    "cutoffs",
    "features",
    "metrics",
    "trust",
    "scoreboard",
)
"""The stages of the daily pipeline, in order."""


def _next_stage(done: dict[str, StageCount]) -> str:
    return next((stage for stage in STAGES if stage not in done), STAGES[-1])


def window_length(window: str) -> timedelta:
    """Length of a window such as "90d".

    >>> window_length("7d").days
    7
    """
    return timedelta(days=int(window.removesuffix("d")))
