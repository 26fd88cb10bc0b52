"""What a market resolved to, and why we say so.

The rules, first match wins; the reason of the row names the rule:

==================== ================= ==========================================================
reason               label             when
==================== ================= ==========================================================
OPEN                 UNRESOLVED        the venue has not closed the market, whatever its prices
SCALAR               UNRESOLVED        a payout on a scale, not a truth value
UMA_VOID             VOID              the oracle's status says cancelled or invalid
UMA_NOT_FINAL        UNRESOLVED        closed, but the oracle's last word is proposed or disputed
VENUE_VOID           VOID              a venue without an oracle says that the market was cancelled
VENUE_NOT_FINAL      UNRESOLVED        such a venue has closed it, and its result is not final
PRICES_MISSING       UNRESOLVED        no final prices, or not one per outcome
PRICES_ALL_ZERO      UNRESOLVED        final prices were wiped (AMM markets of 2020–2022)
FIFTY_FIFTY          VOID              the payout is split evenly over all outcomes
FINAL_PRICES         by the winner     one outcome pays 1 and all others pay 0
VENUE_SCALED         UNRESOLVED        a venue without an oracle paid each side a share
AMM_RESIDUAL         by the winner     no order book, one price ≥ 0.999 and each other ≤ 0.001:
                                       what an AMM pool kept after everybody had left it
ORACLE_NEAR_FINAL    by the winner     the same prices with an order book, and the oracle's status
                                       is "resolved"
INTERIOR_PRICES      UNRESOLVED        closed with prices that point to no outcome
BOOK_WINNER          by the winner     one of the three reasons with PRICES, and the order book's
                                       interface, which closed it too, marks one of the outcomes
BOOK_FIFTY_FIFTY     VOID              likewise, and it says that the payout is split evenly
==================== ================= ==========================================================

"By the winner": RESOLVED_TRUE or RESOLVED_FALSE for two outcomes, MULTI_OUTCOME for more. The YES
side of a two-outcome market is the outcome "Yes" where the outcomes are exactly yes and no in any
order (compared as whole words, so "Norway" is not "no"), else the first outcome. Prices follow the
same side, see ``market_data.snapshots``.
"""

from __future__ import annotations

import polars as pl

from market_data.schemas import SCHEMA_VERSION

LABELS = ("RESOLVED_TRUE", "RESOLVED_FALSE", "VOID", "UNRESOLVED", "MULTI_OUTCOME")

EXACT = 1e-9
RESIDUAL = 1e-3

VENUE_VOID, VENUE_NOT_FINAL, VENUE_SCALED = "venue void", "venue not final", "venue scaled"
VENUE_STATES = (VENUE_VOID, VENUE_NOT_FINAL, VENUE_SCALED)
"""What ``uma_status`` says of a closed market whose venue decides by itself, without UMA's oracle.

Null stands for a plain result there."""

_VOIDS = ("FIFTY_FIFTY", "UMA_VOID", "VENUE_VOID", "BOOK_FIFTY_FIFTY")
_WON = ("FINAL_PRICES", "AMM_RESIDUAL", "ORACLE_NEAR_FINAL", "BOOK_WINNER")
_WITHOUT_PRICES = ("PRICES_MISSING", "PRICES_ALL_ZERO", "INTERIOR_PRICES")
_CANCELLED = ("cancelled", "canceled", "invalid", "voided", "void")
_PENDING = ("proposed", "disputed", "challenged", "requested")


def build_labels(registry: pl.DataFrame, evidence: pl.DataFrame | None = None) -> pl.DataFrame:
    """``label_status`` rows for ``market_registry`` rows; order of rows does not matter.

    A million markets take about a second.

    Args:
        evidence: ``outcome_evidence`` rows; they count only where the prices decide nothing.
    """
    told = registry if evidence is None else _with_evidence(registry, evidence)
    decided = decide(told.with_columns(is_closed=pl.col("status") != "ACTIVE"))
    is_final = pl.col("label") != "UNRESOLVED"
    from_book = pl.col("reason").str.starts_with("BOOK_")
    ended = (
        pl.when(from_book).then(pl.coalesce("resolved_at", "closed_at")).otherwise("resolved_at")
    )
    return decided.select(
        "market_id",
        "label",
        "outcome_yes",
        "winner",
        "reason",
        pl.when(is_final).then(ended).alias("resolved_at"),
        pl.lit(SCHEMA_VERSION, dtype=pl.Int32).alias("schema_version"),
    ).sort("market_id")


def _with_evidence(registry: pl.DataFrame, evidence: pl.DataFrame) -> pl.DataFrame:
    """Add ``_told``, the place of the marked winner, and ``_even``; a stranger's name is none."""
    closed = evidence.filter(pl.col("is_closed"))
    even = pl.col("winner").is_null() & pl.col("is_fifty_fifty")
    places = (
        registry.select("market_id", "outcomes")
        .join(closed.drop_nulls("winner").select("market_id", "winner"), on="market_id")
        .with_columns(_told=pl.int_ranges(pl.col("outcomes").list.len(), dtype=pl.UInt32))
        .explode("outcomes", "_told")
        .filter(pl.col("outcomes") == pl.col("winner"))
        .group_by("market_id")
        .agg(pl.col("_told").first(), _named=pl.len())
        .filter(pl.col("_named") == 1)
    )
    return registry.join(closed.select("market_id", _even=even), on="market_id", how="left").join(
        places.select("market_id", "_told"), on="market_id", how="left"
    )


