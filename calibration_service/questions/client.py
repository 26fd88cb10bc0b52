"""Asks any endpoint that speaks OpenAI's ``/v1/chat/completions``.

====================  ============================================================================
what happens          what is done
====================  ============================================================================
no connection, late   tried again, twice at most
429, 5xx              the same
an answer that is no  the same: nothing of it is used
JSON of the schema
400, 413, 422         QuestionRefused: this text is not taken; others may be
other 4xx, redirect   EndpointRefused: the key, the model or the address is wrong
====================  ============================================================================

Before each further try it waits ``backoff · 2^k``, jittered over [½, 1], at most ten seconds. The
timeout holds for a whole exchange, connecting and headers included. Neither the key nor the
market's text is part of any error.

::

    EndpointError
    ├── EndpointAway      no connection, too late, 429 or 5xx, three times
    ├── EndpointRefused   asking again will not help
    ├── QuestionRefused   asking about this question again will not help
    ├── UnusableAnswer    three answers were not what was asked for
    └── BudgetSpent       no request is left; nothing was sent
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import httpx
import orjson
from pydantic import BaseModel, Field, SecretStr, ValidationError

from calibration_service.questions.prompt import Answer, request_of
from calibration_service.questions.rules import Judgement
from calibration_service.questions.text import Question

TRIES = 3
MAX_REPLY_BYTES = 1 << 20
LONGEST_PAUSE = 10.0
_PATH = "/chat/completions"
_OF_THE_TEXT = (
    httpx.codes.BAD_REQUEST, httpx.codes.REQUEST_ENTITY_TOO_LARGE, httpx.codes.UNPROCESSABLE_ENTITY,
)  # fmt: skip


class EndpointError(Exception):
    """An endpoint gave no judgement."""


class EndpointAway(EndpointError):
    """It could not be reached, or not now."""


class EndpointRefused(EndpointError):
    """It wants no such request."""


class QuestionRefused(EndpointError):
    """It does not take this text: a filter, or a limit of length."""


class UnusableAnswer(EndpointError):
    """What it answered is not what was asked for."""


class BudgetSpent(EndpointError):
    """No request is left."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a model is, and how it is asked.

    Attributes:
        url: of the API, with or without "/v1" at its end.
        model: its name there.
        key: its API key; None for none.
        timeout_seconds: of one exchange.
        backoff_seconds: wait before the second try; doubles.
        max_requests: over the whole life of a client, tries included.
    """

    url: str
    model: str
    key: SecretStr | None = None
    timeout_seconds: float = 20.0
    backoff_seconds: float = 0.5
    max_requests: int = 200

    @property
    def address(self) -> str:
        """Where requests go."""
        root = self.url.rstrip("/")
        return (root if root.endswith("/v1") else f"{root}/v1") + _PATH


class _Message(BaseModel):
    content: str


class _Choice(BaseModel):
    message: _Message


class _Reply(BaseModel):
    """The part of a reply that is read; servers add what they like around it."""

    choices: Annotated[list[_Choice], Field(min_length=1)]


class QuestionClient:
    """Asks an endpoint within a budget; several threads may ask at once.

    Args:
        endpoint: where and how.
        sleep: waits so many seconds.
        jitter: a number in [0, 1).
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._endpoint = endpoint
        self._sleep = sleep
        self._jitter = jitter
        self._left = endpoint.max_requests
        self._lock = threading.Lock()
        key = endpoint.key.get_secret_value() if endpoint.key else ""
        self._headers = {"content-type": "application/json"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"

    @property
    def requests_left(self) -> int:
        """Requests that may still be sent."""
        return self._left

    def judge(self, question: Question) -> Judgement:
        """The model's judgement; its bullets are not held to the evidence yet.

        Raises:
            EndpointError: there is none; see the table above.
        """
        body = orjson.dumps(request_of(question, self._endpoint.model))
        last: EndpointError = BudgetSpent("no request is left")
        for attempt in range(TRIES):
            if attempt:
                self._sleep(self._pause(attempt))
            if not self._spend():
                raise last
            try:
                return _read(self._exchange(body))
            except (EndpointAway, UnusableAnswer) as error:
                last = error
        raise last

    def _spend(self) -> bool:
        with self._lock:
            if self._left <= 0:
                return False
            self._left -= 1
            return True

    def _pause(self, attempt: int) -> float:
        longest = min(LONGEST_PAUSE, self._endpoint.backoff_seconds * 2.0 ** (attempt - 1))
        return longest * (0.5 + 0.5 * self._jitter())

    def _exchange(self, body: bytes) -> bytes:
        """The body of a good reply. Asked on a loop of its own, which alone can end it in time."""
        try:
            return asyncio.run(self._post(body))
        except TimeoutError:
            raise EndpointAway("no whole answer in time") from None
        except httpx.TransportError as error:
            raise EndpointAway(f"no answer ({type(error).__name__})") from None
        except (httpx.InvalidURL, httpx.DecodingError) as error:
            raise EndpointRefused(f"no exchange ({type(error).__name__})") from None

    async def _post(self, body: bytes) -> bytes:
        seconds = self._endpoint.timeout_seconds
        async with (
            asyncio.timeout(seconds),
            httpx.AsyncClient(
                headers=self._headers, timeout=seconds, follow_redirects=False, trust_env=False
            ) as client,
            client.stream("POST", self._endpoint.address, content=body) as reply,
        ):
            _check_status(reply.status_code)
            parts, size = [], 0
            async for part in reply.aiter_bytes():
                parts.append(part)
                size += len(part)
                if size > MAX_REPLY_BYTES:
                    raise UnusableAnswer(f"more than {MAX_REPLY_BYTES:,} bytes")
            return b"".join(parts)


def _check_status(status: int) -> None:
    if status == httpx.codes.TOO_MANY_REQUESTS or status >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise EndpointAway(f"status {status}")
    if status in _OF_THE_TEXT:
        raise QuestionRefused(f"status {status}")
    if status != httpx.codes.OK:
        raise EndpointRefused(f"status {status}")


def _read(body: bytes) -> Judgement:
    try:
        reply = _Reply.model_validate_json(body)
        return Answer.model_validate_json(reply.choices[0].message.content).judgement()
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]["type"]
        raise UnusableAnswer(f"not the JSON that was asked for ({first})") from None
