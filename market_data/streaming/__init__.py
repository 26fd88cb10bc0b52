"""The live path up to bars and triggers: events, dedupe, bars, volatility, leases."""
