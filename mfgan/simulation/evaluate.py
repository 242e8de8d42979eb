"""Policies on disk judged on the user model of other users, beside their rivals."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mfgan.console import SILENT, Reporter
from mfgan.errors import MfganError
from mfgan.evaluation.seeds import over_seeds
from mfgan.files import read_json
from mfgan.simulation.cascading import CascadingPolicy, load_policy
from mfgan.simulation.learning import PolicyTrainer
from mfgan.simulation.recommenders import (
    GeneratorRecommender,
    GreedyRecommender,
    RandomRecommender,
    Recommender,
    SupervisedRanker,
)
from mfgan.simulation.rollout import Rollout, roll_out
from mfgan.simulation.session import SessionRule, check_pool
from mfgan.training.run import Run
from mfgan.training.user_model.run import UserModelRun, fitted_users

_ADAPT_POINTS = 6


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
            check_pool(len(policy.observer.pool), policy.settings.slate, rule)
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
