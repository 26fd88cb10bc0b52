"""What ``marketcal up`` shows once everything answers: scoreboard, reliability and a forecast."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from gateway.cli.cadence import HistoryTooShort, RegularHistory, regular_history
from gateway.cli.calling import DEV_KEY
from gateway.cli.output import table
from gateway.cli.queries import forecast_rows, score_row
from gateway.supervisor.child import ChildError
from marketcal import Client
from marketcal.errors import NotFound, NotReady

POLL_SECONDS = 0.2
READY_SECONDS = 30.0
RAY_SECONDS = 30.0
MOST_MARKETS = 200
"""Open markets whose prices are looked at before there is no forecast."""

Say = Callable[[str], None]


def show(address: str, key: str, say: Say, *, most_markets: int = MOST_MARKETS) -> None:
    """Prints scoreboard, reliability and one forecast, as a client gets them.

    The forecast is of the first open market with enough prices among ``most_markets``.

    Raises:
        MarketcalError: the gateway refused a call.
        ChildError: it does not take over the scoreboard.
    """
    with Client(address, key=key, timeout=30) as client:
        _wait_until_published(client)
        say(f"\n{_scoreboard(client)}")
        say(f"\n{_reliability(client)}")
        found = next(forecastable(client, most_markets), None)
        if found is None:
            say("\nNo open market has enough recorded prices for a forecast")
            command = f"scores --address {address}"
        else:
            market, history = found
            say(f"\n{_forecast(client, market, history)}")
            command = f"forecast {market.market_id} --address {address}"
        say(
            f"\nCall it:\n  .venv/bin/marketcal {command}\n"
            f"  key in {DEV_KEY}; Python: from marketcal import Client"
        )


def _scoreboard(client: Any) -> str:
    rows = [score_row(score) for score in islice(client.list_scores(page_size=10), 10)]
    if not rows:
        return "Scoreboard: no market has a score yet"
    return f"Scoreboard: the ten most trustworthy prices\n{table(rows)}"


def _reliability(client: Any) -> str:
    try:
        answer = client.reliability()
    except NotFound as error:
        return f"Reliability: {error.message}"
    overall = answer.scores
    said = (
        f"Reliability over {overall.event_count} events: "
        f"Brier {_interval(overall.brier)}, slope {_interval(overall.slope)}"
    )
    rows = [_bin_row(row) for row in answer.bins]
    return f"{said}\n{table(rows)}" if rows else said


def forecastable(client: Any, most: int) -> Iterator[tuple[Any, RegularHistory]]:
    """Those of the first ``most`` open markets that have enough prices, with these."""
    markets = client.list_markets(status="MARKET_STATUS_ACTIVE", page_size=50)
    for market in islice(markets, most):
        try:
            yield market, regular_history(client.price_history(market.market_id))
        except HistoryTooShort:
            continue


def _forecast(client: Any, market: Any, history: RegularHistory) -> str:
    answer = _on_ray(client, market.market_id, history)
    return (
        f"Forecast of {market.market_id} ({market.question}) in steps of {history.freq}\n"
        f"{table(forecast_rows(answer)[:6])}\n"
        f"served by {answer.meta.served_by}, model {answer.meta.model_name}"
    )


def _on_ray(client: Any, market_id: str, history: RegularHistory) -> Any:
    """A forecast by Ray; by the gateway itself when Ray does not join in time."""
    deadline = time.monotonic() + RAY_SECONDS
    while True:
        answer = client.forecast(market_id, history.values, freq=history.freq, horizon_steps=12)
        if answer.meta.served_by.startswith("ray") or time.monotonic() > deadline:
            return answer
        time.sleep(POLL_SECONDS)


def _wait_until_published(client: Any) -> None:
    """Asks until the gateway has taken over the publication."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            next(client.list_scores(page_size=1), None)
            return
        except NotReady:
            if time.monotonic() > deadline:
                raise ChildError("the gateway has not taken over the scoreboard") from None
            time.sleep(POLL_SECONDS)


def _interval(estimate: Any) -> str:
    return f"{estimate.value:.4f} [{estimate.lower:.4f}, {estimate.upper:.4f}]"


def _bin_row(row: Any) -> dict[str, Any]:
    return {
        "price": f"{row.lower:.1f}–{row.upper:.1f}",
        "mean price": round(row.mean_price, 3),
        "resolved YES": round(row.observed_rate, 3),
        "if calibrated": f"{row.consistency_lower:.2f}–{row.consistency_upper:.2f}",
        "snapshots": row.sample_size,
        "events": row.event_count,
    }
