"""The logic of one streaming connection, without I/O.

Whoever owns the socket says what happened (``opened``, ``received``, ``noted``, ``tick``,
``closed``; ``now`` is monotonic seconds) and performs what ``take`` returns. No input raises, in
whatever order they come; what does not fit the state changes nothing::

    state     opened   data frame   give up    closed
    IDLE      OPEN     –            –          IDLE     (a connection that could not be opened)
    OPEN      –        LIVE         CLOSING    IDLE
    LIVE      –        LIVE         CLOSING    IDLE
    CLOSING   –        –            –          IDLE

A connection is stale when no data frame came for a while, whatever its heartbeats say. Time in
which nobody read the socket (``held``) counts against nobody. An instrument is fresh from its
first snapshot (or event) of the connection until that ends, falls silent, or nothing was said of
the instrument for long; in a silence, REST makes it fresh by what the stream said last alone.
"""

from __future__ import annotations

import enum
import math
import random
from collections.abc import Iterable
from dataclasses import dataclass

from market_data.errors import StreamLimit
from market_data.streaming.actions import Action, Disconnect, Fail, Fresh, Resync, Send, Stale
from market_data.streaming.answers import Answers
from market_data.streaming.backoff import Backoff
from market_data.streaming.dialect import Dialect, Kind, Policy, Reading, Request
from market_data.streaming.silence import Silence


class State(enum.Enum):
    """Where a connection stands."""

    IDLE = "idle"
    OPEN = "open"
    LIVE = "live"
    CLOSING = "closing"


_NEXT: dict[tuple[State, str], State] = {
    (State.IDLE, "opened"): State.OPEN,
    (State.OPEN, "data"): State.LIVE,
    (State.LIVE, "data"): State.LIVE,
    (State.OPEN, "give up"): State.CLOSING,
    (State.LIVE, "give up"): State.CLOSING,
    (State.IDLE, "closed"): State.IDLE,
    (State.OPEN, "closed"): State.IDLE,
    (State.LIVE, "closed"): State.IDLE,
    (State.CLOSING, "closed"): State.IDLE,
}
_SPEAKING = (State.OPEN, State.LIVE)
_SHORTEST = 0.01
"""Seconds between ticks, at least: a watch that is overdue must not become a busy loop."""


@dataclass(slots=True)
class _Watch:
    """One subscribed instrument; times are seconds of listening."""

    asked_at: float
    heard_at: float
    is_awaited: bool = True


