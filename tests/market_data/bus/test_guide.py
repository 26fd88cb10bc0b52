"""The guide of the bus names settings, extras and addresses that there are."""

from __future__ import annotations

import re
import time
import tomllib
from pathlib import Path

from flows.stream_settings import StreamSettings
from market_data.bus.opening import BusPlan, open_bus

ROOT = Path(__file__).parents[3]
GUIDE = (ROOT / "docs/operations/event-bus.md").read_text()


def test_every_setting_of_the_guide_exists_with_the_default_that_it_tells() -> None:
    named = set(re.findall(r"`stream\.([a-z_]+)`", GUIDE))
    assert "bus_url" in named
    assert named <= set(StreamSettings.model_fields)
    told = dict(re.findall(r"`stream\.([a-z_]+)` \(default (\d+)\)", GUIDE))
    assert told
    assert told == {name: str(StreamSettings.model_fields[name].default) for name in told}


def test_every_extra_of_the_guide_exists() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = set(re.findall(r"marketcal-platform\[(\w+)\]", GUIDE))
    assert extras == {"stream", "kafka", "pubsub"}
    assert extras <= set(project["optional-dependencies"])


async def test_every_address_of_the_guide_opens_a_bus() -> None:
    addresses = re.findall(r"`((?:memory|redis|kafka|pubsub):[^ `…]*)`", GUIDE)
    assert len(addresses) == 4
    for url in addresses:
        await open_bus(BusPlan(url), time.monotonic).close()
