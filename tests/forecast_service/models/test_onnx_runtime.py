"""ONNX Runtime keeps what it learns of a machine to itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

RUN = """
import sys, time
from pathlib import Path
from forecast_service.models.onnx_runtime import ort

ort.InferenceSession(sys.argv[1])
time.sleep(0.5)
"""


def test_no_identifier_of_the_machine_is_made(tmp_path: Path) -> None:
    weights = next(Path("forecast_service/models/weights").glob("*.onnx")).resolve()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ORT_")}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}

    subprocess.run([sys.executable, "-c", RUN, weights], env=environment, check=True, timeout=60)

    assert list(tmp_path.rglob("*")) == []
