"""A gateway on PostgreSQL follows alerts and bars as one on SQLite does."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import sqlalchemy as sa

from gateway.stores import open_store
from market_data.streaming import live_store
from market_data.streaming.bars import FIVE_MS, Bar
from marketcal import Client

START = 1_790_000_100_000 // FIVE_MS * FIVE_MS


def test_alerts_and_bars_are_followed_on_postgresql(
    postgresql: str, serve_gateway: Any, raise_alerts: Any
) -> None:
    admin = sa.create_engine(postgresql, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        connection.execute(sa.text("CREATE DATABASE live"))
    url = postgresql.replace("/postgres?", "/live?")
    with ExitStack() as stack:
        running = serve_gateway(stack, control={"url": url}, forecast={"in_process": "always"})
        client = stack.enter_context(Client(running.address, key=running.key("operator")))
        store = open_store(url)
        stack.callback(store.dispose)
        assert list(client.list_alerts()) == []

        first = raise_alerts(running, 2)
        with store.begin() as connection:
            live_store.write_bars(connection, [bar("m", 0), bar("m", 1), bar("n", 1)])
        bands = client.watch_forecast("m", model="ewma", timeout=20)
        assert next(bands).forecast.as_of_time.ToMilliseconds() == START + 2 * FIVE_MS
        with store.begin() as connection:
            live_store.write_bars(connection, [bar("m", 1, 0.7), bar("m", 2)])
        assert next(bands).forecast.as_of_time.ToMilliseconds() == START + 3 * FIVE_MS

        seen = client.acknowledge_alert(first[0])
        assert seen.acknowledged_time.ToDatetime()
        assert [alert.alert_id for alert in client.list_alerts()] == first[::-1]


def bar(market: str, place: int, price: float = 0.5) -> Bar:
    """A bar of five minutes."""
    start = START + place * FIVE_MS
    return Bar(market, FIVE_MS, start, price, price, price, price, 0, 0, 1, 0.0)
