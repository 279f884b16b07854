"""Analytic sample inputs in the real file formats: what `make demo` ingests and what many tests read."""
