"""Manifold's public API, version 0."""
