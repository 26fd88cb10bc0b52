"""The SDK stands alone, and beside protovalidate in either order."""

from __future__ import annotations

import statistics
import subprocess
import sys

import pytest

BLOCKED = (
    "ray", "prefect", "polars", "pandas", "numpy", "pyarrow", "deltalake", "sqlalchemy",
    "protovalidate", "cryptography", "jwt", "redis",
    "pydantic", "fastapi", "starlette", "httpx", "opentelemetry", "gateway", "flows", "market_data",
    "forecast_service", "calibration_service",
)  # fmt: skip
EVERYTHING = (
    "import marketcal, marketcal.frames, marketcal.status, marketcal.testing\n"
    "from marketcal.v1 import (alert_pb2, alert_pb2_grpc, errors_pb2, forecast_pb2,\n"
    "    forecast_pb2_grpc, legacy_pb2, legacy_pb2_grpc, market_pb2, market_pb2_grpc,\n"
    "    options_pb2, scoreboard_pb2, scoreboard_pb2_grpc, segments_pb2)\n"
)


def python(code: str) -> str:
    """What a fresh interpreter prints; fails where it fails or warns."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("order", ["sdk first", "protovalidate first"])
def test_sdk_and_protovalidate_share_a_process_in_either_order(order: str) -> None:
    halves = [EVERYTHING, "import protovalidate\n"]
    if order == "protovalidate first":
        halves.reverse()
    python(
        "".join(halves)
        + "bad = forecast_pb2.ForecastRequest(market_id='m', values=[0.5], horizon_steps=5000)\n"
        "found = protovalidate.collect_violations(bad)\n"
        "assert len(found) == 2, found\n"
    )


def test_the_sdk_needs_no_package_of_the_server() -> None:
    python(
        "import sys\n"
        f"blocked = {BLOCKED!r}\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in blocked:\n"
        "            raise AssertionError(f'the SDK imports {name}')\n"
        "sys.meta_path.insert(0, Refuse())\n" + EVERYTHING
    )


def test_the_sdk_adds_little_to_the_import_of_grpc() -> None:
    def fastest() -> float:
        return min(
            float(
                python(
                    "import time, grpc, grpc.aio\n"
                    "began = time.perf_counter()\n"
                    + EVERYTHING
                    + "print(time.perf_counter() - began)\n"
                )
            )
            for _ in range(3)
        )

    assert fastest() < 0.6  # about 0.1 s on an idle machine


def test_the_sdk_is_imported_in_a_third_of_a_second() -> None:
    code = (
        "import time\nbegan = time.perf_counter()\nimport {0}\nprint(time.perf_counter() - began)\n"
    )
    seconds = [float(python(code.format("marketcal"))) for _ in range(5)]
    assert statistics.median(seconds) < 0.3  # about 0.1 s, half of it grpc, on an idle machine


def test_generated_code_imports_nothing_newer_than_its_promise() -> None:
    """Stubs say which runtime they were made for: it must not be above the floor of the SDK."""
    version = python(
        "import re, pathlib, marketcal.v1.forecast_pb2 as pb, marketcal.v1.forecast_pb2_grpc as g\n"
        "text = pathlib.Path(pb.__file__).read_text()\n"
        "print(re.search(r'Protobuf Python Version: (\\S+)', text)[1])\n"
        "print(g.GRPC_GENERATED_VERSION)\n"
    ).split()
    assert tuple(map(int, version[0].split(".")[:2])) <= (5, 29)
    assert tuple(map(int, version[1].split(".")[:2])) <= (1, 71)
