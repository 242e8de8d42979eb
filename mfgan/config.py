"""Every setting of a training run: validated, frozen, read from TOML, presets and ``key=value``.

A run's settings are resolved once, in this order, the later winning: the preset, a TOML file, and
``a.b=value`` overrides. What they resolve to is written to ``config.toml`` of the run directory.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mfgan.errors import MfganError, nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Objective = Literal["adversarial", "mle"]
Preset = Literal["tuned", "paper"]
PRESETS: tuple[str, ...] = get_args(Preset)


class Section(BaseModel):
    """A group of settings: frozen, and an unknown name in it is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class GeneratorConfig(Section):
    """The causal self-attentive generator."""

    hidden_dim: int = Field(default=64, ge=1, description="width of embeddings and blocks")
    num_blocks: int = Field(default=2, ge=1)
    num_heads: int = Field(default=2, ge=1)
    max_len: int = Field(
        default=200, ge=1, description="a session is its last max_len interactions"
    )
    dropout: float = Field(
        default=0.1, ge=0, lt=1, description="after embedding, attention, feed-forward"
    )
    attention_dropout: float = Field(
        default=0.1, ge=0, lt=1, description="on the attention weights"
    )
    ff_multiple: float = Field(
        default=4.0, gt=0, description="inner width of the feed-forward / hidden_dim"
    )
    activation: Literal["relu", "gelu", "swiglu"] = "gelu"
    norm: Literal["layer", "rms"] = "layer"
    norm_place: Literal["pre", "post"] = "pre"
    positions: Literal["end", "start", "none"] = Field(
        default="end",
        description="count learned positions from the session's last token or its first",
    )
    distance_bias: bool = Field(
        default=False, description="a learned attention bias by distance and head"
    )
    normalize: bool = Field(
        default=False, description="cosine logits: hidden states and items of length 1"
    )
    temperature: float = Field(default=1.0, gt=0, description="logits are divided by it")
    init_scale: float = Field(
        default=0.02, gt=0, description="standard deviation of the embeddings"
    )

    @model_validator(mode="after")
    def _heads_divide(self) -> "GeneratorConfig":
        if self.hidden_dim % self.num_heads:
            got = f"{self.hidden_dim} and {self.num_heads}"
            raise ValueError(f"hidden_dim must be a multiple of num_heads, got {got}")
        return self


class DiscriminatorConfig(Section):
    """The factor-specific discriminators: one tower with a factor axis."""

    factors: tuple[str, ...] = Field(
        default=(), description="factors that judge; none named: all there are"
    )
    hidden_dim: int = Field(default=50, ge=1)
    num_blocks: int = Field(default=1, ge=1)
    num_heads: int = Field(default=2, ge=1)
    dropout: float = Field(default=0.25, ge=0, lt=1)
    ff_multiple: float = Field(default=1.0, gt=0)
    max_history: int = Field(
        default=50, ge=1, description="history tokens that a judgement looks back on"
    )
    combination: Literal["softmax", "learned"] = Field(
        default="softmax",
        description="weights of the factors: softmax(sharpness * probability) or learned",
    )
    sharpness: float = Field(
        default=0.0, ge=0, description="lambda: 0 is the mean, large the maximum"
    )

    @model_validator(mode="after")
    def _heads_divide(self) -> "DiscriminatorConfig":
        if self.hidden_dim % self.num_heads:
            got = f"{self.hidden_dim} and {self.num_heads}"
            raise ValueError(f"hidden_dim must be a multiple of num_heads, got {got}")
        return self


class OptimizerConfig(Section):
    """One model's optimizer and its learning rate over time."""

    kind: Literal["adam", "adamw"] = "adamw"
    learning_rate: float = Field(default=1e-3, gt=0)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.98, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    warmup_steps: int = Field(default=0, ge=0, description="steps of linear growth from 0")
    decay: Literal["constant", "cosine"] = "constant"
    final_fraction: float = Field(default=0.0, ge=0, le=1, description="what cosine decay ends at")
    clip_norm: float = Field(
        default=1.0, ge=0, description="largest norm of all gradients together; 0: any"
    )
    average: float = Field(
        default=0.0, ge=0, lt=1, description="decay of the weights' moving average; 0: no"
    )


