"""A drawn truth rendered as the records that Polymarket's interfaces would send."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import polars as pl

from market_data.replay.archive import PRICE_SCHEMA, Archive
from market_data.replay.mirrors import draw_mirrors
from market_data.replay.simulate import (
    CATEGORIES,
    KIND_LABELS,
    LIQUIDITY,
    MULTI_OUTCOME,
    OPEN,
    RESOLVED,
    UNRESOLVED,
    VOID,
    SimulationConfig,
    Truth,
    draw_truth,
)
from market_data.replay.simulate_prices import Flows, Paths, draw_flows, draw_paths

if TYPE_CHECKING:
    from numpy.typing import NDArray

Record = dict[str, Any]

_TOPICS = {
    "politics": ("Will candidate {i} win the district {e} election?", "Politics"),
    "sports": ("Will team {i} win match {e}?", "Sports"),
    "crypto": ("Will bitcoin close above level {i} on day {e}?", "Crypto"),
    "economics": ("Will inflation print {e} exceed threshold {i}?", "Economy"),
    "science": ("Will mission {e} reach milestone {i}?", "Science"),
}
_VOLUME_24H = (900.0, 20_000.0, 250_000.0)


def simulate(config: SimulationConfig) -> Archive:
    """Draw a whole archive in memory; the same config gives the same archive, byte for byte."""
    truth = draw_truth(config)
    paths = draw_paths(config, truth)
    flows = draw_flows(config, truth, paths)
    names = _Names(config, truth)
    markets = _markets(config, truth, paths, names)
    events = _events(truth, markets)
    for market, index in zip(markets, truth.event.tolist(), strict=True):
        market["events"] = [events[index]]
    splits, merges, redemptions = _entities(config, truth, flows, names)
    mirrors = draw_mirrors(config, truth, paths, names.outcomes)
    elsewhere = pl.DataFrame(mirrors.prices, schema=PRICE_SCHEMA, orient="row")
    return Archive(
        as_of=config.as_of,
        markets=markets,
        events=events,
        prices=pl.concat([_prices(config, paths, names), elsewhere]),
        splits=splits,
        merges=merges,
        redemptions=redemptions,
        truth=_truth_record(config, truth, names) | {"questions": mirrors.questions},
        kalshi_events=mirrors.kalshi_events,
        manifold_markets=mirrors.manifold_markets,
    )


class _Names:
    """Identifiers of the drawn markets, a function of the seed."""

    __slots__ = ("conditions", "ids", "outcomes", "tokens")

    def __init__(self, config: SimulationConfig, truth: Truth) -> None:
        n = len(truth.p)
        digests = [hashlib.sha256(b"%d:%d" % (config.seed, i)).hexdigest() for i in range(n)]
        self.ids = [str(500_000 + i) for i in range(n)]
        self.conditions = ["0x" + digest for digest in digests]
        self.outcomes = [
            _outcomes(i, c, k)
            for i, (c, k) in enumerate(
                zip(truth.category.tolist(), truth.kind.tolist(), strict=True)
            )
        ]
        self.tokens = [
            [str(int(digest[j:] + digest[:j], 16)) for j in range(len(outcomes))]
            for digest, outcomes in zip(digests, self.outcomes, strict=True)
        ]


def _outcomes(index: int, category: int, kind: int) -> list[str]:
    if kind == MULTI_OUTCOME:
        return ["39 or less", "40-49", "50-59", "60 or more"][: 3 + index % 2]
    if CATEGORIES[category] == "sports" and index % 2:
        return [f"Norway {index}", f"November {index}"]
    return ["Yes", "No"]


def _text(values: list[Any]) -> str:
    return orjson.dumps(values).decode()


def _stamp(seconds: NDArray[np.int64]) -> list[str]:
    text = np.datetime_as_string(seconds.astype("datetime64[s]"))
    return [t + "Z" for t in text.tolist()]


def _final_prices(kind: int, y: int, p: float, outcomes: int) -> str:
    if kind == OPEN:
        return _text([f"{p:.4f}".rstrip("0"), f"{1 - p:.4f}".rstrip("0")])
    if kind == VOID:
        return _text(["0.5", "0.5"])
    if kind == UNRESOLVED:
        return _text(["0"] * outcomes)
    winner = (1 - y) if outcomes == 2 else (y + 1)
    return _text(["1" if i == winner else "0" for i in range(outcomes)])


def _uma(kind: int, *, disputed: bool) -> Record:
    if kind in (OPEN, UNRESOLVED):
        return {"umaResolutionStatuses": "[]"}
    chain = ["proposed", "disputed", "proposed", "resolved"] if disputed else ["proposed"]
    return {"umaResolutionStatus": "resolved", "umaResolutionStatuses": _text(chain)}


def _markets(config: SimulationConfig, truth: Truth, paths: Paths, names: _Names) -> list[Record]:
    rng = np.random.default_rng([config.seed, 4])
    as_of = np.full(len(truth.p), int(config.as_of.timestamp()))
    closed = truth.kind != OPEN
    start = paths.t[:, 0] - 7200
    updated = np.where(closed, truth.close_ts + 60, as_of - 120)
    volume = np.array(_VOLUME_24H)[truth.liquidity] * np.exp(0.3 * rng.standard_normal(len(as_of)))
    columns = zip(
        names.ids,
        names.conditions,
        names.tokens,
        names.outcomes,
        truth.category.tolist(),
        truth.event.tolist(),
        truth.kind.tolist(),
        truth.y.tolist(),
        paths.p[:, -1].tolist(),
        truth.tick.tolist(),
        truth.neg_risk.tolist(),
        truth.is_other.tolist(),
        truth.disputed.tolist(),
        np.round(volume, 2).tolist(),
        _stamp(start),
        _stamp(truth.end_ts),
        _stamp(truth.close_ts),
        _stamp(updated),
        strict=True,
    )
    return [_market(i, *row) for i, row in enumerate(columns)]


def _market(  # one argument per column: the row is rendered in one place
    i: int, market_id: str, condition: str, tokens: list[str], outcomes: list[str],
    category: int, event: int, kind: int, y: int, last: float, tick: float,
    neg_risk: bool, is_other: bool, disputed: bool, volume: float,
    start: str, end: str, closed_at: str, updated: str,
) -> Record:  # fmt: skip
    question, label = _TOPICS[CATEGORIES[category]]
    state = _open_state(last, tick, volume) if kind == OPEN else _closed_state(closed_at)
    return {
        "id": market_id,
        "question": question.format(i=i, e=event),
        "conditionId": condition,
        "slug": f"{CATEGORIES[category]}-{event}-{i}",
        "endDate": end,
        "startDate": start,
        "createdAt": start,
        "updatedAt": updated,
        "category": label,
        "outcomes": _text(outcomes),
        "outcomePrices": _final_prices(kind, y, last, len(outcomes)),
        "clobTokenIds": _text(tokens),
        "volume": f"{volume * 9:.2f}",
        "volumeNum": round(volume * 9, 2),
        "active": True,
        "archived": False,
        "enableOrderBook": True,
        "orderPriceMinTickSize": tick,
        "orderMinSize": 5,
        "lastTradePrice": last,
        "negRisk": neg_risk,
        "negRiskOther": is_other,
        **state,
        **_uma(kind, disputed=disputed),
    }


def _open_state(last: float, tick: float, volume: float) -> Record:
    return {
        "closed": False,
        "acceptingOrders": True,
        "volume24hr": volume,
        "liquidity": f"{volume / 5:.2f}",
        "liquidityNum": round(volume / 5, 2),
        "bestBid": round(max(last - tick, 0.0), 4),
        "bestAsk": round(min(last + tick, 1.0), 4),
        "spread": round(2 * tick, 4),
    }


def _closed_state(closed_at: str) -> Record:
    return {
        "closed": True,
        "acceptingOrders": False,
        "volume24hr": 0,
        "liquidity": "0",
        "liquidityNum": 0,
        "closedTime": closed_at.replace("T", " ").replace("Z", "+00"),
        "umaEndDate": closed_at,
    }


def _events(truth: Truth, markets: list[Record]) -> list[Record]:
    starts = np.flatnonzero(np.r_[True, truth.event[1:] != truth.event[:-1]]).tolist()
    bounds = [*starts, len(markets)]
    return [
        _event(index, markets[first : bounds[index + 1]], int(truth.category[first]))
        for index, first in enumerate(starts)
    ]


def _event(index: int, siblings: list[Record], category: int) -> Record:
    head = siblings[0]
    label = head["category"]
    return {
        "id": str(9_000 + index),
        "ticker": f"event-{index}",
        "slug": f"event-{index}",
        "title": f"{label} event {index}",
        "startDate": head["startDate"],
        "endDate": head["endDate"],
        "createdAt": head["createdAt"],
        "updatedAt": head["updatedAt"],
        "category": label,
        "active": True,
        "closed": all(m["closed"] for m in siblings),
        "archived": False,
        "enableNegRisk": head["negRisk"],
        "negRisk": head["negRisk"],
        "volume": round(sum(m["volumeNum"] for m in siblings), 2),
        "tags": [{"id": str(category), "label": label, "slug": label.lower()}],
    }


def _prices(config: SimulationConfig, paths: Paths, names: _Names) -> pl.DataFrame:
    n, s = paths.t.shape
    as_of = int(config.as_of.timestamp())
    flat = pl.DataFrame(
        {
            "token_id": pl.Series([tokens[0] for tokens in names.tokens]),
            "t": pl.Series(paths.t.reshape(-1)).reshape((n, s)).arr.to_list(),
            "p": pl.Series(paths.p.reshape(-1)).reshape((n, s)).arr.to_list(),
        },
        schema=PRICE_SCHEMA,
    )
    if bool((paths.t[:, -1] > as_of).any()):
        raise AssertionError("a simulated price lies after as_of")
    return flat


def _entity(seed: int, name: str, index: int) -> str:
    return "0x" + hashlib.blake2b(f"{seed}:{name}:{index}".encode(), digest_size=32).hexdigest()


def _rows(
    config: SimulationConfig,
    name: str,
    value: str,
    conditions: list[str],
    times: NDArray[np.int64],
    amounts: NDArray[np.int64],
) -> list[Record]:
    """Entities up to ``as_of``, ordered by id as the subgraph orders them."""
    as_of = int(config.as_of.timestamp())
    rows = [
        {"id": _entity(config.seed, name, i), "timestamp": str(t), "condition": c, value: str(a)}
        for i, (c, t, a) in enumerate(
            zip(conditions, times.tolist(), amounts.tolist(), strict=True)
        )
        if 0 < t <= as_of
    ]
    return sorted(rows, key=lambda row: row["id"])


def _entities(
    config: SimulationConfig, truth: Truth, flows: Flows, names: _Names
) -> tuple[list[Record], list[Record], list[Record]]:
    conditions = names.conditions
    thrice = [condition for condition in conditions for _ in range(flows.split_t.shape[1])]
    times, amounts = flows.split_t.reshape(-1), flows.split_amount.reshape(-1)
    redeemed = np.where(truth.kind == UNRESOLVED, 0, flows.redeem_t)
    return (
        _rows(config, "split", "amount", thrice, times, amounts),
        _rows(config, "merge", "amount", conditions, flows.merge_t, flows.merge_amount),
        _rows(config, "redemption", "payout", conditions, redeemed, flows.redeem_amount),
    )


def _truth_record(config: SimulationConfig, truth: Truth, names: _Names) -> Record:
    labels = [
        ("RESOLVED_TRUE" if y else "RESOLVED_FALSE") if kind == RESOLVED else KIND_LABELS[kind]
        for kind, y in zip(truth.kind.tolist(), truth.y.tolist(), strict=True)
    ]
    return {
        "seed": config.seed,
        "law": "P(yes | p at T-24h) = sigmoid(intercept + slope * logit(p))",
        "sibling_correlation": config.sibling_correlation,
        "segments": [
            {"category": s.category, "liquidity_bucket": s.liquidity, "slope": s.slope,
             "intercept": s.intercept}
            for s in config.segments
        ],
        "markets": {
            "market_id": [f"polymarket:{i}" for i in names.ids],
            "event_id": [f"polymarket:{9_000 + e}" for e in truth.event.tolist()],
            "category": [CATEGORIES[c] for c in truth.category.tolist()],
            "liquidity_bucket": [LIQUIDITY[b] for b in truth.liquidity.tolist()],
            "label": labels,
            "p_t24h": truth.p.tolist(),
            "probability": np.round(truth.q, 9).tolist(),
            "neg_risk": truth.neg_risk.tolist(),
            "neg_risk_other": truth.is_other.tolist(),
        },
    }  # fmt: skip
