"""``marketcal forecast|models|scores|markets``: calls to a running gateway."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import click

from gateway.cli import exits
from gateway.cli.output import output_option, write_rows

DEV_KEY = Path("var/dev.key")
DEFAULT_ADDRESS = "127.0.0.1:50051"


def connection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--address`` and ``--key``."""
    for option in (
        click.option("--key", envvar="MARKETCAL_KEY", default=None,
                     help=f"API key; the one in {DEV_KEY} by default."),
        click.option("--address", envvar="MARKETCAL_ADDRESS", default=DEFAULT_ADDRESS,
                     show_default=True, help="Gateway to call."),
    ):  # fmt: skip
        command = option(command)
    return command


@contextlib.contextmanager
def connected(address: str, key: str | None) -> Iterator[Any]:
    """A client; a refused call ends the program with one clear line."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from marketcal import Client
    from marketcal.errors import MarketcalError

    if key is None and DEV_KEY.exists():
        key = DEV_KEY.read_text().strip()
    try:
        with Client(address, key=key) as client:
            yield client
    except MarketcalError as error:
        name = error.reason or error.code
        raise exits.Failed(f"{name}: {error.message} ({address})") from None


@click.command()
@click.argument("market_id")
@click.option("--model", default="", help="Model to ask; the server's default by default.")
@click.option("--horizon", "horizon_steps", type=int, default=12, show_default=True,
              help="Steps to forecast.")  # fmt: skip
@click.option("--freq", default="5m", show_default=True, help="Cadence of the steps.")
@click.option("--quantiles", default="0.1,0.5,0.9", show_default=True, help="Levels, by commas.")
@output_option
@connection_options
def forecast(
    market_id: str, model: str, horizon_steps: int, freq: str, quantiles: str,
    output: str, address: str, key: str | None,
) -> None:  # fmt: skip
    """Forecast a market from its recorded prices."""
    from marketcal.v1 import forecast_pb2

    with connected(address, key) as client:
        values = [point.p_yes for point in client.price_history(market_id)]
        if len(values) < 2:
            raise exits.Failed(f"{market_id} has {len(values)} recorded prices; two are needed")
        answer = client.forecast(
            market_id, values[-288:], freq=freq, horizon_steps=horizon_steps,
            quantiles=[float(level) for level in quantiles.split(",")],
            model=forecast_pb2.ModelSpec(name=model),
        )  # fmt: skip
    rows = forecast_rows(answer)
    write_rows(rows, output)
    if output == "table":
        click.echo(f"served by {answer.meta.served_by}, model {answer.meta.model_name}")


def forecast_rows(answer: Any) -> list[dict[str, Any]]:
    """One row per step, one column per level."""
    return [
        {"step": step + 1}
        | {f"q{path.level:g}": round(path.values[step], 4) for path in answer.quantile_paths}
        for step in range(answer.horizon_steps)
    ]


@click.command()
@output_option
@connection_options
def models(output: str, address: str, key: str | None) -> None:
    """List the models."""
    with connected(address, key) as client:
        rows = [
            {"name": model.name, "version": model.version, "family": model.family,
             "default": model.is_default, "description": model.description}
            for model in client.list_models()
        ]  # fmt: skip
    write_rows(rows, output)


@click.command()
@click.option("--window", default="90d", show_default=True, help="Window of the segment scores.")
@click.option("--category", default="", help="Only this category.")
@click.option("--min-trust", type=float, default=0.0, help="Only markets with this trust or more.")
@click.option("--limit", type=int, default=20, show_default=True, help="Rows at most.")
@output_option
@connection_options
def scores(
    window: str, category: str, min_trust: float, limit: int,
    output: str, address: str, key: str | None,
) -> None:  # fmt: skip
    """List markets with their trust and the scores of their segment."""
    with connected(address, key) as client:
        found = client.list_scores(
            window=window, category=category, min_trust_score=min_trust, page_size=min(limit, 500)
        )
        rows = [score_row(score) for score in islice(found, limit)]
    write_rows(rows, output)


def score_row(score: Any) -> dict[str, Any]:
    """A market of the scoreboard as a row."""
    segment = score.segment_scores
    return {
        "market": score.market_id,
        "question": score.question,
        "price": score.p_yes if score.HasField("p_yes") else None,
        "trust": round(score.trust.score, 1),
        "brier": round(segment.brier.value, 4),
        "slope": round(segment.slope.value, 3) if segment.HasField("slope") else None,
        "events": segment.event_count,
        "few": segment.low_confidence,
    }


@click.command()
@click.option("--category", default="", help="Only this category.")
@click.option("--status", type=click.Choice(["ACTIVE", "RESOLVED", "VOID", "UNRESOLVED"]),
              help="Only this status.")  # fmt: skip
@click.option("--query", default="", help="Only questions that hold this text.")
@click.option("--limit", type=int, default=20, show_default=True, help="Rows at most.")
@output_option
@connection_options
def markets(
    category: str, status: str | None, query: str, limit: int,
    output: str, address: str, key: str | None,
) -> None:  # fmt: skip
    """List markets."""
    filters: dict[str, Any] = {"category": category, "query": query, "page_size": min(limit, 500)}
    if status is not None:
        filters["status"] = f"MARKET_STATUS_{status}"
    from marketcal.v1 import market_pb2

    with connected(address, key) as client:
        rows = [
            {"market": market.market_id, "question": market.question,
             "status": market_pb2.MarketStatus.Name(market.status).removeprefix("MARKET_STATUS_"),
             "category": market.category,
             "price": market.p_yes if market.HasField("p_yes") else None,
             "winner": market.winner or None}
            for market in islice(client.list_markets(**filters), limit)
        ]  # fmt: skip
    write_rows(rows, output)
