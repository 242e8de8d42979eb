"""Which weights a training stage hands on: the best of validation so far."""

from typing import Any

from torch import Tensor

from mfgan.training.checkpoint import Best, Progress
from mfgan.training.stage import TrainingStage


class Selection:
    """Validates a stage, and keeps a copy of its best weights until they are written.

    Args:
        stage: What is trained.
        progress: Where it stands; ``best``, ``stale`` and ``finished`` are kept here.

    Attributes:
        unsaved: The best weights by model and name, where no checkpoint has them yet.
    """

    def __init__(self, stage: TrainingStage, progress: Progress) -> None:
        self._stage, self._progress = stage, progress
        self._selects = stage.context.config.selection.enabled
        self.unsaved: dict[str, dict[str, Tensor]] = {}

    @property
    def wants_start(self) -> bool:
        """Whether the weights that the stage begins with are to be validated yet."""
        return self._selects and self._progress.best is None and self._stage.validates_start

    @property
    def is_due(self) -> bool:
        """Whether the epoch that has just ended is one to validate after."""
        return self._selects and self._stage.validates_after(self._progress.epoch)

    def validate(self) -> dict[str, Any]:
        """Figures of validation and whether they are the best; too many that are not end it."""
        progress, stage = self._progress, self._stage
        with stage.averaged():
            figures = stage.validate()
            value = figures[stage.selection_metric]
            best = progress.best
            is_best = best is None or best.value is None or value > best.value
            if is_best:
                self._keep(value)
        progress.stale = 0 if is_best else progress.stale + 1
        patience = stage.settings.patience
        progress.finished = patience > 0 and progress.stale >= patience
        return {"validation": figures, "best": is_best}

    def finish(self) -> None:
        """Where nothing was validated, the last weights are the best."""
        if self._progress.best is None:
            with self._stage.averaged():
                self._keep(None)

    def _keep(self, value: float | None) -> None:
        progress = self._progress
        progress.best = Best(step=progress.step, epoch=progress.epoch, value=value)
        self.unsaved = {
            name: {key: tensor.detach().clone() for key, tensor in weights.items()}
            for name, weights in self._stage.best_weights().items()
        }
