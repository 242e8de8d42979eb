"""A user model's run directory: training it, and opening what was trained."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from mfgan._version import __version__
from mfgan.console import SILENT, Reporter
from mfgan.data.displays.batch import EventStore
from mfgan.data.displays.dataset import DisplayDataset
from mfgan.device import find_device
from mfgan.errors import MfganError, nearest
from mfgan.files import atomic_file, exclusive, read_json, write_json
from mfgan.models.choice import Rule
from mfgan.models.user_model import build_user_model
from mfgan.training.user_model.checkpoint import (
    BEST,
    LAST,
    has_stage,
    read_weights,
    set_weights,
)
from mfgan.training.user_model.config import UserModelSettings, load_settings
from mfgan.training.user_model.loop import Best, run_stage, validator
from mfgan.training.user_model.stages import (
    STAGE_IDS,
    AdversarialStage,
    ClosedFormStage,
    LearnedUser,
    Stage,
)

_RUN, _CONFIG, _METRICS, _CHECKPOINTS = "run.json", "config.toml", "metrics.jsonl", "checkpoints"
CHECKPOINTS = (*BEST, LAST)
_HELD_OUT = 0x4E1D  # keeps this draw apart from others


def stage_names(settings: UserModelSettings) -> list[str]:
    """The stages that a run goes through, in order."""
    objective = settings.objective
    if objective == "shannon":
        return ["shannon"]
    return [*(["shannon"] if settings.warm_start else []), objective]


def fitted_users(dataset: DisplayDataset, settings: UserModelSettings) -> np.ndarray:
    """The users a run is fitted to: the training users, or most of those it names."""
    if settings.users == "train":
        return dataset.users("train")
    return _others(dataset, settings)[0]


def selecting_users(dataset: DisplayDataset, settings: UserModelSettings) -> np.ndarray:
    """The users who choose among a run's checkpoints."""
    if settings.users == "train":
        return dataset.users("validation")
    return _others(dataset, settings)[1]


def _others(dataset: DisplayDataset, settings: UserModelSettings) -> tuple[np.ndarray, np.ndarray]:
    """Users outside of training, four fifths and one fifth."""
    if settings.users == "held-out":
        users = np.flatnonzero(dataset.parts != 0)
    else:
        users = dataset.users(settings.users)
    order = np.random.default_rng([len(users), _HELD_OUT]).permutation(users)
    cut = len(users) - len(users) // 5
    return np.sort(order[:cut]), np.sort(order[cut:])


def _check_users(dataset: DisplayDataset, settings: UserModelSettings) -> None:
    if not len(fitted_users(dataset, settings)):
        raise MfganError(f"{dataset.path}: must have users to fit ({settings.users}), got none")
    selecting = selecting_users(dataset, settings)
    clicks = dataset.clicks[np.isin(dataset.event_users, selecting)]
    if not (clicks >= 0).any():
        who = "validation" if settings.users == "train" else f"a fifth of {settings.users}"
        raise MfganError(
            f"{dataset.path}: must have clicks of the users who choose checkpoints ({who}), got"
            f" none of {len(selecting)} users"
        )


def new_user(
    dataset: DisplayDataset, settings: UserModelSettings, stage: str, *, device: str
) -> LearnedUser:
    """The models of a stage before any training."""
    users = fitted_users(dataset, settings)
    place = find_device(device)
    rule: Rule = "sparsemax" if stage.endswith("l2") else "softmax"
    reward = build_user_model(settings.model, dataset, users=users, seed=settings.seed).to(place)
    policy = None
    if stage.startswith("adversarial"):
        adversarial = settings.adversarial
        copied = adversarial.start_policy and settings.warm_start
        config = settings.model if copied else adversarial.policy
        policy = build_user_model(config, dataset, users=users, seed=settings.seed, stage=1)
        policy = policy.to(place)
    return LearnedUser(reward, policy, rule, settings.eta)


def _stage(name: str, user: LearnedUser, store: EventStore, settings: UserModelSettings) -> Stage:
    users = fitted_users(store.dataset, settings)
    if name.startswith("adversarial"):
        return AdversarialStage(name, user, store, users, settings.seed, settings.adversarial)
    config = settings.l2 if name == "l2" else settings.shannon
    return ClosedFormStage(name, user, store, users, settings.seed, config)


