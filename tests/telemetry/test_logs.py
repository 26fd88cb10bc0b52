"""The log: whose record it is, one line for each, and never a credential."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

from forecast_service.telemetry.settings import TelemetrySettings
from gateway.telemetry import logs
from gateway.telemetry.access_log import MOST_FAULTS, AccessLog
from gateway.telemetry.call_context import UNDER_WAY, UnderWay
from gateway.telemetry.logs import JsonLines, TextLines
from marketcal.v1 import forecast_pb2 as pb

VALUES = [0.4, 0.41, 0.43, 0.42] * 24
KEY = "mk_0a1b2c3d_abcdefghijklmnopqrstuvwxyz0123456789ab"
TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJtZSJ9.c2lnbmF0dXJl"


class Written(logging.Handler):
    """Formats records as they come, in the context of whoever logs."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))

    @property
    def facts(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


@pytest.fixture
def written() -> Iterator[Callable[..., Written]]:
    """Collects what is logged to a logger: ``written("gateway.access")``."""
    with ExitStack() as stack:

        def start(name: str, formatter: logging.Formatter | None = None) -> Written:
            handler, logger = Written(formatter or JsonLines()), logging.getLogger(name)
            level, disabled = logger.level, logger.disabled
            logger.addHandler(handler)
            logger.setLevel(logging.DEBUG)
            logger.disabled = False
            stack.callback(setattr, logger, "disabled", disabled)
            stack.callback(logger.setLevel, level)
            stack.callback(logger.removeHandler, handler)
            return handler

        yield start


def record(message: str, *arguments: object, **extra: Any) -> logging.LogRecord:
    made = logging.LogRecord("a.b", logging.WARNING, "x.py", 1, message, arguments, None)
    made.created = 1_700_000_000.25
    made.__dict__.update(extra)
    return made


def test_a_record_is_one_line_of_json() -> None:
    line = JsonLines().format(record("two\nlines %s", "of text\u2028", request_id="r1"))
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.250Z", "level": "WARN", "logger": "a.b",
        "message": "two\nlines of text\u2028", "request_id": "r1",
    }  # fmt: skip


def test_an_exception_is_a_field_of_its_record() -> None:
    try:
        raise ValueError(f"no {KEY}\nhere")
    except ValueError as error:
        kind = (type(error), error, error.__traceback__)
    failed = record("failed")
    failed.exc_info = kind
    line = JsonLines().format(failed)
    facts = json.loads(line)
    assert "\n" not in line
    assert facts["error_type"] == "ValueError"
    assert facts["exception"].startswith("Traceback")
    assert "mk_0a1b2c3d_***" in facts["exception"]


@pytest.mark.parametrize(
    ("said", "secret"),
    [
        (f"key {KEY}", KEY[12:]),
        (f"{{'authorization': 'Bearer {TOKEN}'}}", TOKEN),
        (f"authorization: bearer {KEY}", KEY),
        (f"token={TOKEN}", TOKEN),
        ("postgresql://me:geheim@db/control is away", "geheim"),
        ("('x-api-key', 'something-else')", "something-else"),
        ("x-api-key: something-else", "something-else"),
        ("Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
        ("postgresql://u:p/geheim@h/db", "geheim"),
        ("redis://user:p@geheim@h/0", "geheim"),
        ("https://geheim@h/x", "geheim"),
        ("password=geheim", "geheim"),
        ("host=h password='so geheim' user=u", "geheim"),
        ("password=a,geheim", "geheim"),
        ("{'db_password': 'geheim'}", "geheim"),
        ('{"client_secret": "geheim"}', "geheim"),
        ("https://h/x?api_key=geheim&b=1", "geheim"),
    ],
)
@pytest.mark.parametrize("formatter", [JsonLines(), TextLines()])
def test_a_credential_is_never_written(
    said: str, secret: str, formatter: logging.Formatter
) -> None:
    for made in (record(said), record("%s", said)):
        assert secret not in formatter.format(made)


def test_facts_beside_a_message_hold_no_credential_either() -> None:
    facts = {
        "url": "redis://user:geheim@h/0", "password": "geheim", "tries": 3, "on": True,
        "sent": {"authorization": "geheim", "ids": [f"key {KEY}", 7]},
    }  # fmt: skip
    said = json.loads(JsonLines().format(record("failed", facts=facts)))
    assert "geheim" not in str(said)
    assert KEY not in str(said)
    assert (said["tries"], said["on"], said["sent"]["ids"][1]) == (3, True, 7)


def test_what_only_sounds_like_a_credential_stays() -> None:
    for said in ("setting upstream.secret: is needed", "next_page_token=abc", "http://h:80/v1/x"):
        assert json.loads(JsonLines().format(record(said)))["message"] == said


def test_text_of_a_caller_cannot_begin_another_line() -> None:
    line = TextLines().format(record("sent %s", "a\n2023 INFO forged\r\x1b[2J\u2028"))
    assert len(line.splitlines()) == 1
    assert "\x1b" not in line
    assert line.startswith("2023-11-14T22:13:20.250Z WARN a.b sent a\\n2023")


def test_a_huge_message_is_cut() -> None:
    assert len(JsonLines().format(record("x" * 10_000_000))) < 40_000


def test_a_record_tells_its_call_and_trace() -> None:
    call: Any = SimpleNamespace(request_id="mine")
    context = SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=TraceFlags(1))
    token = UNDER_WAY.set(UnderWay(call, None))
    try:
        with use_span(NonRecordingSpan(context)):
            facts = json.loads(JsonLines().format(record("hello")))
    finally:
        UNDER_WAY.reset(token)
    assert facts["request_id"] == "mine"
    assert (facts["trace_id"], facts["span_id"]) == (f"{0xABC:032x}", f"{0xDEF:016x}")
    assert "request_id" not in json.loads(JsonLines().format(record("elsewhere")))


