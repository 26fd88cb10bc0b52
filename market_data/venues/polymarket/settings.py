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

    gamma_url: str = "https://gamma-api.polymarket.com"
    clob_url: str = "https://clob.polymarket.com"
    subgraph_url: str = (
        "https://api.goldsky.com/api/public/project_cl6mb8i9h0003e201j6li0diw"
        "/subgraphs/activity-subgraph/0.0.4/gn"
    )
    page_size: int = 500
    subgraph_page_size: int = 1000
    fidelity_minutes: int = 1

    @classmethod
    def replayed(cls, base_url: str) -> PolymarketSettings:
        """The same interfaces at a replay server.

        >>> PolymarketSettings.replayed("http://127.0.0.1:8080").clob_url
        'http://127.0.0.1:8080/clob'
        """
        return cls(
            gamma_url=f"{base_url}/gamma",
            clob_url=f"{base_url}/clob",
            subgraph_url=f"{base_url}/subgraph/activity",
        )