def train_user_model(
    dataset: DisplayDataset,
    run: str | Path,
    settings: UserModelSettings,
    *,
    init: str | Path | None = None,
    resume: bool = False,
    reporter: Reporter = SILENT,
) -> "UserModelRun":
    """Train a user model into a run directory.

    Args:
        dataset: Prepared displays. Its validation users choose; its test users are not looked at
            (other ``users`` are what is fitted).
        run: The directory.
        settings: What to do.
        init: A finished run of the same model, whose Shannon stage of best validation loss is
            the warm start; without it that stage is run first.
        resume: Go on from the last checkpoint of the same settings.
        reporter: Where progress is shown.

    Returns:
        The finished run.

    Raises:
        MfganError: The directory holds another run, a setting does not fit the data, or there is
            nobody to fit or no click to choose checkpoints by.
    """
    run = Path(run)
    _check_users(dataset, settings)
    with exclusive(run):
        _claim(run, dataset, settings, resume)
        store = EventStore(dataset)
        batch = store.batch(selecting_users(dataset, settings)).to(settings.device)
        names = stage_names(settings)
        before: LearnedUser | None = None
        if init is not None and len(names) > 1:
            before = UserModelRun.open(init, dataset=dataset).user(stage=names.pop(0))
        for name in names:
            user = new_user(dataset, settings, name, device=settings.device)
            if before is not None:
                _warm_start(user, before, settings)
            path = run / _CHECKPOINTS / name
            stage = _stage(name, user, store, settings)
            run_stage(
                stage,
                validator(stage, batch),
                path,
                validate_every=settings.validate_every,
                checkpoint_every=settings.checkpoint_every,
                resume=resume and has_stage(path),
                log=run / _METRICS,
                reporter=reporter,
            )
            before = user
    return UserModelRun.open(run, dataset=dataset)


def _warm_start(user: LearnedUser, before: LearnedUser, settings: UserModelSettings) -> None:
    weights = before.reward.state_dict()
    try:
        user.reward.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise MfganError(f"init: must be a run of the same model, got {reason}") from None
    if user.policy is not None and settings.adversarial.start_policy:
        user.policy.load_state_dict(weights)


def _claim(run: Path, dataset: DisplayDataset, settings: UserModelSettings, resume: bool) -> None:
    written = run / _CONFIG
    if written.exists():
        if not resume:
            raise MfganError(f"{run}: holds a run already; pass --resume to go on with it")
        if load_settings(file=written) != settings:
            raise MfganError(f"{run}: must be resumed with the settings in its config.toml")
        if read_json(run / _RUN)["fingerprint"] != dataset.fingerprint:
            raise MfganError(f"{run}: must be resumed on the displays it began with")
        return
    with atomic_file(written) as handle:
        handle.write(settings.to_toml().encode())
    about = {
        "kind": "user-model",
        "dataset": os.path.relpath(dataset.path.resolve(), run.resolve()),
        "fingerprint": dataset.fingerprint,
        "version": __version__,
    }
    write_json(run / _RUN, about)


class UserModelRun:
    """A run directory of ``mfgan user-model train``.

    Attributes:
        path: The directory.
        settings: Its settings.
        dataset: The displays it was trained on.
    """

    def __init__(self, path: Path, settings: UserModelSettings, dataset: DisplayDataset) -> None:
        self.path, self.settings, self.dataset = path, settings, dataset

    @classmethod
    def open(cls, path: str | Path, *, dataset: DisplayDataset | None = None) -> "UserModelRun":
        """Open a run.

        Args:
            path: The directory.
            dataset: Its displays, where they have moved.

        Raises:
            MfganError: It is no run of a user model, or the displays are others.
        """
        path = Path(path)
        if not (path / _RUN).is_file():
            raise MfganError(f"{path}: must be a run of mfgan user-model train, found no {_RUN}")
        about: dict[str, Any] = read_json(path / _RUN)
        if about.get("kind") != "user-model":
            raise MfganError(f"{path}: must be a run of mfgan user-model train, got another run")
        settings = load_settings(file=path / _CONFIG)
        if dataset is None:
            dataset = DisplayDataset.open(os.path.normpath(path / about["dataset"]))
        if dataset.fingerprint != about["fingerprint"]:
            raise MfganError(f"{path}: must be opened with the displays it was trained on")
        return cls(path, settings, dataset)

    @property
    def stages(self) -> list[str]:
        """The stages that have a checkpoint."""
        return [name for name in STAGE_IDS if has_stage(self.path / _CHECKPOINTS / name)]

    def user(self, checkpoint: str = "best-loss", *, stage: str | None = None) -> LearnedUser:
        """The learned user of a checkpoint, ready for use.

        Args:
            checkpoint: ``best-loss``, ``best-P@1``, ``best-P@2`` or ``last``.
            stage: One of ``stages``; the last one if not given.

        Raises:
            MfganError: There is no such checkpoint.
        """
        if checkpoint not in CHECKPOINTS:
            known = list(CHECKPOINTS)
            raise MfganError(
                f"checkpoint: must be one of {', '.join(known)}, got {checkpoint!r}"
                f"{nearest(checkpoint, known)}"
            )
        stage = stage or stage_names(self.settings)[-1]
        user = new_user(self.dataset, self.settings, stage, device="cpu")
        models = {"reward": user.reward}
        if user.policy is not None:
            models["policy"] = user.policy
        path = self.path / _CHECKPOINTS / stage / checkpoint
        set_weights(models, read_weights(path), str(path))
        return user.eval()


__all__ = ["Best", "UserModelRun", "train_user_model"]
