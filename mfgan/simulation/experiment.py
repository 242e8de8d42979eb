"""Policies on disk: trained on one user model, judged on another."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from mfgan.config.load import resolve, validated
from mfgan.console import SILENT, Reporter
from mfgan.errors import MfganError
from mfgan.evaluation.seeds import over_seeds
from mfgan.files import read_json
from mfgan.simulation.agreement import agreement
from mfgan.simulation.cascading import CascadingPolicy, PolicySettings, load_policy, save_policy
from mfgan.simulation.learning import PolicyTrainer
from mfgan.simulation.recommenders import (
    GeneratorRecommender,
    GreedyRecommender,
    RandomRecommender,
    Recommender,
    SupervisedRanker,
)
from mfgan.simulation.rollout import Rollout, roll_out
from mfgan.simulation.users import REWARDS, SessionRule, item_pool
from mfgan.training.run import Run
from mfgan.training.user_model.run import UserModelRun, fitted_users

_ADAPT_POINTS = 6


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


def agree(
    runs: Sequence[UserModelRun], judge: UserModelRun, settings: PolicySettings
) -> dict[str, Any]:
    """`agreement` of user models on disk, with a policy's pool, display size and session.

    Args:
        runs: The training user models.
        judge: One of other users.
        settings: Of the policy that would be trained.

    Raises:
        MfganError: The user models are of different displays.
    """
    data = runs[0].dataset
    if any(one.dataset.fingerprint != data.fingerprint for one in (*runs, judge)):
        raise MfganError("policy: all user models must be of the same displays")
    shown = data.counts(fitted_users(data, runs[0].settings))[0]
    return agreement(
        [one.user() for one in runs],
        judge.user(),
        item_pool(shown, settings.pool),
        slate=settings.slate,
        session=SessionRule.parse(settings.session),
        reward=settings.reward,  # type: ignore[arg-type]
        seed=settings.seed,
    )


def open_policy(path: Path, held_out: UserModelRun) -> tuple[CascadingPolicy, list[UserModelRun]]:
    """A policy and the runs it was trained on.

    Raises:
        MfganError: It is no policy, or it was trained on other displays than ``held_out``.
    """
    if not (path / "policy.json").is_file():
        raise MfganError(f"{path}: must be made by mfgan policy train, found no policy.json in it")
    about = read_json(path / "policy.json")
    if about["fingerprint"] != held_out.dataset.fingerprint:
        raise MfganError(f"{path}: must be judged on users of the displays it was trained on")
    runs = [UserModelRun.open(one, dataset=held_out.dataset) for one in about["user_models"]]
    return load_policy(path, [run.user() for run in runs]), runs


def rivals(
    policy: CascadingPolicy, runs: Sequence[UserModelRun], generator: Path | None
) -> list[Recommender]:
    """Random, greedy, the supervised ranker, and the MFGAN generator where one is given.

    Args:
        policy: Whose pool and display size they share.
        runs: The user models that they know as well.
        generator: A run of ``mfgan train``, or None.
    """
    pool, slate, data = policy.observer.pool, policy.settings.slate, runs[0].dataset
    found: list[Recommender] = [
        RandomRecommender(pool, slate, seed=policy.settings.seed),
        SupervisedRanker(data, fitted_users(data, runs[0].settings), pool, slate),
        GreedyRecommender([run.user() for run in runs], pool, slate),
    ]
    if generator is not None:
        trained = Run.open(generator)
        found.append(GeneratorRecommender(trained.generator(), trained.dataset, data, pool, slate))
    return found


def evaluate_policies(
    policies: Sequence[Path],
    held_out: UserModelRun,
    *,
    generator: Path | None = None,
    num_users: int = 1000,
    session: str | None = None,
    reward: str | None = None,
    adapt: int = 0,
    seed: int = 0,
    reporter: Reporter = SILENT,
) -> dict[str, Any]:
    """Each policy and its rivals among users of another model.

    Args:
        policies: Directories of ``train_policy``, one a seed.
        held_out: A user model of other users.
        generator: A run of ``mfgan train`` as one more rival.
        num_users: Sessions of each.
        session: ``fixed:N`` or ``geometric:N``; that of training if not given.
        reward: ``utility`` or ``click``; that of training if not given.
        adapt: Displays to each of the training's number of new users, from which the policy goes
            on learning; 0 leaves the curve out.
        seed: Of the simulated users.
        reporter: Where progress is shown.

    Returns:
        By recommender: mean and interval of cumulative reward and click rate (over policies, or
        over users where there is one policy), reward by step; the adaptation curves.
    """
    rollouts: dict[str, list[Rollout]] = {}
    curves = []
    user = held_out.user()
    with reporter.task("policies", len(policies)) as task:
        for place, path in enumerate(policies):
            policy, runs = open_policy(path, held_out)
            rule = SessionRule.parse(session or policy.settings.session)
            kind = reward or policy.settings.reward
            for one in (*rivals(policy, runs, generator), policy):
                found = roll_out(
                    one,
                    user,
                    num_users=num_users,
                    session=rule,
                    reward=kind,  # type: ignore[arg-type]
                    seed=seed + place,
                )
                rollouts.setdefault(one.name, []).append(found)
            if adapt:
                curves.append(_adaptation(policy, runs, held_out, adapt, num_users, seed + place))
            task.advance(1, str(path))
    return {
        "intervals over": f"{len(policies)} policies" if len(policies) > 1 else "users",
        "recommenders": {name: _summary(found) for name, found in rollouts.items()},
        "adaptation": curves,
    }


def _summary(found: Sequence[Rollout]) -> dict[str, Any]:
    cells: dict[str, Any] = {}
    for metric in found[0].metrics:
        mean, interval = over_seeds([one.metrics[metric] for one in found])
        if len(found) == 1:
            interval = found[0].intervals[metric]
        cells[metric] = {"mean": mean, "interval": list(interval)}
    steps = np.mean([one.by_step for one in found], axis=0)
    cells["reward by step"] = [float(value) for value in steps]
    cells["rollouts"] = [one.metrics for one in found]
    return cells


def _adaptation(
    policy: CascadingPolicy,
    runs: Sequence[UserModelRun],
    held_out: UserModelRun,
    steps: int,
    num_users: int,
    seed: int,
) -> list[dict[str, float]]:
    """Reward among new users after learning from more and more displays to some of them."""
    rule, user = SessionRule.parse(policy.settings.session), held_out.user()
    settings = policy.settings.model_copy(
        update={"epsilon_start": policy.settings.epsilon_end, "warmup": 1, "seed": seed}
    )
    trainer = PolicyTrainer(
        [run.user() for run in runs],
        policy.observer.pool,
        settings,
        within=[user],
        networks=policy.networks,
    )
    points = {round(point) for point in np.linspace(0, steps, _ADAPT_POINTS)}
    curve = []

    def note(done: int) -> None:
        kind = settings.reward
        found = roll_out(
            trainer.policy,
            user,
            num_users=num_users,
            session=rule,
            reward=kind,  # type: ignore[arg-type]
            seed=seed,
        )
        curve.append({"displays a user": float(done), **found.metrics})

    note(0)
    for done, _ in enumerate(trainer.steps(steps), start=1):
        if done in points:
            note(done)
    return curve
