"""What the search chooses among."""

from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from mfgan.config import RunConfig
from mfgan.config.run_config import flatten
from mfgan.errors import MfganError

_GENERATOR: dict[str, BaseDistribution] = {
    "hidden_dim": CategoricalDistribution([64, 96, 128, 192]),
    "num_blocks": IntDistribution(1, 4),
    "num_heads": CategoricalDistribution([1, 2, 4]),
    "dropout": FloatDistribution(0.0, 0.7, step=0.05),
    "attention_dropout": FloatDistribution(0.0, 0.7, step=0.05),
    "ff_multiple": CategoricalDistribution([1.0, 2.0, 4.0]),
    "activation": CategoricalDistribution(["relu", "gelu", "swiglu"]),
    "norm": CategoricalDistribution(["layer", "rms"]),
    "norm_place": CategoricalDistribution(["pre", "post"]),
    "positions": CategoricalDistribution(["start", "end", "none"]),
    "distance_bias": CategoricalDistribution([False, True]),
    "convolution": CategoricalDistribution([0, 5, 10, 20]),
    "convolution_share": FloatDistribution(0.3, 0.9, step=0.05),
    "normalize": CategoricalDistribution([False, True]),
    "temperature": FloatDistribution(0.03, 1.0, log=True),
}
# No label smoothing: it cannot be had with probabilities over unseen items alone.
_TRAINING: dict[str, BaseDistribution] = {
    "batch_size": CategoricalDistribution([32, 64, 128, 256]),
    "history": CategoricalDistribution(["last", "windows"]),
}
_OPTIMIZER: dict[str, BaseDistribution] = {
    "learning_rate": FloatDistribution(5e-4, 8e-3, log=True),
    "weight_decay": FloatDistribution(0.0, 0.2, step=0.01),
    "average": CategoricalDistribution([0.0, 0.99, 0.999]),
}

# How long to train is given, not searched: the longest would win.
SPACE: dict[str, BaseDistribution] = {
    **{f"generator.{name}": values for name, values in _GENERATOR.items()},
    **{f"pretrain_generator.{name}": values for name, values in _TRAINING.items()},
    **{f"pretrain_generator.optimizer.{name}": values for name, values in _OPTIMIZER.items()},
}


def point_of(config: RunConfig) -> dict[str, Any]:
    """Where settings lie in the space.

    Raises:
        MfganError: A value is none of the space's. The study would draw one in its place and learn
            of that what another was trained with.
    """
    values = dict(flatten(config.model_dump()))
    for name, inside in SPACE.items():
        if not _holds(inside, values[name]):
            raise MfganError(f"search: {name} must be {_text(inside)}, got {values[name]!r}")
    return {name: values[name] for name in SPACE}


def _text(values: BaseDistribution) -> str:
    if isinstance(values, CategoricalDistribution):
        return f"one of {', '.join(map(str, values.choices))}"
    assert isinstance(values, (FloatDistribution, IntDistribution))
    steps = "" if values.step is None else f" in steps of {values.step}"
    return f"within {values.low}..{values.high}{steps}"


def _holds(values: BaseDistribution, value: Any) -> bool:
    try:
        return values._contains(values.to_internal_repr(value))
    except ValueError:
        return False
