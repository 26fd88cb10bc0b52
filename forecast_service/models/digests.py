"""Weights are loaded only when they are the very bytes that are expected."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from forecast_service.models.catalog import ModelCard
from forecast_service.models.errors import WeightsError

PACKAGED = Path(__file__).with_name("weights")
"""Weights that come with this package."""
_CHUNK = 1 << 20


def locate(card: ModelCard, folder: str) -> Path:
    """Where the weights of a model lie: below ``folder`` when they are there, else in the package.

    Raises:
        WeightsError: they are in neither place.
    """
    places = [Path(place) / card.weights for place in (folder, PACKAGED) if str(place)]
    for place in places:
        if place.exists():
            return place
    looked = " and ".join(str(place.parent) for place in places)
    raise WeightsError(
        f"{card.name}: its weights {card.weights} are missing (looked in {looked}; "
        f"expected {card.digest or 'a digest that is not known'})"
    )


def digest_of(path: Path) -> str:
    """What the bytes of a file or folder amount to, as "sha256:…".

    Of a folder it is the digest of the sorted lines ``<sha256 of file>  <path in folder>``.
    """
    if path.is_file():
        return f"sha256:{_sha256(path)}"
    lines = hashlib.sha256()
    for file in sorted(_files(path)):
        lines.update(f"{_sha256(file)}  {file.relative_to(path).as_posix()}\n".encode())
    return f"sha256:{lines.hexdigest()}"


def verified(card: ModelCard, folder: str) -> Path:
    """The file or folder of a model's weights, once their digest is what is expected.

    Raises:
        WeightsError: the weights are missing, differ, or nobody said what they must be.
    """
    path = locate(card, folder)
    found = digest_of(path)
    if not card.digest:
        raise WeightsError(
            f"{card.name}: nobody has said what its weights must be; found {found}. "
            f"If that is right, set forecast.weights_digests"
        )
    if found != card.digest:
        raise WeightsError(f"{card.name}: expected weights {card.digest}, found {found} in {path}")
    return path


def _files(folder: Path) -> Iterator[Path]:
    """Files below a folder but hidden ones, which tools leave behind."""
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden:
            yield path


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
