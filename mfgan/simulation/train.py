"""Policies trained on user models, chosen on another one, and written down."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from mfgan.config.load import resolve, validated
from mfgan.console import SILENT, Reporter
from mfgan.errors import MfganError
from mfgan.simulation.cascading import PolicySettings, save_policy
from mfgan.simulation.learning import PolicyTrainer
from mfgan.simulation.pool import item_pool
from mfgan.simulation.rollout import roll_out
from mfgan.simulation.session import SessionRule
from mfgan.simulation.users import REWARDS
from mfgan.training.user_model.run import UserModelRun, fitted_users


def load_policy_settings(overrides: Sequence[str] = ()) -> PolicySettings:
    """The settings of a policy's training from ``name=value`` texts.

    Raises:
        MfganError: An unknown setting or a value out of range.

    Example:
        >>> load_policy_settings(["slate=2"]).slate
        2
    """
    settings = validated(PolicySettings, resolve(overrides=overrides), "policy")
    SessionRule.parse(settings.session)
    if settings.reward not in REWARDS:
        raise MfganError(f"policy: reward must be {', '.join(REWARDS)}, got {settings.reward!r}")
    return settings


def train_policy(
    runs: Sequence[UserModelRun],
    out: Path,
    settings: PolicySettings,
    *,
    validation: UserModelRun | None = None,
    reporter: Reporter = SILENT,
) -> dict[str, Any]:
    """Train a cascading DQN on user models and write it.

    Args:
        runs: The user models, all of the same displays; several of them (other seeds) make a
            policy that lives less off the mistakes of one.
        out: Directory to make or replace.
        settings: Of training.
        validation: A user model of users that neither the training models nor the final judge
            know. The networks that earn most from it are kept, those before any training (the
            greedy policy) among them: what a policy gains from the mistakes of its own user models
            shows there. Without it those of the last step are kept.
        reporter: Where progress is shown.

    Returns:
        ``curve``, the mean reward of each step; ``validation``, reward by step; ``chosen step``.

    Raises:
        MfganError: There are fewer items to show than a session needs, or the user models are of
            different displays.
    """
    run = runs[0]
    everyone = [*runs, *([validation] if validation else [])]
    if any(one.dataset.fingerprint != run.dataset.fingerprint for one in everyone):
        raise MfganError("policy: all user models must be of the same displays")
    if validation and validation.settings.users in {one.settings.users for one in runs}:
        raise MfganError(
            "policy: the validation user model must be of other users than those of training, got"
            f" {validation.settings.users} for both"
        )
    shown = run.dataset.counts(fitted_users(run.dataset, run.settings))[0]
    pool = item_pool(shown, settings.pool)
    trainer = PolicyTrainer([one.user() for one in runs], pool, settings)
    chooser = _Chooser(trainer, validation)
    curve = []
    for step, reward in enumerate(trainer.steps(settings.steps, reporter=reporter), start=1):
        curve.append(reward)
        if step % settings.validate_every == 0 or step == settings.steps:
            chooser.offer(step)
    found = {
        "curve": curve,
        "validation": chooser.rewards,
        "chosen step": chooser.restore(),
    }
    about = {
        "settings": settings.model_dump(mode="json"),
        "user_models": [str(one.path.resolve()) for one in runs],
        "validation_model": str(validation.path.resolve()) if validation else None,
        "fingerprint": run.dataset.fingerprint,
        **found,
    }
    save_policy(out, trainer.networks, pool, about)
    return found


class _Chooser:
    """Keeps the networks that earn most from validation users; without those, the last."""

    def __init__(self, trainer: PolicyTrainer, validation: UserModelRun | None) -> None:
        self._trainer = trainer
        self._user = validation.user() if validation else None
        self._best, self._step = -np.inf, 0
        self._weights: dict[str, Tensor] | None = None
        self.rewards: dict[int, float] = {}
        self.offer(0)

    def offer(self, step: int) -> None:
        """Judge the networks as they are after a step; of equals the first are kept."""
        settings = self._trainer.settings
        if self._user is None:
            self._step = step
            return
        found = roll_out(
            self._trainer.policy,
            self._user,
            num_users=settings.validation_users,
            session=SessionRule.parse(settings.session),
            reward=settings.reward,  # type: ignore[arg-type]
            seed=settings.seed,
        )
        self.rewards[step] = reward = found.metrics["reward"]
        if reward > self._best:
            self._best, self._step = reward, step
            weights = self._trainer.networks.state_dict()
            self._weights = {name: value.clone() for name, value in weights.items()}

    def restore(self) -> int:
        """Put the kept networks back; the step that they are of."""
        if self._weights is not None:
            self._trainer.networks.load_state_dict(self._weights)
        return self._step
