"""The stage that judges questions: by rules always, by a language model within a budget.

Rows that are stored are the cache: a text that was judged is not judged again. A model is asked
about open markets before closed ones, new or changed texts before others, and large volumes first.
When the endpoint fails, the rules' judgement stands, the run goes on, and its note names the
failure; a text that the endpoint does not take stops no other. What was answered is committed
portion by portion.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime

import polars as pl

from calibration_service.questions.client import (
    BudgetSpent,
    Endpoint,
    EndpointError,
    EndpointRefused,
    QuestionClient,
    QuestionRefused,
)
from calibration_service.questions.prompt import cache_key
from calibration_service.questions.quality import (
    ENDPOINT_FAILED,
    NO_ENDPOINT,
    OVER_BUDGET,
    Asked,
    Row,
    frame_of_rows,
    in_use,
    model_row,
    quality,
    rules_row,
)
from calibration_service.questions.rules import RULES_VERSION, Judgement
from calibration_service.questions.text import COLUMNS, questions_of
from flows.questions_settings import QuestionSettings
from flows.runs import Run, StageCount
from market_data.lake import Lake, UpsertResult

MARKETS_AT_ONCE = 50_000
COMMIT_EVERY = 64
MOST_IN_A_ROW = 3
"""Questions that fail one after the other before an endpoint counts as away."""
_TABLE = "question_quality"


@dataclass(slots=True)
class Answers:
    """What a model has answered so far.

    Attributes:
        rows: not committed yet.
        failed: markets without an answer.
        reasons: what went wrong, each once.
        in_a_row: questions without an answer since the last good one, for no fault of theirs.
    """

    rows: list[Row] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)
    reasons: dict[str, None] = field(default_factory=dict)
    in_a_row: int = 0


def questions(run: Run) -> StageCount:
    """Judges how each question is worded; what has not changed is left as it is."""
    settings = run.settings.questions
    fresh, written = set[str](), 0
    registry = _existing(run.lake, run.interval_end)
    for part in registry.iter_slices(MARKETS_AT_ONCE):
        rows = _changed(run, part)
        fresh.update(row["market_id"] for row in rows)
        written += _written(run.lake.upsert(_TABLE, frame_of_rows(rows)))
        run.progress("questions", written, None)
    answers = Answers()
    if is_configured(settings):
        written += _ask(run, _wanted(run, registry, fresh), answers)
    written += _give_reasons(run, answers.failed)
    said = "; ".join(answers.reasons)
    note = f"rules judged {len(answers.failed)} questions: {said}" if answers.failed else ""
    return StageCount(
        registry.height, registry.height, written, failures=len(answers.failed), note=note
    )


def is_configured(settings: QuestionSettings) -> bool:
    """Whether there is a model to ask."""
    return bool(settings.url and settings.model and settings.max_requests)


def counting(lake: Lake, settings: QuestionSettings) -> pl.DataFrame:
    """The row of ``question_quality`` that counts for each market."""
    return in_use(lake.read(_TABLE), model=settings.model if is_configured(settings) else None)


def question_quality(lake: Lake, settings: QuestionSettings) -> pl.DataFrame:
    """market_id, question_quality, and who judged for what reason."""
    return quality(counting(lake, settings))


def _existing(lake: Lake, instant: datetime) -> pl.DataFrame:
    """The markets that existed at an instant, by id, with whether they were open."""
    ended = pl.coalesce("closed_at", "resolved_at")
    is_open = pl.when(ended.is_null()).then(pl.col("status") == "ACTIVE").otherwise(ended > instant)
    return (
        lake.scan("market_registry")
        .filter((pl.col("created_at") <= instant).fill_null(value=True))
        .select(*COLUMNS, is_open.alias("is_open"), pl.max_horizontal("volume_24h", "liquidity"))
        .sort("market_id")
        .collect()
    )


def _changed(run: Run, part: pl.DataFrame) -> list[Row]:
    """Rows of the rules for the markets whose text is new or another one."""
    known = pl.col("market_id").is_in(part["market_id"].to_list())
    stored = run.lake.read(
        _TABLE, (pl.col("llm_model") == RULES_VERSION) & known,
        columns=("market_id", "text_digest"),
    )  # fmt: skip
    digests = dict(stored.iter_rows())
    why = OVER_BUDGET if is_configured(run.settings.questions) else NO_ENDPOINT
    return [
        rules_row(Asked(market_id, question, run.interval_end), why)
        for market_id, question in questions_of(part)
        if digests.get(market_id) != question.digest
    ]


def _wanted(run: Run, registry: pl.DataFrame, fresh: set[str]) -> Iterator[Asked]:
    """Markets that the model has not judged yet, the most urgent first.

    Those that it did not judge when it was asked last come behind the others.
    """
    model = run.settings.questions.model
    rows = run.lake.read(_TABLE, columns=("market_id", "llm_model", "cache_key", "why_rules"))
    judged = set(rows.filter(llm_model=model).select("market_id", "cache_key").iter_rows())
    failed = rows.filter(llm_model=RULES_VERSION, why_rules=ENDPOINT_FAILED)["market_id"]
    is_fresh = pl.col("market_id").is_in(list(fresh))
    has_failed = pl.col("market_id").is_in(failed.implode())
    urgent = registry.with_columns(is_fresh=is_fresh, has_failed=has_failed).sort(
        "has_failed", "is_open", "is_fresh", "volume_24h", "market_id",
        descending=[False, True, True, True, False], nulls_last=True,
    )  # fmt: skip
    for part in urgent.iter_slices(1_000):
        for market_id, question in questions_of(part):
            if (market_id, cache_key(question, model)) not in judged:
                yield Asked(market_id, question, run.interval_end)


def _ask(run: Run, wanted: Iterator[Asked], answers: Answers) -> int:
    """Asks until nothing is wanted, the budget is spent or the endpoint fails; rows written."""
    settings, written = run.settings.questions, 0
    endpoint = Endpoint(
        settings.url, settings.model, settings.key, settings.timeout_seconds,
        settings.backoff_seconds, settings.max_requests,
    )  # fmt: skip
    client = QuestionClient(endpoint)
    with ThreadPoolExecutor(settings.concurrency) as threads:
        goes_on = True
        while goes_on and (portion := _next(wanted, min(settings.concurrency,
                                                        client.requests_left))):  # fmt: skip
            found = list(threads.map(lambda asked: _one(client, asked), portion))
            goes_on = _sort_out(portion, found, answers, settings.model)
            if len(answers.rows) >= COMMIT_EVERY:
                written += _commit(run.lake, answers)
    return written + _commit(run.lake, answers)


def _next(wanted: Iterator[Asked], count: int) -> list[Asked]:
    return [asked for _, asked in zip(range(count), wanted, strict=False)]


def _one(client: QuestionClient, asked: Asked) -> Judgement | EndpointError:
    try:
        return client.judge(asked.question)
    except EndpointError as error:
        return error


def _sort_out(
    portion: Sequence[Asked],
    found: Sequence[Judgement | EndpointError],
    answers: Answers,
    model: str,
) -> bool:
    """Keeps what was answered and notes what was not; whether asking on makes sense.

    A text that is not taken says nothing of the others; an endpoint that is away, does.
    """
    for asked, result in zip(portion, found, strict=True):
        if isinstance(result, Judgement):
            answers.in_a_row = 0
            answers.rows.append(model_row(asked, result, model))
        elif not isinstance(result, BudgetSpent):
            answers.in_a_row += not isinstance(result, QuestionRefused)
            answers.failed.add(asked.market_id)
            answers.reasons[f"{type(result).__name__}: {result}"] = None
    refused = any(isinstance(one, EndpointRefused) for one in found)
    return not refused and answers.in_a_row < MOST_IN_A_ROW


def _commit(lake: Lake, answers: Answers) -> int:
    written = _written(lake.upsert(_TABLE, frame_of_rows(answers.rows)))
    answers.rows.clear()
    return written


def _give_reasons(run: Run, failed: set[str]) -> int:
    """Brings ``why_rules`` of the rules' rows up to date; rows written."""
    settings = run.settings.questions
    rows = run.lake.read(_TABLE)
    used = in_use(rows, model=settings.model if is_configured(settings) else None)
    judged = used.filter(pl.col("scored_by") == "MODEL")["market_id"].to_list()
    otherwise = OVER_BUDGET if is_configured(settings) else NO_ENDPOINT
    why = (
        pl.when(pl.col("market_id").is_in(judged))
        .then(None)
        .when(pl.col("market_id").is_in(list(failed)))
        .then(pl.lit(ENDPOINT_FAILED))
        .otherwise(pl.lit(otherwise))
    )
    rules = rows.filter(pl.col("llm_model") == RULES_VERSION)
    moved = rules.filter(pl.col("why_rules").ne_missing(why)).with_columns(why.alias("why_rules"))
    return _written(run.lake.upsert(_TABLE, moved))


def _written(result: UpsertResult) -> int:
    return result.rows_new + result.rows_changed
