"""What the native model's file is laid out for; the network and its users agree on it here."""

LEVELS = (
    0.005, 0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.975, 0.995,
)  # fmt: skip
"""Quantile levels that the model gives itself."""
KNOTS = (1, 2, 3, 4, 6, 8, 10, 12, 16, 24, 36, 48, 72, 108, 144, 192, 240, 288)
"""Steps at which it gives them; between two knots log-odds are interpolated."""
CONTEXT = 512
"""Steps that it sees."""
ANCHOR_SHARE = 0.3
"""Share of the random walk at cadences of which training saw no recorded market."""
EPS = 0.0005
"""Prices are clipped to [EPS, 1 - EPS]."""
