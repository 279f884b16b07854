"""The report of a validation: one HTML file that needs nothing else."""

from __future__ import annotations

from shapestore.quality.report.page import write_report

__all__ = ["write_report"]
