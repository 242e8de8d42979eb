"""Every setting of a training run: validated, frozen, read from TOML, presets and ``key=value``.

A run's settings are resolved once, in this order, the later winning: the preset, a TOML file, and
``a.b=value`` overrides. What they resolve to is written to ``config.toml`` of the run directory.
"""

from mfgan.config.load import load_config, parse_config, stored_config
from mfgan.config.models import DiscriminatorConfig, GeneratorConfig, Section
from mfgan.config.presets import PRESETS, Preset
from mfgan.config.run_config import Objective, RunConfig
from mfgan.config.stages import (
    AdversarialConfig,
    CalibrateConfig,
    CrossFitConfig,
    OptimizerConfig,
    PretrainDiscriminatorConfig,
    PretrainGeneratorConfig,
    SampleConfig,
    SelectionConfig,
    StageConfig,
)

__all__ = [
    "PRESETS",
    "AdversarialConfig",
    "CalibrateConfig",
    "CrossFitConfig",
    "DiscriminatorConfig",
    "GeneratorConfig",
    "Objective",
    "OptimizerConfig",
    "Preset",
    "PretrainDiscriminatorConfig",
    "PretrainGeneratorConfig",
    "RunConfig",
    "SampleConfig",
    "Section",
    "SelectionConfig",
    "StageConfig",
    "load_config",
    "parse_config",
    "stored_config",
]
