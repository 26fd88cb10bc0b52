"""The Ray Serve applications: one deployment per family of models, and the backend that calls it.

Each family is an application of its own: one that cannot start does not take the others with it,
and the gateway gets each handle by name. Batches are made by the caller (`forecast_service.pool`),
so a deployment sees whole arrays and needs no batching of its own. `ray` is imported inside
functions: a process that never talks to Ray does not pay for it.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import Tracer, get_current_span

from forecast_service.batch import Batch, BatchAnswer
from forecast_service.envelope import ANSWER, Packed, pack, unpack_result
from forecast_service.models import loading
from forecast_service.models.catalog import Family, served
from forecast_service.replica import Replica
from forecast_service.settings import ForecastSettings
from forecast_service.telemetry.carried import Carrier, carrier_of
from forecast_service.telemetry.settings import TelemetrySettings
from forecast_service.telemetry.spans import replica_span

if TYPE_CHECKING:
    from forecast_service.telemetry.export import Traces

DEPLOYMENTS: Mapping[Family, str] = {
    Family.BASELINE: "Baselines",
    Family.NATIVE: "Native",
    Family.TOLLAMA: "Tollama",
    Family.CHRONOS: "Chronos",
    Family.TIMESFM: "TimesFM",
}
"""Name of each family's deployment."""
ALWAYS_UP = frozenset({Family.BASELINE, Family.NATIVE})
"""Families that are never scaled to nothing: their first call may not wait for a start."""
MAX_ONGOING, TARGET_ONGOING = 16, 4
"""Calls that a replica takes at once, and above which another one is wanted."""
_LOG = logging.getLogger("forecast_service.serving")

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
    # Replicas share the cores: their libraries must not each take all of them.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # Weights are files on this machine; nothing is fetched.
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
}
"""What every process that imports Ray must have in its environment before the import."""


LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Makes Ray take 127.0.0.1 for this node's address: for clusters of one machine alone."""


class ModelDeployment:
    """The models of one family behind Ray Serve; one call answers several whole batches.

    It is ready once its models are loaded, their digests are right and the canaries are answered.
    Its spans go to the collector of ``telemetry``, where that names one.
    """

    def __init__(
        self,
        family: str,
        settings: ForecastSettings,
        telemetry: TelemetrySettings = TelemetrySettings(),
    ) -> None:
        _listen_where_the_node_is()
        own = Family(family)
        self._replica = Replica(
            loading.load(settings, own),
            loading.canaries(settings, own),
            threads=settings.replica_threads,
        )
        self._family = family
        self._tracer: Tracer | None = None
        self._traces: Traces | None = None
        if telemetry.otlp_endpoint:
            from forecast_service.telemetry.export import traces_of

            self._traces = traces_of(telemetry, "replica")
            self._tracer = self._traces.provider.get_tracer("marketcal.replica")

    async def __call__(
        self, batches: Sequence[Packed], budget: float, carrier: Carrier | None = None
    ) -> list[Packed]:
        """One result per batch; the arithmetic runs beside the event loop.

        Args:
            batches: packed by `envelope.pack`.
            budget: seconds that the caller waits.
            carrier: W3C context of the caller's span; None where that is not recorded.
        """
        if carrier is None or self._tracer is None:
            return await self._replica.answer(batches, budget)
        with replica_span(self._tracer, carrier, self._family, len(batches)) as span:
            results = await self._replica.answer(batches, budget)
            failed = sum(result[0] != ANSWER for result in results)
            span.set_attribute("marketcal.batch.failed_parts", failed)
            return results

    async def check_health(self) -> None:
        """Answers a canary; raises when the replica cannot."""
        await self._replica.check_health()

    def __del__(self) -> None:
        """Called by Serve once the replica has drained."""
        if hasattr(self, "_replica"):
            self._replica.close()
            if self._traces is not None:
                self._traces.close()


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


def families(settings: ForecastSettings) -> list[Family]:
    """The families that are deployed: those of the models that can be asked for."""
    asked = {card.family for card in served(settings).values()}
    return [family for family in DEPLOYMENTS if family in asked]


def app_name(settings: ForecastSettings, family: Family) -> str:
    """Name of a family's Serve application."""
    return f"{settings.app_name}-{family}"


def application(arguments: Any) -> Any:
    """The Serve application of a family as a bound deployment.

    Args:
        arguments: fields of `ForecastSettings`, ``family`` and ``telemetry``, a table of
            `TelemetrySettings`, as a Serve file gives them.
    """
    fields = dict(arguments)
    family = Family(fields.pop("family", Family.BASELINE))
    telemetry = TelemetrySettings.model_validate(fields.pop("telemetry", {}))
    return deployment(ForecastSettings.model_validate(fields), family, telemetry)


def deployment(
    settings: ForecastSettings,
    family: Family,
    telemetry: TelemetrySettings = TelemetrySettings(),
) -> Any:
    """The deployment of a family, bound to its arguments."""
    from ray import serve

    made: Any = serve.deployment(
        ModelDeployment,
        name=DEPLOYMENTS[family],
        logging_config={"enable_access_log": False, "log_level": "WARNING"},
        ray_actor_options={"num_cpus": settings.replica_cpus},
        max_ongoing_requests=MAX_ONGOING,
        health_check_period_s=5,
        health_check_timeout_s=10,
        graceful_shutdown_wait_loop_s=0.5,
        graceful_shutdown_timeout_s=10,
        autoscaling_config=_autoscaling(settings, family),
    )
    return made.bind(str(family), settings, telemetry)


