"""Runs: what each stage did, kept in ``run_metadata`` as it happens."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from importlib.metadata import version
from typing import Any

import polars as pl
from opentelemetry.trace import Tracer, get_tracer

from flows.fan_out import InTurn, Spread
from flows.settings import FlowSettings
from forecast_service.settings import ForecastSettings
from forecast_service.telemetry.settings import TelemetrySettings
from market_data.intake import Progress, silent
from market_data.lake import Lake, polars_schema
from market_data.schemas import SCHEMA_VERSION

_SHAPING: dict[str, Any] = {
    "windows": True, "seed": True, "venues": True, "drift_recent_days": True,
    "drift_reference_days": True, "refit_days": True, "forecast_steps": True,
    "questions": {"url", "model"},
}  # fmt: skip
"""Settings that change what a run finds; where the data lie does not."""


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
        failures: parts that failed for good while the rest went on; the note names them, and the
            run is a PARTIAL_SUCCESS.
        note: what a reader should know.
        seconds: how long it took, filled in by whoever runs the stage.
    """

    rows_in: int
    rows_out: int
    rows_written: int = 0
    set_aside: int = 0
    failures: int = 0
    note: str = ""
    seconds: float = 0.0


@dataclass(slots=True)
class Run:
    """One run of a pipeline over a data interval.

    ``run_id`` is derived from pipeline, interval and configuration: the same work has the same id,
    so that a repeated run writes the same rows.

    Attributes:
        forecast: which models there are.
        spread: where parts of a stage are computed.
        now: the clock of the run's own row.
        parameters: what else shapes the result, as plain values.
        tracer: gets a span for the run and one for each stage.
        telemetry: where spans go, in a process without a provider of its own.
        progress: called with (stage, done, in all or None): at the start of a stage with nothing
            done, while it ingests, and when its rows are committed with all done.
        stages: what each finished stage did.
        under_way: the stage that runs now.
    """

    pipeline: str
    lake: Lake
    settings: FlowSettings
    interval_start: datetime
    interval_end: datetime
    now: Callable[[], datetime]
    forecast: ForecastSettings = field(default_factory=ForecastSettings)
    spread: Spread = field(default_factory=InTurn)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    tracer: Tracer = field(default_factory=lambda: get_tracer("marketcal.flows"))
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)
    progress: Progress = silent
    stages: dict[str, StageCount] = field(default_factory=dict)
    under_way: str | None = None
    started_at: datetime | None = None

    @property
    def run_id(self) -> str:
        """Same work, same id."""
        until = self.interval_end.strftime("%Y-%m-%dT%H:%M:%SZ")
        return f"{self.pipeline}:{until}:{self.config_hash[:12]}"

    @property
    def config_hash(self) -> str:
        """Digest of what shapes the result; where the data lie does not."""
        shaping = self.settings.model_dump(include=_SHAPING) | dict(self.parameters)
        return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()

    @property
    def failures(self) -> list[str]:
        """What failed while the rest went on, one sentence for each stage."""
        return [f"{name}: {count.note}" for name, count in self.stages.items() if count.failures]

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Keeps the run's row up to date: RUNNING, then how it ended and in which stage."""
        self.started_at = self.now()
        self._record("RUNNING")
        try:
            yield
        except BaseException as error:
            # Also for a cancelled run: the row must not say RUNNING for ever.
            self._record("FAILED", error=f"{type(error).__name__}: {error}")
            raise
        partly = self.failures
        self._record("PARTIAL_SUCCESS" if partly else "SUCCESS", error="; ".join(partly) or None)

    def begun(self, stage: str) -> None:
        """Notes that a stage starts."""
        self.under_way = stage
        self.progress(stage, 0, None)

    def finished(self, stage: str, count: StageCount) -> StageCount:
        """Notes what a stage did."""
        self.stages[stage] = count
        self._record("RUNNING")
        self.progress(stage, count.rows_out, count.rows_out)
        return count

    def _record(self, status: str, error: str | None = None) -> None:
        counts = {name: asdict(count) for name, count in self.stages.items()}
        row: dict[str, Any] = {
            "run_id": self.run_id,
            "pipeline": self.pipeline,
            "code_version": version("marketcal-platform"),
            "config_hash": self.config_hash,
            "interval_start": self.interval_start,
            "interval_end": self.interval_end,
            "status": status,
            "error_stage": self.under_way if status == "FAILED" else None,
            "error": error[:1000] if error else None,
            "stage_rows": json.dumps(counts),
            "started_at": self.started_at,
            "finished_at": None if status == "RUNNING" else self.now(),
            "schema_version": SCHEMA_VERSION,
        }
        frame = pl.DataFrame([row], schema=polars_schema("run_metadata"), orient="row")
        self.lake.upsert("run_metadata", frame)


def window_length(window: str) -> timedelta:
    """Length of a window such as "90d".

    >>> window_length("7d").days
    7
    """
    return timedelta(days=int(window.removesuffix("d")))
