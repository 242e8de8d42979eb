"""The discriminators' first training: real next items against the frozen generator's candidates."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from mfgan.config.stages import UNVALIDATED
from mfgan.data.batch import JaggedBatch
from mfgan.data.batching import TrainingBatches
from mfgan.errors import MfganError
from mfgan.models.discriminator import Discriminators
from mfgan.training.candidates import choose_positions
from mfgan.training.checkpoint import load_model
from mfgan.training.choices import new_to
from mfgan.training.context import StageContext
from mfgan.training.judging import SUM_AUC, Temper, judging_loss, measure
from mfgan.training.optimizer import Optimizer
from mfgan.training.relation_counts import FoldedRelations
from mfgan.training.stage import StepOutput, TrainingStage
from mfgan.training.stages.cross_fit import fold_of_users
from mfgan.training.trials import heldout_trials, trials_at

# What a draw is for, so that no two share their numbers.
_POSITIONS, _CANDIDATES, _HELDOUT = range(3)
_HELDOUT_BATCH = 256


class BestFactors(nn.Module):
    """Every factor's best weights so far, each from a validation of its own.

    Args:
        discriminators: Whose weights they are to be.
    """

    scores: Tensor

    def __init__(self, discriminators: Discriminators) -> None:
        super().__init__()
        self.weights = deepcopy(discriminators).requires_grad_(False)
        nothing = torch.full((discriminators.num_factors,), -torch.inf)
        self.register_buffer("scores", nothing.to(discriminators.head_bias.device))

    def offer(self, discriminators: Discriminators, scores: Sequence[float]) -> None:
        """Take the weights of the factors that score better than before."""
        state = discriminators.state_dict()
        for factor, score in enumerate(scores):
            if score > self.scores[factor]:
                self.scores[factor] = score
                self.weights.load_factor(factor, state)
        if self.weights.mixture is not None and discriminators.mixture is not None:
            self.weights.mixture.copy_(discriminators.mixture.detach())


class PretrainDiscriminatorStage(TrainingStage):
    """Binary cross-entropy for each factor at random training positions.

    Where selection is on, each factor is measured on validation items, which the generator has not
    learned from, and hands on its own best weights: factors of many values have long overfitted
    when the others are still learning. Where it is off, validation items are not looked at.

    With ``cross_fit.folds`` an epoch has the users of one fold, for whom the generator proposes
    that was trained without them; ``epochs`` still counts passes over all users. Relations are then
    those of the other folds' users: a user's own count would give her next item away.

    Args:
        context: The run's; its generator proposes the candidates and is not changed.
    """

    name: ClassVar[str] = "pretrain-discriminator"

    def __init__(self, context: StageContext) -> None:
        super().__init__(context)
        config = context.config
        self.settings = self._judging = config.pretrain_discriminator
        self.generator = context.generator()
        self.discriminators = context.discriminators()
        self.models = {"discriminators": self.discriminators}
        self._proposers = [self.generator]
        parts: list[np.ndarray | None] = [None]
        if config.cross_fit.folds:
            self._proposers = context.fold_generators()
            seed = context.folds_seed
            folds = fold_of_users(context, config.seed if seed is None else seed)
            parts = [np.flatnonzero(folds == fold) for fold in range(config.cross_fit.folds)]
        self._batches = [self._batches_of(users) for users in parts]
        self._relations = FoldedRelations(context, [part for part in parts if part is not None])
        self._best: BestFactors | None = None
        if config.selection.enabled and not self._together:
            self._best = BestFactors(self.discriminators)  # with what was counted
            self.models["best_factors"] = self._best
        self._temper = None
        learned = dict(self.discriminators.named_parameters())
        if self._judging.tempered:
            self._temper = Temper(self.discriminators.num_factors).to(context.device)
            self.models["temper"] = self._temper
            learned |= {f"temper.{name}": p for name, p in self._temper.named_parameters()}
        optimizer = Optimizer(
            learned,
            self._judging.optimizer,
            total_steps=self.settings.epochs * sum(len(part.epoch(0)) for part in self._batches),
        )
        self.optimizers = {"discriminators": optimizer}

    def _batches_of(self, users: np.ndarray | None) -> TrainingBatches:
        return TrainingBatches(
            self.context.dataset,
            max_len=self.context.config.generator.max_len,
            batch_size=None if self.settings.token_budget else self.settings.batch_size,
            token_budget=self.settings.token_budget or None,
            seed=self.seed,
            users=users,
            history=self.settings.history,
        )

    @property
    def num_epochs(self) -> int:
        """One for each fold and pass over all users."""
        return self.settings.epochs * len(self._batches)

    def validates_after(self, epochs: int) -> bool:
        """Only where all users have had their turn."""
        passes, rest = divmod(epochs, len(self._batches))
        return rest == 0 and super().validates_after(passes)

    @property
    def selection_metric(self) -> str:
        """Pairs that the best weights tell right: it grows whenever one factor's do.

        Factors that learn or share something are chosen together, by their sum.
        """
        return SUM_AUC if self._together else "AUC/best"

    @property
    def _together(self) -> bool:
        return self._judging.joint_weight > 0 or self.context.config.discriminator.shared

    def batches(self, epoch: int) -> Sequence[JaggedBatch]:
        """All training sessions, or those of one fold, shuffled anew each epoch."""
        turn, fold = divmod(epoch, len(self._batches))
        return self._batches[fold].epoch(turn)

    def host_draws(self, batch: JaggedBatch, *, epoch: int, step: int) -> dict[str, Tensor]:
        """The positions that are judged."""
        positions, rng = self.context.config.sample.positions, self.numpy_at(_POSITIONS, step)
        only_new = self.generator.config.unseen_only
        return {"positions": choose_positions(batch, positions, rng, only_new=only_new)}

    def step(
        self,
        batch: JaggedBatch,
        *,
        epoch: int,
        step: int,
        drawn: Mapping[str, Tensor] | None = None,
    ) -> StepOutput:
        """Draw candidates beside the real items of one batch and judge both."""
        batch, drawn = self.given(batch, drawn, epoch, step)
        positions, proposer = drawn["positions"], self._proposers[epoch % len(self._proposers)]
        trials = trials_at(
            proposer,
            batch,
            positions,
            batch.require_targets()[positions],
            self.context.config.sample,
            self.draws_at(_CANDIDATES, step),
        )
        with self.autocast(), self._relations.without(epoch % len(self._batches)):
            logits = self.discriminators(
                trials.batch, trials.positions, trials.items, rng=self.rng_at(step)
            )
        loss, figures = judging_loss(
            self.discriminators,
            logits.float(),
            self._judging,
            temper=self._temper,
            proposed=trials.logits,
        )
        return StepOutput(loss, tokens=batch.total_tokens, metrics=figures)

    def validate(self) -> dict[str, float]:
        """Measure every factor on validation items, against the same candidates each time."""
        trials = heldout_trials(
            self.generator,
            self.context.dataset,
            self.context.config.sample,
            users=self._heldout_users(),
            batch_size=_HELDOUT_BATCH,
            rng=self.draws_at(_HELDOUT, 1),
        )
        figures = measure(self.discriminators, trials, temper=self._temper)
        if self._best is not None:
            names = self.discriminators.factor_names
            self._best.offer(self.discriminators, [figures[f"AUC/{name}"] for name in names])
            figures["AUC/best"] = float(self._best.scores.mean())
        return figures

    def best_weights(self) -> Mapping[str, Mapping[str, Tensor]]:
        """Each factor's own best, or the last where none has been measured."""
        measured = self._best is not None and bool(self._best.scores.isfinite().all())
        best = self._best.weights if measured and self._best else self.discriminators
        return {"discriminators": best.state_dict()}

    def load(self, directory: Path) -> None:
        """Give the discriminators the weights of a checkpoint's folder."""
        load_model(directory, "discriminators", self.discriminators)

    def _heldout_users(self) -> np.ndarray:
        dataset = self.context.dataset
        users = np.flatnonzero(dataset.validation > 0)
        if self.generator.config.unseen_only:
            users = users[new_to(dataset, users)]
        if not len(users):
            raise MfganError(
                f"{dataset.path}: some user must have a validation target for selection that is "
                f"new to her, found none; {UNVALIDATED}"
            )
        count = self._judging.heldout_users
        if count < len(users):
            users = np.sort(self.numpy_at(_HELDOUT, 0).choice(users, count, replace=False))
        return users
