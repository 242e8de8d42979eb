"""Adversarial sequential recommendation that explains itself, fast on a CPU too."""

from mfgan._version import __version__

__all__ = ["__version__"]
