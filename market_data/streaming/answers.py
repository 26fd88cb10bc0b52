"""The requests of a connection that the venue has not answered yet."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from market_data.streaming.dialect import Reading, Request


@dataclass(slots=True)
class Answers:
    """What is waited for; times are seconds of listening.

    Attributes:
        waiting: when an answer is due, and what was asked for, by the number of the request.
        refused: instruments that the venue refused on this connection.
        request_id: the latest number.
    """

    waiting: dict[int, tuple[float, tuple[str, ...]]] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    request_id: int = 0

    def begin(self) -> None:
        """A new connection answers nothing that was asked on another one."""
        self.waiting.clear()
        self.refused.clear()

    def expect(self, request: Request, due: float) -> None:
        """A request is sent; one without a number is not answered."""
        if request.request_id:
            self.request_id = request.request_id
            self.waiting[request.request_id] = (due, request.instruments)

    def due(self) -> float:
        """When the first answer is due; inf for none."""
        return min((due for due, _ in self.waiting.values()), default=math.inf)

    def take(self, reading: Reading) -> tuple[str, ...]:
        """Takes an answer; an error that names no request answers all that wait for one.

        Returns:
            The instruments that it refuses.
        """
        numbers = [reading.request_id]
        if reading.error and not reading.request_id:
            numbers = list(self.waiting)
        answered = [self.waiting.pop(one, (0.0, ())) for one in numbers]
        if not reading.error:
            return ()
        refused = tuple(name for _, names in answered for name in names)
        self.refused.update(refused)
        return refused