def decide(markets: pl.DataFrame) -> pl.DataFrame:
    """Add ``label``, ``outcome_yes``, ``winner`` and ``reason`` by the rules of this module.

    Args:
        markets: columns is_closed bool, outcomes list[str], outcome_prices list[f64],
            uma_status, market_structure and enable_order_book; optionally what the order
            book's interface says: _told u32, the place of the winner, and _even bool.
    """
    if "_told" not in markets.columns:
        nothing = pl.lit(None, dtype=pl.UInt32)
        markets = markets.with_columns(_told=nothing, _even=nothing.cast(pl.Boolean))
    measured = markets.with_columns(
        _n=pl.col("outcomes").list.len(),
        _m=pl.col("outcome_prices").list.len(),
        _top=pl.col("outcome_prices").list.max(),
        _low=pl.col("outcome_prices").list.min(),
        _sum=pl.col("outcome_prices").list.sum(),
        _at=pl.col("outcome_prices").list.arg_max(),
        _yes=yes_index(pl.col("outcomes")),
    ).with_columns(reason=_reason())
    by_book = measured.with_columns(reason=_by_book()).with_columns(
        _at=pl.when(pl.col("reason") == "BOOK_WINNER").then("_told").otherwise("_at")
    )
    has_winner = pl.col("reason").is_in(_WON)
    is_true = pl.col("_at") == pl.col("_yes")
    label = (
        pl.when(pl.col("reason").is_in(_VOIDS))
        .then(pl.lit("VOID"))
        .when(~has_winner)
        .then(pl.lit("UNRESOLVED"))
        .when(pl.col("_n") > 2)
        .then(pl.lit("MULTI_OUTCOME"))
        .when(is_true)
        .then(pl.lit("RESOLVED_TRUE"))
        .otherwise(pl.lit("RESOLVED_FALSE"))
    )
    return by_book.with_columns(
        label=label,
        outcome_yes=pl.when(has_winner & (pl.col("_n") == 2)).then(is_true.cast(pl.Float64)),
        winner=pl.when(has_winner).then(
            pl.col("outcomes").list.get(pl.col("_at"), null_on_oob=True)
        ),
    ).drop("_n", "_m", "_top", "_low", "_sum", "_at", "_yes", "_told", "_even")


def yes_index(outcomes: pl.Expr) -> pl.Expr:
    """Position of the YES side among ``outcomes`` (list[str]): 0, or 1 for ["No", "Yes"]."""
    first, second = _word(outcomes, 0), _word(outcomes, 1)
    return (
        pl.when((outcomes.list.len() == 2) & (first == "no") & (second == "yes"))
        .then(1)
        .otherwise(0)
        .cast(pl.UInt32)
    )


def _by_book() -> pl.Expr:
    """The reason, unless prices decide nothing and the order book's interface does."""
    is_open_question = pl.col("reason").is_in(_WITHOUT_PRICES)
    return (
        pl.when(is_open_question & pl.col("_told").is_not_null())
        .then(pl.lit("BOOK_WINNER"))
        .when(is_open_question & pl.col("_even"))
        .then(pl.lit("BOOK_FIFTY_FIFTY"))
        .otherwise("reason")
    )


def _word(outcomes: pl.Expr, place: int) -> pl.Expr:
    return outcomes.list.get(place, null_on_oob=True).str.strip_chars().str.to_lowercase()


def _reason() -> pl.Expr:
    """The first rule that applies, as a name."""
    status = pl.col("uma_status").str.to_lowercase()
    n, top = pl.col("_n"), pl.col("_top")
    rest = pl.col("_sum") - top
    is_even = (top - pl.col("_low") <= EXACT) & ((top * n - 1.0).abs() <= RESIDUAL)
    is_exact = (top >= 1.0 - EXACT) & (rest <= EXACT * n)
    is_residual = (top >= 1.0 - RESIDUAL) & (rest <= RESIDUAL * (n - 1))
    has_book = pl.col("enable_order_book").fill_null(value=False)
    rules = (
        (~pl.col("is_closed"), "OPEN"),
        (pl.col("market_structure") == "SCALAR", "SCALAR"),
        (status.is_in(_CANCELLED), "UMA_VOID"),
        (status.is_in(_PENDING), "UMA_NOT_FINAL"),
        (status == VENUE_VOID, "VENUE_VOID"),
        (status == VENUE_NOT_FINAL, "VENUE_NOT_FINAL"),
        (top.is_null() | (pl.col("_m") != n), "PRICES_MISSING"),
        (top <= EXACT, "PRICES_ALL_ZERO"),
        (is_even, "FIFTY_FIFTY"),
        (is_exact, "FINAL_PRICES"),
        (status == VENUE_SCALED, "VENUE_SCALED"),
        (is_residual & ~has_book, "AMM_RESIDUAL"),
        (is_residual & (status == "resolved"), "ORACLE_NEAR_FINAL"),
    )
    chosen = pl.coalesce([pl.when(rule).then(pl.lit(name)) for rule, name in rules])
    return chosen.fill_null("INTERIOR_PRICES")
