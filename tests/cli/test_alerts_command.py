"""``marketcal alerts``: what it lists, what it follows, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from calibration_service.alerts.values import Severity
from marketcal.errors import Draining
from marketcal.testing import FakeServer
from marketcal.v1 import alert_pb2 as pb

MARKET = "cli:1"


@pytest.fixture
def to(gateway: Any) -> tuple[str, ...]:
    return ("--address", gateway.address, "--key", gateway.key("operator"))


def test_alerts_are_listed_by_age_severity_and_market(
    run: Any, to: Any, gateway: Any, raise_alerts: Any
) -> None:
    [quiet] = raise_alerts(gateway, market_id=MARKET, severity=Severity.FYI)
    [loud] = raise_alerts(gateway, market_id=MARKET, severity=Severity.HIGH)

    def listed(*options: str) -> list[str]:
        said = run("alerts", "list", "--market", MARKET, *options, "--json", *to).stdout
        return [row["alert"] for row in json.loads(said)]

    assert listed() == [loud, quiet]
    assert listed("--limit", "1") == [loud]
    assert listed("--min-severity", "MED") == [loud]
    assert listed("--since", "1h") == [loud, quiet]
    assert listed("--since", "0m") == []
    table = run("alerts", "list", "--market", MARKET, *to).output
    assert "HIGH" in table.splitlines()[2]
    assert "The price 0.7 is above 0.55." in table


def test_an_alert_is_told_with_its_evidence(
    run: Any, to: Any, gateway: Any, raise_alerts: Any
) -> None:
    raise_alerts(gateway, market_id="cli:2")
    [row] = json.loads(run("alerts", "list", "--market", "cli:2", "--output", "json", *to).stdout)
    assert row["evidence"] == [{"name": "price", "value": 0.7, "threshold": 0.55}]
    assert (row["reasons"], row["acknowledged_by"]) == (["BAND_LEFT"], None)


def test_an_alert_is_acknowledged(run: Any, to: Any, gateway: Any, raise_alerts: Any) -> None:
    [alert_id] = raise_alerts(gateway, market_id="cli:3")
    assert f"{alert_id} acknowledged by " in run("alerts", "ack", alert_id, *to).output
    [row] = json.loads(run("alerts", "ack", alert_id, "--json", *to).stdout)
    assert row["acknowledged_at"] is not None
    refused = run("alerts", "ack", "none", *to)
    assert (refused.exit_code, "NOT_FOUND: there is no alert none" in refused.output) == (1, True)


@pytest.mark.parametrize(
    "options",
    [("list", "--since", "soon"), ("list", "--limit", "0"), ("list", "--min-severity", "LOUD"),
     ("watch", "--count", "0"), ("ack",)],
)  # fmt: skip
def test_a_wrong_command_line_ends_with_2(options: tuple[str, ...], run: Any) -> None:
    assert run("alerts", *options).exit_code == 2


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as running:
        running.answer("ListAlerts", pb.ListAlertsResponse())
        yield running


def test_a_watch_goes_on_after_a_loss_and_says_what_it_missed(run: Any, server: FakeServer) -> None:
    def message(name: str, **fields: Any) -> pb.WatchAlertsResponse:
        return pb.WatchAlertsResponse(
            alert={"alert_id": name, "severity": "ALERT_SEVERITY_HIGH"},
            resume_token=f"after-{name}",
        )

    missed = pb.WatchAlertsResponse(missed=7, resume_token="gap")
    server.answer("WatchAlerts", [message("a"), Draining("bye")], [missed, message("b")])
    result = run(
        "alerts", "watch", "--count", "2", "--min-severity", "HIGH", "--market", "m", "--market",
        "n", "--resume", "before", "--address", server.address,
    )  # fmt: skip
    assert result.exit_code == 0
    first, gap, second = result.stdout.splitlines()
    assert "HIGH" in first
    assert first.endswith("a")
    assert gap == "missed 7 alerts; `marketcal alerts list` has them"
    assert second.endswith("b")
    assert result.stderr == "go on with --resume after-b\n"
    asked = server.requests("WatchAlerts")
    assert [one.resume_token for one in asked] == ["before", "after-a"]
    assert all(list(one.market_ids) == ["m", "n"] and one.min_severity == 3 for one in asked)


def test_a_watch_tells_programs_one_object_a_line(run: Any, server: FakeServer) -> None:
    alert = pb.WatchAlertsResponse(alert={"alert_id": "a", "market_id": "m"}, resume_token="1")
    server.answer("WatchAlerts", [pb.WatchAlertsResponse(missed=2, resume_token="0"), alert])
    result = run("alerts", "watch", "--count", "1", "--json", "--address", server.address)
    gap, told = map(json.loads, result.stdout.splitlines())
    assert gap == {"missed": 2, "resume_token": "0"}
    assert (told["alert"], told["market"], told["resume_token"]) == ("a", "m", "1")


def test_a_watch_without_a_gateway_says_so_at_once(run: Any) -> None:
    with socket.socket() as held:  # bound, but nobody listens
        held.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{held.getsockname()[1]}"
        result = run("alerts", "watch", "--address", address)
    assert result.exit_code == 1
    assert f"no gateway answers at {address}" in result.output


def test_ctrl_c_is_how_a_watch_ends(
    gateway: Any, raise_alerts: Any, until: Any, to: Any, alone: Any
) -> None:
    def watch(stack: ExitStack, *options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "gateway.cli.main", "alerts", "watch", "--market", "cli:4"]
        process = subprocess.Popen(
            [*command, *options, *to], env=os.environ | {"PYTHONUNBUFFERED": "1"}, cwd=alone,
            text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        stack.callback(process.kill)
        return process

    with ExitStack() as stack:
        before = gateway.parts.hosting.alerts.watchers
        process = watch(stack)
        until(lambda: gateway.parts.hosting.alerts.watchers > before)
        [first] = raise_alerts(gateway, market_id="cli:4")
        assert process.stdout is not None
        assert first in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        said, aside = process.communicate(timeout=20)
        assert (process.returncode, said) == (0, "")

        [second] = raise_alerts(gateway, market_id="cli:4")
        token = aside.split("--resume ")[1].strip()
        said, _ = watch(stack, "--resume", token, "--count", "1").communicate(timeout=20)
        assert second in said
