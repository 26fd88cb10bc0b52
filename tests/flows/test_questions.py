"""The stage that judges questions: its budget, no endpoint, and one that fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import SecretStr, ValidationError

from flows.questions import counting, question_quality, questions
from flows.questions_settings import QuestionSettings
from flows.runs import Run
from flows.settings import FlowSettings
from market_data.lake import Lake, polars_schema

NOW = datetime(2026, 6, 1, tzinfo=UTC)
GOOD = {
    "ambiguity": 0.25,
    "resolution_risk": 0.125,
    "triggers": ["rain", "volcano"],
    "bullets": ["No station is named", "It rained on 99 % of days"],
}


@dataclass
class FakeModel:
    """Answers well while ``status`` is 200, but not to those refused; remembers the questions."""

    url: str = ""
    status: int = 200
    refused: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def model(serve_http: Callable[..., str]) -> FakeModel:
    fake = FakeModel()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = json.loads(self.rfile.read(int(self.headers["content-length"])))
            data = json.loads(sent["messages"][1]["content"].split("\n")[1])
            fake.asked.append(data["question"])
            body = json.dumps({"choices": [{"message": {"content": json.dumps(GOOD)}}]}).encode()
            refused = data["question"] in fake.refused
            self.send_response(400 if refused else fake.status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    fake.url = serve_http(Handler)
    return fake


def store(lake: Lake, *texts: str, volume: float = 0.0, **fields: Any) -> None:
    """Markets named by their question's first word; the later ones trade more."""
    rows = [
        {"market_id": text.split()[0], "event_id": "e", "question": text, "outcomes": ["Yes", "No"],
         "created_at": NOW - timedelta(days=9), "status": "ACTIVE",
         "volume_24h": volume + place} | fields
        for place, text in enumerate(texts)
    ]  # fmt: skip
    schema = polars_schema("market_registry")
    frame = pl.DataFrame(rows, schema_overrides={k: v for k, v in schema.items() if k in rows[0]})
    missing = [pl.lit(None, dtype=v).alias(k) for k, v in schema.items() if k not in frame.columns]
    lake.upsert("market_registry", frame.with_columns(missing).drop("schema_version"))


MakeRun = Callable[..., Run]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    def make(**fields: Any) -> Run:
        asked = QuestionSettings(**{"backoff_seconds": 0.0, "concurrency": 1} | fields)
        settings = FlowSettings(lake=str(tmp_path / "lake"), questions=asked)
        start = NOW - timedelta(days=90)
        return Run("daily", Lake(settings.lake), settings, start, NOW, lambda: NOW)

    return make


def rules(run: Run) -> dict[str, str | None]:
    rows = run.lake.read("question_quality", pl.col("scored_by") == "RULES")
    return dict(rows.select("market_id", "why_rules").sort("market_id").iter_rows())


def test_without_an_endpoint_rules_judge_everything_and_say_so(make_run: MakeRun) -> None:
    run = make_run()
    store(run.lake, "a will it rain soon?", "b will it rain in Oslo on 2026-07-01?")
    count = questions(run)
    assert (count.rows_out, count.rows_written, count.failures) == (2, 2, 0)
    rows = counting(run.lake, run.settings.questions)
    assert rows["llm_model"].to_list() == ["rules-1", "rules-1"]
    assert rules(run) == {"a": "NO_ENDPOINT", "b": "NO_ENDPOINT"}
    assert questions(run).rows_written == 0


def test_quality_is_what_is_left_of_the_larger_doubt(make_run: MakeRun) -> None:
    run = make_run()
    store(run.lake, "a will it rain soon?")
    questions(run)
    row = run.lake.read("question_quality").row(0, named=True)
    told = question_quality(run.lake, run.settings.questions).row(0, named=True)
    worst = max(row["ambiguity"], row["resolution_risk"])
    assert told["question_quality"] == pytest.approx(1 - worst)
    assert told["question_scored_by"] == "rules-1"
    assert told["question_note"] == row["bullets"][0]


def test_a_model_judges_once_and_is_held_to_the_text(make_run: MakeRun, model: FakeModel) -> None:
    run = make_run(url=model.url, model="judge")
    store(run.lake, "a will it rain soon?")
    count = questions(run)
    assert (count.failures, count.note) == (0, "")
    row = counting(run.lake, run.settings.questions).row(0, named=True)
    assert (row["llm_model"], row["ambiguity"], row["lines_replaced"]) == ("judge", 0.25, 1)
    assert row["bullets"][0] == "No station is named"
    assert row["triggers"] == ["rain"]
    assert not any("99" in line for line in row["bullets"])
    assert rules(run) == {"a": None}
    assert questions(run).rows_written == 0
    assert len(model.asked) == 1


