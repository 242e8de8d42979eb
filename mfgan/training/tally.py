"""Means over the steps of an epoch."""

import torch
from torch import Tensor


class Tally:
    """Sums of scalars over an epoch's steps, kept where the scalars are.

    Args:
        sums: What was counted before the run went on.
    """

    def __init__(self, sums: dict[str, float]) -> None:
        self._before = dict(sums)
        self._sums: dict[str, Tensor] = {}

    def add(self, scalars: dict[str, Tensor]) -> None:
        """Count a step's scalars, on any device; nothing is waited for."""
        for name, value in scalars.items():
            wide, old = value.detach().double(), self._sums.get(name)
            if old is None:
                # As a kernel's argument: no copy.
                old = torch.full_like(wide, self._before.pop(name, 0.0))
            self._sums[name] = old + wide

    def sums(self) -> dict[str, float]:
        """The sums so far, those before included."""
        if not self._sums:
            return dict(self._before)
        # All of them together: reading one from a GPU waits for everything before it.
        values = torch.stack(list(self._sums.values())).tolist()
        return {**self._before, **dict(zip(self._sums, values, strict=True))}

    def means(self, steps: int) -> dict[str, float]:
        """The sums divided by the epoch's steps."""
        return {name: value / max(1, steps) for name, value in self.sums().items()}
