"""Settings of a user model's training: presets, TOML, ``key=value``."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import Field, ValidationError

from mfgan.config import OptimizerConfig, Section
from mfgan.errors import MfganError, nearest
from mfgan.models.user_model_config import UserModelConfig

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

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
        MfganError: An unknown preset or setting, a value out of range, an unreadable file.

    Example:
        >>> load_settings(overrides=["model.encoder=pw"]).model.encoder
        'pw'
    """
    if preset not in _PRESETS:
        raise MfganError(
            f"user-model: preset must be one of {', '.join(PRESETS)}, got {preset!r}"
            f"{nearest(preset, list(PRESETS))}"
        )
    values: Mapping[str, Any] = tomllib.loads(_PRESETS[preset])
    if file is not None:
        values = _merge(values, _read(Path(file)))
    values = _merge(values, parse_overrides(overrides))
    try:
        return UserModelSettings.model_validate(values)
    except ValidationError as error:
        raise MfganError(_explain(error)) from None


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in over.items():
        old = merged.get(name)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            value = _merge(old, value)
        merged[name] = value
    return merged


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MfganError(f"{path}: must exist, found nothing") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MfganError(f"{path}: must be TOML, got {error}") from None


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """``a.b=value`` texts as nested settings, a value as TOML writes it or a bare word.

    Raises:
        MfganError: A text is of another form.
    """
    values: dict[str, Any] = {}
    for text in overrides:
        values = _merge(values, _override(text))
    return values


def _override(text: str) -> dict[str, Any]:
    name, equals, written = text.partition("=")
    parts = name.strip().split(".")
    if not equals or not all(parts):
        raise MfganError(f"--set must be name.name=value, got {text!r}")
    try:
        value = tomllib.loads(f"value = {written}")["value"]
    except tomllib.TOMLDecodeError:
        value = written.strip()
    for part in reversed(parts):
        value = {part: value}
    return dict(value)


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    place = [str(part) for part in first["loc"]]
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return f"user-model: {'.'.join(place)}: no such setting{_suggestion(place)}"
    got = "" if first["type"] == "value_error" else f", got {first['input']!r}"
    return f"user-model: {'.'.join(place)}: {message[:1].lower()}{message[1:]}{got}"


def _suggestion(place: Sequence[str]) -> str:
    names = list(_names(UserModelSettings().model_dump()))
    beside = [name for name in names if name.split(".")[:-1] == list(place[:-1])]
    close = nearest(".".join(place), beside)
    same = [name for name in names if name.rpartition(".")[2] == place[-1]]
    if close or not same:
        return close or nearest(".".join(place), names)
    return f"; did you mean {' or '.join(same)}?"


def _names(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    names: list[str] = []
    for name, value in values.items():
        inner = isinstance(value, Mapping)
        names += _names(value, f"{prefix}{name}.") if inner else [f"{prefix}{name}"]
    return names
