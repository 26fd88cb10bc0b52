"""The commands that call a gateway: what they ask, and one line when they cannot."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from gateway.cli.main import main
from marketcal import Client
from marketcal.v1 import market_pb2, market_pb2_grpc


@pytest.fixture
def to(gateway: Any) -> tuple[str, ...]:
    key = gateway.key("forecaster", rate_per_minute=1e7, burst=1_000_000)
    return ("--address", gateway.address, "--key", key)


@pytest.fixture
def market(gateway: Any) -> str:
    """An open market with prices."""
    with Client(gateway.address, key=gateway.key("forecaster")) as client:
        for found in client.list_markets(status="MARKET_STATUS_ACTIVE"):
            if len(list(client.price_history(found.market_id))) > 10:
                return str(found.market_id)
    pytest.fail("no open market has prices")


def test_the_cadence_changes_the_forecast_and_is_said(run: Any, to: Any, market: str) -> None:
    said = {freq: run("forecast", market, "--freq", freq, *to).output for freq in ("5m", "1h")}
    assert "steps of 5m" in said["5m"]
    assert "steps of 1h" in said["1h"]
    assert said["5m"].splitlines()[2:-1] != said["1h"].splitlines()[2:-1]
    assert "steps of " in run("forecast", market, *to).output


def test_rows_for_programs_are_json_alone(run: Any, to: Any, market: str) -> None:
    result = run("forecast", market, "--horizon", "3", "--output", "json", *to)
    assert [row["step"] for row in json.loads(result.stdout)] == [1, 2, 3]
    assert "steps of" in result.stderr


class OnePrice(market_pb2_grpc.MarketServiceServicer):
    """A venue whose markets have one recorded price."""

    def GetPriceHistory(self, request: Any, context: Any) -> Any:  # noqa: N802
        return market_pb2.GetPriceHistoryResponse(points=[market_pb2.PricePoint(p_yes=0.5)])


def test_a_history_shorter_than_two_steps_is_refused(run: Any) -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    market_pb2_grpc.add_MarketServiceServicer_to_server(OnePrice(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    result = run("forecast", "m", "--address", f"127.0.0.1:{port}")
    server.stop(None).wait()
    assert result.exit_code == 1
    assert result.output == "Error: m: 1 recorded prices make 1 steps of 1h; two are needed\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("forecast", "m", "--quantiles", "a,b"),
        ("forecast", "m", "--horizon", "0"),
        ("scores", "--limit", "-3"),
        ("markets", "--limit", "0"),
        ("scores", "--key", "one\ntwo"),
        ("scores", "--key", "schlüssel"),
    ],
)
def test_a_wrong_command_line_ends_with_2(arguments: tuple[str, ...], run: Any) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Error: " in result.output


def test_a_wrong_cadence_ends_with_2(run: Any, to: Any, market: str) -> None:
    result = run("forecast", market, "--freq", "soon", *to)
    assert (result.exit_code, "--freq must be" in result.output) == (2, True)


def test_a_stray_line_break_around_the_key_of_the_folder_does_no_harm(
    run: Any, gateway: Any, alone: Path
) -> None:
    (alone / "var").mkdir()
    (alone / "var" / "dev.key").write_text(f"{gateway.key('viewer')}\n\n")
    assert run("scores", "--address", gateway.address).exit_code == 0


@pytest.mark.parametrize("command", [("scores",), ("markets",), ("models",), ("forecast", "m")])
def test_without_a_server_one_sentence_says_what_to_do(command: tuple[str, ...], run: Any) -> None:
    with socket.socket() as held:  # bound, but nobody listens
        held.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{held.getsockname()[1]}"
        result = run(*command, "--address", address)
    assert result.exit_code == 1
    assert result.output == (
        f"Error: no gateway answers at {address}; start one with `make run` "
        "or name another with --address\n"
    )


def test_an_unknown_variable_is_named(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARKETCAL_ADRESS", "elsewhere:1")
    result = run("scores")
    assert (result.exit_code, "MARKETCAL_ADRESS" in result.output) == (2, True)


def test_every_command_explains_itself(run: Any) -> None:
    for name in main.commands or main.list_commands(None):  # type: ignore[arg-type]
        assert run(name, "--help").exit_code == 0


def test_the_trust_of_a_market_is_explained_by_component(run: Any, to: Any, market: str) -> None:
    rows = json.loads(run("trust", market, "--output", "json", *to).stdout)
    assert {row["component"] for row in rows} == {
        "liquidity_depth", "stability", "question_quality", "manipulation_suspect",
    }  # fmt: skip
    assert all(row["evidence"] for row in rows)


def test_scores_show_the_calibrated_probability_with_its_interval(run: Any, to: Any) -> None:
    rows = json.loads(run("scores", "--limit", "5", "--output", "json", *to).stdout)
    assert all(row["low"] <= row["calibrated"] <= row["high"] for row in rows)


def test_a_post_mortem_is_shown_with_its_scores_and_its_picture(
    run: Any, to: Any, gateway: Any, tmp_path: Path
) -> None:
    with Client(gateway.address, key=gateway.key("forecaster")) as client:
        one = next(found for found in client.list_postmortems() if found.cutoffs)
    result = run("postmortem", one.market_id, "--picture", str(tmp_path / "path.png"), *to)
    assert one.summary in result.output
    assert one.cutoffs[0].cutoff in result.output
    assert (tmp_path / "path.png").read_bytes().startswith(b"\x89PNG")
    told = json.loads(run("postmortem", one.market_id, "--output", "json", *to).stdout)
    assert (told[0]["market"], told[0]["lessons"]) == (one.market_id, list(one.lessons))


def test_a_post_mortem_that_is_not_there_is_one_line_of_error(run: Any, to: Any) -> None:
    result = run("postmortem", "../../etc/passwd", *to)
    assert result.exit_code != 0
    assert "there is no post-mortem" in result.output


def test_a_key_does_not_leave_this_machine_in_clear_unless_told_to(run: Any) -> None:
    away = ("scores", "--address", "0.0.0.0:1", "--key", "mk_x")
    refused = run(*away)
    assert refused.exit_code == 2
    assert "say --tls, or --insecure" in refused.output
    for said in ("--tls", "--insecure"):
        assert "no gateway answers at 0.0.0.0:1" in run(*away, said).output
