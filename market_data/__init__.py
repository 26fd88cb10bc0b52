"""Venues in, canonical rows out: connectors, registry, labels, snapshots, the lake, replay."""
