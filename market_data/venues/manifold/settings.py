"""Where Manifold's interface is, and how it is paged."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ManifoldSettings:
    """The address without a slash at the end.

    Attributes:
        url: base address of the API, version included.
        page_size: markets per page, ≤ 1000.
        bets_per_page: bets per page of a history, ≤ 1000.
        with_answers: ask for the whole record of each market with several answers, which the
            listing leaves out: one request for each of them.
    """

    url: str
    page_size: int = 1000
    bets_per_page: int = 1000
    with_answers: bool = False
