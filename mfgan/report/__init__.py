"""A run's standing against baselines and controls, and the page that shows it."""

from mfgan.report.page import write_report
from mfgan.report.standing import Contender, Standing, standing

__all__ = ["Contender", "Standing", "standing", "write_report"]
