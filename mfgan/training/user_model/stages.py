"""What one iteration of each stage does, and by what it is judged."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mfgan.data.displays.batch import EventBatch, EventStore
from mfgan.models.choice import (
    Choice,
    Rule,
    choose,
    expected_reward,
    regularizer,
    shannon_loss,
    sparsemax_loss,
)
from mfgan.models.user_model import UserModel
from mfgan.training.optimizer import Optimizer
from mfgan.training.user_model.config import AdversarialConfig, ClosedFormConfig

STAGE_IDS = {"shannon": 1, "l2": 2, "adversarial-shannon": 3, "adversarial-l2": 4}
REWARD, POLICY = "reward", "policy"


@dataclass(frozen=True)
class LearnedUser:
    """A user as learned: how she chooses, and what she gains by it.

    Args:
        reward: r, the utility of each item.
        policy: Her choice, a softmax of its own; None for the closed form over ``reward``.
        rule: Of the closed form.
        eta: η of the closed form.
    """

    reward: UserModel
    policy: UserModel | None = None
    rule: Rule = "softmax"
    eta: float = 1.0

    @property
    def chooser(self) -> UserModel:
        """The model whose utilities order the items of a display."""
        return self.policy if self.policy is not None else self.reward

    def choice(self, utilities: Tensor, offsets: Tensor, events: Tensor) -> Choice:
        """Choice probabilities from the utilities of ``chooser``."""
        if self.policy is not None:
            return choose(utilities, offsets, events)
        return choose(utilities, offsets, events, rule=self.rule, eta=self.eta)

    def __call__(self, batch: EventBatch) -> tuple[Tensor, Choice]:
        """Utilities and choice probabilities, as ``evaluate_choice`` asks for them."""
        utilities = self.chooser(batch)
        return utilities, self.choice(utilities, batch.offsets, batch.events)

    def eval(self) -> "LearnedUser":
        """The same with batch normalisation and dropout as in use, not in training."""
        self.reward.eval()
        if self.policy is not None:
            self.policy.eval()
        return self


class Stage:
    """A number of iterations that end in a learned user.

    Args:
        name: A key of ``STAGE_IDS``.
        user: The models, changed in place.
        store: Where batches come from.
        users: ``(n,)`` int64 users to train on.
        seed: Of the users drawn and of dropout.
    """

    def __init__(
        self, name: str, user: LearnedUser, store: EventStore, users: np.ndarray, seed: int
    ) -> None:
        self.name, self.user = name, user
        self.iterations = 0
        self.optimizers: dict[str, Optimizer] = {}
        self._store, self._users = store, users
        self._seed, self._id = seed, STAGE_IDS[name]
        self._device = user.reward.from_state.weight.device

    def step(self, iteration: int) -> dict[str, float]:
        """Train on one or several batches; a function of the weights and ``iteration`` alone."""
        raise NotImplementedError

    def losses(self, utilities: Tensor, batch: EventBatch) -> Tensor:
        """``(num_events,)`` by which validation chooses, from the utilities of ``user.chooser``."""
        return shannon_loss(utilities, batch.offsets, batch.clicks)

    @property
    def models(self) -> dict[str, UserModel]:
        """The models by the name they are saved under."""
        models = {REWARD: self.user.reward}
        if self.user.policy is not None:
            models[POLICY] = self.user.policy
        return models

    def _draw(self, count: int, step: int) -> EventBatch:
        rng = np.random.default_rng([self._seed, self._id, step])
        count = min(count, len(self._users))
        users = self._users[rng.choice(len(self._users), count, replace=False)]
        return self._store.batch(users).to(self._device)

    def _rng(self, model: UserModel, step: int) -> Tensor | None:
        if model.config.dropout == 0:
            return None
        seed = self._seed * len(STAGE_IDS) + self._id
        return torch.tensor([seed % 2**62, step], dtype=torch.int64, device=self._device)


def _parameters(model: UserModel) -> dict[str, torch.nn.Parameter]:
    return dict(model.named_parameters())


class ClosedFormStage(Stage):
    """Descent of the reward where the policy's best answer to it is known."""

    def __init__(
        self,
        name: str,
        user: LearnedUser,
        store: EventStore,
        users: np.ndarray,
        seed: int,
        config: ClosedFormConfig,
    ) -> None:
        super().__init__(name, user, store, users, seed)
        self.iterations, self._config = config.iterations, config
        self.optimizers[REWARD] = Optimizer(
            _parameters(user.reward), config.optimizer, total_steps=config.iterations
        )

    def losses(self, utilities: Tensor, batch: EventBatch) -> Tensor:
        """The loss that the stage descends."""
        eta, offsets, clicks = self.user.eta, batch.offsets, batch.clicks
        if self.user.rule == "softmax":
            return shannon_loss(utilities, offsets, clicks, eta=eta)
        return sparsemax_loss(utilities, offsets, batch.events, clicks, eta=eta)

    def step(self, iteration: int) -> dict[str, float]:
        """One batch of users."""
        batch = self._draw(self._config.batch_users, iteration)
        model, optimizer = self.user.reward, self.optimizers[REWARD]
        utilities = model(batch, rng=self._rng(model, iteration))
        loss = self.losses(utilities, batch).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return {"loss": float(loss.detach())}