def test_a_text_that_changed_is_judged_again(make_run: MakeRun, model: FakeModel) -> None:
    run = make_run(url=model.url, model="judge")
    store(run.lake, "a will it rain soon?")
    questions(run)
    store(run.lake, "a  WILL it rain soon?")
    questions(run)
    assert len(model.asked) == 1
    store(run.lake, "a will it snow soon?")
    questions(run)
    assert model.asked == ["a will it rain soon?", "a will it snow soon?"]


def test_an_old_judgement_does_not_stand_for_a_new_text(
    make_run: MakeRun, model: FakeModel
) -> None:
    run = make_run(url=model.url, model="judge")
    store(run.lake, "a will it rain soon?")
    questions(run)
    store(run.lake, "a will it snow soon?")
    model.status = 500
    questions(run)
    assert counting(run.lake, run.settings.questions)["llm_model"].to_list() == ["rules-1"]


def test_the_budget_goes_to_open_and_large_markets_and_rules_do_the_rest(
    make_run: MakeRun, model: FakeModel
) -> None:
    run = make_run(url=model.url, model="judge", max_requests=2)
    store(run.lake, "a small?", "b middling?", "c large?")
    store(run.lake, "d closed?", volume=1e9, status="RESOLVED", resolved_at=NOW - timedelta(1))
    count = questions(run)
    assert count.failures == 0
    assert model.asked == ["c large?", "b middling?"]
    assert rules(run) == {"a": "OVER_BUDGET", "b": None, "c": None, "d": "OVER_BUDGET"}
    store(run.lake, "e new?")
    questions(run)
    assert model.asked[2:] == ["e new?", "a small?"]


def test_an_endpoint_that_fails_is_named_and_loses_no_row(
    make_run: MakeRun, model: FakeModel
) -> None:
    run = make_run(url=model.url, model="judge")
    store(run.lake, "a will it rain?", "b will it snow?")
    model.status = 503
    count = questions(run)
    assert count.failures == 2
    assert "EndpointAway: status 503" in count.note
    assert len(model.asked) == 6
    assert counting(run.lake, run.settings.questions).height == 2
    assert rules(run) == {"a": "ENDPOINT_FAILED", "b": "ENDPOINT_FAILED"}
    run.stages["questions"] = count
    assert run.failures[0].startswith("questions: rules judged 2 questions")
    model.status = 200
    assert questions(run).failures == 0
    assert rules(run) == {"a": None, "b": None}


def test_an_endpoint_that_is_away_is_not_asked_about_every_question(
    make_run: MakeRun, model: FakeModel
) -> None:
    run = make_run(url=model.url, model="judge")
    store(run.lake, *(f"m{k} will it rain?" for k in range(9)))
    model.status = 503
    assert questions(run).failures == 3
    assert len(model.asked) == 9  # three questions, three tries each


def test_a_text_that_is_not_taken_starves_no_other(make_run: MakeRun, model: FakeModel) -> None:
    run = make_run(url=model.url, model="judge", max_requests=4)
    store(run.lake, *(f"m{k} will it rain?" for k in range(6)), "z forbidden?")
    model.refused = {"z forbidden?"}
    count = questions(run)
    assert count.failures == 1
    assert "QuestionRefused: status 400" in count.note
    assert len(model.asked) == 4
    assert model.asked[0] == "z forbidden?"
    questions(run)
    assert model.asked[4:7] == ["m2 will it rain?", "m1 will it rain?", "m0 will it rain?"]
    assert model.asked[7:] == ["z forbidden?"]


def test_a_refused_key_ends_the_asking_at_once(make_run: MakeRun, model: FakeModel) -> None:
    run = make_run(url=model.url, model="judge", key="wrong")
    store(run.lake, "a will it rain?", "b will it snow?")
    model.status = 401
    assert questions(run).failures == 1
    assert len(model.asked) == 1


def test_a_market_of_the_future_is_not_judged(make_run: MakeRun) -> None:
    run = make_run()
    store(run.lake, "a will it rain?", created_at=NOW + timedelta(days=1))
    assert questions(run).rows_out == 0


@pytest.mark.parametrize("key", ["a\nb", "schlüssel"])
def test_a_key_that_no_header_can_hold_is_refused_before_a_run(key: str) -> None:
    with pytest.raises(ValidationError, match="printable ASCII") as caught:
        QuestionSettings(key=SecretStr(key))
    assert key not in str(caught.value)


def test_an_address_that_is_none_ends_in_a_named_failure(make_run: MakeRun) -> None:
    run = make_run(url="no address", model="judge")
    store(run.lake, "a will it rain?")
    assert "EndpointAway" in questions(run).note
    assert counting(run.lake, run.settings.questions).height == 1