class Session:
    """The state of one connection to one venue, over all its reconnections."""

    def __init__(self, dialect: Dialect, policy: Policy, *, rng: random.Random) -> None:
        self._dialect = dialect
        self._policy = policy
        self._backoff = Backoff(policy.backoff, rng)
        self._silence = Silence(policy)
        self._state = State.IDLE
        self._wanted: dict[str, None] = {}
        self._watched: dict[str, _Watch] = {}
        self._fresh: set[str] = set()
        self._known: set[str] = set()
        self._actions: list[Action] = []
        self._answers = Answers()
        self._venue_ms = 0
        self._ping_due = self._resync_due = math.inf
        self._begin(0.0)

    @property
    def state(self) -> State:
        """Where the connection stands."""
        return self._state

    @property
    def wanted(self) -> tuple[str, ...]:
        """The instruments that the caller wants."""
        return tuple(self._wanted)

    @property
    def subscribed(self) -> tuple[str, ...]:
        """The instruments that this connection asked for."""
        return tuple(self._watched)

    @property
    def fresh(self) -> frozenset[str]:
        """The instruments whose state can be relied on."""
        return frozenset(self._fresh)

    def take(self) -> tuple[Action, ...]:
        """What is to be done now, in order; each action is handed out once."""
        actions, self._actions = tuple(self._actions), []
        return actions

    def want(self, instruments: Iterable[str], now: float) -> None:
        """Sets what is wanted; the difference to what is subscribed is sent at once if it can be.

        Raises:
            StreamLimit: more instruments than one connection may carry; nothing changes.
        """
        wanted = dict.fromkeys(instruments)
        if len(wanted) > self._policy.max_instruments:
            raise StreamLimit(
                f"instruments: {len(wanted)} for one connection, at most "
                f"{self._policy.max_instruments}"
            )
        self._wanted = wanted
        self._known &= wanted.keys()
        if self._state in _SPEAKING:
            self._unsubscribe([name for name in self._watched if name not in wanted], now)
            self._subscribe([name for name in wanted if name not in self._watched], now)

    def opened(self, now: float) -> None:
        """The connection is up: everything wanted is asked for."""
        if not self._move("opened"):
            return
        self._begin(now)
        known = tuple(name for name in self._wanted if name in self._known)
        self._subscribe(list(self._wanted), now)
        if known:
            self._actions.append(Resync(known, "GAP"))

    def received(self, frame: bytes | str, now: float) -> bytes | None:
        """Takes a frame; returns it where it is for the parser, None where it was for the session.

        A text that is no valid Unicode comes back with its bad characters replaced.
        """
        if self._state not in _SPEAKING:
            return None
        data = frame.encode(errors="replace") if isinstance(frame, str) else frame
        reading = self._dialect.read(data)
        if reading.kind is Kind.PONG:
            self._pong_due = math.inf
            return None
        if reading.kind is Kind.ACK:
            self._acknowledge(reading)
            return None
        self._move("data")
        self._was_useful = True
        if self._silence.broken(self._heard(now)):
            doubtful = tuple(name for name in self._watched if name not in self._fresh)
            if doubtful:
                self._actions.append(Resync(doubtful, "GAP"))
        if reading.instrument:
            self.noted(reading.instrument, 0, now)
        return data

    def noted(
        self, instrument: str, venue_ms: int, now: float, *, is_snapshot: bool = False
    ) -> None:
        """Something was said of an instrument, by the stream or by REST after a ``Resync``.

        Args:
            instrument: as it was wanted; others are ignored.
            venue_ms: the venue's time, 0 where it gave none; a snapshot's may be long ago.
            now: monotonic seconds.
            is_snapshot: whether this was the whole state of the instrument.
        """
        watch = self._watched.get(instrument)
        if watch is None or self._state not in _SPEAKING:
            return
        watch.heard_at = self._heard(now)
        if is_snapshot or not self._dialect.awaits_snapshot:
            watch.is_awaited = False
            self._known.add(instrument)
        if not is_snapshot:
            self._silence.barren = 0
        if not watch.is_awaited and not self._silence.is_silent:
            self._make_fresh(instrument)
        if venue_ms and not is_snapshot:
            before, self._venue_ms = self._venue_ms, venue_ms
            if before and 0 < self._policy.gap_ms < venue_ms - before:
                self._actions.append(Resync(tuple(self._watched), "GAP"))

    def confirmed(self, instrument: str, now: float) -> None:
        """REST says of an instrument what the stream said last: in a silence, it is fresh."""
        watch = self._watched.get(instrument)
        if watch and self._state in _SPEAKING and self._silence.explain(self._heard(now)):
            self._make_fresh(instrument)

    def contradicted(self) -> None:
        """REST says something else than the stream did last: a silence is none of the market's."""
        if self._state in _SPEAKING and self._silence.is_silent:
            self._silence.is_doubted = True
            self._make_stale(tuple(self._watched), "CONNECTION_SILENT")

    def held(self, seconds: float) -> None:
        """For so long the caller did not read; silence in it is not the venue's."""
        self._held += max(0.0, seconds)

    def give_up(self, reason: str) -> None:
        """The caller cannot use this connection; the wait before the next one grows."""
        self._disconnect(reason)
        self._was_useful = False

    def closed(self, now: float, reason: str) -> float:
        """The connection ended, or could not be opened; returns seconds to wait before the next.

        The wait is short again once a connection brought data; it is never 0.
        """
        del now, reason
        self._move("closed")
        if self._was_useful:
            self._backoff.reset()
        self._was_useful = False
        self._watched.clear()
        self._answers.begin()
        self._actions = [a for a in self._actions if not isinstance(a, Send | Disconnect)]
        self._make_stale(tuple(self._fresh), "DISCONNECTED")
        return self._backoff.draw()

    def tick(self, now: float) -> None:
        """Looks at all watches; to be called when ``next_tick`` has come, and harmless before."""
        if self._state not in _SPEAKING:
            return
        reason = self._overdue(now)
        if reason:
            self._disconnect(reason)
            return
        self._watch_connection(now)
        self._watch_answers(now)
        self._watch_instruments(now)
        if now >= self._resync_due:
            self._resync_due = now + self._policy.resync_every
            if self._watched:
                self._actions.append(Resync(tuple(self._watched), "INTERVAL"))
        if self._dialect.ping and now >= self._ping_due:
            self._ping_due = now + self._policy.ping_every
            self._pong_due = min(self._pong_due, self._heard(now) + self._policy.pong_within)
            self._actions.append(Send(self._dialect.ping))

    def next_tick(self, now: float) -> float:
        """The time of the next ``tick``, always later than ``now``; inf with no connection."""
        if self._state not in _SPEAKING:
            return math.inf
        policy = self._policy
        listening = [self._pong_due, self._answers.due()]
        for watch in self._watched.values():
            if watch.is_awaited:
                listening.append(watch.asked_at + (policy.answer_within or math.inf))
            elif policy.instrument_stale_after:
                listening.append(watch.heard_at + policy.instrument_stale_after)
        if self._watched:
            listening.append(self._silence.due())
        ping_due = self._ping_due if self._dialect.ping else math.inf
        real = min(ping_due, self._resync_due, self._opened_at + (policy.life or math.inf))
        return max(now + _SHORTEST, min(real, min(listening) + self._held))

    def _begin(self, now: float) -> None:
        policy = self._policy
        self._opened_at = now
        self._silence.begin(now)
        self._held = 0.0
        self._venue_ms = 0
        self._was_useful = self._has_asked = False
        self._ping_due = now + policy.ping_every
        self._pong_due = math.inf
        self._resync_due = now + (policy.resync_every or math.inf)
        self._answers.begin()

    def _move(self, event: str) -> bool:
        state = _NEXT.get((self._state, event))
        self._state = state or self._state
        return state is not None

    def _heard(self, now: float) -> float:
        """Seconds of listening that correspond to ``now``."""
        return now - self._held

    def _overdue(self, now: float) -> str:
        policy, heard = self._policy, self._heard(now)
        if policy.life and now - self._opened_at >= policy.life:
            return "LIFE"
        if heard >= self._pong_due:
            return "NO_PONG"
        if heard >= self._answers.due():
            return "NO_ACK"
        if self._watched and not self._awaits_first_word and heard >= self._silence.dead_at():
            self._silence.give_up(was_useful=self._was_useful)
            return "SILENT"
        return ""

    @property
    def _awaits_first_word(self) -> bool:
        """Whether nothing was ever heard: where any event will do, ``answer_within`` decides."""
        may_wait = self._policy.answer_within and not self._dialect.awaits_snapshot
        return bool(may_wait) and not self._known

    def _watch_connection(self, now: float) -> None:
        is_explained = self._silence.is_explained
        if not self._watched or not self._silence.ask(self._heard(now)):
            return
        everything = tuple(self._watched)
        if not is_explained:
            self._make_stale(everything, "CONNECTION_SILENT")
        self._actions.append(Resync(everything, "CONNECTION_SILENT"))

    def _watch_answers(self, now: float) -> None:
        bound = self._policy.answer_within
        late = [
            name
            for name, watch in self._watched.items()
            if watch.is_awaited and bound and self._heard(now) - watch.asked_at >= bound
        ]
        for name in late:
            self._watched[name].is_awaited = False
        unknown = tuple(name for name in late if name not in self._known)
        if self._known:
            unknown = tuple(name for name in unknown if self._dialect.must_speak(name))
        if unknown and not self._dialect.awaits_snapshot:
            detail = f"no event of {', '.join(unknown)} within {bound:g} s of the subscription"
            self._actions.append(Fail(unknown, "NO_EVENT", detail, is_all=not self._known))
        elif late:
            self._actions.append(Resync(tuple(late), "NO_SNAPSHOT"))

    def _watch_instruments(self, now: float) -> None:
        bound, heard = self._policy.instrument_stale_after, self._heard(now)
        quiet = tuple(
            name
            for name, watch in self._watched.items()
            if bound and not watch.is_awaited and heard - watch.heard_at >= bound
        )
        if not quiet:
            return
        for name in quiet:
            self._watched[name].heard_at = heard  # asked again after the same time
        self._make_stale(quiet, "INSTRUMENT_SILENT")
        self._actions.append(Resync(quiet, "INSTRUMENT_SILENT"))

    def _make_fresh(self, instrument: str) -> None:
        if instrument not in self._fresh:
            self._fresh.add(instrument)
            self._actions.append(Fresh((instrument,)))

    def _make_stale(self, instruments: tuple[str, ...], reason: str) -> None:
        fallen = tuple(name for name in instruments if name in self._fresh)
        self._fresh.difference_update(fallen)
        if fallen:
            self._actions.append(Stale(fallen, reason))

    def _subscribe(self, instruments: list[str], now: float) -> None:
        if not instruments:
            return
        heard = self._heard(now)
        if not self._watched:
            self._silence.begin(heard)
        self._watched.update({name: _Watch(heard, heard) for name in instruments})
        requests = self._dialect.subscribe(
            instruments, is_first=not self._has_asked, next_id=self._answers.request_id + 1
        )
        self._has_asked = True
        self._send(requests, heard)

    def _unsubscribe(self, instruments: list[str], now: float) -> None:
        if not instruments:
            return
        for name in instruments:
            del self._watched[name]
        self._fresh.difference_update(instruments)
        requests = self._dialect.unsubscribe(instruments, next_id=self._answers.request_id + 1)
        self._send(requests, self._heard(now))

    def _send(self, requests: list[Request], heard: float) -> None:
        for request in requests:
            self._actions.append(Send(request.text))
            self._answers.expect(request, heard + (self._policy.ack_within or math.inf))

    def _acknowledge(self, reading: Reading) -> None:
        refused = self._answers.take(reading)
        if not reading.error:
            return
        for name in refused:
            if name in self._watched:
                self._watched[name].is_awaited = False
        told = ", ".join(refused) or "an unknown request"
        detail = f"the venue refused {told}: {reading.error}"
        is_all = not self._known and self._answers.refused >= self._watched.keys()
        self._actions.append(Fail(refused, "REJECTED", detail, is_all=is_all))

    def _disconnect(self, reason: str) -> None:
        if self._move("give up"):
            self._actions.append(Disconnect(reason))
