"""The table of what could be argued about in a market's question."""

from __future__ import annotations

from market_data.table import COUNT, REAL, TEXT, TEXTS, TIME, describe

QUESTION_QUALITY = describe(
    "question_quality",
    ("market_id", "prompt_version", "llm_model"),
    {
        "market_id": TEXT,
        "prompt_version": TEXT,  # of the prompt, or of the rules
        "llm_model": TEXT,  # the model that judged; "rules-1" where no model did
        "ambiguity": REAL,  # chance that the wording leaves the outcome open
        "resolution_risk": REAL,  # chance that the resolution is late or disputed
        "triggers": TEXTS,  # words of the question that led to it
        "bullets": TEXTS,  # at most five reasons of at most 140 characters
        "lines_replaced": COUNT,  # reasons of a model that the question did not bear out
        "text_digest": TEXT,  # sha256 of the normalised text; that of the rules' row is current
        "cache_key": TEXT,  # sha256 of text, model, prompt version and parameters
        "scored_by": TEXT,  # MODEL | RULES
        "why_rules": TEXT,  # NO_ENDPOINT | OVER_BUDGET | ENDPOINT_FAILED; null where a model judged
        "scored_at": TIME,  # the as-of instant of the run that scored it
    },
)
