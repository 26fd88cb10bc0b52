"""``marketcal alerts``: list stored alerts, follow new ones, acknowledge one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import click

from gateway.cli.calling import connected, connection_options
from gateway.cli.output import output_option, write_rows

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_LONGEST = timedelta(days=3_660)
_AGE = re.compile(r"([0-9]{1,6})([mhd])")
_SEVERITY = click.option("--min-severity", type=click.Choice(["FYI", "MED", "HIGH"]),
                         help="Only this severity or a higher one.")  # fmt: skip


def form_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--output``, and ``--json`` for short."""
    short = click.option("--json", "as_json", is_flag=True, help="The same as --output json.")
    return output_option(short(command))


def _age(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> timedelta | None:
    """A time such as 24h."""
    if value is None:
        return None
    found = _AGE.fullmatch(value)
    if found is None:
        raise click.BadParameter(f"{value!r} is no time such as 90m, 24h or 7d")
    try:
        age = timedelta(**{_UNITS[found[2]]: int(found[1])})
    except OverflowError:
        age = timedelta.max
    if age > _LONGEST:
        raise click.BadParameter(f"{value!r} is more than ten years")
    return age


@click.group()
def alerts() -> None:
    """List alerts, follow new ones, acknowledge one.

    To acknowledge takes a key of an operator or an admin; the one of `make run` is a forecaster's.
    """


@alerts.command(name="list")
@click.option("--since", callback=_age, help="Only those of the last 90m, 24h, 7d.")
@_SEVERITY
@click.option("--market", default="", help="Only this market.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True,
              help="Rows at most.")  # fmt: skip
@form_options
@connection_options
def list_alerts(
    since: timedelta | None, min_severity: str | None, market: str, limit: int,
    output: str, as_json: bool, address: str, key: str | None,
) -> None:  # fmt: skip
    """List stored alerts, the newest first."""
    filters: dict[str, Any] = {"market_id": market, "page_size": min(limit, 500)}
    if since is not None:
        filters["since"] = datetime.now(UTC) - since
    if min_severity is not None:
        filters["min_severity"] = f"ALERT_SEVERITY_{min_severity}"
    with connected(address, key) as client:
        found = list(islice(client.list_alerts(**filters), limit))
    if as_json or output == "json":
        write_rows([alert_facts(alert) for alert in found], "json")
    else:
        write_rows([alert_row(alert) for alert in found], output)


@alerts.command()
@_SEVERITY
@click.option("--market", "markets", multiple=True, help="Only this market; more by repeating.")
@click.option("--resume", default="", metavar="TOKEN", help="Go on behind this message.")
@click.option("--count", type=click.IntRange(min=1), help="End after so many alerts.")
@form_options
@connection_options
def watch(
    min_severity: str | None, markets: tuple[str, ...], resume: str, count: int | None,
    output: str, as_json: bool, address: str, key: str | None,
) -> None:  # fmt: skip
    """Print alerts as they are raised, MED and HIGH by default, until Ctrl-C.

    A lost connection is made again behind the last alert. Where this reader was too slow, a line
    says how many alerts it missed. At the end the token is said with which --resume goes on.
    """
    filters: dict[str, Any] = {"market_ids": markets, "resume_token": resume}
    if min_severity is not None:
        filters["min_severity"] = f"ALERT_SEVERITY_{min_severity}"
    shown = _json_line if as_json or output == "json" else _line
    token = resume
    try:
        with connected(address, key) as client:
            next(client.list_alerts(page_size=1), None)  # a watch would wait for a lost gateway
            for message in _until(client.watch_alerts(**filters), count):
                click.echo(shown(message))
                token = message.resume_token
    except KeyboardInterrupt:
        pass  # how it is meant to end
    if token:
        click.echo(f"go on with --resume {token}", err=True)


@alerts.command()
@click.argument("alert_id")
@form_options
@connection_options
def ack(alert_id: str, output: str, as_json: bool, address: str, key: str | None) -> None:
    """Acknowledge an alert; whoever was first stays."""
    with connected(address, key) as client:
        alert = client.acknowledge_alert(alert_id)
    if as_json or output == "json":
        write_rows([alert_facts(alert)], "json")
        return
    at = _time(alert.acknowledged_time)
    click.echo(f"{alert.alert_id} acknowledged by {alert.acknowledged_by} at {at}")


def alert_row(alert: Any) -> dict[str, Any]:
    """An alert as a row of a table."""
    return {
        "time": _time(alert.time),
        "severity": _severity(alert),
        "market": alert.market_id,
        "why": alert.explanation_lines[0] if alert.explanation_lines else None,
        "seen by": alert.acknowledged_by or None,
        "alert": alert.alert_id,
    }


def alert_facts(alert: Any) -> dict[str, Any]:
    """All that is known of an alert, for programs."""
    seen = bool(alert.acknowledged_by)
    return {
        "alert": alert.alert_id,
        "market": alert.market_id,
        "time": _time(alert.time),
        "severity": _severity(alert),
        "reasons": list(alert.reason_codes),
        "evidence": [
            {"name": fact.name, "value": fact.value,
             "threshold": fact.threshold if fact.HasField("threshold") else None}
            for fact in alert.evidence
        ],
        "lines": list(alert.explanation_lines),
        "policy": alert.policy_version,
        "acknowledged_by": alert.acknowledged_by or None,
        "acknowledged_at": _time(alert.acknowledged_time) if seen else None,
    }  # fmt: skip


def _until(messages: Iterator[Any], count: int | None) -> Iterator[Any]:
    """Messages up to and with the last of so many alerts."""
    left = count
    for message in messages:
        yield message
        if left is not None and message.WhichOneof("event") == "alert":
            left -= 1
            if left == 0:
                return


def _line(message: Any) -> str:
    if message.WhichOneof("event") == "missed":
        return f"missed {message.missed} alerts; `marketcal alerts list` has them"
    row = alert_row(message.alert)
    return (
        f"{row['time']}  {row['severity']:<4}  {row['market']}  {row['why'] or ''}  {row['alert']}"
    )


def _json_line(message: Any) -> str:
    of = message.WhichOneof("event")
    said = alert_facts(message.alert) if of == "alert" else {"missed": message.missed}
    return json.dumps(said | {"resume_token": message.resume_token})


def _severity(alert: Any) -> str:
    severities = alert.DESCRIPTOR.fields_by_name["severity"].enum_type.values_by_number
    return str(severities[alert.severity].name.removeprefix("ALERT_SEVERITY_"))


def _time(stamp: Any) -> str:
    return str(stamp.ToJsonString())
