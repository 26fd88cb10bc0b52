"""The marketcal contract (`marketcal.v1`), its errors (`marketcal.errors`) and its clients."""

from marketcal.aio import AsyncClient
from marketcal.channel import Tls
from marketcal.client import Client
from marketcal.requests import forecast_request
from marketcal.watching import Backoff

__all__ = ["AsyncClient", "Backoff", "Client", "Tls", "forecast_request"]
