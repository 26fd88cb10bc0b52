"""The log: one line per record, as JSON for machines or as text for a terminal.

Every record tells the call and the trace on whose behalf it was written. Credentials are taken out
of whatever is logged here, by whomever: keys, bearer tokens, signed tokens, passwords in URLs or
after their name. A secret that looks like nothing of the kind is not known as one.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from opentelemetry.trace import get_current_span

from forecast_service.telemetry.settings import TelemetrySettings
from gateway.telemetry.call_context import UNDER_WAY

MOST_CHARACTERS = 16_384
"""Of a message or a traceback; of a longer one the ends are kept."""
_VALUE = r"(?:'[^']*'|\"[^\"]*\"|['\"]?[^\s'\"&]+)"
_SECRETS = (
    (re.compile(r"\bmk_([0-9a-z]{8})_[0-9a-z]+"), r"mk_\1_***"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[^\s,;'\"]+"), r"\1 ***"),
    (re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]*"), "***"),
    (re.compile(r"(?i)(x-api-key['\"]?\s*[:=,]\s*)" + _VALUE), r"\1***"),
    (re.compile(r"(?i)((?:passw(?:or)?d|passphrase|pwd)['\"]?\s*[:=]\s*)" + _VALUE), r"\1***"),
    (re.compile(r"(?i)((?:secret|api[_-]?key|\btoken)(?:['\"]\s*:|\s*=)\s*)" + _VALUE), r"\1***"),
    # Up to the last "@" of the word: a password may hold "/" and "@" as they are.
    (re.compile(r"://[^\s'\"<>@]{0,512}(?:@[^\s'\"<>@]{0,512}){0,4}@"), "://***@"),
)
_SECRET_NAME = re.compile(r"(?i)passw|passphrase|secret|api[_-]?key|^token$|authorization")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\x85\u2028\u2029]")
_LEVELS = {"WARNING": "WARN", "CRITICAL": "FATAL"}
"""Names of the levels as OpenTelemetry has them, where they differ."""


def without_credentials(text: str) -> str:
    """``text`` with its credentials blotted out.

    >>> without_credentials("postgresql://me:geheim@db/x with Bearer abc.def")
    'postgresql://***@db/x with Bearer ***'
    """
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def _clean(value: Any) -> Any:
    """A fact of any form without its credentials, known by its name or by its look."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {
            without_credentials(str(name)): "***" if _SECRET_NAME.search(str(name)) else _clean(one)
            for name, one in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(one) for one in value]
    return _bounded(without_credentials(str(value)))


class _Formatter(logging.Formatter):
    """What both forms share."""

    def facts(self, record: logging.LogRecord) -> dict[str, object]:
        """What a record says, without credentials."""
        said: dict[str, object] = {
            "time": _time(record.created),
            "level": _LEVELS.get(record.levelname, record.levelname),
            "logger": record.name,
            "message": _bounded(without_credentials(record.getMessage())),
        }
        said |= _ids(record)
        more = getattr(record, "facts", None)
        if isinstance(more, dict):
            found = {name: value for name, value in more.items() if value not in ("", None)}
            said |= _clean(found)
        if record.exc_info and record.exc_info[0] is not None:
            said["error_type"] = record.exc_info[0].__name__
            text = self.formatException(record.exc_info)
            said["exception"] = _bounded(without_credentials(text))
        return said


class JsonLines(_Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line."""
        return json.dumps(self.facts(record), ensure_ascii=False, default=str)


class TextLines(_Formatter):
    """A line for people, with a traceback below it where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line; what a caller sent cannot begin another one."""
        said = self.facts(record)
        ids = "".join(
            f" {name}={said[name]}" for name in ("request_id", "trace_id") if name in said
        )
        message = _CONTROL.sub(_escaped, str(said["message"]))
        line = f"{said['time']} {said['level']} {said['logger']} {message}{ids}"
        return f"{line}\n{said['exception']}" if "exception" in said else line


_TALKATIVE = ("httpx", "httpcore", "websockets")
"""Loggers of dependencies that write a line for each request."""


def set_up(settings: TelemetrySettings, stream: TextIO) -> None:
    """Sends the log of this process to ``stream``."""
    text = settings.log_format == "text" or (settings.log_format == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextLines() if text else JsonLines())
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.root.level))


def _ids(record: logging.LogRecord) -> dict[str, str]:
    """Ids of the call and the span on whose behalf a record was written."""
    under_way = UNDER_WAY.get()
    request_id = getattr(record, "request_id", "") or (
        under_way.call.request_id if under_way is not None else ""
    )
    found = {"request_id": str(request_id)} if request_id else {}
    span = get_current_span().get_span_context()
    if not span.is_valid and under_way is not None and under_way.span is not None:
        span = under_way.span.get_span_context()
    if span.is_valid:
        found |= {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}
    return found


def _time(seconds: float) -> str:
    """RFC 3339 in UTC.

    >>> _time(1.5)
    '1970-01-01T00:00:01.500Z'
    """
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _bounded(text: str) -> str:
    if len(text) <= MOST_CHARACTERS:
        return text
    half = MOST_CHARACTERS // 2
    return f"{text[:half]} … {text[-half:]}"


def _escaped(match: re.Match[str]) -> str:
    return repr(match[0])[1:-1]
