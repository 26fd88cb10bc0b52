"""Where the data of a source lies: markets of two sources never share a lake."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container
from datetime import datetime
from pathlib import Path

SIMULATED = "simulated"
_PLACES = ("lake", "raw")


class SourceError(Exception):
    """A folder is not an archive; the message names it."""


def read_manifest(archive: Path) -> tuple[str, datetime]:
    """(name of the source, end of its data) of an archive; equal manifests are one source.

    Raises:
        SourceError: there is no manifest that says when the archive ends.
    """
    path = archive / "manifest.json"
    try:
        content = path.read_bytes()
        as_of = datetime.fromisoformat(json.loads(content)["as_of"])
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise SourceError(f"{path} is not the manifest of an archive") from None
    if as_of.tzinfo is None:
        raise SourceError(f"{path} has an as_of without a zone")
    return f"archive-{hashlib.sha256(content).hexdigest()[:12]}", as_of


def places_of(folder: Path, source: str, given: Container[str]) -> dict[str, str]:
    """Variables that put lake and raw answers below ``folder/sources/<source>``.

    Args:
        folder: where everything of a run is kept.
        source: name of the source.
        given: fields of the section ``flows`` that somebody has set; they stay as they are.
    """
    own = (folder / "sources" / source).resolve()
    return {
        f"MARKETCAL_FLOWS__{place}".upper(): str(own / place)
        for place in _PLACES
        if place not in given
    }
