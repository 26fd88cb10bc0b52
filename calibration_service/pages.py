"""Page tokens: opaque, bound to their query, and stable when rows come or go between pages.

A token holds the digest of the query and the key of the last row sent; the next page begins after
that key, wherever it now stands.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from types import UnionType
from typing import Any

from marketcal.errors import InvalidPageToken

DEFAULT_SIZE = 50


def size_of(asked: int, *, default: int = DEFAULT_SIZE, most: int = 500) -> int:
    """Entries of a page: the default for 0, never more than ``most``."""
    return min(asked or default, most)


def write_token(query: Sequence[Any], last_key: Sequence[Any]) -> str:
    """The token of the page that follows the row with ``last_key``."""
    payload = json.dumps([_digest(query), list(last_key)], separators=(",", ":"))
    return base64.urlsafe_b64encode(payload.encode()).decode().rstrip("=")


def read_token(
    token: str, query: Sequence[Any], *, kinds: Sequence[type[Any] | UnionType]
) -> list[Any] | None:
    """The key after which the page begins; None for the first page.

    Args:
        token: as a caller sent it; anything may stand in it.
        query: what the page is of.
        kinds: type of each part of the key.

    Raises:
        InvalidPageToken: the token was not made for this query.
    """
    if not token:
        return None
    try:
        padded = token + "=" * (-len(token) % 4)
        digest, key = json.loads(base64.urlsafe_b64decode(padded.encode("ascii")))
    except (ValueError, TypeError, RecursionError):
        raise _refused() from None
    if digest != _digest(query) or not isinstance(key, list) or len(key) != len(kinds):
        raise _refused()
    if not all(isinstance(part, kind) for part, kind in zip(key, kinds, strict=True)):
        raise _refused()
    if not all(_is_storable(part) for part in key):
        raise _refused()
    return key


def _is_storable(part: Any) -> bool:
    """Whether a column could hold it: no lone surrogate, no number beyond 64 bits."""
    if isinstance(part, str):
        return not any("\ud800" <= one <= "\udfff" for one in part)
    return not isinstance(part, int) or -(1 << 63) <= part < 1 << 63


def _digest(query: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(list(query)).encode()).hexdigest()[:16]


def _refused() -> InvalidPageToken:
    return InvalidPageToken.of("page_token", "was not made by this server for this query")