class AdversarialStage(Stage):
    """The minimax of Chen et al. (section 4.2), both players moving in turns.

    The policy ascends ``E_φ[r] - R(φ) / η``; the reward descends ``E_φ[r] - r(click)``.
    """

    def __init__(
        self,
        name: str,
        user: LearnedUser,
        store: EventStore,
        users: np.ndarray,
        seed: int,
        config: AdversarialConfig,
    ) -> None:
        super().__init__(name, user, store, users, seed)
        assert user.policy is not None
        self.policy = user.policy
        self.iterations, self._config = config.iterations, config
        settings = {POLICY: config.policy_optimizer, REWARD: config.reward_optimizer}
        turns = {POLICY: config.policy_steps, REWARD: config.reward_steps}
        self.optimizers = {
            name: Optimizer(
                _parameters(model), settings[name], total_steps=config.iterations * turns[name]
            )
            for name, model in self.models.items()
        }

    def step(self, iteration: int) -> dict[str, float]:
        """The turns of both players, each batch a fresh one."""
        config = self._config
        turns = config.policy_steps + config.reward_steps
        gain = gap = 0.0
        for turn in range(turns):
            step = iteration * turns + turn
            batch = self._draw(config.batch_users, step)
            if turn < config.policy_steps:
                gain = self._ascend(batch, step)
            else:
                gap = self._descend(batch, step)
        return {"gain": gain, "gap": gap}

    def _ascend(self, batch: EventBatch, step: int) -> float:
        with torch.no_grad():
            rewards = self.user.reward(batch)
        logits = self.policy(batch, rng=self._rng(self.policy, step))
        choice = choose(logits, batch.offsets, batch.events)
        gain = expected_reward(choice, rewards, batch.events)
        gain = gain - regularizer(choice, batch.events, self.user.rule) / self.user.eta
        loss = -gain.mean()
        self.optimizers[POLICY].zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizers[POLICY].step()
        return -float(loss.detach())

    def _descend(self, batch: EventBatch, step: int) -> float:
        with torch.no_grad():
            choice = choose(self.policy(batch), batch.offsets, batch.events)
        rewards = self.user.reward(batch, rng=self._rng(self.user.reward, step))
        clicked = torch.where(batch.clicks >= 0, rewards[batch.clicks.clamp_min(0)], 0.0)
        gap = (expected_reward(choice, rewards, batch.events) - clicked).mean()
        self.optimizers[REWARD].zero_grad()
        gap.backward()  # type: ignore[no-untyped-call]
        self.optimizers[REWARD].step()
        return float(gap.detach())
