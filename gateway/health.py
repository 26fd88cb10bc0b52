"""grpc.health.v1: what answers, by service; a watcher hears of every change until the drain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from grpc_health.v1 import health_pb2 as pb

from marketcal.errors import NotFound

_SERVING = pb.HealthCheckResponse.SERVING
_NOT_SERVING = pb.HealthCheckResponse.NOT_SERVING
_UNKNOWN = pb.HealthCheckResponse.SERVICE_UNKNOWN


class Health:
    """States by service name; "" is the whole server."""

    def __init__(self) -> None:
        self._states: dict[str, Any] = {}
        self._changed = asyncio.Event()
        self._draining = False

    def set(self, service: str, *, serving: bool) -> None:
        """Says whether ``service`` answers; nothing serves any more once the drain has begun."""
        state = _SERVING if serving and not self._draining else _NOT_SERVING
        if self._states.get(service) != state:
            self._states[service] = state
            self._tell()

    def drain(self) -> None:
        """Nothing serves from now on; watchers hear it and their streams end."""
        self._draining = True
        self._states = dict.fromkeys(self._states, _NOT_SERVING)
        self._tell()

    async def Check(self, request: pb.HealthCheckRequest, call: Any) -> pb.HealthCheckResponse:  # noqa: N802, ARG002
        """The state of one service."""
        state = self._states.get(request.service)
        if state is None:
            raise NotFound(
                "there is no such service",
                resource=("grpc.health.v1.Service", request.service[:256]),
            )
        return pb.HealthCheckResponse(status=state)

    async def List(self, request: pb.HealthListRequest, call: Any) -> pb.HealthListResponse:  # noqa: N802, ARG002
        """The states of all services."""
        return pb.HealthListResponse(
            statuses={
                name: pb.HealthCheckResponse(status=state) for name, state in self._states.items()
            }
        )

    async def Watch(  # noqa: N802
        self,
        request: pb.HealthCheckRequest,
        call: Any,  # noqa: ARG002
    ) -> AsyncIterator[pb.HealthCheckResponse]:
        """The state of one service now and whenever it changes."""
        sent = None
        while True:
            changed, last_word = self._changed, self._draining
            state = self._states.get(request.service, _UNKNOWN)
            if state != sent:
                yield pb.HealthCheckResponse(status=state)
                sent = state
            if last_word:
                return
            await changed.wait()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
