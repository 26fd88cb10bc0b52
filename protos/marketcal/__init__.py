"""The marketcal contract (`marketcal.v1`), its errors (`marketcal.errors`) and its client."""

from marketcal.client import Client

__all__ = ["Client"]
