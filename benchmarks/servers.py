"""The servers that are compared: ``python -m benchmarks.servers KIND FOLDER [SETTINGS]``.

===========  ===================================================================================
echo         bare ``grpc.aio``: parses the request, sends one ready answer; asyncio's own loop
echo-uvloop  the same on uvloop
chain        the same echo behind every rule of our gateway; uvloop, as in production
gateway      our gateway, forecasts in its own process; uvloop, as in production
workers-N    ``marketcal serve gateway --workers N`` as our child
ray          our gateway, forecasts through Ray Serve: ``marketcal serve forecast`` as its child
===========  ===================================================================================

SETTINGS is JSON, fields of the section ``forecast``; a child that runs Ray has them too.

When it serves it prints one line, ``{"address": …, "key": …}``. It ends on SIGTERM, and when its
standard input closes, so that it never outlives the benchmark.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import uvloop

from benchmarks.requests import forecast_request
from forecast_service.serving import LOOPBACK, prepare_environment
from gateway import settings, wiring
from gateway.wiring import Parts
from marketcal.v1 import forecast_pb2 as pb
from marketcal.v1 import forecast_pb2_grpc

_READY_SECONDS, _END_SECONDS = 60.0, 30.0


BASELINE = {"models": [], "default_model": "ewma"}
"""What answers where nothing else is chosen: a baseline, whose cost is that of the way to it."""


def main(kind: str, folder: Path, forecast: dict[str, Any]) -> None:
    """Serves until SIGTERM."""
    os.environ.update(_variables(BASELINE | forecast))
    prepare_environment()
    if kind == "echo":
        asyncio.run(_echo(folder))
    elif kind.startswith("workers-"):
        _workers(folder, kind.removeprefix("workers-"))
    elif kind == "ray":
        os.environ.update(LOOPBACK)  # else Ray looks for a loopback cluster at the node's address
        with _child("forecast") as ray_address:
            uvloop.run(_through_ray(folder, ray_address))
    else:
        uvloop.run({"echo-uvloop": _echo, "chain": _chain, "gateway": _gateway}[kind](folder))


def _variables(
    given: dict[str, Any], prefix: str = "MARKETCAL_FORECAST"
) -> Iterator[tuple[str, str]]:
    """The environment variables of settings, those of a section within by their own names."""
    for field, value in given.items():
        name = f"{prefix}__{field.upper()}"
        if field == "policy":
            yield from _variables(value, name)
        else:
            yield name, value if isinstance(value, str) else json.dumps(value)


def _workers(folder: Path, count: str) -> None:
    os.environ["MARKETCAL_CONTROL__URL"] = f"sqlite:///{folder / 'control.db'}"
    os.environ["MARKETCAL_FORECAST__IN_PROCESS"] = "always"
    key = _key(os.environ["MARKETCAL_CONTROL__URL"])
    with _child("gateway", "--port", "0", "--workers", count) as address:
        uvloop.run(_until_ended(address, key))


async def _echo(folder: Path) -> None:
    answer = await _real_answer(folder)
    server = grpc.aio.server()
    add: Any = forecast_pb2_grpc.add_ForecastServiceServicer_to_server
    add(_Echo(answer), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await _until_ended(f"127.0.0.1:{port}", "")
    await server.stop(1.0)


async def _chain(folder: Path) -> None:
    parts, key = _parts(folder, {"in_process": "always"}, echo=_Echo(await _real_answer(folder)))
    await _serve(parts, key)


async def _real_answer(folder: Path) -> pb.ForecastResponse:
    """An answer of the gateway, so that an echo sends as many bytes as we do."""
    parts, key = _parts(folder, {"in_process": "always"})
    async with (
        wiring.running(parts) as own,
        grpc.aio.insecure_channel(f"127.0.0.1:{own}") as channel,
    ):
        stub: Any = forecast_pb2_grpc.ForecastServiceStub(channel)  # type: ignore[no-untyped-call]
        metadata = (("authorization", f"Bearer {key}"),)
        return await stub.Forecast(  # type: ignore[no-any-return]
            forecast_request(0), metadata=metadata, timeout=20
        )


class _Echo(forecast_pb2_grpc.ForecastServiceServicer):
    """Sends one ready answer."""

    def __init__(self, answer: pb.ForecastResponse) -> None:
        self._answer = answer

    async def Forecast(  # noqa: N802
        self,
        request: pb.ForecastRequest,  # noqa: ARG002
        context: Any,  # noqa: ARG002
    ) -> pb.ForecastResponse:
        """The same for every request."""
        return self._answer


async def _gateway(folder: Path) -> None:
    parts, key = _parts(folder, {"in_process": "always"})
    await _serve(parts, key)


async def _through_ray(folder: Path, ray_address: str) -> None:
    parts, key = _parts(folder, {"in_process": "never", "ray_address": ray_address})
    await _serve(parts, key)


@contextmanager
def _child(*role: str) -> Iterator[str]:
    """A role as in production, a child of this process; yields its address."""
    with subprocess.Popen(
        [sys.executable, "-m", "gateway.cli.main", "serve", *role],
        stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            yield _address_of(process)
        finally:
            process.terminate()
            process.wait(_END_SECONDS)


def _address_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("address="):
            return line.strip().removeprefix("address=")
    raise RuntimeError("the role did not start")


async def _serve(parts: Parts, key: str) -> None:
    async with wiring.running(parts) as port:
        async with asyncio.timeout(_READY_SECONDS):
            forecaster = parts.forecasting.forecaster
            while parts.settings.forecast.ray_address and not forecaster.connected:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        gc.collect()
        gc.freeze()  # as `marketcal serve gateway` does
        await _until_ended(f"127.0.0.1:{port}", key)


def _parts(
    folder: Path, forecast: dict[str, str], *, echo: _Echo | None = None
) -> tuple[Parts, str]:
    """A gateway over the lake of a folder, and a key whose limits no load reaches.

    With ``echo`` that answers forecasts, behind the same rules.
    """
    loaded = settings.load(
        {
            "gateway": {"port": 0},
            "control": {"url": f"sqlite:///{folder / 'control.db'}"},
            "forecast": forecast,
            "flows": {"lake": str(folder / "lake")},
        }
    )
    key = _key(loaded.control.url)
    return wiring.build(loaded, answering={"forecast": echo} if echo else {}), key


def _key(url: str) -> str:
    key, _ = wiring.open_keys(url).create(
        "forecaster", note="benchmark", rate_per_minute=6e7, burst=100_000
    )
    return key


async def _until_ended(address: str, key: str) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), ended.set)
    print(json.dumps({"address": address, "key": key}), flush=True)
    await ended.wait()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3]) if sys.argv[3:] else {})
