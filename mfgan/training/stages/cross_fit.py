"""Generators that have not seen the users whose sessions they are to propose for."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
from torch import Tensor

from mfgan.data.batch import JaggedBatch
from mfgan.training.context import StageContext
from mfgan.training.preconditions import check_folds
from mfgan.training.seeds import derived_seed
from mfgan.training.stage import STAGE_IDS, StepOutput, TrainingStage
from mfgan.training.stages.pretrain_generator import PretrainGeneratorStage


class CrossFitStage(TrainingStage):
    """Maximum likelihood on all users but those of one fold, for each fold in turn.

    A generator knows the training items of its own users by heart: what it proposes there are not
    the mistakes that it makes on items to come. Discriminators that are to learn those take, for
    each user, the candidates of the generator that has not seen her.

    Args:
        context: The run's; its generator is not touched.

    Raises:
        MfganError: ``cross_fit.folds`` is off, or there are fewer users than folds.
    """

    name: ClassVar[str] = "cross-fit"

    def __init__(self, context: StageContext) -> None:
        super().__init__(context)
        self.settings = context.config.pretrain_generator
        folds = fold_of_users(context, context.config.seed)
        self._parts = [
            PretrainGeneratorStage(replace(context, models={}), users=np.flatnonzero(folds != fold))
            for fold in range(context.config.cross_fit.folds)
        ]
        self.models = {f"fold-{fold}": part.generator for fold, part in enumerate(self._parts)}
        self.optimizers = {
            f"fold-{fold}": part.optimizers["generator"] for fold, part in enumerate(self._parts)
        }

    @property
    def num_epochs(self) -> int:
        """Those of every fold, one fold after the other."""
        return self.settings.epochs * len(self._parts)

    def optimizer_of(self, epoch: int) -> str:
        """That of the fold whose turn it is."""
        return f"fold-{epoch // self.settings.epochs}"

    def batches(self, epoch: int) -> Sequence[JaggedBatch]:
        """Sessions of the users of all other folds."""
        part, own = self._part(epoch)
        return part.batches(own)

    def host_draws(self, batch: JaggedBatch, *, epoch: int, step: int) -> dict[str, Tensor]:
        """As the generator's own training has them."""
        part, own = self._part(epoch)
        return part.host_draws(batch, epoch=own, step=step)

    def step(
        self,
        batch: JaggedBatch,
        *,
        epoch: int,
        step: int,
        drawn: Mapping[str, Tensor] | None = None,
    ) -> StepOutput:
        """As the generator's own training has it."""
        part, own = self._part(epoch)
        part.replayed = self.replayed
        return part.step(batch, epoch=own, step=step, drawn=drawn)

    def validates_after(self, epochs: int) -> bool:
        """Never: the last weights are handed on, so that no held-out item is looked at."""
        return False

    def validate(self) -> dict[str, float]:
        """There is nothing to choose."""
        return {}

    def _part(self, epoch: int) -> tuple[PretrainGeneratorStage, int]:
        fold, own = divmod(epoch, self.settings.epochs)
        return self._parts[fold], own


def fold_of_users(context: StageContext, seed: int) -> np.ndarray:
    """``(num_users,)`` each user's fold, as equal in number as can be.

    Args:
        context: Has the users and how many folds there are to be.
        seed: Of the run whose cross-fit it is.

    Raises:
        MfganError: ``cross_fit.folds`` is off, or there are fewer users than folds.
    """
    folds, num_users = context.config.cross_fit.folds, context.dataset.num_users
    check_folds(folds, num_users)
    rng = np.random.default_rng(derived_seed(seed, STAGE_IDS["cross-fit"]))
    return rng.permutation(num_users) % folds
