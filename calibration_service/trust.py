"""How far a market's price can be trusted: one score from four components.

``100 × (0.35 liquidity_depth + 0.25 stability + 0.25 question_quality
+ 0.15 (1 - manipulation_suspect))``. Each component lies in [0, 1], is free of scale and the same
for YES and NO. A component that cannot be computed stands at its stated prior and is named in
``unknown_components``.

- *liquidity_depth*: log₁₀ of max(volume_24h, open interest) between $100 (0) and $1,000,000 (1);
- *stability*: ``exp(-σ / 0.25)``, σ the standard deviation of log-odds returns per √hour;
- *manipulation_suspect*: the larger of the robust z-scores of the last log-moves of volume and
  open interest against the market's own earlier ones, 0 up to z = 3 and 1 from z = 10;
- *question_quality*: 1 less the larger of ambiguity and resolution risk, see `questions.quality`;
  unknown until somebody has read the question.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import polars as pl

from calibration_service.frames import conform
from calibration_service.logistic import PRICE_EPS
from market_data.schemas import TRUST_SCORE

FORMULA_VERSION = "trust-1"
COMPONENTS = ("liquidity_depth", "stability", "question_quality", "manipulation_suspect")

INPUTS = ("ts", "market_id", "p_yes", "volume_24h", "open_interest")
"""Columns of a snapshot that trust is made of."""

EVIDENCE = ("depth_usd", "volatility", "price_moves", "volume_z", "open_interest_z")
"""Columns of a score that say what its components were computed from."""

QUESTION_EVIDENCE = ("question_scored_by", "question_note")
"""Who judged the question, and the first reason."""

MIN_MOVES = 12
"""Moves that a market needs before its volatility or an unusual move can be judged."""

SHALLOW_USD, DECADES = 100.0, 4.0
UNSTABLE = 0.25
USUAL_Z, EXTREME_Z = 3.0, 10.0
_MAD_TO_SIGMA = 1.4826
_SMALLEST_SIGMA = 0.02
"""Floor of the robust scale of a log-move: a series that never moved is not suspect at 1 %."""


@dataclass(frozen=True, slots=True)
class Components:
    """One number for each component."""

    liquidity_depth: float
    stability: float
    question_quality: float
    manipulation_suspect: float


@dataclass(frozen=True, slots=True)
class TrustPolicy:
    """Weights and priors of the score.

    Attributes:
        weights: non-negative, with the sum 1.
        priors: in [0, 1], what an unknown component stands at.
    """

    weights: Components = field(default_factory=lambda: Components(0.35, 0.25, 0.25, 0.15))
    priors: Components = field(default_factory=lambda: Components(0.25, 0.5, 0.5, 0.25))

    def __post_init__(self) -> None:
        weights = [getattr(self.weights, name) for name in COMPONENTS]
        if min(weights) < 0.0 or abs(sum(weights) - 1.0) > 1e-9:
            raise ValueError("trust weights must be non-negative and sum to 1")
        if not all(0.0 <= getattr(self.priors, name) <= 1.0 for name in COMPONENTS):
            raise ValueError("trust priors must lie in [0, 1]")


def build_trust(
    snapshots: pl.DataFrame,
    *,
    policy: TrustPolicy | None = None,
    question_quality: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Trust in each market at its last snapshot.

    Args:
        snapshots: rows of ``market_snapshot`` up to the instant of the score, in any order.
        policy: weights and priors; None for the defaults.
        question_quality: market_id, question_quality in [0, 1] and, where they are known,
            ``QUESTION_EVIDENCE``; None when nothing is scored.

    Returns:
        Rows of ``trust_score``, one per market, ordered by market.
    """
    rules = policy or TrustPolicy()
    components = _components(snapshots)
    texts = ("market_id", *QUESTION_EVIDENCE)
    quality = pl.DataFrame(
        schema={"question_quality": pl.Float64, **dict.fromkeys(texts, pl.String)}
    )
    if question_quality is not None:
        quality = pl.concat([quality, question_quality], how="diagonal_relaxed")
    known = components.join(quality, on="market_id", how="left", maintain_order="left")
    return conform(_scored(known, rules), TRUST_SCORE)


