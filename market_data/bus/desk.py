"""What a consumer has fetched: what is ready, what is taken, and what goes back in its order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count
from typing import Any

from market_data.bus.port import Delivery, Envelope


@dataclass(slots=True)
class Held:
    """One envelope that was fetched.

    Attributes:
        number: rises with the order of fetching.
        place: what the bus knows it by.
        envelope: what was published.
        attempt: 1 for the first time.
    """

    number: int
    place: Any
    envelope: Envelope
    attempt: int


class Desk:
    """Keeps order per symbol between what is fetched, taken, given back and done.

    Attributes:
        ready: fetched, or given back, and not taken.
        taken: in the hands of the consumer, by number.
    """

    def __init__(self) -> None:
        self.ready: deque[Held] = deque()
        self.taken: dict[int, Held] = {}
        self._numbers = count()

    def add(self, place: Any, envelope: Envelope, attempt: int = 1) -> None:
        """One more has been fetched."""
        self.ready.append(Held(next(self._numbers), place, envelope, attempt))

    def take(self, limit: int) -> list[Delivery]:
        """The next ones, at most ``limit``."""
        deliveries: list[Delivery] = []
        while self.ready and len(deliveries) < limit:
            held = self.ready.popleft()
            self.taken[held.number] = held
            deliveries.append(Delivery(held.envelope, held.attempt, held.number))
        return deliveries

    def held(self, delivery: Delivery) -> Held | None:
        """What a delivery was made of; None where it is no longer in the consumer's hands."""
        return self.taken.get(delivery.token)

    def done(self, deliveries: Iterable[Delivery]) -> list[Held]:
        """Forgets those that are still in the consumer's hands, and says which they were."""
        found = (self.taken.pop(one.token, None) for one in deliveries)
        return [held for held in found if held is not None]

    def give_back(self, held: Held) -> None:
        """Puts one back to the front, as tried once more, and the later ones of its symbol."""
        later = [
            one
            for number, one in sorted(self.taken.items())
            if number >= held.number and one.envelope.symbol == held.envelope.symbol
        ]
        held.attempt += 1
        for one in reversed(later):
            del self.taken[one.number]
            self.ready.appendleft(one)

    def drop(self, is_gone: Callable[[Held], bool]) -> None:
        """Forgets what another consumer has now."""
        self.ready = deque(one for one in self.ready if not is_gone(one))
        self.taken = {number: one for number, one in self.taken.items() if not is_gone(one)}
