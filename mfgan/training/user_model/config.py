"""Settings of a user model's training: presets, TOML, ``key=value``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import tomli_w
from pydantic import Field

from mfgan.config import OptimizerConfig, Section
from mfgan.config.load import resolve, validated
from mfgan.config.run_config import flatten
from mfgan.errors import MfganError, nearest
from mfgan.models.user_model_config import ENCODERS_OF, UserModelConfig

Objective = Literal["shannon", "l2", "adversarial-shannon", "adversarial-l2"]
UsersOf = Literal["train", "validation", "test", "held-out"]


class ClosedFormConfig(Section):
    """Training where the policy's optimum is known: Shannon's softmax or L2's sparsemax."""

    iterations: int = Field(default=1000, ge=0)
    batch_users: int = Field(default=50, ge=1)
    optimizer: OptimizerConfig = OptimizerConfig(
        kind="adam", learning_rate=2e-3, beta2=0.999, clip_norm=0.0, weight_decay=1e-3
    )


class AdversarialConfig(Section):
    """Alternating ascent of the policy and descent of the reward."""

    iterations: int = Field(default=1000, ge=0)
    batch_users: int = Field(default=100, ge=1)
    policy_steps: int = Field(default=1, ge=1, description="of ascent an iteration")
    reward_steps: int = Field(default=1, ge=0, description="of descent an iteration; 0: frozen")
    start_policy: bool = Field(
        default=True,
        description="with a warm start: the policy begins as a copy of the pre-trained model",
    )
    policy: UserModelConfig = UserModelConfig()
    policy_optimizer: OptimizerConfig = OptimizerConfig(
        kind="adam", learning_rate=1e-3, beta2=0.999, clip_norm=0.0, weight_decay=1e-3
    )
    reward_optimizer: OptimizerConfig = OptimizerConfig(
        kind="adam", learning_rate=2e-4, beta2=0.999, clip_norm=0.0, weight_decay=1e-3
    )


class UserModelSettings(Section):
    """A whole training run of a user model."""

    seed: int = Field(default=0, ge=0, lt=2**63)
    device: str = "cpu"
    threads: int = Field(default=0, ge=0, description="threads of the CPU; 0: as torch chooses")
    users: UsersOf = Field(
        default="train",
        description="validation, test, held-out (both): fitted to four fifths of those users and"
        " chosen on the rest, for judging policies on users that the training model never saw",
    )
    objective: Objective = "shannon"
    warm_start: bool = Field(default=True, description="begin l2 and adversarial at Shannon's best")
    eta: float = Field(default=1.0, gt=0, description="η: how exploratory users are")
    validate_every: int = Field(default=10, ge=1, description="iterations between validations")
    checkpoint_every: int = Field(default=500, ge=1, description="iterations between checkpoints")
    model: UserModelConfig = UserModelConfig()
    shannon: ClosedFormConfig = ClosedFormConfig()
    l2: ClosedFormConfig = ClosedFormConfig()
    adversarial: AdversarialConfig = AdversarialConfig()

    def to_toml(self) -> str:
        """TOML text that ``load_settings`` reads back to an equal object."""
        return tomli_w.dumps(self.model_dump(mode="json"))


# Chen et al., ICML 2019, and the authors' code where the paper is silent: 20 units, ELU 64-64,
# one-hot items, Adam 5e-4, 2,000 iterations of 50 users, then L2 with a 256-32 policy for 5,000 of
# 100. The code never takes the reward's step; here both players move.
_PAPER = """
[model]
encoder = "lstm"
state_dim = 20
hidden = [64, 64]
features = ["one-hot"]
context = false

[shannon]
iterations = 2000
batch_users = 50
optimizer = {kind = "adam", learning_rate = 5e-4, beta2 = 0.999, clip_norm = 0, weight_decay = 0}

[l2]
iterations = 2000
batch_users = 50
optimizer = {kind = "adam", learning_rate = 5e-4, beta2 = 0.999, clip_norm = 0, weight_decay = 0}

[adversarial]
iterations = 5000
batch_users = 100
start_policy = false

[adversarial.policy]
encoder = "lstm"
state_dim = 20
hidden = [256, 32]
features = ["one-hot"]
context = false
init_scale = 0.01

[adversarial.policy_optimizer]
kind = "adam"
learning_rate = 5e-4
beta2 = 0.999
clip_norm = 0
weight_decay = 0

[adversarial.reward_optimizer]
kind = "adam"
learning_rate = 5e-4
beta2 = 0.999
clip_norm = 0
weight_decay = 0
"""
_PRESETS = {"tuned": "", "paper": _PAPER}
PRESETS: tuple[str, ...] = tuple(_PRESETS)


def load_settings(
    preset: str = "tuned", file: str | Path | None = None, overrides: Sequence[str] = ()
) -> UserModelSettings:
    """Resolve the settings: the preset, then a TOML file, then ``a.b=value`` texts.

    Raises:
        MfganError: An unknown preset or setting, a value out of range, an unreadable file, or a
            text that sets what the encoder takes no notice of.

    Example:
        >>> load_settings(overrides=["model.encoder=pw"]).model.encoder
        'pw'
    """
    if preset not in _PRESETS:
        raise MfganError(
            f"user-model: preset must be one of {', '.join(PRESETS)}, got {preset!r}"
            f"{nearest(preset, list(PRESETS))}"
        )
    values = resolve(_PRESETS[preset], file, overrides)
    settings = validated(UserModelSettings, values, "user-model")
    _check_used(settings, overrides)
    return settings


def _check_used(settings: UserModelSettings, overrides: Sequence[str]) -> None:
    """Files are not asked: that of a run holds every setting."""
    given = {name for name, _ in flatten(resolve(overrides=overrides))}
    models = {"model": settings.model, "adversarial.policy": settings.adversarial.policy}
    for place, model in models.items():
        for name, encoders in ENCODERS_OF.items():
            if f"{place}.{name}" in given and model.encoder not in encoders:
                raise MfganError(
                    f"user-model: {place}.{name}: must go with {place}.encoder"
                    f" {' or '.join(encoders)}, got {model.encoder}"
                )
