"""What a publisher holds while its bus is full."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from market_data.bus.outgoing import Outgoing
from market_data.bus.port import Envelope
from market_data.bus.redis_streams import RedisBus
from market_data.streaming.events import Codec, Event, merged
from tests.market_data.bus.conftest import drain, enveloped, quote, trade


def said(symbol: int, text: str, *, may_merge: bool) -> Envelope:
    """An envelope whose body is text."""
    return Envelope(f"{symbol}{text}", f"s{symbol}", "text", text, "key" if may_merge else "")


def holding() -> Outgoing:
    """Joins texts, and spreads symbols over three buckets."""
    return Outgoing(lambda older, newer: older + newer, lambda name: int(name[1:]) % 3, 1_000)


def bodies(outgoing: Outgoing) -> list[Any]:
    """What waits, in order."""
    return [one.envelope.body for part in outgoing.batches(2, set()) for one in part]


def test_merges_into_what_waits_and_keeps_the_order() -> None:
    outgoing = holding()
    outgoing.add([said(0, "a", may_merge=True), said(1, "b", may_merge=True)])
    outgoing.add([said(1, "c", may_merge=True), said(0, "d", may_merge=False)])
    assert not holding().must_be_waited_for
    assert bodies(outgoing) == ["a", "bc", "d"]
    assert (len(outgoing), outgoing.coalesced, outgoing.must_be_waited_for) == (3, 1, True)


def test_a_bucket_that_is_full_is_passed_over_from_then_on() -> None:
    outgoing = holding()
    outgoing.add([said(n % 2, f"{n}", may_merge=False) for n in range(8)])
    full: set[int] = set()
    seen = []
    for part in outgoing.batches(4, full):
        seen.append([one.envelope.body for one in part])
        full.add(0)
    assert seen == [["0", "1", "2", "3"], ["5", "7"]]


STEPS = st.lists(
    st.tuples(
        st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=6),
        st.integers(0, 4),
        st.booleans(),
    ),
    max_size=12,
)


@given(steps=STEPS)
def test_what_is_undone_leaves_what_was_there_and_nothing_is_lost(
    steps: list[tuple[list[tuple[int, bool]], int, bool]],
) -> None:
    outgoing, sent, kept, number = holding(), "", "", 0
    for published, take, is_undone in steps:
        texts = [f"<{number + place}>" for place in range(len(published))]
        number += len(published)
        before = bodies(outgoing)
        undo = outgoing.add(
            said(symbol, text, may_merge=may_merge)
            for (symbol, may_merge), text in zip(published, texts, strict=True)
        )
        if is_undone:
            outgoing.undo(undo)
            assert bodies(outgoing) == before
        else:
            kept += "".join(texts)
        for part in list(outgoing.batches(1, set()))[:take]:
            sent += "".join(one.envelope.body for one in part)
            outgoing.taken(part)
    sent += "".join(bodies(outgoing))
    assert sorted(sent.split(">")) == sorted(kept.split(">"))
    for part in list(outgoing.batches(3, set())):
        outgoing.taken(part)
    assert (len(outgoing), outgoing.must_be_waited_for, outgoing._places) == (0, False, {})


class Counting(Codec):
    """Counts what it encodes."""

    def __init__(self) -> None:
        self.encoded = 0

    def encode(self, event: Event) -> bytes:
        """The event as MessagePack."""
        self.encoded += 1
        return super().encode(event)


async def test_what_a_full_redis_refused_is_encoded_once(empty_redis: str) -> None:
    codec = Counting()
    bus = RedisBus(empty_redis, "once", codec=codec, merge=merged, partitions=1, bound=10)
    consumer = await bus.subscribe("live", "worker")
    await bus.publish(enveloped(*(trade("m1", n) for n in range(10))))
    for number in range(3):
        await bus.publish(enveloped(quote(f"q{number}", 100)))
    assert codec.encoded == 13
    await bus.publish(enveloped(quote("q1", 101)))
    assert codec.encoded == 14
    await consumer.acknowledge(await drain(consumer, 10))
    taken = await drain(consumer, 3)
    assert [one.envelope.symbol[-2:] for one in taken] == ["q0", "q1", "q2"]
    await consumer.close()
    await bus.close()
