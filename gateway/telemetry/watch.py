"""The telemetry of one process: what is made at its start and ended after everything else."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from opentelemetry import trace

from forecast_service.telemetry.carried import tracer_of
from forecast_service.telemetry.settings import OFF, TelemetrySettings
from gateway.interceptors.telemetry import Telemetry
from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.exposition import Exposition
from gateway.telemetry.readings import Sources, readings
from gateway.telemetry.scrape import Scrape

if TYPE_CHECKING:
    from forecast_service.telemetry.export import Traces
    from forecast_service.telemetry.outbox import Outbox
    from gateway.telemetry.push import MetricsPush


class Watch:
    """Spans, metrics and log lines of a process.

    Without an endpoint spans go to the provider of the process, where the embedding program has set
    one, and nothing is sent.

    Args:
        settings: of telemetry.
        role: what the process does.
        clock: monotonic seconds.
        now: wall clock.

    Attributes:
        telemetry: what stands around every call.
        tracer: makes the spans behind it; None for none.
        scrape: where metrics can be read; None where that is off or before the start.
        keys_read_at: when the keys were last read, seconds of ``clock``.
    """

    def __init__(
        self,
        settings: TelemetrySettings,
        role: str,
        clock: Callable[[], float],
        now: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._role = role
        self._started = now()
        self._traces: Traces | None = None
        self._push: MetricsPush | None = None
        provider: trace.TracerProvider = trace.get_tracer_provider()
        if settings.otlp_endpoint:
            from forecast_service.telemetry.export import traces_of

            self._traces = traces_of(settings, role)
            provider = self._traces.provider
        self.tracer = tracer_of(provider, "marketcal.forecast")
        access_log = None
        if settings.access_log != "off":
            access_log = AccessLog(clock, everything=settings.access_log == "all")
        self.telemetry = Telemetry.of(provider, access_log)
        self.scrape: Scrape | None = None
        self.keys_read_at = clock()

    @property
    def outbox(self) -> Outbox | None:
        """Spans on their way; None where none are sent."""
        return None if self._traces is None else self._traces.outbox

    def start(self, sources: Sources) -> None:
        """Begins to show and to send metrics."""
        settings, read = self._settings, partial(readings, sources)
        if settings.prometheus_port != OFF:
            text = Exposition(read).text
            self.scrape = Scrape(text, settings.prometheus_host, settings.prometheus_port)
        if settings.otlp_endpoint:
            from forecast_service.telemetry.export import metric_exporter_of, resource_of
            from gateway.telemetry.push import MetricsPush

            self._push = MetricsPush(
                metric_exporter_of(settings),
                read,
                resource_of(settings, self._role),
                seconds=settings.metrics_seconds,
                started=self._started.timestamp(),
            )

    def close(self) -> None:
        """Sends what is left and stops, side by side, within two seconds; blocks."""
        ending = [one.close for one in (self._traces, self._push, self.scrape) if one is not None]
        if ending:
            with ThreadPoolExecutor(len(ending)) as threads:
                list(threads.map(lambda end: end(), ending))
