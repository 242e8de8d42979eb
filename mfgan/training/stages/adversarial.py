"""Turns of generator and discriminators: policy gradient on the reward, then fresh candidates."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import ClassVar

import torch
from torch import Tensor

from mfgan.config import AdversarialConfig, StageConfig
from mfgan.data.batch import JaggedBatch
from mfgan.data.batching import TrainingBatches
from mfgan.models.generator import Generator
from mfgan.models.relation_term import RelationScores
from mfgan.models.seen import seen_by
from mfgan.training.candidates import choose_positions
from mfgan.training.context import StageContext
from mfgan.training.judging import judging_loss
from mfgan.training.optimizer import Optimizer
from mfgan.training.policy import Policy, fitted_weights
from mfgan.training.policy_loss import PolicyTerms, policy_loss
from mfgan.training.relation_weights import begin_with_relations
from mfgan.training.stage import StepOutput, TrainingStage
from mfgan.training.trials import trials_at
from mfgan.training.validation import validate_generator

# What a draw is for, so that no two share their numbers.
_POSITIONS, _CANDIDATES, _ACTIONS, _USERS = range(4)


class AdversarialStage(TrainingStage):
    """The generator learns from the discriminators, and they from what it then proposes.

    An epoch is one pass over the training sessions by one of the two: a turn has
    ``generator_epochs`` of the generator's, then ``discriminator_epochs`` of the discriminators'.
    With ``contexts = "ends"`` the generator's pass is over whole training parts, at the end of
    each: a reward needs no real next item, and at the training positions the generator has learned
    that one by heart, so that what it proposes there are not the mistakes it makes in use.

    Args:
        context: The run's; its generator and discriminators are where this stage starts, and the
            generator is also its anchor.
    """

    name: ClassVar[str] = "adversarial"
    validates_start: ClassVar[bool] = True

    def __init__(self, context: StageContext) -> None:
        super().__init__(context)
        config = context.config
        self.settings: AdversarialConfig = config.adversarial
        self._judging = config.pretrain_discriminator
        self.generator = context.generator()
        self.discriminators = context.discriminators()
        self.models = {"generator": self.generator, "discriminators": self.discriminators}
        self.generator.sparse_gradients = False
        begin_with_relations(context)
        self._anchor = deepcopy(self.generator).requires_grad_(False)
        self._fitted: Tensor | None = None
        if self.settings.reward == "calibrated":
            self._fitted = fitted_weights(context, self.numpy_at(_USERS))
        self.policy = Policy(context, self._fitted)
        self._at_ends = self.settings.contexts == "ends"
        self._sessions = {
            "generator": self._batches(self.settings, targets=not self._at_ends),
            "discriminators": self._batches(self._judging),
        }
        plans = {
            "generator": (self.settings.generator_optimizer, self.settings.generator_epochs),
            "discriminators": (
                self.settings.discriminator_optimizer,
                self.settings.discriminator_epochs,
            ),
        }
        self.optimizers = {
            name: Optimizer(
                dict(self.models[name].named_parameters()),
                plan,
                total_steps=self.settings.turns * epochs * len(self._sessions[name].epoch(0)),
            )
            for name, (plan, epochs) in plans.items()
        }

    @property
    def num_epochs(self) -> int:
        """Passes of both over all turns; none where none would teach anything."""
        return 0 if self._nothing_to_learn else self.settings.turns * self._epochs_a_turn

    @property
    def _nothing_to_learn(self) -> bool:
        settings = self.settings
        others = settings.mle_weight or settings.entropy_weight or settings.discriminator_epochs
        return self._fitted is not None and not self._fitted.any() and not others

    @property
    def _epochs_a_turn(self) -> int:
        return self.settings.generator_epochs + self.settings.discriminator_epochs

    def optimizer_of(self, epoch: int) -> str:
        """Whose pass this is: the generator's come first in a turn."""
        within = epoch % self._epochs_a_turn
        return "generator" if within < self.settings.generator_epochs else "discriminators"

    def batches(self, epoch: int) -> Sequence[JaggedBatch]:
        """Training sessions, shuffled anew each epoch."""
        return self._sessions[self.optimizer_of(epoch)].epoch(epoch)

    def host_draws(self, batch: JaggedBatch, *, epoch: int, step: int) -> dict[str, Tensor]:
        """The positions that are judged, where they are drawn."""
        judging = self.optimizer_of(epoch) == "discriminators"
        if not judging and (self.settings.policy == "likelihood" or not self.settings.positions):
            return {}
        count = self.context.config.sample.positions if judging else self.settings.positions
        only_new = judging and self.generator.config.unseen_only
        rng = self.numpy_at(_POSITIONS, step)
        return {"positions": choose_positions(batch, count, rng, only_new=only_new)}

    def step(
        self,
        batch: JaggedBatch,
        *,
        epoch: int,
        step: int,
        drawn: Mapping[str, Tensor] | None = None,
    ) -> StepOutput:
        """One step of whoever's pass it is."""
        batch, drawn = self.given(batch, drawn, epoch, step)
        if self.optimizer_of(epoch) == "generator":
            return self._generator_step(batch, drawn.get("positions"), step)
        return self._discriminator_step(batch, drawn["positions"], step)

    def validates_after(self, epochs: int) -> bool:
        """After the generator's last pass of every ``evaluate_every``-th turn, and of the last."""
        turn, within = divmod(epochs, self._epochs_a_turn)
        if within != self.settings.generator_epochs % self._epochs_a_turn:
            return False
        turns = turn + (within > 0)
        return turns == self.settings.turns or turns % self.settings.evaluate_every == 0

    def validate(self) -> dict[str, float]:
        """Ranking metrics of the generator alone on the validation split."""
        return validate_generator(self.context, self.generator)

    def _discriminator_step(self, batch: JaggedBatch, positions: Tensor, step: int) -> StepOutput:
        self.policy.judges.forget()
        trials = trials_at(
            self.generator,
            batch,
            positions,
            batch.require_targets()[positions],
            self.context.config.sample,
            self.draws_at(_CANDIDATES, step),
        )
        with self.autocast():
            logits = self.discriminators(
                trials.batch, trials.positions, trials.items, rng=self.rng_at(step)
            )
        loss, figures = judging_loss(self.discriminators, logits.float(), self._judging)
        return StepOutput(loss, tokens=trials.items.numel(), metrics=figures)

    def _generator_step(
        self, batch: JaggedBatch, positions: Tensor | None, step: int
    ) -> StepOutput:
        settings = self.settings
        rng = self.rng_at(step) if settings.dropout else None
        hidden = self._states(self.generator, batch, rng)
        actions = self.policy.act(batch, hidden.detach(), positions, self.draws_at(_ACTIONS, step))
        anchored = settings.anchor_weight > 0
        with torch.no_grad():
            anchor_hidden = self._states(self._anchor, batch, None) if anchored else None
        terms = PolicyTerms(
            targets=None if self._at_ends else batch.require_targets(),
            mle_weight=settings.mle_weight,
            items=actions.items,
            coefficients=settings.policy_weight * actions.coefficients,
            anchor_hidden=anchor_hidden,
            anchor_table=self._anchor.item_table if anchored else None,
            anchor_weight=settings.anchor_weight,
            entropy_weight=settings.entropy_weight,
            seen=seen_by(self.generator, batch, batch.last_tokens() if self._at_ends else None),
            relations=self._relations(self.generator, batch),
            anchor_relations=self._relations(self._anchor, batch) if anchored else None,
        )
        parts = policy_loss(
            hidden, self.generator.item_table, terms, precision=self.product_precision()
        )
        figures = {
            "reward": actions.rewards.mean(),
            "reward_spread": actions.rewards.std(correction=0),
            "entropy": parts.entropy,
        }
        if not self._at_ends:
            figures["nll"] = parts.nll
        if anchored:
            figures["divergence"] = parts.divergence
        return StepOutput(parts.loss, tokens=batch.total_tokens, metrics=figures)

    def _relations(self, generator: Generator, batch: JaggedBatch) -> RelationScores | None:
        """What relations add to the loss's logits; with relations it is over the ends alone."""
        if not self._at_ends:
            return None
        return generator.relation_scores(batch, batch.last_tokens())

    def _states(self, generator: Generator, batch: JaggedBatch, rng: Tensor | None) -> Tensor:
        """``(num_rows, hidden_dim)``, one of the loss's rows for each token or for each session."""
        last_only = self._at_ends and rng is None
        with self.autocast():
            states: Tensor = generator(batch, rng=rng, last_only=last_only).float()
        return states[batch.last_tokens()] if self._at_ends and not last_only else states

    def _batches(self, sizes: StageConfig, *, targets: bool = True) -> TrainingBatches:
        return TrainingBatches(
            self.context.dataset,
            max_len=self.context.config.generator.max_len,
            batch_size=None if sizes.token_budget else sizes.batch_size,
            token_budget=sizes.token_budget or None,
            seed=self.seed,
            history=self.settings.history,
            targets=targets,
        )
