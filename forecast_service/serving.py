"""The Ray Serve application: its deployments, and the backend that calls them.

Batches are made by the caller (`forecast_service.pool`), so a deployment sees whole arrays and
needs no batching of its own. `ray` is imported inside functions: a process that never talks to
Ray does not pay for it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from forecast_service.baselines.registry import BASELINES
from forecast_service.batch import Batch, BatchAnswer, Query
from forecast_service.models.baselines import answer
from forecast_service.settings import ForecastSettings
from forecast_service.transform import LOGIT

DEPLOYMENT = "Baselines"

ENVIRONMENT = {
    "RAY_SERVE_USE_GRPC_BY_DEFAULT": "1",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_LOG_TO_STDERR": "0",
    "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1000",
    "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "5000",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Even switched off, a starting head node sends one report: to a port where nobody listens.
    "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9",
    "RAY_AUTH_MODE": "token",
    # A call after the connection was lost must fail, not start a cluster of its own.
    "RAY_ENABLE_AUTO_CONNECT": "0",
    # The gateway outlives its cluster: losing it must not end the process after a minute.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "1000000000",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
"""What every process that imports Ray must have in its environment before the import."""


LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Makes Ray take 127.0.0.1 for this node's address: for clusters of one machine alone."""


class BaselinesDeployment:
    """The baselines behind Ray Serve; one call answers several whole batches."""

    def __init__(self) -> None:
        _listen_where_the_node_is()
        self._canary = Batch(Query("ewma", 12, (0.1, 0.5, 0.9), LOGIT), np.full((1, 288), 0.5))
        for name in BASELINES:
            answer(Batch(Query(name, 12, (0.1, 0.5, 0.9), LOGIT), np.full((2, 64), 0.5)))

    async def __call__(self, batches: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Answers batches, packed by `pack`; the arithmetic runs beside the event loop."""
        return await asyncio.to_thread(_answer_packed, batches)

    async def check_health(self) -> None:
        """Forecasts a canary series; raises when the replica cannot."""
        bands = await asyncio.to_thread(answer, self._canary)
        if not np.isfinite(bands.quantiles).all():
            raise RuntimeError("the canary forecast is not finite")


def _listen_where_the_node_is() -> None:
    """Keeps the replica's own server on loopback when its node is there.

    Serve 2.60 binds it to every interface and has no setting for that; it looks the function up
    that binds only after a deployment has been constructed.
    """
    import ray
    from ray.serve._private import replica

    where: Any = ray.util.get_node_ip_address
    address = where()
    if address != "127.0.0.1":
        return
    module: Any = replica
    bind = module.add_port_to_grpc_server
    module.add_port_to_grpc_server = lambda server, _everywhere: bind(server, f"{address}:0")


def pack(batch: Batch) -> tuple[Any, ...]:
    """A batch as plain tuple, which travels faster than nested classes."""
    query = batch.query
    asked = (query.model, query.horizon_steps, query.levels, query.transform)
    return (*asked, query.freq_seconds, query.limits), batch.values, batch.steps_to_event


def _answer_packed(batches: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    answers = []
    for asked, values, steps_to_event in batches:
        given = answer(Batch(Query(*asked), values, steps_to_event))
        told = (given.effective_horizon, given.source)
        answers.append((given.quantiles, given.flags, given.adjusted, *told))
    return answers


def application(arguments: Any) -> Any:
    """The Serve application as a bound deployment.

    Args:
        arguments: `ForecastSettings`, or its fields as a mapping, as a Serve file gives them.
    """
    from ray import serve

    settings = ForecastSettings.model_validate(arguments)
    deployment: Any = serve.deployment(
        BaselinesDeployment,
        name=DEPLOYMENT,
        logging_config={"enable_access_log": False, "log_level": "WARNING"},
        ray_actor_options={"num_cpus": settings.replica_cpus},
        max_ongoing_requests=16,
        health_check_period_s=5,
        health_check_timeout_s=10,
        graceful_shutdown_timeout_s=10,
        autoscaling_config={
            "min_replicas": settings.min_replicas,
            "max_replicas": settings.max_replicas,
            "target_ongoing_requests": 4,
            "upscale_delay_s": 5,
            "downscale_delay_s": 60,
        },
    )
    return deployment.bind()


def prepare_environment(address: str = "") -> None:
    """Puts `ENVIRONMENT` in place, and `LOOPBACK` for an ``address`` there.

    Must run before Ray is first imported.
    """
    wanted = ENVIRONMENT | (LOOPBACK if address.startswith("127.") else {})
    for name, value in wanted.items():
        os.environ.setdefault(name, value)


class RayBackend:
    """The deployed baselines."""

    served_by = f"ray:{DEPLOYMENT}"

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    async def answer(self, batches: Sequence[Batch], budget: float) -> list[BatchAnswer]:
        """One handle call for all batches."""
        packed = await self._handle.remote([pack(batch) for batch in batches])
        return [BatchAnswer(*given) for given in packed]


def start_cluster() -> tuple[str, Path]:
    """Starts a Ray cluster of one node in this process's tree; returns its address and folder.

    It ends with this process; the folder, which only this user can enter, is the caller's to remove
    with `stop_cluster`. Ports are those that the system gives; nothing listens beyond
    loopback, and no dashboard and no HTTP proxy is started.
    """
    prepare_environment("127.0.0.1")
    import ray

    folder = Path(tempfile.mkdtemp(prefix="marketcal-ray-"))
    context: Any = ray.init(
        address="local",
        namespace="serve",
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=100 << 20,
        _temp_dir=str(folder),
    )
    return str(context.address_info["gcs_address"]), folder


def deploy(settings: ForecastSettings) -> None:
    """Deploys the application on the connected cluster and waits until it is healthy."""
    from ray import serve

    serve.start(proxy_location="Disabled")
    serve.run(application(settings), name=settings.app_name, route_prefix=None)


def stop_cluster(folder: Path) -> None:
    """Ends the deployments and the cluster that `start_cluster` started, and removes its folder."""
    import ray
    from ray import serve

    end_deployments: Any = serve.shutdown
    end_deployments()
    end_cluster: Any = ray.shutdown
    end_cluster()
    shutil.rmtree(folder, ignore_errors=True)
