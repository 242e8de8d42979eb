"""Training: stages over a prepared data set, into a run directory that can be gone on with."""

from mfgan.training.run import Run
from mfgan.training.train import train

__all__ = ["Run", "train"]
