"""What goes on beside the calls for as long as the process lives, each on its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

_LOG = logging.getLogger("gateway")
PAUSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Beside:
    """Work that goes on for ever, or has nothing to do and returns.

    Attributes:
        name: what the log calls it.
        begin: begins it.
    """

    name: str
    begin: Callable[[], Coroutine[None, None, None]]


async def keep(work: Beside, pause_seconds: float = PAUSE_SECONDS) -> None:
    """Does ``work`` until cancelled; where it fails, says so and begins it again after a pause."""
    while True:
        try:
            return await work.begin()
        except Exception:  # noqa: BLE001 - a background edge: unforeseen, and nobody else looks
            _LOG.exception("%s failed; it begins again in %g s", work.name, pause_seconds)
        await asyncio.sleep(pause_seconds)
