"""``marketcal models`` and ``marketcal compare``: which models there are and how they differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import click

from gateway.cli import exits
from gateway.cli.calling import connected, connection_options
from gateway.cli.output import output_option, text_of, write_rows

BAR = 30
"""Width of the longest bar."""


@click.command()
@click.argument("name", default="")
@output_option
@connection_options
def models(name: str, output: str, address: str, key: str | None) -> None:
    """List the models, or show one with what it has done since the server started."""
    with connected(address, key) as client:
        if name:
            _show(client.get_model(name), output)
            return
        rows = [
            {"name": model.name, "version": model.version, "family": model.family,
             "default": model.is_default, "description": model.description}
            for model in client.list_models()
        ]  # fmt: skip
    write_rows(rows, output)


def _names(_context: click.Context, _parameter: click.Parameter, value: str) -> list[str]:
    """Two names or more by commas."""
    names = [name.strip() for name in value.split(",") if name.strip()]
    if len(names) < 2:
        raise click.BadParameter(f"{value!r} must name two models or more, such as ewma,native")
    return names


@click.command()
@click.argument("market_id")
@click.option("--models", "names", callback=_names, required=True, help="Models, by commas.")
@click.option("--horizon", "horizon_steps", type=click.IntRange(min=1), default=12,
              show_default=True, help="Steps to forecast.")  # fmt: skip
@click.option("--freq", help="Cadence of the steps, such as 5m; the history's own by default.")
@output_option
@connection_options
def compare(
    market_id: str, names: list[str], horizon_steps: int, freq: str | None, output: str,
    address: str, key: str | None,
) -> None:  # fmt: skip
    """Forecast a market with several models side by side: the median and the 80 % band."""
    from gateway.cli.meta import meta_lines
    from gateway.cli.queries import history_of
    from marketcal.v1 import forecast_pb2

    with connected(address, key) as client:
        history = history_of(client, market_id, freq)
        request = forecast_pb2.ForecastRequest(
            market_id=market_id, values=history.values, freq=history.freq,
            horizon_steps=horizon_steps, quantiles=[0.1, 0.5, 0.9],
        )  # fmt: skip
        results = client.compare_forecasts(market_id, request, names).results
    answered = {
        name: result.forecast
        for name, result in zip(names, results, strict=True)
        if result.HasField("forecast")
    }
    write_rows(comparison_rows(answered, horizon_steps), output)
    aside = output != "table"
    for name, result in zip(names, results, strict=True):
        said = result.error.message if name not in answered else meta_lines(result.forecast)
        lines = said if isinstance(said, list) else [f"no forecast: {said}"]
        click.echo(f"{name}: {'; '.join(lines)}", err=aside)
    if not answered:
        raise exits.Failed(f"{market_id}: no model gave a forecast")


def comparison_rows(answered: dict[str, Any], steps: int) -> list[dict[str, Any]]:
    """One row per step: of each model the median and the band; the corrected one where it is."""
    rows: list[dict[str, Any]] = []
    for step in range(steps):
        row: dict[str, Any] = {"step": step + 1}
        for name, answer in answered.items():
            paths = answer.conformal_paths or answer.quantile_paths
            low, middle, high = (round(path.values[step], 4) for path in paths)
            row |= {name: middle, f"{name} 80 %": f"{low:g}–{high:g}"}
        rows.append(row)
    return rows if answered else []


def _show(answer: Any, output: str) -> None:
    model, statistics = answer.model, answer.statistics
    facts: dict[str, Any] = {
        "name": model.name, "version": model.version, "family": model.family,
        "default": model.is_default, "description": model.description,
        "licence": model.licence_tag, "weights": model.weights_digest or None,
        "longest context": model.max_context_length, "longest horizon": model.max_native_horizon,
        "series": statistics.requests, "failed": statistics.failures,
    }  # fmt: skip
    histograms = {
        "series per batch": statistics.batch_sizes,
        "ms per batch": statistics.latencies_ms,
    }
    if output == "json":
        bars = {
            title: [{"up to": _bound(bar.upper_bound), "count": bar.count} for bar in found]
            for title, found in histograms.items()
        }
        write_rows([facts | bars], output)
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        click.echo(f"{name:<{width}}  {text_of(value)}")
    for title, found in histograms.items():
        click.echo(f"\n{title}")
        click.echo("\n".join(bar_lines(found)))


def bar_lines(found: Sequence[Any]) -> list[str]:
    """A histogram as text, without the empty bars at both ends."""
    counts = [bar.count for bar in found]
    if not any(counts):
        return ["  (nothing yet)"]
    places = [place for place, count in enumerate(counts) if count]
    shown = found[places[0] : places[-1] + 1]
    most = max(counts)
    return [
        f"  ≤ {_bound(bar.upper_bound):>6}  {'█' * math.ceil(BAR * bar.count / most):<{BAR}}  "
        f"{bar.count:,}"
        for bar in shown
    ]


def _bound(value: float) -> str:
    return "∞" if math.isinf(value) else f"{value:g}"
