"""What a stage of training is."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from mfgan.config import StageConfig
from mfgan.training.checkpoint import load_model
from mfgan.training.context import StageContext
from mfgan.training.draws import Draws, counter
from mfgan.training.optimizer import Optimizer
from mfgan.training.precision import autocast, product_precision
from mfgan.training.seeds import derived_seed

if TYPE_CHECKING:
    from mfgan.training.replay import Sizes

# Part of every random draw, so that no two stages share one; numbers are never used again.
STAGE_IDS = {
    "pretrain-generator": 1,
    "sample": 2,
    "pretrain-discriminator": 3,
    "adversarial": 4,
    "continue-mle": 5,
    "calibrate": 6,
    "cross-fit": 7,
}


class Stage(ABC):
    """One stage of a run. What it does is a pure function of the context and the seed.

    Args:
        context: The run's; ``context.models`` already holds what earlier stages handed on.
    """

    name: ClassVar[str]

    def __init__(self, context: StageContext) -> None:
        self.context = context
        self.seed = derived_seed(context.config.seed, STAGE_IDS[self.name])
        # What ``rng_at`` gives where steps are recorded and replayed: written before each of them.
        self.replayed: Tensor | None = None

    def generator_at(self, *parts: int) -> torch.Generator:
        """A torch generator for the draws named by ``parts``, such as epoch and step."""
        return torch.Generator().manual_seed(derived_seed(self.seed, *parts))

    def numpy_at(self, *parts: int) -> np.random.Generator:
        """A numpy generator for the draws named by ``parts``, such as epoch and step."""
        return np.random.default_rng([self.seed, *parts])

    def rng_at(self, step: int) -> Tensor:
        """The ``(2,)`` int64 tensor [seed, step] from which a step's dropout is drawn."""
        if self.replayed is not None:
            return self.replayed
        return counter(self.seed, step, self.context.device)

    def autocast(self) -> AbstractContextManager[Any]:
        """Where a training step runs its models: in ``precision``."""
        return autocast(self.context.config, self.context.device)

    def product_precision(self) -> torch.dtype:
        """Of a loss's products with all items."""
        return product_precision(self.context.config, self.context.device)

    def draws_at(self, purpose: int, step: int) -> Draws:
        """Where a step draws what ``purpose`` names: on the device where that is no CPU."""
        device = self.context.device
        if device.type == "cpu":
            return self.generator_at(purpose, step)
        return counter(derived_seed(self.seed, purpose), step, device)


class OneShotStage(Stage):
    """A stage without epochs, such as drawing samples: it is done whole, or done again."""

    @abstractmethod
    def run(self, directory: Path) -> None:
        """Do the work and leave its files in ``directory``, each written atomically."""


@dataclass(frozen=True)
class StepOutput:
    """What one training step found.

    Args:
        loss: The scalar to differentiate.
        tokens: Tokens that the step learned from.
        metrics: Detached scalars; ``metrics.jsonl`` holds their means over an epoch's steps.
    """

    loss: Tensor
    tokens: int
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


class TrainingStage(Stage):
    """A stage of epochs over batches, run by ``training.loop``.

    A subclass sets ``models`` (what it trains and checkpoints, by name) and ``optimizers`` (by
    name) in its ``__init__``. Its other state must follow from the epoch and step alone, because
    these, the models and the optimizers are all that a checkpoint holds.
    """

    validates_start: ClassVar[bool] = False
    """Whether the weights that the stage starts from may be its best; for stages that go on."""

    settings: StageConfig
    models: dict[str, nn.Module]
    optimizers: dict[str, Optimizer]

    @property
    def num_epochs(self) -> int:
        """Epochs this stage runs for at most."""
        return self.settings.epochs

    @property
    def selection_metric(self) -> str:
        """The entry of ``validate()`` that chooses the best weights; more is better."""
        return self.context.config.selection.metric

    def optimizer_of(self, epoch: int) -> str:
        """The name of the optimizer that the steps of ``epoch`` move."""
        (name,) = self.optimizers
        return name

    @abstractmethod
    def batches(self, epoch: int) -> Sequence[Any]:
        """The batches of an epoch: the same ones whenever the epoch is begun anew."""

    def host_draws(self, batch: Any, *, epoch: int, step: int) -> dict[str, Tensor]:
        """What a step draws on the host, on the CPU; made ahead of it, by another thread on a GPU.

        Args:
            batch: The step's, on the CPU.
            epoch: The step's.
            step: The step's.

        Returns:
            Tensors by name: ``drawn`` of ``step``.
        """
        return {}

    @abstractmethod
    def step(
        self, batch: Any, *, epoch: int, step: int, drawn: Mapping[str, Tensor] | None = None
    ) -> StepOutput:
        """The loss of one batch, not yet differentiated. On a GPU the host waits for nothing here.

        Args:
            batch: An element of ``batches(epoch)``, on any device.
            epoch: From 0.
            step: Steps of this stage before this one; draws derive from it.
            drawn: ``host_draws`` of the same step, on any device; None makes them now.
        """

    def fixed_sizes(self) -> "Sizes | str":
        """The sizes that every batch can be padded to, so that one recorded step serves all.

        Returns:
            The sizes, or in words what they would need.
        """
        return f"stage {self.name} must have steps of one size, which it has not"

    def given(
        self, batch: Any, drawn: Mapping[str, Tensor] | None, epoch: int, step: int
    ) -> tuple[Any, dict[str, Tensor]]:
        """A step's batch and host draws on the stage's device."""
        if drawn is None:
            drawn = self.host_draws(batch, epoch=epoch, step=step)
        device = self.context.device
        return batch.to(device), {name: tensor.to(device) for name, tensor in drawn.items()}

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Figures on the validation split; only called where selection is enabled."""

    def validates_after(self, epochs: int) -> bool:
        """Whether there is a validation after so many epochs."""
        return epochs == self.num_epochs or epochs % self.settings.evaluate_every == 0

    def best_weights(self) -> Mapping[str, Mapping[str, Tensor]]:
        """The weights by model and name that a new best validation keeps: those of the models."""
        return {name: model.state_dict() for name, model in self.models.items()}

    def load(self, directory: Path) -> None:
        """Give the models the weights of a checkpoint's folder."""
        for name, model in self.models.items():
            load_model(directory, name, model)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The models hold their averaged weights for as long as the block runs."""
        with ExitStack() as stack:
            for optimizer in self.optimizers.values():
                stack.enter_context(optimizer.averaged())
            yield
