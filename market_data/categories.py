"""Canonical categories, and the buckets of liquidity and time to event.

A market's category comes from the venue's own category, else from its tags, else from whole
words of its question; "other" when none of them says anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import polars as pl

OTHER = "other"

_WORDS: dict[str, str] = {
    "politics": (
        "politics political election elections president presidential senate congress governor "
        "mayor parliament minister trump biden democrat democrats republican republicans "
        "geopolitics ukraine russia israel iran gaza ceasefire nato war military world current "
        "affairs government vote primary candidate"
    ),
    "sports": (
        "sports sport nba nfl mlb nhl ufc soccer football basketball baseball tennis golf chess "
        "hockey olympics superbowl playoffs league cup match game games esports cricket f1 racing "
        "boxing premier ncaab ncaa cfb epl spread vs team points goals"
    ),
    "crypto": (
        "crypto cryptocurrency bitcoin btc ethereum eth solana sol xrp dogecoin doge defi nft nfts "
        "token stablecoin airdrop blockchain polygon matic fdv"
    ),
    "economics": (
        "economics economy economic finance financial business fed inflation cpi gdp rates rate "
        "recession unemployment stocks stock earnings ipo s&p nasdaq treasury tariff tariffs oil "
        "gold"
    ),
    "science": (
        "science tech technology ai space spacex nasa openai climate coronavirus covid health "
        "medicine mission launch gpt gemini model"
    ),
    "culture": (
        "culture pop art music movie movies film oscars grammys celebrity entertainment album "
        "netflix youtube tiktok mentions awards"
    ),
    "weather": "weather temperature hurricane hottest rainfall snow earthquake",
}  # fmt: skip

CATEGORIES = (*_WORDS, OTHER)
"""Every value that ``canonical_category`` can return."""

_SERIES = {
    "sports": (
        "MVESPORTS MVENFL MVENBA MVECROSS NBA WNBA NFL MLB NHL NCAA UFC EPL MLS ATP WTA PGA F1 "
        "LALIGA SERIEA BUNDESLIGA LIGUE1 UCL SUPERBOWL BOXING NASCAR T20 IPL CS2 LOL"
    ),
    "crypto": "BTC ETH SOL XRP DOGE SHIBA BITCOIN CRYPTO",
    "economics": (
        "FED CPI GDP INX NASDAQ PAYROLLS U3 RATECUT RECSSN WTI GAS EURUSD USDJPY TNOTE MORTGAGE "
        "AAAGAS JOBLESS PCE HOUS"
    ),
    "weather": "HIGH LOWT RAIN SNOW HURR TORNADO TEMP HMONTH",
    "politics": (
        "PRES SENATE HOUSE GOV APRPOTUS TRUMP CABINET SCOTUS VETO MAYOR POPE NEWPOPE IMPEACH "
        "SHUTDOWN GOVSHUT"
    ),
    "culture": "OSCAR GRAM EMMY SPOTIFY BILLBOARD NETFLIX TOPSONG TOPALBUM",
    "science": "LLM SPACEX MARS ELONMARS ERUPT",
}  # fmt: skip
"""First letters of Kalshi's series tickers, without the leading KX."""

_KALSHI = {
    "climate and weather": "weather",
    "companies": "economics",
    "financials": "economics",
    "entertainment": "culture",
    "social": "culture",
    "mentions": "culture",
    "elections": "politics",
    "world": "politics",
}
"""Categories of Kalshi whose words alone would say something else, or nothing."""

_BY_WORD = {word: category for category, text in _WORDS.items() for word in text.split()}
_BY_SERIES = {prefix: category for category, text in _SERIES.items() for prefix in text.split()}
_SPLIT = re.compile(r"[^a-z0-9&]+")


def kalshi_category(category: str | None, series: str) -> str | None:
    """The venue's own category, else the one that a series ticker begins with, else None.

    The longest known beginning decides.

    >>> kalshi_category(None, "KXNBAPTS"), kalshi_category("Climate and Weather", "KXHIGHNY")
    ('sports', 'weather')
    >>> kalshi_category("Exotics", "ABC")
    'Exotics'
    """
    known = _KALSHI.get((category or "").strip().lower())
    if known is not None or (category and _vote(category)):
        return known or category
    name = series.upper().removeprefix("KX")
    matching = [prefix for prefix in _BY_SERIES if name.startswith(prefix)]
    return _BY_SERIES[max(matching, key=len)] if matching else category


def canonical_category(category: str | None, tags: Iterable[str], question: str) -> str:
    """The canonical category of a market, deterministic in its arguments.

    >>> canonical_category("US-current-affairs", [], "")
    'politics'
    >>> canonical_category(None, ["NBA Playoffs"], "Who wins?")
    'sports'
    >>> canonical_category(None, [], "Will Norway ratify it?")
    'other'
    """
    for text in (category or "", " ".join(tags), question):
        found = _vote(text)
        if found is not None:
            return found
    return OTHER


def _vote(text: str) -> str | None:
    """The category that most words speak for; the first one named wins a tie."""
    counts: dict[str, int] = {}
    for word in _SPLIT.split(text.lower()):
        category = _BY_WORD.get(word)
        if category is not None:
            counts[category] = counts.get(category, 0) + 1
    return max(counts, key=lambda c: counts[c]) if counts else None


def liquidity_bucket(volume_24h: pl.Expr, open_interest: pl.Expr) -> pl.Expr:
    """Bucket of max(volume_24h, open_interest) in USD: LOW < 10,000 ≤ MID < 100,000 ≤ HIGH.

    Both unknown → UNSPECIFIED.
    """
    depth = pl.max_horizontal(volume_24h.fill_nan(None), open_interest.fill_nan(None))
    return (
        pl.when(depth.is_null())
        .then(pl.lit("UNSPECIFIED"))
        .when(depth < 10_000)
        .then(pl.lit("LOW"))
        .when(depth < 100_000)
        .then(pl.lit("MID"))
        .otherwise(pl.lit("HIGH"))
    )


def tte_bucket(tte_seconds: pl.Expr) -> pl.Expr:
    """Bucket of the time to event in seconds: LE_6H, LE_24H, LE_72H (bounds included) or GT_72H.

    Unknown → UNSPECIFIED, negative → LE_6H.
    """
    hours = tte_seconds.fill_nan(None) / 3600.0
    return (
        pl.when(hours.is_null())
        .then(pl.lit("UNSPECIFIED"))
        .when(hours <= 6)
        .then(pl.lit("LE_6H"))
        .when(hours <= 24)
        .then(pl.lit("LE_24H"))
        .when(hours <= 72)
        .then(pl.lit("LE_72H"))
        .otherwise(pl.lit("GT_72H"))
    )
