"""Fixtures of the integration tests, for tests that attack what those build."""

from tests.integration.conftest import program, raw_meshes

__all__ = ["program", "raw_meshes"]
