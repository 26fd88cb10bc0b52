"""The key that `marketcal up` makes for its folder."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from gateway.cli.loading import key_store
from gateway.cli.up import dev_key
from gateway.keys import split_key


@pytest.fixture(autouse=True)
def folder(alone: Path) -> Path:
    made = alone / "var"
    made.mkdir()
    return made


def test_it_is_made_once_for_its_owner_alone(folder: Path) -> None:
    assert dev_key() == dev_key() == (folder / "dev.key").read_text().strip()
    assert (folder / "dev.key").stat().st_mode & 0o777 == 0o600


def test_it_is_made_again_when_it_was_revoked_or_comes_to_an_end() -> None:
    first = dev_key()
    key_store().revoke(split_key(first)[0])
    second = dev_key()
    key_store().rotate(split_key(second)[0], timedelta(hours=1))
    assert len({first, second, dev_key()}) == 3
