"""A question as it is judged: what the registry knows of it, and the digest of that."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

COLUMNS = ("market_id", "question", "outcomes", "end_at")
"""Columns of ``market_registry`` that a question is made of; a venue's rules are not kept there."""

MAX_CHARACTERS = 2_000
"""Of a question or outcome that is read; venues allow a few hundred."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is known of a question.

    Attributes:
        text: as the venue asks it.
        outcomes: in the venue's order.
        end_at: when the market is expected to end, aware UTC; None where unknown.
    """

    text: str
    outcomes: tuple[str, ...] = ()
    end_at: datetime | None = None

    @property
    def evidence(self) -> str:
        """All that a judgement may refer to, as one text."""
        end = f"{self.end_at:%Y-%m-%d %H:%M}" if self.end_at else "unknown"
        return "\n".join([self.text, *self.outcomes, f"ends {end}"])[: 4 * MAX_CHARACTERS]

    @property
    def digest(self) -> str:
        """sha256 of the normalised text, outcomes and end: whatever could change a judgement."""
        end = self.end_at.isoformat() if self.end_at else None
        parts = [normalised(self.text), [normalised(one) for one in self.outcomes], end]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def normalised(text: str) -> str:
    """A text without differences of case, white space and Unicode form.

    >>> normalised("  Will   IT\\train?")
    'will it rain?'
    """
    plain = unicodedata.normalize("NFKC", text[:MAX_CHARACTERS]).casefold()
    return " ".join(unicodedata.normalize("NFKC", plain).split())


def questions_of(registry: pl.DataFrame) -> Sequence[tuple[str, Question]]:
    """Market and question of each row of ``market_registry``; a missing text is an empty one."""
    return [
        (market_id, Question(text or "", tuple(one or "" for one in outcomes or ()), end_at))
        for market_id, text, outcomes, end_at in registry.select(COLUMNS).iter_rows()
    ]
