"""The TypeScript client: built from the contract, typed, and served like every other."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "protos" / "typescript"
CACHE = ROOT / ".node-test" / "typescript"
README = (SOURCES / "README.md").read_text()
NPM_FAILED = 75
STRICT = ["--target", "ES2022", "--module", "NodeNext", "--moduleResolution", "NodeNext",
          "--strict", "--skipLibCheck"]  # fmt: skip

CALLS = """
import { MarketcalError } from "marketcal";
import { connect } from "marketcal/KIND";

const options = { baseUrl: "BASE", key: process.env.MARKETCAL_KEY as string };
const client = connect(options);
const values = Array.from({ length: 60 }, (_, i) => 0.5 + 0.01 * (i % 5));
const met: unknown[] = [];

async function note(call: Promise<unknown>): Promise<void> {
  try {
    await call;
    met.push("answered");
  } catch (error) {
    if (!(error instanceof MarketcalError)) throw error;
    const { code, reason, retryAfter, violations, requestId } = error;
    met.push({ code, reason, retryAfter, violations, requestId });
  }
}

const answer = await client.forecasts.forecast({ marketId: "m", values, horizonSteps: 3 });
met.push(answer.quantilePaths.map((path) => path.values.length));
await note(client.forecasts.forecast({ marketId: "m", values: [0.5, 1.5] }));
await note(client.markets.getMarket({ marketId: "polymarket:unknown" }));
await note(connect({ ...options, key: "mk_not_a_key" }).markets.getMarket({ marketId: "m" }));
await note((async () => {
  for await (const _ of client.forecasts.watchForecast({ marketId: "m" })) met.push("message");
})());
try {
  connect({ ...options, baseUrl: "http://203.0.113.7:50051" });
} catch (error) {
  met.push((error as Error).name);
}
console.log(JSON.stringify(met));
"""


@pytest.fixture(scope="module")
def package() -> Path:
    """The built package; the test skips where Node or what npm fetches cannot be had."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("Node is absent: the TypeScript client cannot be built")
    if not (ROOT / ".venv-proto" / "bin" / "python").exists():
        pytest.skip("no .venv-proto here; `make proto` or `make test` makes it")
    CACHE.parent.mkdir(exist_ok=True)
    (CACHE.parent / ".gitignore").write_text("*\n")
    done = subprocess.run(
        [sys.executable, SOURCES / "build.py", CACHE], capture_output=True, text=True, check=False
    )
    if done.returncode == NPM_FAILED:
        pytest.skip(f"npm cannot install what the client needs: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stdout + done.stderr
    return CACHE


def run_in(package: Path, text: str, **environment: str) -> str:
    """What a program prints that is compiled against the package, as its users' would be."""
    folder = package / "examples"
    folder.mkdir(exist_ok=True)
    (folder / "example.ts").write_text(text)
    compiler = package / "node_modules" / ".bin" / "tsc"
    subprocess.run([compiler, *STRICT, "example.ts"], cwd=folder, check=True, timeout=120)
    done = subprocess.run(
        ["node", "example.js"], cwd=folder, env=os.environ | environment,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def check(met: list[Any]) -> None:
    """What `CALLS` must have met."""
    paths, invalid, unknown, stranger, unimplemented, clear = met
    assert paths == [3, 3, 3]
    assert (invalid["code"], invalid["reason"]) == (3, "INVALID_FIELD")
    assert invalid["violations"][0]["field"] == "values[1]"
    assert (unknown["code"], unknown["reason"]) == (5, "MARKET_NOT_FOUND")
    assert len(unknown["requestId"]) >= 32
    assert (stranger["code"], stranger["reason"]) == (16, "CREDENTIAL_INVALID")
    assert (unimplemented["code"], unimplemented["reason"]) == (12, "NOT_IMPLEMENTED")
    assert clear == "TypeError"


def test_node_is_served_over_grpc(package: Path, gateway: Any) -> None:
    text = CALLS.replace("KIND", "node").replace("BASE", f"http://{gateway.address}")

    said = run_in(package, text, MARKETCAL_KEY=gateway.key("forecaster"))

    check(json.loads(said))


def test_a_browser_is_served_over_grpc_web_through_envoy(
    package: Path, gateway: Any, front: Any
) -> None:
    text = CALLS.replace("KIND", "web").replace("BASE", f"http://127.0.0.1:{front.port}")

    said = run_in(package, text, MARKETCAL_KEY=gateway.key("forecaster"))

    check(json.loads(said))


def test_the_page_of_the_client_does_what_it_says(package: Path, gateway: Any) -> None:
    (example,) = re.findall(r"```ts\n(.*?)```", README, re.DOTALL)
    text = example.replace("127.0.0.1:50051", gateway.address)
    said = run_in(package, text, MARKETCAL_KEY=gateway.key("forecaster")).splitlines()

    assert [line.split()[0] for line in said[:3]] == ["0.1", "0.5", "0.9"]
    assert "MARKET_NOT_FOUND" in said[-1]


def test_buf_curl_learns_the_contract_by_reflection_and_calls(package: Path, gateway: Any) -> None:
    def curl(method: str, request: dict[str, Any], key: str) -> Any:
        done = subprocess.run(
            [package / "node_modules" / ".bin" / "buf", "curl", "--protocol", "grpc",
             "--http2-prior-knowledge", "--header", f"authorization: Bearer {key}",
             "--data", json.dumps(request), f"http://{gateway.address}/marketcal.v1.{method}"],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return json.loads(done.stdout or done.stderr)

    key = gateway.key("forecaster")
    asked = {"marketId": "m", "values": [0.5] * 40, "horizonSteps": 2}
    assert len(curl("ForecastService/Forecast", asked, key)["quantilePaths"][0]["values"]) == 2
    refused = curl("MarketService/GetMarket", {"marketId": "polymarket:unknown"}, key)
    assert refused["code"] == "not_found"
    assert "google.rpc.ErrorInfo" in [detail["type"] for detail in refused["details"]]


def test_the_packed_client_holds_what_is_imported_and_no_sources(package: Path) -> None:
    (packed,) = package.glob("marketcal-*.tgz")
    names = subprocess.run(
        ["tar", "-tzf", packed], capture_output=True, text=True, timeout=60, check=True
    ).stdout.split()
    assert {"package/dist/index.js", "package/dist/node.js", "package/dist/web.d.ts"} <= set(names)
    assert not [name for name in names if "/src/" in name or "node_modules" in name]
