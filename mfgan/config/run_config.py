"""All settings of a training run."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import tomli_w
from pydantic import Field, model_validator

from mfgan.config.models import DiscriminatorConfig, GeneratorConfig, Section
from mfgan.config.stages import (
    AdversarialConfig,
    CalibrateConfig,
    CrossFitConfig,
    PretrainDiscriminatorConfig,
    PretrainGeneratorConfig,
    SampleConfig,
    SelectionConfig,
)
from mfgan.names import RELATIONS

Objective = Literal["adversarial", "mle"]


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

    @model_validator(mode="after")
    def _rows_are_all_there_is(self) -> "RunConfig":
        if self.generator.factors and self.pretrain_generator.sparse_items is True:
            raise ValueError(
                "pretrain_generator.sparse_items must be false with generator.factors, got true; "
                "generator.factors=[] leaves them out"
            )
        if self.generator.normalize and self.pretrain_generator.sparse_items is True:
            raise ValueError(
                "pretrain_generator.sparse_items must be false with generator.normalize, got true"
            )
        return self

    @model_validator(mode="after")
    def _relations_are_of_others(self) -> "RunConfig":
        named = self.discriminator.factors
        judges = [] if named == "all" else [name for name in named if name in RELATIONS]
        if judges:
            where = f"with {judges[0]} in discriminator.factors"
            if self.cross_fit.folds < 2:
                raise ValueError(
                    f"cross_fit.folds must be 2 or more {where}, got {self.cross_fit.folds}: "
                    "counts of a user's own session give her next item away"
                )
            self._looks_at_ends_alone(where)
        if self.generator.relations:
            self._looks_at_ends_alone(
                "with generator.relations", "; generator.relations=[] leaves them out"
            )
        return self

    def _looks_at_ends_alone(self, where: str, otherwise: str = "") -> None:
        contexts, epochs = self.adversarial.contexts, self.adversarial.discriminator_epochs
        if contexts != "ends":
            raise ValueError(
                f"adversarial.contexts must be ends {where}, got {contexts}{otherwise}"
            )
        if epochs:
            raise ValueError(
                f"adversarial.discriminator_epochs must be 0 {where}, got {epochs}{otherwise}"
            )

    @model_validator(mode="after")
    def _fits_on_validation_items(self) -> "RunConfig":
        if self.adversarial.reward == "calibrated" and not self.selection.enabled:
            raise ValueError(
                "adversarial.reward must be probability or log-odds without selection.enabled, "
                "got calibrated"
            )
        fitted = self.adversarial.relation_weights == "fitted"
        if self.generator.relations and fitted and not self.selection.enabled:
            raise ValueError(
                "adversarial.relation_weights must be zero without selection.enabled, got fitted"
            )
        return self

    @model_validator(mode="after")
    def _smooths_what_it_ranks(self) -> "RunConfig":
        smoothing = self.pretrain_generator.label_smoothing
        if self.generator.unseen_only and smoothing:
            raise ValueError(
                "pretrain_generator.label_smoothing must be 0 with generator.unseen_only, "
                f"got {smoothing}"
            )
        return self

    def to_toml(self) -> str:
        """The settings as TOML text that ``load_config`` reads back to an equal object."""
        return tomli_w.dumps(self.model_dump(mode="json"))

    def differences(self, other: "RunConfig") -> list[str]:
        """Names of the settings in which the two differ, as ``a.b``."""
        mine, theirs = dict(flatten(self.model_dump())), dict(flatten(other.model_dump()))
        return [name for name in mine if mine[name] != theirs[name]]


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """``{"a": {"b": 1}}`` as the pairs ``("a.b", 1)``."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