class StageConfig(Section):
    """What every training stage has."""

    epochs: int = Field(default=1, ge=0)
    batch_size: int = Field(default=128, ge=1, description="sessions a batch")
    token_budget: int = Field(
        default=0, ge=0, description="tokens a batch instead of sessions; 0: sessions"
    )
    history: Literal["last", "windows"] = Field(
        default="last",
        description="of histories longer than max_len, an epoch has the end, or all in windows",
    )
    evaluate_every: int = Field(default=1, ge=1, description="epochs between two validations")
    patience: int = Field(
        default=0, ge=0, description="validations without a new best that end it; 0: never"
    )


class PretrainGeneratorConfig(StageConfig):
    """Maximum likelihood on the real next items."""

    epochs: int = Field(default=100, ge=0)
    optimizer: OptimizerConfig = OptimizerConfig()
    loss: Literal["softmax", "sampled-softmax", "gbce", "bce"] = "softmax"
    num_negatives: int = Field(
        default=256, ge=1, description="of sampled-softmax and gbce; bce has one"
    )
    gbce_t: float = Field(default=0.75, ge=0, le=1, description="gSASRec's calibration t")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="of softmax")
    negatives: Literal["uniform", "popularity"] = Field(
        default="uniform", description="what sampled-softmax draws by; gbce and bce draw uniformly"
    )
    sparse_items: bool | Literal["auto"] = Field(
        default="auto",
        description="update only the item rows that a step reads, the moments of others rest; not "
        "with softmax; auto: on a CPU from 50,000 items on, where nothing speaks against "
        "it",
    )

    @model_validator(mode="after")
    def _sparse_fits(self) -> "PretrainGeneratorConfig":
        if self.sparse_items is True and self.loss == "softmax":
            raise ValueError("sparse_items must be false with loss softmax, got true")
        if self.sparse_items is True and self.optimizer.average:
            got = self.optimizer.average
            raise ValueError(f"optimizer.average must be 0 with sparse_items, got {got}")
        return self


class CrossFitConfig(Section):
    """Generators trained without some users, to propose candidates for those."""

    folds: int = Field(
        default=0, ge=0, description="parts of the users; each has such a generator; 0: none"
    )


class SampleConfig(Section):
    """How the generator's candidates are drawn for the discriminators."""

    num_candidates: int = Field(default=10, ge=1)
    method: Literal["multinomial", "gumbel", "top"] = Field(
        default="multinomial",
        description="independent draws, draws without replacement, or the most probable items",
    )
    positions: int = Field(
        default=32, ge=0, description="positions a session, drawn at random; 0: the last"
    )
    exclude_target: bool = Field(
        default=True, description="the real next item is never drawn as a candidate"
    )


class PretrainDiscriminatorConfig(StageConfig):
    """Binary cross-entropy: the real next item against candidates of the generator."""

    optimizer: OptimizerConfig = OptimizerConfig()
    head_l2: float = Field(default=0.0, ge=0, description="L2 penalty on the heads")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    balanced: bool = Field(
        default=True, description="a real item counts as much as all its candidates together"
    )
    ranking_weight: float = Field(
        default=0.0, ge=0, description="of the softmax loss over the real item and its candidates"
    )
    heldout_users: int = Field(
        default=2000, ge=1, description="users on whose validation items each factor is measured"
    )


class AdversarialConfig(StageConfig):
    """Turns of policy gradient on the reward and of discriminator training on fresh samples."""

    turns: int = Field(default=10, ge=0)
    generator_epochs: int = Field(default=1, ge=0, description="a turn")
    discriminator_epochs: int = Field(default=1, ge=0, description="a turn")
    generator_optimizer: OptimizerConfig = OptimizerConfig()
    discriminator_optimizer: OptimizerConfig = OptimizerConfig()
    policy: Literal["multinomial", "gumbel", "top", "likelihood"] = Field(
        default="multinomial",
        description="actions drawn independently, without replacement, the most probable ones "
        "weighted exactly; or the real items' likelihood weighted by the reward, as published",
    )
    baseline: Literal["leave-one-out", "none"] = "leave-one-out"
    num_samples: int = Field(default=4, ge=1, description="actions drawn at each position")
    positions: int = Field(
        default=0, ge=0, description="positions a session that earn a reward, at random; 0: all"
    )
    policy_weight: float = Field(default=1.0, ge=0, description="of the policy gradient")
    mle_weight: float = Field(
        default=0.5, ge=0, description="share of maximum likelihood in the loss"
    )
    entropy_weight: float = Field(default=0.0, ge=0)
    anchor_weight: float = Field(
        default=0.1, ge=0, description="of the divergence from the first generator"
    )
    reward: Literal["probability", "log-odds"] = "probability"

    @model_validator(mode="after")
    def _others_to_leave_out(self) -> "AdversarialConfig":
        alone = self.policy == "multinomial" and self.num_samples == 1
        if alone and self.baseline == "leave-one-out":
            raise ValueError("num_samples must be at least 2 for the leave-one-out baseline, got 1")
        return self


