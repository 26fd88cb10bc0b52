"""Every example in a docstring of the forecast numerics says what really happens."""

import doctest
import importlib

import pytest

MODULES = ("transform", "series", "bands", "baselines.registry", "baselines.rolling_quantile")


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_hold(name):
    result = doctest.testmod(importlib.import_module(f"forecast_service.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
