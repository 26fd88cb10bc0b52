"""Asks a server until a model answers itself: ``python -m benchmarks.models_ready '{…}'``."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from benchmarks.requests import forecast_request
from marketcal import Client
from marketcal.v1 import forecast_pb2 as pb

_PAUSE = 0.2


def main(job: dict[str, Any]) -> None:
    """Prints which model answered last, and why when it is another one."""
    began = time.monotonic()
    with Client(job["address"], key=job["key"], timeout=60.0) as client:
        number = 1_000_000
        while True:
            (result,) = client.batch_forecast([forecast_request(number)]).results
            meta = result.forecast.meta
            late = time.monotonic() - began > job["seconds"]
            if late or meta.model_name == job["model"]:
                break
            number += 1
            time.sleep(_PAUSE)
    reason = pb.FallbackReason.Name(meta.fallback_reason).removeprefix("FALLBACK_REASON_")
    print(json.dumps({"model": meta.model_name, "reason": reason}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
