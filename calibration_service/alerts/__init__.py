"""Alerts: a price left its band, with evidence; kept, delivered and measured."""
