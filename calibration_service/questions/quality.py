"""Judgements as rows of ``question_quality``, and which of them counts.

Every market has a row of the rules: it says which text is current, and why no model has judged it
where none has. A model's row counts as long as it is of that text. The quality of a question is
``1 - max(ambiguity, resolution_risk)``: what is either unclear or hard to settle is a bad question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import polars as pl

from calibration_service.frames import conform, empty_frame
from calibration_service.questions.evidence import bind
from calibration_service.questions.prompt import PROMPT_VERSION, cache_key
from calibration_service.questions.rules import RULES_VERSION, Judgement, judge
from calibration_service.questions.text import Question, normalised
from market_data.question_tables import QUESTION_QUALITY

NO_ENDPOINT, OVER_BUDGET, ENDPOINT_FAILED = "NO_ENDPOINT", "OVER_BUDGET", "ENDPOINT_FAILED"
MOST_RELIEF = 0.4
"""How far a model's doubt may lie below that of the rules."""
_COLUMNS = [name for name in QUESTION_QUALITY.schema.names if name != "schema_version"]

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and what became of it.

    Attributes:
        market_id: whose.
        question: what was judged.
        scored_at: as-of instant, aware UTC.
    """

    market_id: str
    question: Question
    scored_at: datetime


def rules_row(asked: Asked, why: str | None) -> Row:
    """The row of the rules; ``why`` no model judged, None where one did."""
    key = f"{RULES_VERSION}:{asked.question.digest}"
    found = judge(asked.question)
    return _row(asked, found, model=RULES_VERSION, prompt=RULES_VERSION, key=key) | {
        "bullets": list(found.bullets),
        "lines_replaced": 0,
        "scored_by": "RULES",
        "why_rules": why,
    }


def model_row(asked: Asked, found: Judgement, model: str) -> Row:
    """The row of a model, its words and bullets held to the text of the question.

    A text can talk a model into trusting it: a model's doubts stay within `MOST_RELIEF` of those
    of the rules.
    """
    ruled = judge(asked.question)
    instead = ruled.bullets
    found = replace(
        found,
        ambiguity=max(found.ambiguity, ruled.ambiguity - MOST_RELIEF),
        resolution_risk=max(found.resolution_risk, ruled.resolution_risk - MOST_RELIEF),
    )
    text = normalised(asked.question.evidence)
    words = [word for word in found.triggers if word.strip() and normalised(word) in text]
    bound = bind(found.bullets, asked.question.evidence, instead=instead)
    key = cache_key(asked.question, model)
    return _row(asked, found, model=model, prompt=PROMPT_VERSION, key=key) | {
        "triggers": words,
        "bullets": list(bound.lines),
        "lines_replaced": bound.replaced,
        "scored_by": "MODEL",
        "why_rules": None,
    }


def frame_of_rows(rows: Sequence[Row]) -> pl.DataFrame:
    """Rows of ``question_quality``."""
    if not rows:
        return empty_frame(QUESTION_QUALITY)
    schema = {name: empty_frame(QUESTION_QUALITY).schema[name] for name in _COLUMNS}
    return conform(pl.DataFrame(rows, schema=schema), QUESTION_QUALITY)


def in_use(rows: pl.DataFrame, *, model: str | None = None) -> pl.DataFrame:
    """The one row of each market that counts, by market.

    A model's row counts before that of the rules when it is of the current text and prompt.

    Args:
        rows: of ``question_quality``.
        model: the only model that counts; None for whichever judged last.
    """
    rules = rows.filter(pl.col("llm_model") == RULES_VERSION)
    current = rules.select("market_id", "text_digest")
    judged = rows.filter(
        pl.col("scored_by") == "MODEL",
        pl.col("prompt_version") == PROMPT_VERSION,
        pl.lit(value=True) if model is None else pl.col("llm_model") == model,
    ).join(current, on=["market_id", "text_digest"], how="semi")
    return (
        pl.concat([judged, rules])
        .sort(
            pl.col("scored_by") == "MODEL", "scored_at", "llm_model", descending=[True, True, False]
        )
        .unique("market_id", keep="first", maintain_order=True)
        .sort("market_id")
    )


def quality(rows: pl.DataFrame) -> pl.DataFrame:
    """market_id, question_quality in [0, 1], question_scored_by and question_note of those rows."""
    worst = pl.max_horizontal("ambiguity", "resolution_risk")
    return rows.select(
        "market_id",
        (1.0 - worst).clip(0.0, 1.0).alias("question_quality"),
        pl.col("llm_model").alias("question_scored_by"),
        pl.col("bullets").list.first().alias("question_note"),
    )


def _row(asked: Asked, found: Judgement, *, model: str, prompt: str, key: str) -> Row:
    return {
        "market_id": asked.market_id,
        "prompt_version": prompt,
        "llm_model": model,
        "ambiguity": found.ambiguity,
        "resolution_risk": found.resolution_risk,
        "triggers": list(found.triggers),
        "text_digest": asked.question.digest,
        "cache_key": key,
        "scored_at": asked.scored_at,
    }
