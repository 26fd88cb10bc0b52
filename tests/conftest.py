"""What all tests share: no network beyond loopback, one publication, gateways on loopback."""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import logging
import secrets
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import grpc
import hypothesis
import pytest
from moto.server import ThreadedMotoServer

from calibration_service.alerts import store as alert_store
from calibration_service.alerts.values import (
    RULE,
    Alert,
    Direction,
    Fact,
    Reason,
    Severity,
    derived_id,
)
from flows import daily, postmortem
from flows.settings import FlowSettings
from forecast_service.serving import prepare_environment
from gateway import wiring
from gateway.settings import Settings, load
from gateway.stores import open_store
from market_data.replay.server import serve
from market_data.replay.simulate import SimulationConfig
from market_data.replay.simulate_records import simulate

pytest_plugins = ["tests.postgresql_server"]

hypothesis.settings.register_profile("suite", deadline=None)  # machines are shared
hypothesis.settings.load_profile("suite")

# Ray reads its environment once, at its first import: whichever test that is, all share it.
prepare_environment("127.0.0.1")

DEADLINE = 20.0
"""Seconds that anything awaited in a test may take; none comes near it."""


def is_loopback(address: Any) -> bool:
    """Whether a socket address stays on this machine."""
    if not isinstance(address, tuple):
        return True  # a Unix socket
    host = str(address[0])
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host in ("", "localhost")


@pytest.fixture(scope="session", autouse=True)
def no_network_beyond_loopback() -> Iterator[None]:
    """Fails whatever connects a stream socket to another machine."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def refuse_strangers(sock: socket.socket, address: Any) -> None:
        internet = sock.family in (socket.AF_INET, socket.AF_INET6)
        if internet and sock.type == socket.SOCK_STREAM and not is_loopback(address):
            raise AssertionError(f"a test connects to {address}, beyond loopback")

    def guarded_connect(sock: socket.socket, address: Any) -> None:
        refuse_strangers(sock, address)
        connect(sock, address)

    def guarded_connect_ex(sock: socket.socket, address: Any) -> int:
        refuse_strangers(sock, address)
        return connect_ex(sock, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded_connect)
        patch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
        yield


@pytest.fixture(scope="session")
def until() -> Callable[[Callable[[], bool]], None]:
    """Waits until a condition holds."""

    def wait(condition: Callable[[], bool]) -> None:
        end = time.monotonic() + DEADLINE
        pause = threading.Event()
        while not condition():
            assert time.monotonic() < end, "the condition did not come true in time"
            pause.wait(0.005)

    return wait


@dataclass(frozen=True, slots=True)
class Published:
    """A lake with a publication.

    Attributes:
        folder: holds ``lake`` and ``raw``.
        as_of: until when data was seen.
    """

    folder: Path
    as_of: datetime

    @property
    def lake(self) -> Path:
        """Folder of the lake."""
        return self.folder / "lake"


def run_daily(folder: Path, *, markets: int, seed: int) -> Published:
    """Runs the daily pipeline on a simulated venue."""
    archive = simulate(SimulationConfig(n_markets=markets, seed=seed, snapshots_per_market=40))
    with serve(archive) as venue:
        settings = FlowSettings(
            lake=str(folder / "lake"),
            raw=str(folder / "raw"),
            gamma_url=f"{venue.base_url}/gamma",
            clob_url=f"{venue.base_url}/clob",
            subgraph_url=f"{venue.base_url}/subgraph/activity",
            venue_rate=0,
            venue_concurrency=16,
        )
        daily.daily.fn(as_of=archive.as_of, flow_settings=settings)
    return Published(folder, archive.as_of)


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """The publication of 300 simulated markets, with post-mortems; nobody changes it."""
    made = run_daily(tmp_path_factory.mktemp("publication"), markets=300, seed=1)
    recent = FlowSettings(lake=str(made.lake), windows=("12d",))
    postmortem.postmortem.fn(as_of=made.as_of, flow_settings=recent)
    return made


@pytest.fixture(scope="session")
def publish() -> Callable[..., Published]:
    """Runs the daily pipeline into a folder: ``publish(folder, markets=…, seed=…)``."""
    return run_daily


@dataclass
class Loop:
    """An event loop on a thread of its own, on which servers live while tests call them."""

    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    def run(self, work: Awaitable[Any]) -> Any:
        """Result of a coroutine that runs there."""

        async def awaited() -> Any:
            return await work

        return asyncio.run_coroutine_threadsafe(awaited(), self.loop).result(DEADLINE)

    def call(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Result of a plain function that runs there."""

        async def called() -> Any:
            return function(*arguments, **named)

        return self.run(called())


@pytest.fixture(scope="session")
def server_loop() -> Iterator[Loop]:
    """The loop of the servers."""
    holder = Loop()
    thread = threading.Thread(target=holder.loop.run_forever, name="servers", daemon=True)
    thread.start()
    yield holder
    holder.loop.call_soon_threadsafe(holder.loop.stop)
    thread.join(DEADLINE)
    holder.loop.close()


