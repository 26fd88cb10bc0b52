"""A share of the simulated markets, traded on Kalshi and Manifold as well.

A mirror has the same truth and times as its market, an id and a wording of its own, and a price
that differs by a constant and by noise in logit space. Beside every second mirror stands a decoy:
nearly the same words with another number or a negation, and another price. Which pairs are truly
the same is part of the truth, so that a matcher can be scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit, logit

from market_data.replay.simulate import CATEGORIES, OPEN, RESOLVED, VOID, SimulationConfig, Truth

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from market_data.replay.simulate_prices import Paths

Record = dict[str, Any]
Series = tuple[str, list[int], list[float]]
"""(token of the archive's prices, UTC seconds, prices)."""

_WORDING = {
    "politics": (
        "Candidate {i} wins the district {e} election",
        "Will candidate {i} win district {e}'s election?",
        "Will candidate {i} not win the district {e} election?",
    ),
    "sports": (
        "Team {i} to win match {e}",
        "Match {e}: will team {i} win?",
        "Will team {i} fail to win match {e}?",
    ),
    "crypto": (
        "Bitcoin to close above level {i} on day {e}",
        "Will BTC close above level {i} on day {e}?",
        "Will bitcoin close below level {i} on day {e}?",
    ),
    "economics": (
        "Inflation print {e} above threshold {i}",
        "Does inflation print {e} exceed threshold {i}?",
        "Will inflation print {e} be at most threshold {i}?",
    ),
    "science": (
        "Mission {e} reaches milestone {i}",
        "Will mission {e} have reached milestone {i}?",
        "Will mission {e} never reach milestone {i}?",
    ),
}
"""On Kalshi, on Manifold, and the opposite of both."""

_SERIES = ("KXELECTION", "KXNBAGAME", "KXBTCD", "KXCPI", "KXSPACEX")
_KALSHI_CATEGORIES = ("Elections", "Sports", "Crypto", "Economics", "Science and Technology")
_GROUPS = ("politics-default", "sports-default", "crypto-speculation", "economics-default", "space")
_DECOY_STEP = 100_000
_SETTLED = {RESOLVED: "finalized", VOID: "finalized", OPEN: "active"}


@dataclass(frozen=True, slots=True)
class Mirrors:
    """What the two other venues hold.

    Attributes:
        kalshi_events: events with their nested markets; manifold_markets: whole records.
        prices: histories by tokens "kalshi/<ticker>" and "manifold/<id>".
        questions: the ids of the markets, over all venues, that ask the same.
    """

    kalshi_events: list[Record]
    manifold_markets: list[Record]
    prices: list[Series]
    questions: list[list[str]]


def draw_mirrors(
    config: SimulationConfig, truth: Truth, paths: Paths, outcomes: Sequence[list[str]]
) -> Mirrors:
    """Mirror ``config.mirror_share`` of the yes/no markets; a pure function of its arguments."""
    rng = np.random.default_rng([config.seed, 5])
    mirrored = rng.random(len(truth.p)) < config.mirror_share
    plain = np.isin(truth.kind, (RESOLVED, OPEN, VOID)) & ~truth.is_other
    found = Mirrors([], [], [], [])
    for number, index in enumerate(np.flatnonzero(mirrored & plain).tolist()):
        if outcomes[index] != ["Yes", "No"]:
            continue
        _mirror(found, rng, truth, paths, index, is_decoy=False)
        if number % 2:
            _mirror(found, rng, truth, paths, index, is_decoy=True)
    return found


def _mirror(
    found: Mirrors,
    rng: np.random.Generator,
    truth: Truth,
    paths: Paths,
    index: int,
    *,
    is_decoy: bool,
) -> None:
    """Append one market on both venues; a decoy is told apart by its number or its negation."""
    category = int(truth.category[index])
    number = index + _DECOY_STEP if is_decoy and index % 4 < 2 else index
    is_opposite = is_decoy and number == index
    words = _WORDING[CATEGORIES[category]]
    event = int(truth.event[index])
    ticker = f"{_SERIES[category]}-{event}-{number}{'N' if is_opposite else ''}"
    manifold_id = f"m{event:05d}x{number:06d}{'n' if is_opposite else ''}"
    p = 1 - paths.p[index] if is_opposite else paths.p[index]
    y = int(truth.y[index]) ^ int(is_opposite)
    if is_decoy and not is_opposite:
        p = np.full_like(p, rng.uniform(0.05, 0.95))
    kind = int(truth.kind[index])
    texts = [words[2].format(i=number, e=event)] * 2 if is_opposite else [
        text.format(i=number, e=event) for text in words[:2]]  # fmt: skip
    times = _Times(truth, paths, index)
    for token, record, place in (
        (f"kalshi/{ticker}", _kalshi(ticker, texts[0], category, kind, y, times), 0),
        (f"manifold/{manifold_id}", _manifold(manifold_id, texts[1], category, kind, y, times), 1),
    ):
        series = _disagree(rng, p, step=0.01 if place == 0 else 0.001)
        _with_last(record, float(series[-2 if kind != OPEN else -1]))
        (found.kalshi_events, found.manifold_markets)[place].append(record)
        found.prices.append((token, paths.t[index].tolist(), series.tolist()))
    same = [f"kalshi:{ticker}", f"manifold:{manifold_id}"]
    found.questions.append(same if is_decoy else [f"polymarket:{500_000 + index}", *same])


class _Times:
    """Start, announced end and close (or 0) of a market in UTC seconds."""

    __slots__ = ("close", "end", "start")

    def __init__(self, truth: Truth, paths: Paths, index: int) -> None:
        self.start = int(paths.t[index, 0]) - 5400
        self.end = int(truth.end_ts[index])
        self.close = int(truth.close_ts[index])


def _disagree(
    rng: np.random.Generator, p: NDArray[np.float64], *, step: float
) -> NDArray[np.float64]:
    """Another venue's view of a price path: shifted and noisy in logit space, on its own tick."""
    noise = 0.15 * rng.standard_normal() + 0.05 * rng.standard_normal(p.shape)
    seen: NDArray[np.float64] = expit(logit(np.clip(p, 0.005, 0.995)) + noise)
    ticked: NDArray[np.float64] = np.clip(np.round(seen / step) * step, step, 1 - step)
    return ticked.round(4)


def _kalshi(ticker: str, title: str, category: int, kind: int, y: int, times: _Times) -> Record:
    """An event with one market, as ``/events?with_nested_markets=true`` sends it."""
    event = ticker.rpartition("-")[0]
    result = {RESOLVED: "yes" if y else "no", VOID: "void"}.get(kind, "")
    market = {
        "ticker": ticker,
        "event_ticker": f"{event}E{ticker.rpartition('-')[2]}",
        "market_type": "binary",
        "title": title,
        "subtitle": "",
        "yes_sub_title": "",
        "open_time": _stamp(times.start),
        "created_time": _stamp(times.start),
        "close_time": _stamp(times.close or times.end),
        "expected_expiration_time": _stamp(times.end),
        "updated_time": _stamp(times.start),  # trades and settlement do not move it
        "status": _SETTLED[kind],
        "result": result,
        "notional_value_dollars": "1.0000",
        "volume_fp": "1500.00",
        "volume_24h_fp": "120.00",
        "open_interest_fp": "900.00",
        "liquidity_dollars": "0.0000",
        "price_ranges": [{"start": "0.0000", "end": "1.0000", "step": "0.0100"}],
    }
    return {
        "event_ticker": market["event_ticker"],
        "series_ticker": _SERIES[category],
        "title": title,
        "sub_title": "",
        "category": _KALSHI_CATEGORIES[category],
        "mutually_exclusive": False,
        "markets": [market],
    }


def _manifold(
    venue_id: str, question: str, category: int, kind: int, y: int, times: _Times
) -> Record:
    """A market as ``/market/{id}`` sends it."""
    record: Record = {
        "id": venue_id,
        "createdTime": times.start * 1000,
        "closeTime": times.end * 1000,
        "lastUpdatedTime": times.start * 1000,
        "question": question,
        "slug": "-".join(question.lower().rstrip("?").replace(":", "").split()),
        "outcomeType": "BINARY",
        "mechanism": "cpmm-1",
        "volume": 2500.5,
        "volume24Hours": 40.0,
        "totalLiquidity": 1000,
        "isResolved": kind != OPEN,
        "groupSlugs": [_GROUPS[category]],
    }
    if kind != OPEN:
        verdict = {RESOLVED: "YES" if y else "NO", VOID: "CANCEL"}[kind]
        record |= {"resolution": verdict, "resolutionTime": times.close * 1000}
    return record


def _with_last(record: Record, last: float) -> None:
    """Write the last price into a record, as its venue writes it."""
    if "markets" not in record:
        record["probability"] = last
        return
    bid, ask = max(last - 0.01, 0.0), min(last + 0.01, 1.0)
    record["markets"][0] |= {
        "last_price_dollars": f"{last:.4f}",
        "yes_bid_dollars": f"{bid:.4f}",
        "yes_ask_dollars": f"{ask:.4f}",
    }


def _stamp(seconds: int) -> str:
    return f"{np.datetime64(seconds, 's')}Z"
