"""The stages of training, by name; each module is imported when its stage is asked for."""

from importlib import import_module

from mfgan.config import RunConfig
from mfgan.errors import MfganError, nearest
from mfgan.training.stage import Stage

_CLASSES = {
    "pretrain-generator": "pretrain_generator:PretrainGeneratorStage",
    "cross-fit": "cross_fit:CrossFitStage",
    "sample": "sample:SampleStage",
    "pretrain-discriminator": "pretrain_discriminator:PretrainDiscriminatorStage",
    "adversarial": "adversarial:AdversarialStage",
    "continue-mle": "pretrain_generator:ContinueMleStage",
    "calibrate": "calibrate:CalibrateStage",
}
# In the order in which one hands its models on to the next.
STAGE_NAMES = tuple(_CLASSES)
# Trains in the adversarial stage's place, to be compared with it.
CONTROL_STAGE = "continue-mle"


def stage_class(name: str) -> type[Stage]:
    """The class of a stage.

    Raises:
        MfganError: There is no such stage.
    """
    if name not in _CLASSES:
        known = ["all", *STAGE_NAMES]
        raise MfganError(
            f"train: stage must be one of {', '.join(known)}, got {name!r}{nearest(name, known)}"
        )
    module, _, attribute = _CLASSES[name].partition(":")
    found: type[Stage] = getattr(import_module(f"{__name__}.{module}"), attribute)
    return found


def stages_of(stage: str, config: RunConfig) -> list[str]:
    """The stages that ``stage`` means under a configuration, in order.

    Under the objective ``mle``, maximum likelihood goes on in the adversarial stage's place and for
    its budget, and nothing needs the discriminators.

    Raises:
        MfganError: There is no such stage.
    """
    control = config.objective == "mle"
    if stage == "all" and control:
        return ["pretrain-generator", CONTROL_STAGE]
    if stage == "all":
        left_out = {CONTROL_STAGE} if config.cross_fit.folds else {CONTROL_STAGE, "cross-fit"}
        return [name for name in STAGE_NAMES if name not in left_out]
    if stage == "adversarial" and control:
        return [CONTROL_STAGE]
    stage_class(stage)
    return [stage]
