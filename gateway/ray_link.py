"""Keeps the gateway connected to Ray: joins when the application is there, lets go when it is gone.

The gateway starts and answers without Ray; this link runs beside it. A cluster that was restarted
at the same address is a new one: the old connection is given up and a new one is made.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from forecast_service.models.catalog import Family
from forecast_service.policy.forecaster import Forecaster
from forecast_service.serving import RayBackend, backends, families, prepare_environment
from forecast_service.settings import ForecastSettings, InProcess

_LOG = logging.getLogger("gateway.ray")
RETRY_SECONDS = 2.0
PROBE_SECONDS = 2.0
MAX_FAILURES = 3
"""Failures in a row, each with its pause, after which a connection is made anew."""


async def keep_connected(
    settings: ForecastSettings, forecaster: Forecaster, joined: Callable[[], None]
) -> None:
    """Connects ``forecaster`` to the deployed application whenever it is there; never returns.

    ``joined`` is called after each connection: Ray takes the process's signal handlers for itself.
    """
    if not settings.ray_address or settings.in_process is InProcess.ALWAYS:
        return
    prepare_environment(settings.ray_address)
    found = 0
    while True:
        try:
            found = await _look(settings, forecaster, joined, found)
        except Exception:  # noqa: BLE001 - a background edge: the next look may do better
            _LOG.exception("cannot see to the connection to Ray at %s", settings.ray_address)
        await asyncio.sleep(RETRY_SECONDS)


async def _look(
    settings: ForecastSettings, forecaster: Forecaster, joined: Callable[[], None], found: int
) -> int:
    """Joins, lets go or takes up what is new; returns how many families are there."""
    reachable = await _reachable(settings.ray_address)
    if forecaster.connected and reachable:
        await forecaster.probe()
    if forecaster.connected and (not reachable or forecaster.failures >= MAX_FAILURES):
        _LOG.warning("Ray at %s is gone; forecasting in process", settings.ray_address)
        forecaster.connect(None)
        await asyncio.to_thread(_detach)
    elif not forecaster.connected and reachable:
        try:
            return await _join(settings, forecaster)
        finally:
            joined()
    elif forecaster.connected and found < len(families(settings)):
        return await _look_again(settings, forecaster, found)
    return found


async def _join(settings: ForecastSettings, forecaster: Forecaster) -> int:
    """Connects when the baselines are there; returns how many families are."""
    try:
        found = await asyncio.to_thread(_attach, settings)
    except Exception as error:  # noqa: BLE001 - whatever Ray raises means: not there yet
        _LOG.info("Ray at %s is not there yet: %s", settings.ray_address, error)
        await asyncio.to_thread(_detach)
        return 0
    forecaster.connect(found)
    _LOG.info("forecasting on Ray at %s: %s", settings.ray_address, ", ".join(found))
    return len(found)


async def _look_again(settings: ForecastSettings, forecaster: Forecaster, known: int) -> int:
    """Takes up families that have been deployed since; returns how many are there."""
    try:
        found = await asyncio.to_thread(backends, settings)
    except Exception as error:  # noqa: BLE001 - whatever Ray raises means: not there yet
        _LOG.info("Ray at %s does not say what is deployed: %s", settings.ray_address, error)
        return known
    if len(found) <= known:
        return known
    forecaster.connect(found)
    _LOG.info("now on Ray as well: %s", ", ".join(found))
    return len(found)


async def _reachable(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            _, writer = await asyncio.open_connection(host, int(port))
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def _attach(settings: ForecastSettings) -> dict[str, RayBackend]:
    """Joins the cluster; the backends of the families that are deployed there.

    Raises:
        LookupError: the baselines are not deployed there.
    """
    import ray

    ray.init(
        address=settings.ray_address,
        namespace="serve",
        log_to_driver=False,
        logging_level=logging.ERROR,
        configure_logging=False,
    )
    found = backends(settings)
    if Family.BASELINE not in found:
        raise LookupError("the baselines are not deployed")
    return found


def _detach() -> None:
    """Forgets the cluster, in Ray and in Serve, which remembers its controller by itself."""
    import ray
    from ray.serve import context

    disconnect: Any = ray.shutdown
    forget: Any = context._set_global_client
    disconnect()
    forget(None)
