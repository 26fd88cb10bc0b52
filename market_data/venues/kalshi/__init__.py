"""Kalshi's public trade API, version 2."""
