"""The publication that reads are answered from, swapped whole when a newer one is there."""

from __future__ import annotations

import logging

from polars.exceptions import PanicException

from calibration_service import tables
from calibration_service.postmortem import published
from calibration_service.postmortem.published import Postmortems
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
        self._postmortems: Postmortems | None = None

    def refresh(self) -> bool:
        """Loads what is newer than before, if anything is; returns whether it did. Blocks.

        Post-mortems are made by a flow of their own, so they have a version of their own.

        Raises:
            UnreadableLakeError: a file of the lake is damaged; what was served before stays.
            Exception: the lake is away; what was served before stays.
        """
        try:
            try:
                looked_back = self._refresh_postmortems()
            finally:  # a damaged table of theirs holds no scoreboard back
                newer = self._refresh_tables()
            return newer or looked_back
        except PanicException as error:  # no Exception by birth: it would end the whole task
            raise UnreadableLakeError(f"the publication cannot be read: {error}") from error

    def _refresh_tables(self) -> bool:
        version, held = self._lake.version("scoreboard"), self._tables
        if version is None or (held is not None and held.version == version):
            return False
        if held is not None and tables.is_in_the_making(self._lake):
            return False
        loaded = tables.load(self._lake)
        if loaded is None:
            return False
        self._tables = loaded
        _LOG.info("serving the publication of %s, version %d", loaded.as_of, loaded.version)
        return True

    def _refresh_postmortems(self) -> bool:
        version, held = self._lake.version("postmortem"), self._postmortems
        if held is not None and held.version == version:
            return False
        self._postmortems = published.load(self._lake)
        return version is not None

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

    def postmortems(self) -> Postmortems:
        """The newest post-mortems.

        Raises:
            NotReady: no publication has been made yet.
        """
        self.current()
        if self._postmortems is None:
            raise NotReady("post-mortems have not been read yet", retry_after=RETRY_AFTER)
        return self._postmortems
