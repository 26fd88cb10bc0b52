"""Where alerts are sent beside the stream: a webhook, a log. Without a sink nothing leaves here."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from datetime import UTC, datetime
from typing import Any, Protocol

import httpx

from calibration_service.alerts.errors import DeliveryError, DeliveryRefused
from calibration_service.alerts.store import SinkRule, StoredAlert

SIGNATURE = "x-marketcal-signature"
ALERT_ID = "x-marketcal-alert-id"
_AGAIN = frozenset({401, 403, 404, 408, 425, 429})
"""4xx after which a later attempt may succeed: a receiver that is set up anew says some of them."""
_LOG = logging.getLogger("calibration_service.alerts")


class Sink(Protocol):
    """Takes alerts, the same one perhaps more than once."""

    @property
    def rule(self) -> SinkRule:
        """Its name, and what it wants."""
        ...

    async def send(self, stored: StoredAlert, now: datetime) -> None:
        """Hands an alert over.

        Raises:
            DeliveryRefused: it will never be taken.
            DeliveryError: it was not taken this time.
        """
        ...


class LogSink:
    """Writes each alert as one line of JSON to the log ``calibration_service.alerts``."""

    def __init__(self, rule: SinkRule) -> None:
        self.rule = rule

    async def send(self, stored: StoredAlert, now: datetime) -> None:  # noqa: ARG002
        """Logs the alert."""
        _LOG.warning("%s", body_of(stored).decode())


class Webhook:
    """Posts each alert as JSON, signed, to one address.

    The receiver computes the HMAC-SHA256 of ``<t>.<body>`` with the secret, compares it with ``v1``
    and refuses an old ``t``; the same alert comes with the same `ALERT_ID`. Redirects are refused.

    Args:
        rule: name and what it wants.
        url: http or https address.
        secret: signs the body; it is neither logged nor stored.
        http: makes the requests; its timeout holds.

    Raises:
        ValueError: the address is none, or the secret is empty.
    """

    def __init__(self, rule: SinkRule, *, url: str, secret: bytes, http: httpx.AsyncClient) -> None:
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL:
            raise ValueError("url: is no address") from None
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ValueError("url: needs http or https and a host")
        if not secret:
            raise ValueError("secret: is empty")
        self.rule = rule
        self._url = parsed
        self._secret = secret
        self._http = http

    async def send(self, stored: StoredAlert, now: datetime) -> None:
        """Posts the alert; any 2xx means that it was taken."""
        body = body_of(stored)
        headers = {
            "content-type": "application/json",
            SIGNATURE: sign(body, self._secret, int(now.timestamp())),
            ALERT_ID: stored.alert.alert_id,
        }
        try:
            async with self._http.stream(
                "POST", self._url, content=body, headers=headers, follow_redirects=False
            ) as answer:
                status = answer.status_code
        except httpx.HTTPError as error:
            raise DeliveryError(type(error).__name__) from None
        if 200 <= status < 300:
            return
        permanent = 300 <= status < 500 and status not in _AGAIN
        raise (DeliveryRefused if permanent else DeliveryError)(f"HTTP {status}")


def sign(body: bytes, secret: bytes, at: int) -> str:
    """The value of the signature header; ``at`` is in Unix seconds."""
    digest = hmac.new(secret, f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def body_of(stored: StoredAlert) -> bytes:
    """An alert as JSON, the same bytes each time, with the names of the contract's JSON."""
    alert = stored.alert
    time = datetime.fromtimestamp(alert.at_ms / 1000, UTC)
    shown: dict[str, Any] = {
        "alertId": alert.alert_id,
        "marketId": alert.market_id,
        "eventId": stored.event_id,
        "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "severity": f"ALERT_SEVERITY_{alert.severity.name}",
        "rule": alert.rule,
        "direction": str(alert.direction),
        "episodeId": alert.episode_id,
        "reasonCodes": [str(code) for code in alert.reason_codes],
        "evidence": [
            {"name": fact.name, "value": fact.value}
            | ({} if fact.threshold is None else {"threshold": fact.threshold})
            for fact in alert.evidence
        ],
        "explanationLines": list(alert.explanation_lines),
        "policyVersion": alert.policy_version,
    }
    return json.dumps(shown, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
