"""Every example in a docstring of the calibration numerics says what really happens."""

import doctest
import importlib

import pytest

MODULES = ("bootstrap", "intervals", "logistic", "reliability", "scores", "segments")


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_hold(name):
    result = doctest.testmod(importlib.import_module(f"calibration_service.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
