"""``marketcal forecast|scores|markets``: calls to a running gateway."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from gateway.cli import exits
from gateway.cli.calling import connected, connection_options
from gateway.cli.output import output_option, write_rows

if TYPE_CHECKING:
    from gateway.cli.cadence import RegularHistory


def _levels(_context: click.Context, _parameter: click.Parameter, value: str) -> list[float]:
    """Quantile levels by commas."""
    try:
        return [float(level) for level in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"{value!r} is no list of numbers such as 0.1,0.5,0.9") from None


_LIMIT = click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True,
                      help="Rows at most.")  # fmt: skip


@click.command()
@click.argument("market_id")
@click.option("--model", default="", help="Model to ask; the server's default by default.")
@click.option("--horizon", "horizon_steps", type=click.IntRange(min=1), default=12,
              show_default=True, help="Steps to forecast.")  # fmt: skip
@click.option("--freq", help="Cadence of the steps, such as 5m; the history's own by default.")
@click.option("--quantiles", callback=_levels, default="0.1,0.5,0.9", show_default=True,
              help="Levels, by commas.")  # fmt: skip
@output_option
@connection_options
def forecast(
    market_id: str, model: str, horizon_steps: int, freq: str | None, quantiles: list[float],
    output: str, address: str, key: str | None,
) -> None:  # fmt: skip
    """Forecast a market from its recorded prices, resampled to the cadence."""
    from gateway.cli.meta import meta_lines
    from marketcal.v1 import forecast_pb2

    with connected(address, key) as client:
        history = history_of(client, market_id, freq)
        answer = client.forecast(
            market_id, history.values, freq=history.freq, horizon_steps=horizon_steps,
            quantiles=quantiles, model=forecast_pb2.ModelSpec(name=model),
        )  # fmt: skip
    write_rows(forecast_rows(answer), output)
    first, *others = meta_lines(answer)
    said = f"{len(history.values)} steps of {history.freq}, {first}"
    click.echo("\n".join([said, *others]), err=output != "table")


def history_of(client: Any, market_id: str, freq: str | None) -> RegularHistory:
    """A market's recorded prices on regular steps.

    Raises:
        Failed: there are too few.
        BadSetting: ``freq`` is not a cadence.
    """
    from forecast_service.series import InvalidFieldError
    from gateway.cli.cadence import HistoryTooShort, regular_history

    try:
        return regular_history(client.price_history(market_id), freq)
    except HistoryTooShort as error:
        raise exits.Failed(f"{market_id}: {error}") from None
    except InvalidFieldError as error:
        raise exits.BadSetting(f"--freq {error.reason}") from None


def forecast_rows(answer: Any) -> list[dict[str, Any]]:
    """One row per step, one column per level; corrected levels beside the model's own."""
    kinds = (("q", answer.quantile_paths), ("corrected ", answer.conformal_paths))
    return [
        {"step": step + 1}
        | {
            f"{kind}{path.level:g}": round(path.values[step], 4)
            for kind, paths in kinds
            for path in paths
        }
        for step in range(answer.horizon_steps)
    ]


@click.command()
@click.option("--window", default="90d", show_default=True, help="Window of the segment scores.")
@click.option("--category", default="", help="Only this category.")
@click.option("--min-trust", type=float, default=0.0, help="Only markets with this trust or more.")
@_LIMIT
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
    segment, found = score.segment_scores, score.calibrated_probability
    known = score.HasField("calibrated_probability")
    return {
        "market": score.market_id,
        "question": score.question,
        "price": score.p_yes if score.HasField("p_yes") else None,
        "calibrated": round(found.value, 4) if known else None,
        "low": round(found.lower, 4) if known else None,
        "high": round(found.upper, 4) if known else None,
        "trust": round(score.trust.score, 1),
        "brier": round(segment.brier.value, 4),
        "slope": round(segment.slope.value, 3) if segment.HasField("slope") else None,
        "events": segment.event_count,
        "few": segment.low_confidence,
    }


@click.command()
@click.argument("market_id")
@output_option
@connection_options
def trust(market_id: str, output: str, address: str, key: str | None) -> None:
    """Explain how far a market's price can be trusted: what each component contributes."""
    with connected(address, key) as client:
        answer = client.explain_trust(market_id)
    rows = [
        {"component": part.component, "value": round(part.value, 3), "weight": part.weight,
         "points": round(part.points, 1), "evidence": part.evidence}
        for part in answer.contributions
    ]  # fmt: skip
    write_rows(rows, output)
    said = f"trust {answer.trust.score:.1f} of 100, {answer.formula_version}"
    click.echo(said, err=output != "table")


@click.command()
@click.option("--category", default="", help="Only this category.")
@click.option("--status", type=click.Choice(["ACTIVE", "RESOLVED", "VOID", "UNRESOLVED"]),
              help="Only this status.")  # fmt: skip
@click.option("--query", default="", help="Only questions that hold this text.")
@_LIMIT
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
