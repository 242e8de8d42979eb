"""Maximum likelihood: the generator's first training, and the adversarial stage's control."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from mfgan.config import OptimizerConfig, PretrainGeneratorConfig, StageConfig
from mfgan.data.batch import JaggedBatch
from mfgan.data.batching import TrainingBatches
from mfgan.data.sampling import NegativeSampler
from mfgan.models.generator import Generator
from mfgan.models.seen import seen_by
from mfgan.training.context import StageContext
from mfgan.training.draws import integers
from mfgan.training.full_softmax import softmax_cross_entropy
from mfgan.training.losses import gbce, sampled_softmax
from mfgan.training.optimizer import Optimizer
from mfgan.training.relation_weights import begin_with_relations
from mfgan.training.replay import Sizes
from mfgan.training.stage import StepOutput, TrainingStage
from mfgan.training.validation import validate_generator

_NEGATIVES = 1  # what the draw is for
# From here on a step that reads and moves a whole table costs twice as much as one of a few rows.
_MANY_ITEMS = 50_000


class PretrainGeneratorStage(TrainingStage):
    """Maximum likelihood, or a sampled stand-in for it, of the real next items.

    Args:
        context: The run's.
        users: ``(n,)`` user_idx to learn from; all of them where None.
    """

    name: ClassVar[str] = "pretrain-generator"

    def __init__(self, context: StageContext, *, users: np.ndarray | None = None) -> None:
        super().__init__(context)
        self.likelihood: PretrainGeneratorConfig = context.config.pretrain_generator
        self.settings = self._schedule()
        self._make_ready()
        self.generator: Generator = context.generator()
        self._sparse = self._updates_rows()
        self.generator.sparse_gradients = self._sparse
        self.models = {"generator": self.generator}
        self._batches = TrainingBatches(
            context.dataset,
            max_len=context.config.generator.max_len,
            batch_size=None if self.settings.token_budget else self.settings.batch_size,
            token_budget=self.settings.token_budget or None,
            seed=self.seed,
            users=users,
            history=self.settings.history,
        )
        steps = self.num_epochs * len(self._batches.epoch(0))
        optimizer = Optimizer(
            dict(self.generator.named_parameters()), self._optimizer_config(), total_steps=steps
        )
        self.optimizers = {"generator": optimizer}
        self._sampler = NegativeSampler(context.dataset, seed=self.seed)
        self._cumulative: np.ndarray | None = None

    def _make_ready(self) -> None:
        """Change the generator before anything is learned."""

    def _schedule(self) -> StageConfig:
        return self.likelihood

    def _optimizer_config(self) -> OptimizerConfig:
        return self.likelihood.optimizer

    def _updates_rows(self) -> bool:
        """Whether only the item rows that a step reads are updated."""
        settings, optimizer = self.likelihood, self._optimizer_config()
        if settings.sparse_items != "auto":
            return settings.sparse_items
        whole = settings.loss == "softmax" or self.context.config.generator.normalize
        whole |= self.generator.factor_embedding is not None
        whole |= bool(optimizer.average or optimizer.weight_decay)
        # How many rows there are would have to be read back from a GPU.
        whole |= self.context.device.type != "cpu"
        return not whole and self.context.dataset.num_items >= _MANY_ITEMS

    def batches(self, epoch: int) -> Sequence[JaggedBatch]:
        """All training sessions, shuffled anew each epoch."""
        return self._batches.epoch(epoch)

    def host_draws(self, batch: JaggedBatch, *, epoch: int, step: int) -> dict[str, Tensor]:
        """The negatives of the step, where they are not drawn on the device."""
        if self.likelihood.loss == "sampled-softmax":
            return self._shared_negatives(step)
        if self.likelihood.loss == "bce":
            return {"negatives": self._unmet_items(batch, step)}
        return {}

    def fixed_sizes(self) -> Sizes | str:
        """A budget of tokens, in as many sessions as that may be."""
        budget, max_len = self.settings.token_budget, self.context.config.generator.max_len
        if self.likelihood.loss != "softmax":
            return f"loss must be softmax, got {self.likelihood.loss}"
        if budget < max_len:
            return f"token_budget must be at least max_len {max_len}, got {budget}"
        earlier = None
        if self.generator.config.unseen_only:
            if self.settings.history != "last":
                got = self.settings.history
                return f"history must be last with generator.unseen_only, got {got}"
            earlier = self._batches.most_earlier(budget)
        return Sizes(budget, budget + 1, max_len, earlier)

    def step(
        self,
        batch: JaggedBatch,
        *,
        epoch: int,
        step: int,
        drawn: Mapping[str, Tensor] | None = None,
    ) -> StepOutput:
        """The loss of one batch, with dropout."""
        batch, drawn = self.given(batch, drawn, epoch, step)
        with self.autocast():
            hidden = self.generator(batch, rng=self.rng_at(step))
        loss = self._loss(hidden.float(), batch, drawn, step)
        return StepOutput(loss, tokens=batch.total_tokens)

    def _loss(
        self, hidden: Tensor, batch: JaggedBatch, drawn: Mapping[str, Tensor], step: int
    ) -> Tensor:
        settings, table = self.likelihood, self.generator.item_table
        targets = batch.require_targets()
        if settings.loss == "softmax":
            smoothing = settings.label_smoothing
            return softmax_cross_entropy(
                hidden,
                table,
                targets,
                label_smoothing=smoothing,
                precision=self.product_precision(),
                seen=seen_by(self.generator, batch),
            )
        if settings.loss == "sampled-softmax":
            return sampled_softmax(
                hidden,
                table,
                targets,
                drawn["negatives"],
                drawn["log_expected"],
                sparse=self._sparse,
            )
        if settings.loss == "bce":
            negatives, t = drawn["negatives"], 0.0
        else:
            negatives, t = self._any_items(targets, step), settings.gbce_t
        return gbce(hidden, table, targets, negatives, t=t, sparse=self._sparse)

    def _shared_negatives(self, step: int) -> dict[str, Tensor]:
        """``(num_negatives,)`` items for all rows and the logs of their expected counts."""
        settings, num_items = self.likelihood, self.context.dataset.num_items
        rng = self.numpy_at(_NEGATIVES, step)
        if settings.negatives == "uniform":
            drawn = rng.integers(1, num_items + 1, settings.num_negatives)
            share = np.full(settings.num_negatives, 1 / num_items)
        else:
            if self._cumulative is None:
                # Every item may be drawn, those without a training interaction as well.
                self._cumulative = np.cumsum(self.context.dataset.train_counts()[1:] + 1)
            total = self._cumulative[-1]
            ticks = rng.integers(0, total, settings.num_negatives)
            drawn = np.searchsorted(self._cumulative, ticks, side="right") + 1
            share = np.diff(self._cumulative, prepend=0)[drawn - 1] / total
        log_expected = np.log(share * settings.num_negatives)
        return {
            "negatives": torch.from_numpy(drawn),
            "log_expected": torch.from_numpy(log_expected).float(),
        }

    def _unmet_items(self, batch: JaggedBatch, step: int) -> Tensor:
        """``(total_tokens, 1)``: as SASRec draws, items that the user has not met in training."""
        users = np.repeat(batch.users.cpu().numpy(), np.diff(batch.offsets.numpy()))
        drawn = self._sampler.sample(users, 1, epoch=step)
        return torch.from_numpy(drawn).long()

    def _any_items(self, targets: Tensor, step: int) -> Tensor:
        """``(total_tokens, num_negatives)``: as gSASRec draws, any items but the target."""
        others = max(1, self.context.dataset.num_items - 1)
        shape = targets.shape[0], self.likelihood.num_negatives
        rng = self.draws_at(_NEGATIVES, step)
        if isinstance(rng, torch.Generator):
            draws = torch.randint(1, others + 1, shape, generator=rng)
        else:
            draws = 1 + integers(rng, others, *shape)
        # Numbers from the target on move up by one, so that all others are equally likely.
        return draws + (draws >= targets[:, None])

    def validate(self) -> dict[str, float]:
        """Full ranking of the validation items."""
        return validate_generator(self.context, self.generator)


class ContinueMleStage(PretrainGeneratorStage):
    """As many further epochs of maximum likelihood as the adversarial stage would spend.

    A gain of the adversarial stage counts only over this. Loss as in pre-training; schedule, batch
    size, optimizer and patience are the adversarial stage's, and so is how much relations count in
    the generator's logits where it begins: that is not learned at training positions.
    """

    name: ClassVar[str] = "continue-mle"
    validates_start: ClassVar[bool] = True

    def _make_ready(self) -> None:
        begin_with_relations(self.context)

    def _schedule(self) -> StageConfig:
        return self.context.config.adversarial

    def _optimizer_config(self) -> OptimizerConfig:
        return self.context.config.adversarial.generator_optimizer

    @property
    def num_epochs(self) -> int:
        """The generator's epochs in all turns together."""
        budget = self.context.config.adversarial
        return budget.turns * budget.generator_epochs

    def validates_after(self, epochs: int) -> bool:
        """Where the adversarial stage would: with every ``evaluate_every``-th turn, and the last.

        So patience is counted in turns as well.
        """
        budget = self.context.config.adversarial
        turns, within = divmod(epochs, max(1, budget.generator_epochs))
        return within == 0 and (turns % budget.evaluate_every == 0 or turns == budget.turns)
