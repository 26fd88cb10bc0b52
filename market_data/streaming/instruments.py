"""Which of a venue's tokens are watched, and what market each of them stands for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Instrument:
    """A token of a market.

    Attributes:
        market_id: the market.
        is_first: whether it is the first outcome, whose price is the market's; else the second,
            whose price is one minus that.
    """

    market_id: str
    is_first: bool = True


class Instruments:
    """Tokens by their id; it may grow and shrink while a stream goes on."""

    def __init__(self, tokens: Mapping[str, Instrument]) -> None:
        self._tokens = dict(tokens)

    @classmethod
    def of_markets(cls, markets: Iterable[tuple[str, Iterable[str]]]) -> Instruments:
        """The tokens of markets, given as (market id, token ids with the first outcome first)."""
        instruments = cls({})
        for market_id, tokens in markets:
            instruments.add(market_id, tokens)
        return instruments

    def add(self, market_id: str, tokens: Iterable[str]) -> None:
        """Watches a market; of more than two outcomes the first one counts alone."""
        named = list(tokens)
        for place, token in enumerate(named[:1] if len(named) > 2 else named):
            self._tokens[token] = Instrument(market_id, place == 0)

    def discard(self, market_id: str) -> None:
        """Watches a market no more."""
        for token in self.tokens_of(market_id):
            del self._tokens[token]

    def tokens_of(self, market_id: str) -> list[str]:
        """The tokens of a market that are watched."""
        return [token for token, one in self._tokens.items() if one.market_id == market_id]

    @property
    def by_token(self) -> Mapping[str, Instrument]:
        """The mapping itself: it changes with what is watched."""
        return self._tokens

    @property
    def market_ids(self) -> set[str]:
        """The markets that are watched."""
        return {one.market_id for one in self._tokens.values()}
