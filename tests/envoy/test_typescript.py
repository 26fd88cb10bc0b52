"""The TypeScript client: built from the contract, typed, and served like every other."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "protos" / "typescript" / "README.md").read_text()

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
  const watched = { marketId: "m", model: { name: "none" } };
  for await (const _ of client.forecasts.watchForecast(watched)) met.push("message");
})());
for (const host of ["203.0.113.7", "127.evil.com", "127.0.0.1.evil.com", "localhost.evil.com"]) {
  try {
    connect({ ...options, baseUrl: `http://${host}:50051` });
    met.push("connected");
  } catch (error) {
    met.push((error as Error).name);
  }
}
for (const host of ["127.8.0.1", "127.1", "localhost", "[::1]"]) {
  connect({ ...options, baseUrl: `http://${host}:50051` });
}
console.log(JSON.stringify(met));
"""


def check(met: list[Any]) -> None:
    """What `CALLS` must have met."""
    paths, invalid, unknown, stranger, stream, *clear = met
    assert paths == [3, 3, 3]
    assert (invalid["code"], invalid["reason"]) == (3, "INVALID_FIELD")
    assert invalid["violations"][0]["field"] == "values[1]"
    assert (unknown["code"], unknown["reason"]) == (5, "MARKET_NOT_FOUND")
    assert len(unknown["requestId"]) >= 32
    assert (stranger["code"], stranger["reason"]) == (16, "CREDENTIAL_INVALID")
    assert (stream["code"], stream["reason"]) == (5, "MODEL_NOT_FOUND")
    assert clear == ["TypeError"] * 4


def test_node_is_served_over_grpc(run_typescript: Any, gateway: Any) -> None:
    text = CALLS.replace("KIND", "node").replace("BASE", f"http://{gateway.address}")

    said = run_typescript(text, MARKETCAL_KEY=gateway.key("forecaster"))

    check(json.loads(said))


def test_a_browser_is_served_over_grpc_web_through_envoy(
    run_typescript: Any, gateway: Any, front: Any
) -> None:
    text = CALLS.replace("KIND", "web").replace("BASE", f"http://127.0.0.1:{front.port}")

    said = run_typescript(text, MARKETCAL_KEY=gateway.key("forecaster"))

    check(json.loads(said))


def test_the_page_of_the_client_does_what_it_says(run_typescript: Any, gateway: Any) -> None:
    (example,) = re.findall(r"```ts\n(.*?)```", README, re.DOTALL)
    text = example.replace("127.0.0.1:50051", gateway.address)
    said = run_typescript(text, MARKETCAL_KEY=gateway.key("forecaster")).splitlines()

    assert [line.split()[0] for line in said[:3]] == ["0.1", "0.5", "0.9"]
    assert "MARKET_NOT_FOUND" in said[-1]


def test_buf_curl_learns_the_contract_by_reflection_and_calls(buf_curl: Any, gateway: Any) -> None:
    def curl(method: str, request: dict[str, Any], key: str) -> Any:
        url = f"http://{gateway.address}/marketcal.v1.{method}"
        return json.loads(buf_curl(url, f"authorization: Bearer {key}", json.dumps(request)))

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
