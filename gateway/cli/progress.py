"""Progress of long work: a line that is redrawn on a terminal, a line per stage elsewhere."""

from __future__ import annotations

from typing import TextIO


class Bars:
    """Called with (stage, items done, items in all or None)."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._said: set[str] = set()

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Draws the state of a stage."""
        share = f"{done:,} of {total:,}" if total else f"{done:,}"
        if self._live:
            filled = int(30 * done / total) if total else 0
            bar = "█" * filled + "·" * (30 - filled)
            self._stream.write(f"\r{stage:<14} {bar} {share}")
        if total and done >= total and stage not in self._said:
            self._said.add(stage)
            self._stream.write("\n" if self._live else f"{stage}: {share}\n")
        self._stream.flush()
