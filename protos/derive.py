"""Derives parts of the SDK from their one source: ``python protos/derive.py [--check]``.

* ``marketcal/client.py`` and ``marketcal/connection.py``, the synchronous client, from the
  asynchronous one: the same text without ``async`` and ``await``.
* ``marketcal/service_config.json``, deadlines and safe retries, from the options of the methods.

``--check`` writes nothing and fails where a committed file differs.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions

from marketcal.v1 import alert_pb2, forecast_pb2, legacy_pb2, market_pb2, scoreboard_pb2
from marketcal.v1.options_pb2 import max_deadline

PACKAGE = Path(__file__).resolve().parent / "marketcal"
CONTRACT = (alert_pb2, forecast_pb2, legacy_pb2, market_pb2, scoreboard_pb2)
SYNCHRONOUS = {"aio.py": "client.py", "aio_connection.py": "connection.py"}
WORDS = (
    (r"\basync (def|for|with) ", r"\1 "),
    (r"\bawait ", ""),
    (r"\bAsync(Client|Connection|PageReader|Pages|Iterator)\b", r"\1"),
    (r"\bStopAsyncIteration\b", "StopIteration"),
    (r"__a(enter|exit|iter|next)__", r"__\1__"),
    (r"\banext\b", "next"),
    (r"\bgrpc\.aio\.", "grpc."),
    (r"\bimport asyncio\b", "import time"),
    (r"\basyncio\.sleep\b", "time.sleep"),
    (r"\bmarketcal\.aio_connection\b", "marketcal.connection"),
    (r"\basynchronous\b", "synchronous"),
    (r"\bAn synchronous\b", "A synchronous"),
)
RETRY_POLICY = {
    "maxAttempts": 4,
    "initialBackoff": "0.1s",
    "maxBackoff": "2s",
    "backoffMultiplier": 2,
    # gRPC ends with CANCELLED what a server has not begun when it shuts down.
    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
}
RETRY_THROTTLING = {"maxTokens": 100, "tokenRatio": 0.1}
REPEATABLE = (MethodOptions.NO_SIDE_EFFECTS, MethodOptions.IDEMPOTENT)


def synchronous(source: str, name: str) -> str:
    """The synchronous form of a module, as ruff formats it."""
    for pattern, replacement in WORDS:
        source = re.sub(pattern, replacement, source)
    head, quotes, body = source.partition('"""\n')
    note = f"\n\nMade from ``{name}`` by ``protos/derive.py``; change that one.\n"
    summary, _, rest = head.partition("\n")
    text = summary + note.rstrip("\n") + "\n" + (rest if rest else "") + quotes + body
    for command in (["check", "--fix", "--unsafe-fixes", "--select", "I,UP028"], ["format"]):
        text = _ruff(text, command)
    return text


def _ruff(text: str, command: list[str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "--quiet", "--stdin-filename",
         str(PACKAGE / "derived.py"), "-"],
        input=text, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


def methods() -> list[MethodDescriptor]:
    """Methods of the contract that answer once; streams are opened again by the client itself."""
    return [
        method
        for module in CONTRACT
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        if not method.server_streaming and not method.client_streaming
    ]


def service_config(described: Iterable[MethodDescriptor]) -> dict[str, Any]:
    """The service config: each method's longest deadline, retries where a repeat is harmless."""

    def policy(method: MethodDescriptor) -> tuple[int, bool]:
        options = method.GetOptions()
        repeatable = options.idempotency_level in REPEATABLE
        return int(options.Extensions[max_deadline].seconds), repeatable

    entries = []
    for (seconds, repeatable), group in groupby(sorted(described, key=policy), key=policy):
        entry: dict[str, Any] = {
            "name": sorted(
                (
                    {"service": method.containing_service.full_name, "method": method.name}
                    for method in group
                ),
                key=lambda name: (name["service"], name["method"]),
            ),
            "timeout": f"{seconds}s",
        }
        if repeatable:
            entry["retryPolicy"] = RETRY_POLICY
        entries.append(entry)
    return {"methodConfig": entries, "retryThrottling": RETRY_THROTTLING}


def derived() -> dict[Path, str]:
    """Every derived file with its text."""
    texts = {
        PACKAGE / target: synchronous((PACKAGE / name).read_text(), name)
        for name, target in SYNCHRONOUS.items()
    }
    texts[PACKAGE / "service_config.json"] = json.dumps(service_config(methods()), indent=2) + "\n"
    return texts


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="compare; write nothing")
    if not parser.parse_args().check:
        for path, text in derived().items():
            path.write_text(text)
        return
    stale = [path.name for path, text in derived().items() if path.read_text() != text]
    sys.exit(f"stale, run `python protos/derive.py`: {', '.join(stale)}" if stale else 0)


if __name__ == "__main__":
    main()
