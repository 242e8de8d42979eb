"""Turns of generator and discriminators: policy gradient on the reward, then fresh candidates."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mfgan.config import StageConfig
from mfgan.data.batch import JaggedBatch
from mfgan.data.batching import TrainingBatches
from mfgan.models.generator import Generator
from mfgan.models.seen import seen_by
from mfgan.training.calibration import fit_sure_choice
from mfgan.training.candidates import Draw, choose_positions, draw_candidates
from mfgan.training.choices import choices, choosers
from mfgan.training.judging import judging_loss, trials_at
from mfgan.training.optimizer import Optimizer
from mfgan.training.policy_loss import PolicyTerms, policy_loss
from mfgan.training.rewards import (
    independent_coefficients,
    reward_of,
    top_coefficients,
    without_replacement_coefficients,
)
from mfgan.training.stage import StageContext, StepOutput, TrainingStage
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
        self.settings = self._policy = config.adversarial
        self._judging = config.pretrain_discriminator
        self.generator = context.generator()
        self.discriminators = context.discriminators()
        self.models = {"generator": self.generator, "discriminators": self.discriminators}
        self.generator.sparse_gradients = False
        self._anchor = deepcopy(self.generator).requires_grad_(False)
        self._fitted = self._fit_weights() if self._policy.reward == "calibrated" else None
        self._at_ends = self._policy.contexts == "ends"
        self._sessions = {
            "generator": self._batches(self._policy, targets=not self._at_ends),
            "discriminators": self._batches(self._judging),
        }
        plans = {
            "generator": (self._policy.generator_optimizer, self._policy.generator_epochs),
            "discriminators": (
                self._policy.discriminator_optimizer,
                self._policy.discriminator_epochs,
            ),
        }
        self.optimizers = {
            name: Optimizer(
                dict(self.models[name].named_parameters()),
                plan,
                total_steps=self._policy.turns * epochs * len(self._sessions[name].epoch(0)),
            )
            for name, (plan, epochs) in plans.items()
        }

    @property
    def num_epochs(self) -> int:
        """Passes of both over all turns; none where none would teach anything."""
        return 0 if self._nothing_to_learn else self._policy.turns * self._epochs_a_turn

    @property
    def _nothing_to_learn(self) -> bool:
        policy = self._policy
        others = policy.mle_weight or policy.entropy_weight or policy.discriminator_epochs
        return self._fitted is not None and not self._fitted.any() and not others

    @property
    def _epochs_a_turn(self) -> int:
        return self._policy.generator_epochs + self._policy.discriminator_epochs

    def optimizer_of(self, epoch: int) -> str:
        """Whose pass this is: the generator's come first in a turn."""
        within = epoch % self._epochs_a_turn
        return "generator" if within < self._policy.generator_epochs else "discriminators"

    def batches(self, epoch: int) -> Sequence[JaggedBatch]:
        """Training sessions, shuffled anew each epoch."""
        return self._sessions[self.optimizer_of(epoch)].epoch(epoch)

    def host_draws(self, batch: JaggedBatch, *, epoch: int, step: int) -> dict[str, Tensor]:
        """The positions that are judged, where they are drawn."""
        judging = self.optimizer_of(epoch) == "discriminators"
        if not judging and (self._policy.policy == "likelihood" or not self._policy.positions):
            return {}
        count = self.context.config.sample.positions if judging else self._policy.positions
        return {"positions": choose_positions(batch, count, self.numpy_at(_POSITIONS, step))}

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
        if within != self._policy.generator_epochs % self._epochs_a_turn:
            return False
        turns = turn + (within > 0)
        return turns == self._policy.turns or turns % self._policy.evaluate_every == 0

    def validate(self) -> dict[str, float]:
        """Ranking metrics of the generator alone on the validation split."""
        return validate_generator(self.context, self.generator)

    def _discriminator_step(self, batch: JaggedBatch, positions: Tensor, step: int) -> StepOutput:
        trials = trials_at(
            *(self.generator, batch, positions, self._targets(batch)[positions]),
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
        settings = self._policy
        rng = self.rng_at(step) if settings.dropout else None
        hidden = self._states(self.generator, batch, rng)
        actions = self._actions(batch, hidden.detach(), positions, step)
        anchored = settings.anchor_weight > 0
        with torch.no_grad():
            anchor_hidden = self._states(self._anchor, batch, None) if anchored else None
        terms = PolicyTerms(
            targets=None if self._at_ends else self._targets(batch),
            mle_weight=settings.mle_weight,
            items=actions.items,
            coefficients=settings.policy_weight * actions.coefficients,
            anchor_hidden=anchor_hidden,
            anchor_table=self._anchor.item_table if anchored else None,
            anchor_weight=settings.anchor_weight,
            entropy_weight=settings.entropy_weight,
            seen=seen_by(self.generator, batch, batch.last_tokens() if self._at_ends else None),
        )
        parts = policy_loss(
            *(hidden, self.generator.item_table, terms), precision=self.product_precision()
        )
        figures = {
            "reward": actions.rewards.mean(),
            "reward_spread": actions.rewards.std(),
            "entropy": parts.entropy,
        }
        if not self._at_ends:
            figures["nll"] = parts.nll
        if anchored:
            figures["divergence"] = parts.divergence
        return StepOutput(parts.loss, tokens=batch.total_tokens, metrics=figures)

    def _actions(
        self, batch: JaggedBatch, hidden: Tensor, positions: Tensor | None, step: int
    ) -> "_Actions":
        settings = self._policy
        if settings.policy == "likelihood":
            return self._weighted_likelihood(batch, hidden)
        # Rows of the loss, and the tokens that they come behind: the same where each token has one.
        rows = torch.arange(len(hidden), device=hidden.device) if positions is None else positions
        tokens = batch.last_tokens() if self._at_ends else rows
        count = settings.num_samples
        if settings.policy == "top":
            count = min(count, self.generator.num_items)
        draw = draw_candidates(
            hidden[rows],
            self.generator.item_table,
            count,
            method=settings.policy,
            rng=self.draws_at(_ACTIONS, step),
            seen=seen_by(self.generator, batch, tokens),
        )
        rewards = self._rewards(batch, tokens, draw.items)
        # The loss is a mean over all rows; this one is over those that earn a reward.
        coefficients = len(hidden) / len(rows) * self._coefficients(draw, rewards)
        if len(rows) == len(hidden):
            return _Actions(draw.items, coefficients, rewards)
        everywhere = draw.items.new_ones(len(hidden), count)
        nothing = coefficients.new_zeros(len(hidden), count)
        return _Actions(
            everywhere.index_copy(0, rows, draw.items),
            nothing.index_copy(0, rows, coefficients),
            rewards,
        )

    def _states(self, generator: Generator, batch: JaggedBatch, rng: Tensor | None) -> Tensor:
        """``(num_rows, hidden_dim)``, one of the loss's rows for each token or for each session."""
        last_only = self._at_ends and rng is None
        with self.autocast():
            states: Tensor = generator(batch, rng=rng, last_only=last_only).float()
        return states[batch.last_tokens()] if self._at_ends and not last_only else states

    def _coefficients(self, draw: Draw, rewards: Tensor) -> Tensor:
        if self._policy.policy == "multinomial":
            return independent_coefficients(rewards, self._policy.baseline)
        if self._policy.policy == "gumbel":
            return without_replacement_coefficients(rewards, draw, self._policy.baseline)
        return top_coefficients(rewards, draw)

    def _weighted_likelihood(self, batch: JaggedBatch, hidden: Tensor) -> "_Actions":
        """As published: a session earns the reward of what is proposed at its end, everywhere."""
        last = batch.last_tokens()
        proposed = draw_candidates(
            *(hidden[last], self.generator.item_table, 1),
            method="top",
            rng=torch.Generator(),
            seen=seen_by(self.generator, batch, last),
        )
        rewards = self._rewards(batch, last, proposed.items)
        lengths = batch.cu_seqlens.diff().long()
        weights = rewards.repeat_interleave(lengths, dim=0, output_size=batch.total_tokens)
        return _Actions(self._targets(batch).unsqueeze(1), weights, rewards)

    def _rewards(self, batch: JaggedBatch, positions: Tensor, items: Tensor) -> Tensor:
        with torch.no_grad(), self.autocast():
            judged = self.discriminators(batch, positions, items)
            return reward_of(
                judged.float(),
                self._policy.reward,
                sharpness=self.discriminators.config.sharpness,
                mixture=self.discriminators.mixture,
                fitted=self._fitted,
            )

    def _fit_weights(self) -> Tensor:
        """``(num_factors,)`` weights of the logits that the stage starts with."""
        limits, dataset = self.context.config.calibrate, self.context.dataset
        users = choosers(dataset, limits.users, self.numpy_at(_USERS))
        fit = fit_sure_choice(
            *choices(self.generator, self.discriminators, dataset, users, limits.top_k)
        )
        weights = fit.relative(fit.weights)
        if not weights.any():
            self.context.reporter.note(
                "adversarial: on validation items no factor says more than chance; no item earns a "
                "reward, and the generator stays as it is"
            )
        return weights.float().to(self.context.device)

    def _targets(self, batch: JaggedBatch) -> Tensor:
        if batch.targets is None:
            raise ValueError("adversarial: the batch must have targets, got none")
        return batch.targets

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


@dataclass(frozen=True)
class _Actions:
    """Items, their coefficients in the policy gradient, and the rewards these come from."""

    items: Tensor  # (num_rows, num_samples)
    coefficients: Tensor  # (num_rows, num_samples)
    rewards: Tensor
