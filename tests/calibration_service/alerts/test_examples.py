"""Every example in a docstring of the alerts says what really happens."""

from __future__ import annotations

import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["outbox", "quality", "selection", "values"])
def test_docstring_examples_hold(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"calibration_service.alerts.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
