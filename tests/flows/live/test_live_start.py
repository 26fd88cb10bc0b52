"""What a stream worker refuses before it begins."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from calibration_service.alerts.errors import PolicyError
from calibration_service.alerts.policy import load_policy
from flows.live_service import LiveService
from flows.stream_settings import StreamSettings


async def test_refuses_bands_that_end_before_the_policy_gives_them_up() -> None:
    policy = load_policy().model_copy(update={"reference_minutes": 90})
    outside: Any = None  # nothing of the world is asked before
    service = LiveService(StreamSettings(forecast_steps=14), policy, outside)
    with pytest.raises(PolicyError, match=r"reference_minutes: is 90.*stream\.forecast_steps = 14"):
        await service.run(asyncio.Event())