class CalibrateConfig(Section):
    """Fits of what the discriminators say, on validation items."""

    users: int = Field(default=20_000, ge=0, description="drawn once; 0: all")
    top_k: int = Field(default=200, ge=2, description="the generator's best items are re-ranked")


class SelectionConfig(Section):
    """How validation chooses the weights a stage hands on."""

    enabled: bool = Field(
        default=True, description="off: validation items are not looked at, the last wins"
    )
    metric: str = "NDCG@10"
    users: int = Field(
        default=0, ge=0, description="validate on this many users, drawn once; 0: on all"
    )


class RunConfig(Section):
    """A whole training run."""

    seed: int = Field(default=0, ge=0, lt=2**63)
    device: str = "cpu"
    precision: Literal["float32", "bf16"] = Field(
        default="float32",
        description="bf16: matrix products and attention in training; weights, sums and validation "
        "stay float32; on a CPU attention, and the softmax's products if it has bf16 ones",
    )
    cuda_graph: bool = Field(
        default=False,
        description="record a training step once and replay it; on a GPU, for stages with a "
        "token_budget",
    )
    threads: int = Field(default=0, ge=0, description="threads of the CPU; 0: as torch chooses")
    objective: Objective = Field(
        default="adversarial",
        description="mle continues maximum likelihood for the adversary's budget",
    )
    checkpoint_seconds: float = Field(
        default=60.0, ge=0, description="time between two checkpoints"
    )
    keep_checkpoints: int = Field(
        default=2, ge=1, description="newest checkpoints kept beside the best"
    )
    tensorboard: bool = False
    generator: GeneratorConfig = GeneratorConfig()
    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    cross_fit: CrossFitConfig = CrossFitConfig()
    sample: SampleConfig = SampleConfig()
    pretrain_generator: PretrainGeneratorConfig = PretrainGeneratorConfig()
    pretrain_discriminator: PretrainDiscriminatorConfig = PretrainDiscriminatorConfig()
    adversarial: AdversarialConfig = AdversarialConfig()
    calibrate: CalibrateConfig = CalibrateConfig()
    selection: SelectionConfig = SelectionConfig()

    def to_toml(self) -> str:
        """The settings as TOML text that ``load_config`` reads back to an equal object."""
        return tomli_w.dumps(self.model_dump(mode="json"))

    def differences(self, other: "RunConfig") -> list[str]:
        """Names of the settings in which the two differ, as ``a.b``."""
        mine, theirs = dict(_flatten(self.model_dump())), dict(_flatten(other.model_dump()))
        return [name for name in mine if mine[name] != theirs[name]]


# As published (Ren et al., SIGIR 2020, and the authors' code where the paper is silent), with the
# code's defects mended: validation selects, and neither its items nor the test's reach a stage.
_PAPER = """
[generator]
hidden_dim = 50
num_blocks = 2
num_heads = 2
max_len = 50
dropout = 0.2
attention_dropout = 0.2
ff_multiple = 1.0
activation = "relu"

[discriminator]
hidden_dim = 50
num_blocks = 1
num_heads = 2
dropout = 0.25
ff_multiple = 1.0
max_history = 50
sharpness = 0.0

[sample]
num_candidates = 10
method = "top"
positions = 0

[pretrain_generator]
epochs = 400
batch_size = 128
loss = "bce"
evaluate_every = 10
optimizer = {kind = "adam", learning_rate = 1e-3, beta2 = 0.98, clip_norm = 0}

[pretrain_discriminator]
epochs = 1
batch_size = 16
head_l2 = 0.2
balanced = false
optimizer = {kind = "adam", learning_rate = 1e-3, beta2 = 0.98, clip_norm = 0}

[adversarial]
turns = 100
generator_epochs = 80
discriminator_epochs = 1
batch_size = 128
policy = "likelihood"
baseline = "none"
num_samples = 1
mle_weight = 0.0
anchor_weight = 0.0
generator_optimizer = {kind = "adam", learning_rate = 1e-3, beta2 = 0.98, clip_norm = 0}
discriminator_optimizer = {kind = "adam", learning_rate = 1e-3, beta2 = 0.98, clip_norm = 0}
"""

