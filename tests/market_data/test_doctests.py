"""Every example in a docstring of market_data says what really happens."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import market_data

MODULES = [
    info.name
    for info in pkgutil.walk_packages(market_data.__path__, "market_data.")
    if not info.name.endswith("__main__")
]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_hold(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0
