"""Recalibration: maps from prices to probabilities, chosen, promoted and kept as state."""
