"""Behind Envoy callers are told apart by the address that Envoy saw, where it is trusted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from gateway.keys import new_key

LIMIT = 60
"""Failed credentials that an address may send at once."""


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as open_things:
        yield open_things


def status_from(address: str, port: int, **headers: str) -> int:
    """HTTP status that a caller at ``address`` gets for a wrong key."""
    transport = httpx.HTTPTransport(local_address=address)
    with httpx.Client(transport=transport, base_url=f"http://127.0.0.1:{port}") as client:
        wrong = {"x-api-key": new_key()[0], **headers}
        return client.get("/v1/models", headers=wrong).status_code


def test_one_address_that_guesses_keys_does_not_shut_out_another(
    serve_gateway: Any, start_envoy: Any, stack: ExitStack
) -> None:
    own = serve_gateway(stack, identity={"trusted_proxies": ["127.0.0.1"]})
    front = start_envoy(stack, own.port)

    met = [status_from("127.0.0.2", front.port) for _ in range(LIMIT + 20)]

    # A token flows back every two seconds, so a slow machine is let in now and then.
    assert set(met) == {401, 429}
    assert 429 not in met[:LIMIT]
    assert status_from("127.0.0.3", front.port) == 401
    # What a caller claims of itself counts for nothing.
    forged = {"x-forwarded-for": "127.0.0.9"}
    assert 429 in [status_from("127.0.0.2", front.port, **forged) for _ in range(5)]
