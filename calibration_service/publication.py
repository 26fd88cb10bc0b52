"""The publication that reads are answered from, swapped whole when a newer one is there."""

from __future__ import annotations

import logging

from polars.exceptions import PanicException

from calibration_service import tables
from calibration_service.tables import Tables
from market_data.lake import Lake
from marketcal.errors import NotReady

_LOG = logging.getLogger("calibration_service")
RETRY_AFTER = 5.0


class UnreadableLakeError(Exception):
    """The tables of a publication are there and cannot be read."""


class Publication:
    """Holds the newest `Tables`; keeps serving the last ones while the lake is away."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._tables: Tables | None = None

    def refresh(self) -> bool:
        """Loads a newer publication if there is one; returns whether it did. Blocks.

        Raises:
            UnreadableLakeError: a file of the lake is damaged; what was served before stays.
            Exception: the lake is away; what was served before stays.
        """
        version = self._lake.version("scoreboard")
        if version is None or (self._tables is not None and self._tables.version == version):
            return False
        try:
            loaded = tables.load(self._lake)
        except PanicException as error:  # no Exception by birth: it would end the whole task
            raise UnreadableLakeError(f"publication {version} cannot be read: {error}") from error
        if loaded is None:
            return False
        self._tables = loaded
        _LOG.info("serving the publication of %s, version %d", loaded.as_of, loaded.version)
        return True

    @property
    def ready(self) -> bool:
        """Whether there is anything to serve."""
        return self._tables is not None

    def current(self) -> Tables:
        """The newest publication.

        Raises:
            NotReady: none has been made yet.
        """
        if self._tables is None:
            raise NotReady("no scoreboard has been published yet", retry_after=RETRY_AFTER)
        return self._tables
