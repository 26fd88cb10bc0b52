"""When a key was last used: noted in memory, written in batches and at the drain."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from gateway.keys import KeyRing, KeyStore, split_key
from gateway.wiring import utc_now
from marketcal.errors import CredentialExpired, CredentialInvalid, CredentialRevoked
from marketcal.v1 import forecast_pb2 as pb

MODELS = pb.ListModelsRequest()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as open_things:
        yield open_things


def uses(running: Any) -> dict[str, Any]:
    return {row.key_id: row.last_used_at for row in running.parts.keys.rows()}


def test_a_use_is_written_within_seconds_and_an_unused_key_stays_so(
    serve_gateway: Any, stack: ExitStack, stubs_on: Any, bearer: Any, until: Any
) -> None:
    own = serve_gateway(stack, control={"last_used_seconds": 0.05})
    used, unused = own.key("forecaster"), split_key(own.key("forecaster"))[0]
    stub = stubs_on(own.channel).forecasts
    stub.ListModels(MODELS, metadata=bearer(used), timeout=20)
    key_id = split_key(used)[0]
    until(lambda: uses(own)[key_id] is not None)
    first = uses(own)[key_id]
    assert abs(utc_now() - first) < timedelta(seconds=60)
    assert uses(own)[unused] is None

    stub.ListModels(MODELS, metadata=bearer(used), timeout=20)
    until(lambda: uses(own)[key_id] > first)


def test_what_was_not_written_yet_is_written_at_the_drain(
    serve_gateway: Any, stubs_on: Any, bearer: Any, tmp_path: Any
) -> None:
    url = f"sqlite:///{tmp_path}/control.db"
    with ExitStack() as stack:
        own = serve_gateway(stack, control={"url": url, "last_used_seconds": 3600})
        used = own.key("forecaster")
        stubs_on(own.channel).forecasts.ListModels(MODELS, metadata=bearer(used), timeout=20)
        assert uses(own)[split_key(used)[0]] is None, "not in the path of the call"
    store = KeyStore(sa.create_engine(url), utc_now)
    assert [row.last_used_at is not None for row in store.rows()] == [True]
    store.close()


def test_a_use_that_cannot_be_written_waits_and_calls_go_on(
    serve_gateway: Any, stack: ExitStack, stubs_on: Any, bearer: Any, until: Any, tmp_path: Any
) -> None:
    url = f"sqlite:///{tmp_path}/control.db"
    own = serve_gateway(stack, control={"url": url, "last_used_seconds": 0.05})
    key, stub = own.key("forecaster"), stubs_on(own.channel).forecasts
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE api_key RENAME TO away"))
    stub.ListModels(MODELS, metadata=bearer(key), timeout=2)
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE away RENAME TO api_key"))
    until(lambda: uses(own)[split_key(key)[0]] is not None)


def test_a_refused_key_was_not_used(tmp_path: Any) -> None:
    store = KeyStore(sa.create_engine(f"sqlite:///{tmp_path}/control.db"), utc_now)
    revoked, row = store.create("viewer")
    store.revoke(row.key_id)
    expired, other = store.create("viewer")
    store.rotate(other.key_id, timedelta(0))
    good, third = store.create("viewer")
    ring = KeyRing(utc_now)
    ring.replace(store.rows())
    mistyped = good[:-1] + ("b" if good.endswith("a") else "a")
    for text, error in ((revoked, CredentialRevoked), (expired, CredentialExpired),
                        (mistyped, CredentialInvalid)):  # fmt: skip
        with pytest.raises(error):
            ring.authenticate(text)
    assert ring.used == set()
    ring.authenticate(good)
    assert ring.used == {third.key_id}
    store.close()


def test_a_known_key_is_checked_in_microseconds(tmp_path: Any) -> None:
    """A bound that only another order of magnitude passes; measured: about 1 µs."""
    store = KeyStore(sa.create_engine(f"sqlite:///{tmp_path}/control.db"), utc_now)
    text, _ = store.create("viewer")
    ring = KeyRing(utc_now)
    ring.replace(store.rows())
    best = float("inf")
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(200):
            ring.authenticate(text)
        best = min(best, (time.perf_counter() - start) / 200)
    assert best < 10e-6
    store.close()