def test_what_the_policy_logs_of_a_failing_backend_has_the_id_of_its_call(
    serve_seen: Any, forecasts_on: Any, written: Any, collector: Any, until: Any
) -> None:
    lines = written("forecast_service")
    with ExitStack() as stack:
        gateway = serve_seen(stack)
        forecaster = gateway.parts.forecasting.forecaster

        class Broken:
            served_by = "in-process"

            async def answer(self, batches: Any, budget: float) -> Any:
                raise RuntimeError("no model today")

        lane = forecaster.lanes["native"]
        lane.ask_through(Broken())
        request = pb.ForecastRequest(
            market_id="m", values=VALUES, model=pb.ModelSpec(name="native")
        )
        metadata = (("x-request-id", "who-asked"),)
        answer = forecasts_on(gateway.channel).Forecast(request, metadata=metadata, timeout=20)
        until(lambda: bool(collector.spans))
    assert answer.meta.fallback_used
    (said,) = [facts for facts in lines.facts if "no model today" in facts["message"]]
    assert said["request_id"] == "who-asked"
    assert said["trace_id"] in {span.trace for span in collector.spans}


@pytest.mark.parametrize(("setting", "codes"), [("all", ["OK", "UNAUTHENTICATED"]), ("off", []),
                                                ("errors", [])])  # fmt: skip
def test_calls_leave_a_line_as_the_setting_says(
    serve_gateway: Any, forecasts_on: Any, written: Any, setting: str, codes: list[str]
) -> None:
    lines = written("gateway.access")
    with ExitStack() as stack:
        gateway = serve_gateway(
            stack, telemetry={"access_log": setting}, forecast={"in_process": "always"},
            gateway={"drain_notice_seconds": 0.0},
        )  # fmt: skip
        stub = forecasts_on(gateway.channel)
        key = gateway.key("forecaster")
        request = pb.ForecastRequest(market_id="m", values=VALUES)
        for sent in (key, KEY):
            metadata = (("authorization", f"Bearer {sent}"),)
            stub.Forecast.future(request, metadata=metadata, timeout=20).exception()
    assert [facts["code"] for facts in lines.facts] == codes
    assert not any(key in line or KEY in line for line in lines.lines)
    if codes:
        good, bad = lines.facts
        assert good["caller"] == key.split("_")[1]
        assert (good["level"], bad["reason"]) == ("INFO", "CREDENTIAL_INVALID")
        assert good["request_id"]
        assert good["milliseconds"] > 0


def test_a_flood_of_faults_is_no_flood_of_lines(written: Any) -> None:
    lines = written("gateway.access")
    now = 0.0
    log = AccessLog(lambda: now, everything=False)
    method = SimpleNamespace(name="/m")
    call: Any = SimpleNamespace(method=method, code="UNAVAILABLE", caller="", request_id="r")
    for _ in range(10_000):
        log.ended(UnderWay(call, None), 0.1)
    assert len(lines.lines) == MOST_FAULTS
    assert log.left_out == 10_000 - MOST_FAULTS
    now = 1.0
    log.ended(UnderWay(call, None), 0.1)
    assert len(lines.lines) == MOST_FAULTS + 1


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("form", "stream", "is_json"),
    [("auto", io.StringIO(), True), ("auto", Terminal(), False), ("json", Terminal(), True),
     ("text", io.StringIO(), False)],
)  # fmt: skip
def test_the_log_is_text_for_people_and_json_for_machines(
    form: Any, stream: io.StringIO, is_json: bool
) -> None:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    for handler in handlers:  # or `force` would close those of the test runner
        root.removeHandler(handler)
    try:
        logs.set_up(TelemetrySettings(log_format=form, log_level="WARNING"), stream)
        logging.getLogger("x").info("quiet")
        logging.getLogger("x").warning("loud")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("{") is is_json
    assert "loud" in line