def _autoscaling(settings: ForecastSettings, family: Family) -> Any:
    """Grows with the load, and third parties shrink to nothing when nobody asks for them."""
    from ray.serve.config import AutoscalingConfig

    with warnings.catch_warnings():
        # Serve would take the interval from the environment of each process instead, one for all.
        warnings.simplefilter("ignore", DeprecationWarning)
        return AutoscalingConfig(
            min_replicas=settings.min_replicas if family in ALWAYS_UP else 0,
            max_replicas=settings.max_replicas,
            target_ongoing_requests=TARGET_ONGOING,
            upscale_delay_s=settings.upscale_seconds,
            downscale_delay_s=settings.downscale_seconds,
            look_back_period_s=settings.load_window_seconds,
            metrics_interval_s=settings.load_window_seconds / 5,
        )


def prepare_environment(address: str = "") -> None:
    """Puts `ENVIRONMENT` in place, and `LOOPBACK` for an ``address`` there.

    Must run before Ray is first imported.
    """
    wanted = ENVIRONMENT | (LOOPBACK if address.startswith("127.") else {})
    for name, value in wanted.items():
        os.environ.setdefault(name, value)


class RayBackend:
    """A deployment, through its handle."""

    def __init__(self, handle: Any, name: str) -> None:
        from ray.exceptions import RayActorError, RaySystemError, TaskCancelledError
        from ray.serve.exceptions import RayServeException

        self._lost = (RayActorError, RaySystemError, TaskCancelledError, RayServeException)
        self._handle = handle
        self.served_by = f"ray:{name}"

    async def answer(
        self, batches: Sequence[Batch], budget: float
    ) -> list[BatchAnswer | Exception]:
        """One handle call for all batches, one result for each.

        Raises:
            ConnectionError: the call did not reach a replica, or the replica was lost.
        """
        try:
            sent = [pack(batch) for batch in batches]
            carrier = carrier_of(get_current_span())
            packed = await self._handle.remote(sent, budget, *([carrier] if carrier else []))
        except self._lost as error:
            raise ConnectionError(f"{self.served_by}: {type(error).__name__}: {error}") from error
        results = [unpack_result(result) for result in packed]
        for result in results:
            if isinstance(result, Exception):
                _LOG.warning("%s: %s", self.served_by, result)
        return results


def backends(settings: ForecastSettings) -> dict[str, RayBackend]:
    """The deployments that are there, by family, on the connected cluster."""
    from ray import serve
    from ray.serve.exceptions import RayServeException

    found = {}
    for family in families(settings):
        try:
            handle = serve.get_app_handle(app_name(settings, family))
        except RayServeException:
            continue  # not deployed yet, or not at all
        found[str(family)] = RayBackend(handle, DEPLOYMENTS[family])
    return found


def start_cluster() -> tuple[str, Path]:
    """Starts a Ray cluster of one node in this process's tree; returns its address and folder.

    It ends with this process; the folder, which only this user can enter, is the caller's to remove
    with `stop_cluster`. Ports are those that the system gives; nothing listens beyond
    loopback, and no dashboard and no HTTP proxy is started.
    """
    prepare_environment("127.0.0.1")
    import ray

    folder = Path(tempfile.mkdtemp(prefix="marketcal-ray-"))
    with _no_cloud(folder / "home"):
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


@contextmanager
def _no_cloud(home: Path) -> Iterator[None]:
    """Lets a cluster that starts meanwhile know that no cloud made it.

    Ray 2.60 else asks the addresses at which clouds describe their machines, with usage reports
    switched off too; a file in the home of its processes keeps it from that. Ray's token stays
    where it is.
    """
    before = os.environ.get("HOME")
    own = Path.home() / ".ray"
    own.mkdir(mode=0o700, exist_ok=True)
    home.mkdir(mode=0o700)
    (home / ".ray").symlink_to(own)
    (home / "ray_bootstrap_config.yaml").write_text("{}\n")
    os.environ["HOME"] = str(home)
    try:
        yield
    finally:
        os.environ.pop("HOME")
        if before is not None:
            os.environ["HOME"] = before


def verify_weights(settings: ForecastSettings) -> None:
    """Checks the weights of everything that would be deployed, without starting anything.

    Raises:
        WeightsError: weights are missing or are not those that are expected.
    """
    for family in families(settings):
        loading.verify_weights(settings, family)


def deploy(
    settings: ForecastSettings,
    telemetry: TelemetrySettings = TelemetrySettings(),
) -> None:
    """Deploys every family on the connected cluster and waits until all are healthy.

    Raises:
        WeightsError: weights are missing or are not those that are expected.
        RuntimeError: a deployment did not become healthy.
    """
    from ray import serve

    verify_weights(settings)
    wanted = families(settings)
    serve.start(proxy_location="Disabled")
    serve.run_many(
        [
            serve.RunTarget(
                deployment(settings, family, telemetry),
                name=app_name(settings, family),
                route_prefix=None,
            )
            for family in wanted
        ]
    )


def stop_cluster(folder: Path) -> None:
    """Ends the deployments and the cluster that `start_cluster` started, and removes its folder."""
    import ray
    from ray import serve

    end_deployments: Any = serve.shutdown
    end_deployments()
    end_cluster: Any = ray.shutdown
    end_cluster()
    shutil.rmtree(folder, ignore_errors=True)