def _scored(known: pl.DataFrame, rules: TrustPolicy) -> pl.DataFrame:
    unknown = pl.concat_list(
        pl.when(pl.col(name).is_null()).then(pl.lit(name)) for name in COMPONENTS
    )
    filled = known.with_columns(unknown.list.drop_nulls().alias("unknown_components")).with_columns(
        pl.col(name).fill_null(getattr(rules.priors, name)) for name in COMPONENTS
    )
    trusted = {name: pl.col(name) for name in COMPONENTS}
    trusted["manipulation_suspect"] = 1.0 - trusted["manipulation_suspect"]
    weights = {name: getattr(rules.weights, name) for name in COMPONENTS}
    score = pl.sum_horizontal(100.0 * weights[name] * trusted[name] for name in COMPONENTS)
    return filled.select(
        "ts",
        "market_id",
        score.clip(0.0, 100.0).alias("score"),
        *COMPONENTS,
        *EVIDENCE,
        *QUESTION_EVIDENCE,
        "unknown_components",
        pl.lit(json.dumps(weights)).alias("weights"),
        pl.lit(FORMULA_VERSION).alias("formula_version"),
    )


def _components(snapshots: pl.DataFrame) -> pl.DataFrame:
    """Last ts and the computable components of each market; null where unknown."""
    inputs = INPUTS[2:]
    price = pl.col("p_yes").clip(PRICE_EPS, 1.0 - PRICE_EPS)
    rows = (
        snapshots.select(INPUTS)
        .with_columns(pl.col(inputs).cast(pl.Float64).fill_nan(None))
        .sort("market_id", "ts")
        .with_columns((price / (1.0 - price)).log().alias("z"))
    )
    same = pl.col("market_id") == pl.col("market_id").shift(1)
    hours = (pl.col("ts") - pl.col("ts").shift(1)).dt.total_microseconds() / 3.6e9
    moves = rows.with_columns(
        pl.when(same).then((pl.col("z") - pl.col("z").shift(1)) ** 2).alias("square"),
        pl.when(same).then(hours).alias("hours"),
        *(
            pl.when(same & (pl.col(name) > 0) & (pl.col(name).shift(1) > 0))
            .then((pl.col(name) / pl.col(name).shift(1)).log())
            .alias(f"{name}_move")
            for name in ("volume_24h", "open_interest")
        ),
    )
    judged = moves.group_by("market_id", maintain_order=True).agg(
        pl.col("ts").last(),
        pl.max_horizontal(pl.col("volume_24h").last(), pl.col("open_interest").last()).alias(
            "depth_usd"
        ),
        _volatility().alias("volatility"),
        pl.col("square").count().cast(pl.Int64).alias("price_moves"),
        _robust_z("volume_24h_move").alias("volume_z"),
        _robust_z("open_interest_move").alias("open_interest_z"),
    )
    suspect = pl.max_horizontal("volume_z", "open_interest_z")
    return judged.with_columns(
        _liquidity_depth().alias("liquidity_depth"),
        (-pl.col("volatility") / UNSTABLE).exp().alias("stability"),
        ((suspect - USUAL_Z) / (EXTREME_Z - USUAL_Z)).clip(0.0, 1.0).alias("manipulation_suspect"),
    )


def _liquidity_depth() -> pl.Expr:
    usd = pl.col("depth_usd").clip(lower_bound=SHALLOW_USD)
    return ((usd / SHALLOW_USD).log10() / DECADES).clip(0.0, 1.0)


def _volatility() -> pl.Expr:
    """Standard deviation of log-odds returns per root hour; null for too few of them."""
    square = pl.col("square")
    hours = pl.col("hours").filter(square.is_not_null()).sum()
    known = (square.count() >= MIN_MOVES) & (hours > 0)
    return pl.when(known).then((square.sum() / hours).sqrt())


def _robust_z(name: str) -> pl.Expr:
    """Distance of a market's last move from its earlier ones, in robust standard deviations."""
    earlier = pl.col(name).head(pl.len() - 1)
    centre = earlier.median()
    scale = (_MAD_TO_SIGMA * (earlier - centre).abs().median()).clip(lower_bound=_SMALLEST_SIGMA)
    enough = earlier.count() >= MIN_MOVES
    return pl.when(enough).then((pl.col(name).last() - centre).abs() / scale)
