"""The TypeScript client's watch goes on, waits and ends by the rules of the Python client."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from marketcal import errors
from marketcal.testing import FakeServer
from marketcal.v1 import alert_pb2

WATCH = """
import { connect } from "marketcal/node";
import { MarketcalError } from "marketcal";

const client = connect({ baseUrl: "BASE" });
const ended: Record<string, unknown> = {};
for (const name of NAMES) {
  const ids: string[] = [];
  const stop = new AbortController();
  if (name === "aborted") setTimeout(() => stop.abort(), 200);
  const began = Date.now();
  const watch = client.watchAlerts({ marketIds: [name] }, { signal: stop.signal });
  let code = 0;
  try {
    for await (const message of watch) {
      ids.push(message.event.case === "alert" ? message.event.value.alertId : "?");
    }
  } catch (error) {
    if (!(error instanceof MarketcalError)) throw error;
    code = error.code;
  }
  ended[name] = { ids, code, seconds: (Date.now() - began) / 1000 };
}
console.log(JSON.stringify(ended));
"""


def alert(name: str, token: str = "") -> alert_pb2.WatchAlertsResponse:
    return alert_pb2.WatchAlertsResponse(alert={"alert_id": name}, resume_token=token)


def stream(request: alert_pb2.WatchAlertsRequest) -> Iterator[alert_pb2.WatchAlertsResponse]:
    """What each of the watched markets sends; the token says which connection it is."""
    market, token = request.market_ids[0], request.resume_token
    if market == "refused":
        raise errors.ScopeMissing("may not")
    if market == "failed":
        raise errors.InternalError("a fault of the server, who says so")
    if market == "aborted":
        raise errors.NotReady("in half a minute", retry_after=30)
    if token == "":
        yield alert_pb2.WatchAlertsResponse(resume_token="first")  # a bookmark
        yield alert("a")
        raise RuntimeError("without details of ours")
    if token == "first":
        yield alert("b", "second")
        raise errors.Draining("bye")
    if token == "second":
        yield alert("c", "third")
        raise errors.OutOfTime("the longest time that is granted")
    yield alert("d")


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as running:
        running.answer("WatchAlerts", stream)
        yield running


def test_a_watch_goes_on_behind_its_last_token_and_ends_as_it_should(
    run_typescript: Any, server: FakeServer
) -> None:
    names = ["resumed", "refused", "failed", "aborted"]
    text = WATCH.replace("BASE", f"http://{server.address}").replace("NAMES", json.dumps(names))
    ended = json.loads(run_typescript(text))

    assert {name: (end["ids"], end["code"]) for name, end in ended.items()} == {
        "resumed": (["a", "b", "c", "d"], 0),
        "refused": ([], 7),
        "failed": ([], 13),
        "aborted": ([], 1),
    }
    assert ended["aborted"]["seconds"] < 10
    asked = [(one.market_ids[0], one.resume_token) for one in server.requests("WatchAlerts")]
    assert asked == [
        ("resumed", ""), ("resumed", "first"), ("resumed", "second"), ("resumed", "third"),
        ("refused", ""), ("failed", ""), ("aborted", ""),
    ]  # fmt: skip


DYING = """
import os, sys, threading
from marketcal.testing import FakeServer
from marketcal.v1 import alert_pb2

def two_alerts_and_death(request):
    done = int(request.resume_token or 0)
    for number in range(done + 1, done + 3):
        yield alert_pb2.WatchAlertsResponse(
            alert={"alert_id": str(number)}, resume_token=str(number))
    if done < 4:
        threading.Event().wait(0.2)
        os._exit(9)

made = FakeServer()
made.answer("WatchAlerts", two_alerts_and_death)
port = made._server.add_insecure_port("127.0.0.1:" + sys.argv[1])
with made:
    print(port, flush=True)
    sys.stdin.read()
"""


def test_a_watch_outlives_the_server_that_it_listened_to(run_typescript: Any) -> None:
    over = threading.Event()

    def start(port: int) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", DYING, str(port)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    first = start(0)
    assert first.stdout is not None
    port = int(first.stdout.readline())

    def replace_the_dead() -> None:
        process = first
        while True:
            with process:
                while process.poll() is None:
                    if over.wait(0.02):
                        process.kill()
                        return
            process = start(port)

    replacing = threading.Thread(target=replace_the_dead)
    replacing.start()
    try:
        text = WATCH.replace("BASE", f"http://127.0.0.1:{port}").replace("NAMES", '["lost"]')
        ended = json.loads(run_typescript(text))
    finally:
        over.set()
        replacing.join(20)
    assert (ended["lost"]["ids"], ended["lost"]["code"]) == (list("123456"), 0)
