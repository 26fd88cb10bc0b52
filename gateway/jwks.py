"""The public keys of an identity provider: fetched beside the calls, kept while it is away.

A token that names an unknown key has the keys fetched once more, at most every ten seconds and
once for all who wait, so that strangers cannot make this process hammer the provider. A set that
cannot be used changes nothing: the keys that were there go on being used.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from contextvars import Context
from typing import Any

import httpx
import jwt

_LOG = logging.getLogger("gateway.jwks")
FETCH_SECONDS = 5.0
BETWEEN_FETCHES_SECONDS = 10.0
LARGEST_SET = 256 << 10
"""Bytes; a provider has a handful of keys of a kilobyte."""
MOST_KEYS = 100
LEAST_RSA_BITS = 2048


class JwksError(Exception):
    """The keys cannot be fetched or read; the message says why."""


class Jwks:
    """The keys in memory.

    Args:
        url: where they are.
        algorithms: signatures that are taken; keys for others are left out.
        clock: monotonic seconds.
        between_seconds: least time between two fetches that callers bring about.

    Attributes:
        generation: grows whenever the keys change.
    """

    def __init__(
        self,
        url: str,
        algorithms: tuple[str, ...],
        clock: Callable[[], float],
        *,
        between_seconds: float = BETWEEN_FETCHES_SECONDS,
    ) -> None:
        self.generation = 0
        self._url = url
        self._algorithms = algorithms
        self._clock = clock
        self._between = between_seconds
        self._keys: dict[str, jwt.PyJWK] = {}
        self._material: dict[str, Any] = {}
        self._fetching: asyncio.Task[None] | None = None
        self._fetched_at = float("-inf")
        self._client = httpx.AsyncClient(
            timeout=FETCH_SECONDS,
            follow_redirects=False,
            trust_env=False,
            headers={"accept": "application/json", "accept-encoding": "identity"},
        )

    @property
    def count(self) -> int:
        """Keys that are known."""
        return len(self._keys)

    def known(self, key_id: str) -> jwt.PyJWK | None:
        """The key with this id, if it is here."""
        return self._keys.get(key_id)

    async def look_again(self) -> None:
        """Fetches the keys, or waits for the fetch that is under way; not too soon after another.

        Whether that succeeded shows in the keys.
        """
        if self._fetching is None and self._clock() - self._fetched_at < self._between:
            return
        await self._fetch_once()

    async def keep(self, seconds: float) -> None:
        """Fetches the keys now and every ``seconds``, sooner while there are none, for ever."""
        while True:
            await self._fetch_once()
            await asyncio.sleep(seconds if self._keys else min(seconds, self._between))

    async def close(self) -> None:
        """Ends what is under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)
        await self._client.aclose()

    async def _fetch_once(self) -> None:
        """One fetch for all who ask; a caller that leaves takes nobody else's away."""
        if self._fetching is None:
            # In a context of its own: what it logs belongs to no single caller.
            self._fetching = asyncio.create_task(self._fetch(), context=Context())
            self._fetching.add_done_callback(self._forget_fetch)
        await asyncio.shield(self._fetching)

    def _forget_fetch(self, _ended: object) -> None:
        self._fetching = None

    async def _fetch(self) -> None:
        self._fetched_at = self._clock()
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                material = read_set(await self._download())
            keys = usable_keys(material, self._algorithms)
        except TimeoutError:
            _LOG.warning("no answer in %g s; %d keys kept", FETCH_SECONDS, self.count)
        except JwksError as error:
            _LOG.warning("cannot fetch the public keys: %s; %d keys kept", error, self.count)
        else:
            self._take_over(keys, material)

    def _take_over(self, keys: dict[str, jwt.PyJWK], material: dict[str, Any]) -> None:
        if material != self._material:
            self._keys, self._material = keys, material
            self.generation += 1
            _LOG.info("took over %d public keys", len(keys))

    async def _download(self) -> bytes:
        try:
            async with self._client.stream("GET", self._url) as answer:
                if answer.status_code != httpx.codes.OK:
                    raise JwksError(f"status {answer.status_code}")
                held = bytearray()
                async for part in answer.aiter_raw():
                    held += part
                    if len(held) > LARGEST_SET:
                        raise JwksError(f"more than {LARGEST_SET} bytes")
                return bytes(held)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise JwksError(type(error).__name__) from error


def read_set(text: bytes) -> dict[str, Any]:
    """A JSON web key set (RFC 7517, section 5).

    Raises:
        JwksError: it is none.
    """
    try:
        material = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise JwksError("no JSON") from error
    keys = material.get("keys") if isinstance(material, dict) else None
    if not isinstance(keys, list) or not 0 < len(keys) <= MOST_KEYS:
        raise JwksError("no set of keys")
    return {"keys": keys}


def usable_keys(material: Mapping[str, Any], algorithms: tuple[str, ...]) -> dict[str, jwt.PyJWK]:
    """The keys of a set by their id: public, for signatures that are taken, and not too short.

    Raises:
        JwksError: there is none.
    """
    found = {}
    for data in material["keys"]:
        try:
            key = jwt.PyJWKSet([data]).keys[0]
        except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError):
            continue  # a set may hold keys of kinds that are not ours
        is_public = "d" not in data
        if is_public and isinstance(key.key_id, str) and _is_usable(key, algorithms):
            found[key.key_id] = key
    if not found:
        raise JwksError("no key in the set can be used")
    return found


def _is_usable(key: jwt.PyJWK, algorithms: tuple[str, ...]) -> bool:
    if key.algorithm_name not in algorithms or key.public_key_use not in (None, "sig"):
        return False
    return key.key_type != "RSA" or key.key.key_size >= LEAST_RSA_BITS
