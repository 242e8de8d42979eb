"""Training: stages over a prepared data set, into a run directory that can be gone on with.

``Run`` and ``train`` are imported when they are asked for: the losses and the optimizer need
nothing but torch, and serve where the packages that read data sets and settings are missing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mfgan.training.pipeline import train
    from mfgan.training.run import Run

__all__ = ["Run", "train"]

_HOMES = {"Run": "run", "train": "pipeline"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