# What measures best here (docs/reproduction.md); all else is the defaults.
_TUNED = """
[generator]
positions = "start"
dropout = 0.2
attention_dropout = 0.2

[pretrain_generator]
epochs = 50
batch_size = 64
evaluate_every = 2
optimizer = {learning_rate = 2e-3, warmup_steps = 100, decay = "cosine", average = 0.99}
"""

_PRESETS: dict[str, str] = {"tuned": _TUNED, "paper": _PAPER}


def load_config(
    preset: str = "tuned", file: str | Path | None = None, overrides: Sequence[str] = ()
) -> RunConfig:
    """Resolve the settings of a run.

    Args:
        preset: ``tuned`` or ``paper``.
        file: A TOML file whose settings replace the preset's.
        overrides: Texts ``a.b=value``, the value as TOML writes it; a bare word is a string.

    Returns:
        The validated settings.

    Raises:
        MfganError: An unknown preset or setting, a value out of range, an unreadable file.

    Example:
        >>> load_config("paper", overrides=["generator.hidden_dim=64"]).generator.hidden_dim
        64
    """
    if preset not in _PRESETS:
        raise MfganError(
            f"config: preset must be one of {', '.join(PRESETS)}, got {preset!r}"
            f"{nearest(preset, list(PRESETS))}"
        )
    values = tomllib.loads(_PRESETS[preset])
    if file is not None:
        values = _merge(values, _read_toml(Path(file)))
    for text in overrides:
        values = _merge(values, _parse_override(text))
    return parse_config(values)


def parse_config(values: Mapping[str, Any]) -> RunConfig:
    """Validate a nested mapping of settings.

    Raises:
        MfganError: An unknown setting or a value out of range; the message names it.
    """
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise MfganError(_explain(error)) from None


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in over.items():
        old = merged.get(name)
        both = isinstance(value, Mapping) and isinstance(old, Mapping)
        merged[name] = _merge(old, value) if both else value  # type: ignore[arg-type]
    return merged


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MfganError(f"{path}: must exist, found nothing") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MfganError(f"{path}: must be TOML, got {error}") from None


def _parse_override(text: str) -> dict[str, Any]:
    name, equals, written = text.partition("=")
    parts = name.strip().split(".")
    if not equals or not all(parts):
        raise MfganError(f"config: --set must be name.name=value, got {text!r}")
    try:
        value = tomllib.loads(f"value = {written}")["value"]
    except tomllib.TOMLDecodeError:
        value = written.strip()
    for part in reversed(parts):
        value = {part: value}
    result: dict[str, Any] = value
    return result


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    place = [str(part) for part in first["loc"]]
    name = ".".join(place)
    if first["type"] == "extra_forbidden":
        return f"config: {name}: no such setting{_suggestion(place)}"
    message = first["msg"].removeprefix("Value error, ")
    rule = message[0].lower() + message[1:]
    if first["type"] == "value_error":
        return f"config: {name}: {rule}"
    return f"config: {name}: {rule}, got {first['input']!r}"


def _suggestion(place: Sequence[str]) -> str:
    close = nearest(place[-1], _settings_of(place[:-1]))
    if close:
        return close
    everywhere = [name for name, _ in _flatten(RunConfig().model_dump())]
    same = [name for name in everywhere if name.rpartition(".")[2] == place[-1]]
    return f"; did you mean {' or '.join(same)}?" if same else nearest(".".join(place), everywhere)


def _settings_of(place: Sequence[str]) -> list[str]:
    section: type[BaseModel] = RunConfig
    for part in place:
        inner = section.model_fields[part].annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        section = inner
    return list(section.model_fields)


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
