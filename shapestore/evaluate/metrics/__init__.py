"""Metrics, one file a family: pure functions over numpy arrays, each with the source of its definition."""
