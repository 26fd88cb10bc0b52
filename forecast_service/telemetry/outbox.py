"""Finished spans on their way to a collector: a bounded queue and one thread that empties it.

A collector that is slow, refuses or is away costs a call nothing: what does not fit into the queue
is dropped and counted, and what could not be sent is not tried again later.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

_LOG = logging.getLogger("forecast_service.telemetry")
QUEUE = 4_096
"""Spans that wait, about 4 MB of them."""
TOGETHER = 512
"""Spans in one request."""
PAUSE_SECONDS = 1.0
"""A span waits so long until it is sent."""
CLOSING_SECONDS = 1.5
"""How long the last spans may take when the process ends."""


class Outbox(SpanProcessor):
    """Hands finished spans to an exporter.

    Args:
        exporter: sends them; may block.
        clock: monotonic seconds.

    Attributes:
        sent: spans that the collector took.
        dropped: spans for which there was no room.
        failed: spans that the collector did not take.
    """

    def __init__(self, exporter: SpanExporter, clock: Callable[[], float] = time.monotonic) -> None:
        self._exporter = exporter
        self._clock = clock
        self._waiting: deque[ReadableSpan] = deque()
        self._look = threading.Event()
        self._closing = False
        self._give_up_at = float("inf")
        self._away = False
        self.sent = self.dropped = self.failed = 0
        self._thread = threading.Thread(target=self._work, name="spans", daemon=True)
        self._thread.start()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Takes no note of spans that begin."""

    def on_end(self, span: ReadableSpan) -> None:
        """Queues a span that was sampled."""
        context = span.context
        if self._closing or context is None or not context.trace_flags.sampled:
            return
        if len(self._waiting) >= QUEUE:
            self.dropped += 1
            return
        self._waiting.append(span)
        if len(self._waiting) >= TOGETHER:
            self._look.set()

    def shutdown(self) -> None:
        """Sends what waits, for at most `CLOSING_SECONDS`."""
        if self._closing:
            return
        self._give_up_at = self._clock() + CLOSING_SECONDS
        self._closing = True
        self._look.set()
        self._thread.join(CLOSING_SECONDS)
        self._exporter.shutdown()  # ends the waits of a try that is under way
        if self._waiting:
            _LOG.warning("%d spans were not sent", len(self._waiting))

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Waits until nothing waits; returns whether that was in time."""
        until = self._clock() + timeout_millis / 1e3
        self._look.set()
        while self._waiting and self._clock() < until:
            time.sleep(0.005)
        return not self._waiting

    def _work(self) -> None:
        while not self._closing:
            self._look.wait(PAUSE_SECONDS)
            self._look.clear()
            self._send_all()
        self._send_all()

    def _send_all(self) -> None:
        while self._waiting and self._clock() < self._give_up_at:
            count = min(len(self._waiting), TOGETHER)
            batch = [self._waiting.popleft() for _ in range(count)]
            taken = self._takes(batch)
            self.sent += count * taken
            self.failed += count * (not taken)
            if self._away is taken:
                self._away = not taken
                _LOG.warning("the collector %s", "takes spans" if taken else "takes no spans")

    def _takes(self, batch: list[ReadableSpan]) -> bool:
        """Whether the collector took these; an exporter that fails costs them alone."""
        try:
            return self._exporter.export(batch) is SpanExportResult.SUCCESS
        except Exception:  # noqa: BLE001 - the edge of this thread, which goes on
            if not self._away:
                _LOG.exception("the exporter of spans failed")
            return False
