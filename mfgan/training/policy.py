"""What the generator proposes in the adversarial stage, and what its judges make of it."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mfgan.data.batch import JaggedBatch
from mfgan.models.frozen_judges import FrozenJudges
from mfgan.models.generator import Generator
from mfgan.models.seen import Seen, seen_by
from mfgan.training.candidates import Draw, draw_candidates
from mfgan.training.choice_fit import fit_sure_choice
from mfgan.training.choices import choices, choosers
from mfgan.training.context import StageContext
from mfgan.training.draws import Draws
from mfgan.training.precision import autocast
from mfgan.training.rewards import (
    independent_coefficients,
    reward_of,
    top_coefficients,
    without_replacement_coefficients,
)


@dataclass(frozen=True)
class Actions:
    """Items, and what they earned.

    Args:
        items: ``(num_rows, num_samples)`` int64.
        coefficients: ``(num_rows, num_samples)``, theirs in the policy gradient; 0 leaves one out.
        rewards: What the coefficients come from, of those items that were judged.
    """

    items: Tensor
    coefficients: Tensor
    rewards: Tensor


class Policy:
    """Draws the generator's actions and has them judged.

    Args:
        context: The run's, with generator and discriminators.
        fitted: ``(num_factors,)`` weights of the factors' logits, where these are the reward.

    Attributes:
        judges: Who gives the rewards; to ``forget`` where they learn.
    """

    def __init__(self, context: StageContext, fitted: Tensor | None) -> None:
        self._context = context
        self._settings = context.config.adversarial
        self._generator: Generator = context.generator()
        self.judges = FrozenJudges(context.discriminators())
        self._fitted = fitted

    def act(self, batch: JaggedBatch, hidden: Tensor, rows: Tensor | None, draws: Draws) -> Actions:
        """Actions of every row of the loss.

        Args:
            batch: Sessions.
            hidden: ``(num_rows, hidden_dim)``, without gradient: a row for each token or, where
                ``contexts = "ends"``, for each session.
            rows: ``(n,)`` int64, those that act; all where None.
            draws: What is drawn from.

        Returns:
            The actions; those of rows that do not act count for nothing.
        """
        method = self._settings.policy
        if method == "likelihood":
            return self._weighted_likelihood(batch, hidden)
        if rows is None:
            rows = torch.arange(len(hidden), device=hidden.device)
        # The tokens that the rows come behind: the same where each token has one.
        tokens = batch.last_tokens() if self._settings.contexts == "ends" else rows
        count = self._settings.num_samples
        if method == "top":
            count = min(count, self._generator.num_items)
        seen = seen_by(self._generator, batch, tokens)
        draw = draw_candidates(
            hidden[rows],
            self._generator.item_table,
            count,
            method=method,
            rng=draws,
            seen=seen,
            relations=self._generator.relation_scores(batch, tokens),
        )
        rewards = self.rewards(batch, tokens, draw.items)
        # The loss is a mean over all rows; this one is over those that earn a reward.
        possible = _unseen(draw.items, seen, self._generator.num_items)
        coefficients = len(hidden) / len(rows) * self._coefficients(draw, rewards, possible)
        if len(rows) == len(hidden):
            return Actions(draw.items, coefficients, rewards)
        everywhere = draw.items.new_ones(len(hidden), draw.items.shape[1])
        nothing = coefficients.new_zeros(everywhere.shape)
        return Actions(
            everywhere.index_copy(0, rows, draw.items),
            nothing.index_copy(0, rows, coefficients),
            rewards,
        )

    def _coefficients(self, draw: Draw, rewards: Tensor, possible: Tensor | None) -> Tensor:
        if self._settings.policy == "top":
            return top_coefficients(rewards, draw, possible)
        if self._settings.policy == "multinomial":
            found = independent_coefficients(rewards, self._settings.baseline)
        else:
            found = without_replacement_coefficients(rewards, draw, self._settings.baseline)
        return found if possible is None else found.where(possible, 0.0)

    def _weighted_likelihood(self, batch: JaggedBatch, hidden: Tensor) -> Actions:
        """As published: a session earns the reward of what is proposed at its end, everywhere."""
        last = batch.last_tokens()
        proposed = draw_candidates(
            hidden[last],
            self._generator.item_table,
            1,
            method="top",
            rng=torch.Generator(),
            seen=seen_by(self._generator, batch, last),
            relations=self._generator.relation_scores(batch, last),
        )
        rewards = self.rewards(batch, last, proposed.items)
        lengths = batch.cu_seqlens.diff().long()
        weights = rewards.repeat_interleave(lengths, dim=0, output_size=batch.total_tokens)
        return Actions(batch.require_targets().unsqueeze(1), weights, rewards)

    def rewards(self, batch: JaggedBatch, tokens: Tensor, items: Tensor) -> Tensor:
        """What the judges make of items behind tokens.

        Args:
            batch: Sessions.
            tokens: ``(n,)`` int64, places in the batch.
            items: ``(n, num_samples)`` int64.

        Returns:
            ``(n, num_samples)``.
        """
        who = self.judges.discriminators
        with torch.no_grad(), autocast(self._context.config, self._context.device):
            return reward_of(
                self.judges(batch, tokens, items).float(),
                self._settings.reward,
                sharpness=who.config.sharpness,
                mixture=who.mixture,
                fitted=self._fitted,
            )


def _unseen(items: Tensor, seen: Seen | None, num_items: int) -> Tensor | None:
    """``(n, num_samples)``, which items the policy may choose; None where it is all of them.

    Where fewer items are left than are drawn, some were had: no reward makes these likelier.
    """
    if seen is None or num_items - seen.most >= items.shape[1]:
        return None
    left = torch.zeros(len(items), num_items, device=items.device)
    seen.hide(left, slice(None), kept=None)
    return left.gather(1, items - 1).isfinite()


def fitted_weights(context: StageContext, rng: np.random.Generator) -> Tensor:
    """Weights of the factors' logits that predict validation items best, beside the generator's.

    Args:
        context: The run's, with generator and discriminators.
        rng: Draws the users, where there are many.

    Returns:
        ``(num_factors,)``; those that are no more than chance are 0, and a notice says so where
        all are.
    """
    limits, dataset = context.config.calibrate, context.dataset
    users = choosers(dataset, limits.users, rng)
    judges = FrozenJudges(context.discriminators())
    fit = fit_sure_choice(*choices(context.generator(), judges, dataset, users, limits.top_k))
    weights = fit.relative(fit.weights)
    if not weights.any():
        context.reporter.note(
            "adversarial: on validation items no factor says more than chance; no item earns a "
            "reward, and the generator stays as it is"
        )
    return weights.float().to(context.device)
