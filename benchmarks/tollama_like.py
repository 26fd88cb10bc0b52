"""A server that speaks tollama's protocol on loopback, as slow as the real one, and fails as told.

It stands in for tollama's daemon, whose own work on a request takes 27 ms whatever the model; as
there, one request of a family is computed at a time. The forecast is a random walk in the space in
which the series comes. ``python -m benchmarks.tollama_like`` serves until its standard input
closes and prints its address.
"""

from __future__ import annotations

import contextlib
import json
import math
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from statistics import NormalDist
from typing import Any

SECONDS = 0.027
"""Median time of one request to the real daemon with its model without weights."""
STEP = 0.1
PATH = "/v1/forecast"


@dataclass
class Manner:
    """How the server behaves from now on; may be changed while it serves.

    Attributes:
        seconds: that one request takes.
        fault: "" or one of `FAULTS` or an HTTP status.
        times: how many requests are still treated so.
        reject_above: a series with a value above is refused with 400, and the request with it.
        key: what callers must show; "" for nothing.
        reply: status and body that everybody gets instead; None for an answer of its own.
    """

    seconds: float = SECONDS
    fault: str = ""
    times: float = math.inf
    reject_above: float = math.inf
    key: str = ""
    reply: tuple[int, Any] | None = None

    def take_fault(self) -> str:
        """The fault of the next request."""
        if not self.fault or self.times <= 0:
            return ""
        self.times -= 1
        return self.fault


@dataclass
class TollamaLike:
    """A running server.

    Attributes:
        url: its base address.
        manner: how it behaves.
        requests: the bodies that it was sent.
    """

    url: str = ""
    manner: Manner = field(default_factory=Manner)
    requests: list[dict[str, Any]] = field(default_factory=list)
    busy: threading.Lock = field(default_factory=threading.Lock)
    ended: threading.Event = field(default_factory=threading.Event)


def forecast(asked: dict[str, Any]) -> dict[str, Any]:
    """The reply to a good request: a random walk of `STEP` a step."""
    steps = range(1, asked["horizon"] + 1)
    scores = {f"{level:g}": NormalDist().inv_cdf(level) for level in asked.get("quantiles", [])}
    return {
        "model": asked["model"],
        "forecasts": [
            {
                "id": series["id"],
                "freq": series["freq"],
                "start_timestamp": series["timestamps"][-1],
                "mean": [series["target"][-1]] * asked["horizon"],
                "quantiles": {
                    name: [series["target"][-1] + score * STEP * math.sqrt(step) for step in steps]
                    for name, score in scores.items()
                },
            }
            for series in asked["series"]
        ],
        "warnings": None,
    }


def _first(reply: dict[str, Any]) -> dict[str, Any]:
    first: dict[str, Any] = reply["forecasts"][0]
    return first


def _other_model(reply: dict[str, Any]) -> None:
    reply["model"] = "mock"


def _null_mean(reply: dict[str, Any]) -> None:
    _first(reply)["mean"] = [None] * len(_first(reply)["mean"])


def _nan(reply: dict[str, Any]) -> None:
    _first(reply)["quantiles"]["0.5"][0] = math.nan


def _short(reply: dict[str, Any]) -> None:
    _first(reply)["quantiles"]["0.5"].pop()


def _no_quantiles(reply: dict[str, Any]) -> None:
    _first(reply)["quantiles"] = None


def _lost_levels(reply: dict[str, Any]) -> None:
    kept = {"0.1", "0.5", "0.9"}
    for item in reply["forecasts"]:
        item["quantiles"] = {k: v for k, v in item["quantiles"].items() if k in kept}


def _lost_median(reply: dict[str, Any]) -> None:
    for item in reply["forecasts"]:
        item["quantiles"].pop("0.5")


def _reversed(reply: dict[str, Any]) -> None:
    reply["forecasts"].reverse()


def _duplicates(reply: dict[str, Any]) -> None:
    reply["forecasts"][1:] = [_first(reply)] * (len(reply["forecasts"]) - 1)


def _one_too_few(reply: dict[str, Any]) -> None:
    reply["forecasts"].pop()


def _crossing(reply: dict[str, Any]) -> None:
    quantiles = _first(reply)["quantiles"]
    quantiles["0.1"], quantiles["0.9"] = quantiles["0.9"], quantiles["0.1"]


SPOILED = {
    "other_model": _other_model,
    "null_mean": _null_mean,
    "nan": _nan,
    "short": _short,
    "no_quantiles": _no_quantiles,
    "lost_levels": _lost_levels,
    "lost_median": _lost_median,
    "reversed": _reversed,
    "duplicates": _duplicates,
    "one_too_few": _one_too_few,
    "crossing": _crossing,
}
"""Good replies with something wrong in them."""
BROKEN = {"hang", "drop", "half", "drip", "garbage"}
"""Replies that are none."""
FAULTS = {*SPOILED, *BROKEN}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    owner: TollamaLike

    def do_POST(self) -> None:
        """Answers as the manner says."""
        manner = self.owner.manner
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.owner.requests.append(asked)
        fault = manner.take_fault()
        if manner.reply is not None:
            self._say(*manner.reply)
        elif self.path != PATH:
            self._say(404, {"detail": "Not Found"})
        elif manner.key and self.headers.get("Authorization") != f"Bearer {manner.key}":
            self._say(401, {"detail": "invalid bearer token"})
        elif fault.isdigit():
            self._say(int(fault), {"detail": f"told to say {fault}"})
        elif fault in BROKEN:
            self._break(fault)
        elif bad := self._bad_series(asked):
            self._say(400, {"detail": [bad]})
        else:
            with self.owner.busy:
                self.owner.ended.wait(manner.seconds)
            reply = forecast(asked)
            SPOILED.get(fault, lambda _reply: None)(reply)
            self._say(200, reply)

    def _bad_series(self, asked: dict[str, Any]) -> dict[str, Any] | None:
        above = self.owner.manner.reject_above
        for i, series in enumerate(asked["series"]):
            if max(series["target"]) > above:
                place = ["body", "series", i, "target"]
                return {"type": "value_error", "loc": place, "input": series["target"]}
        return None

    def _say(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _break(self, fault: str) -> None:
        self.close_connection = True
        if fault == "hang":
            self.owner.ended.wait()
        if fault in ("hang", "drop"):
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if fault == "garbage":
            self.wfile.write(b"\x00\x01 this is no HTTP\r\n\r\n")
            return
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{")
        self.wfile.flush()
        while fault == "drip" and not self.owner.ended.wait(0.02):
            self.wfile.write(b" ")
            self.wfile.flush()

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that left in the middle is no error of ours."""


@contextmanager
def running(manner: Manner | None = None, port: int = 0) -> Iterator[TollamaLike]:
    """Serves on loopback while the body runs."""
    owner = TollamaLike(manner=manner or Manner())
    handler = type("Handler", (_Handler,), {"owner": owner})
    server = _Quiet(("127.0.0.1", port), handler)
    owner.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield owner
    finally:
        owner.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()


def main() -> None:
    """Command line."""
    with running() as server:
        print(json.dumps({"address": server.url}), flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            sys.stdin.read()


if __name__ == "__main__":
    main()