@dataclass
class RunningGateway:
    """A served gateway and a channel to it.

    Attributes:
        parts: what it is made of.
        port: where it listens on 127.0.0.1.
        channel: a client's connection.
    """

    parts: wiring.Parts
    port: int
    channel: grpc.Channel

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"127.0.0.1:{self.port}"

    def key(self, role: str, **options: Any) -> str:
        """A new key that the gateway already knows."""
        text, _ = self.parts.keys.create(role, **options)
        self.parts.ring.replace(self.parts.keys.rows())
        return text


Start = Callable[..., RunningGateway]


@pytest.fixture(scope="session")
def serve_gateway(server_loop: Loop, tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Starts gateways: ``serve_gateway(stack, gateway={…})``; they end with the ExitStack."""

    def start(stack: ExitStack, **sections: dict[str, Any]) -> RunningGateway:
        settings = gateway_settings(tmp_path_factory.mktemp("gateway"), sections)
        parts = server_loop.call(wiring.build, settings)
        life = wiring.running(parts)
        port = server_loop.run(life.__aenter__())
        stack.callback(lambda: server_loop.run(life.__aexit__(None, None, None)))
        channel = stack.enter_context(connect_to(f"127.0.0.1:{port}"))
        return RunningGateway(parts, port, channel)

    return start


@pytest.fixture(scope="session")
def open_channel() -> Callable[[str], grpc.Channel]:
    """Opens connections to an address."""
    return connect_to


def connect_to(address: str) -> grpc.Channel:
    """A channel of its own connection, with limits above the server's."""
    limit = 64 << 20
    return grpc.insecure_channel(
        address,
        options=[
            ("grpc.max_send_message_length", limit),
            ("grpc.max_receive_message_length", limit),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_retries", 0),
        ],
    )


def gateway_settings(folder: Path, sections: dict[str, dict[str, Any]]) -> Settings:
    """Settings of a test's gateway; everything that it writes lies in ``folder``."""
    own: dict[str, dict[str, Any]] = {
        "gateway": {"port": 0, "refresh_seconds": 0.05, "drain_seconds": 5.0},
        "control": {"url": f"sqlite:///{folder}/control.db"},
        "flows": {"lake": str(folder / "lake"), "raw": str(folder / "raw")},
        "telemetry": {"prometheus_port": -1},
    }
    for section, fields in sections.items():
        own.setdefault(section, {}).update(fields)
    return load(own)


@pytest.fixture(scope="session")
def gateway(serve_gateway: Start, published: Published) -> Iterator[RunningGateway]:
    """The gateway that most tests call, with the publication in its memory."""
    with ExitStack() as stack:
        running = serve_gateway(
            stack, flows={"lake": str(published.lake)}, forecast={"in_process": "always"}
        )
        end = time.monotonic() + DEADLINE
        while not running.parts.publication.ready and time.monotonic() < end:
            threading.Event().wait(0.01)
        assert running.parts.publication.ready
        yield running


@pytest.fixture(scope="session")
def raise_alerts() -> Callable[..., list[str]]:
    """Commits alerts to the store of a gateway: ``raise_alerts(running, 3, market_id=…)``.

    In place of the gateway the URL of its store may stand. The alerts are raised now, a millisecond
    after one another; their ids come back.
    """
    numbers = itertools.count()

    def write(
        store: RunningGateway | str,
        count: int = 1,
        *,
        market_id: str = "polymarket:1",
        severity: Severity = Severity.MED,
        line: str = "The price 0.7 is above 0.55.",
    ) -> list[str]:
        now = wiring.utc_now()
        alerts = []
        for number in itertools.islice(numbers, count):
            at_ms = int(now.timestamp() * 1000) - count + len(alerts)
            alerts.append(
                Alert(
                    alert_id=derived_id(at_ms, market_id, number), market_id=market_id,
                    at_ms=at_ms, severity=severity, rule=RULE, direction=Direction.UP,
                    episode_id=derived_id(at_ms, number), reason_codes=(Reason.BAND_LEFT,),
                    evidence=(Fact("price", 0.7, 0.55),), explanation_lines=(line,),
                    policy_version="alerts-1+00000000",
                )
            )  # fmt: skip
        url = store if isinstance(store, str) else store.parts.settings.control.url
        engine = open_store(url)
        with engine.begin() as connection:
            alert_store.write_alerts(connection, alerts, (), now=now)
        engine.dispose()
        return [alert.alert_id for alert in alerts]

    return write


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """URL of an empty bucket; clients find the server by the usual variables."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        name = f"marketcal-{secrets.token_hex(4)}"  # all servers of a process share their buckets
        boto3.client("s3").create_bucket(Bucket=name)
        yield f"s3://{name}"
    server.stop()


@pytest.fixture
def serve_http() -> Iterator[Callable[[type[BaseHTTPRequestHandler]], str]]:
    """Serves requests with a handler on loopback until the test ends; returns the URL."""
    with ExitStack() as servers:

        def start(handler: type[BaseHTTPRequestHandler]) -> str:
            listening = ThreadingHTTPServer(("127.0.0.1", 0), handler)
            thread = threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True)
            thread.start()
            servers.callback(thread.join, 5)
            servers.callback(listening.server_close)
            servers.callback(listening.shutdown)
            return f"http://127.0.0.1:{listening.server_port}"

        yield start
