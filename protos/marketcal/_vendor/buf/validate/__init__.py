"""Descriptors that the contract imports, kept apart from packages of the same name."""
