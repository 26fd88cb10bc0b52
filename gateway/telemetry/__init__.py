"""How the gateway is seen: metrics, logs, and where they can be read."""
