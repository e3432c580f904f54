"""What a network has learned and why it answers as it does: a run's report."""

from rot180.explain.report import write_report

__all__ = ["write_report"]
