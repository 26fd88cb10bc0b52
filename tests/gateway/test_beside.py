"""Work beside the calls does not end unseen: it is logged and begun again."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway import wiring
from gateway.beside import Beside, keep
from gateway.settings import load


def test_work_that_fails_is_logged_by_name_and_begun_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun: list[int] = []

    async def works_at_the_second_attempt() -> None:
        begun.append(len(begun))
        if len(begun) == 1:
            raise LookupError("nobody foresaw this")
        await asyncio.Event().wait()

    async def run() -> None:
        work = asyncio.create_task(keep(Beside("counting", works_at_the_second_attempt), 0.01))
        async with asyncio.timeout(20):
            while len(begun) < 2:  # noqa: ASYNC110 - the work knows nothing of its test
                await asyncio.sleep(0.005)
        assert not work.done()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    asyncio.run(run())

    assert begun == [0, 1]
    [record] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "counting failed" in record.getMessage()
    assert record.exc_info is not None
    assert "nobody foresaw this" in str(record.exc_info[1])


def test_work_with_nothing_to_do_is_not_begun_again(caplog: pytest.LogCaptureFixture) -> None:
    begun: list[str] = []

    async def nothing() -> None:
        begun.append("once")

    asyncio.run(keep(Beside("nothing", nothing), 0.0))

    assert begun == ["once"]
    assert caplog.records == []


class Keys:
    """Public keys whose first fetch fails as nobody foresaw."""

    def __init__(self) -> None:
        self.fetches = 0

    async def keep(self, seconds: float) -> None:
        """Fails once, then goes on."""
        self.fetches += 1
        if self.fetches == 1:
            raise ArithmeticError("unforeseen")
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        """Nothing is open."""


def test_a_gateway_goes_on_fetching_public_keys_after_an_unforeseen_failure(
    server_loop: Any, until: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = load(
        {
            "gateway": {"port": 0, "hosts": ("alert",)},
            "control": {"url": f"sqlite:///{tmp_path}/control.db"},
            "flows": {"lake": str(tmp_path / "lake"), "raw": str(tmp_path / "raw")},
            "telemetry": {"prometheus_port": -1},
        }
    )
    parts, keys = server_loop.call(wiring.build, settings), Keys()
    identified = replace(parts.identification, jwks=keys, refresh_seconds=60.0)
    life = wiring.running(replace(parts, identification=identified))

    server_loop.run(life.__aenter__())
    try:
        until(lambda: keys.fetches == 2)
    finally:
        server_loop.run(life.__aexit__(None, None, None))

    assert "fetching public keys failed" in caplog.text
