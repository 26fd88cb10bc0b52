"""Where Polymarket's interfaces are, and how they are paged."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PolymarketSettings:
    """Addresses without a slash at the end.

    Attributes:
        gamma_url, clob_url: base addresses of the two REST interfaces.
        subgraph_url: full address of the activity subgraph's GraphQL endpoint.
        page_size: records per Gamma page, ≤ 500.
        subgraph_page_size: entities per subgraph page, ≤ 1000.
        fidelity_minutes: spacing asked of ``/prices-history``; 1 asks for every point.
    """

    gamma_url: str
    clob_url: str
    subgraph_url: str
    page_size: int = 500
    subgraph_page_size: int = 1000
    fidelity_minutes: int = 1
