"""Keeps the gateway connected to Ray: looks for the application, and lets go of it when it is gone.

The gateway starts and answers without Ray; this link runs beside it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from forecast_service.forecaster import Forecaster
from forecast_service.serving import RayBackend, prepare_environment
from forecast_service.settings import ForecastSettings, InProcess

_LOG = logging.getLogger("gateway.ray")
RETRY_SECONDS = 2.0


async def keep_connected(settings: ForecastSettings, forecaster: Forecaster) -> None:
    """Connects ``forecaster`` to the deployed application as soon as it is there; never returns."""
    if not settings.ray_address or settings.in_process is InProcess.ALWAYS:
        return
    prepare_environment()
    while not forecaster.connected:
        try:
            handle = await asyncio.to_thread(_attach, settings)
        except Exception as error:  # noqa: BLE001 - whatever Ray raises means: not there yet
            _LOG.info("Ray at %s is not there yet: %s", settings.ray_address, error)
            await asyncio.sleep(RETRY_SECONDS)
            continue
        forecaster.connect(RayBackend(handle))
        _LOG.info("forecasting on Ray at %s", settings.ray_address)


def _attach(settings: ForecastSettings) -> Any:
    import ray
    from ray import serve

    if not ray.is_initialized():
        ray.init(
            address=settings.ray_address,
            namespace="serve",
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=False,
        )
    return serve.get_app_handle(settings.app_name)
