"""ONNX Runtime, which tells its maker nothing.

Since 1.29 the library by default makes an identifier of the machine, keeps it in the user's home,
and sends what it runs to mobile.events.data.microsoft.com. It looks whether it may when it is
imported, so it is imported here alone.
"""

from __future__ import annotations

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

__all__ = ["ort", "ort_errors"]
