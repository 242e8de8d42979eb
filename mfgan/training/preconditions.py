"""What stages need of a data set, asked of all of them before the first one trains for hours."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mfgan.config import RunConfig
from mfgan.config.stages import UNVALIDATED, SelectionConfig
from mfgan.errors import MfganError, nearest
from mfgan.evaluation.metrics import metric_names
from mfgan.models.discriminator import chosen_judges
from mfgan.training.candidates import check_candidates
from mfgan.training.choices import choosers
from mfgan.training.stages import CONTROL_STAGE

if TYPE_CHECKING:
    from mfgan.data.dataset import PreparedDataset

_JUDGING = {"pretrain-discriminator", "adversarial", "calibrate"}
_PROPOSING = _JUDGING | {"sample"}
_WITH_RELATIONS = {"adversarial", CONTROL_STAGE}


def check_stages(dataset: "PreparedDataset", config: RunConfig, stages: Sequence[str]) -> None:
    """Complain of what a later stage would find only when the earlier ones have trained.

    Args:
        dataset: Trained on.
        config: Settings of the run.
        stages: Those that are to be trained.

    Raises:
        MfganError: A name or a size that does not fit the data set, or nobody validates.
    """
    wanted, sample, adversarial = set(stages), config.sample, config.adversarial
    if wanted & _JUDGING:
        factors = [dataset.factor(name) for name in dataset.factor_names]
        chosen_judges(config.discriminator, factors)
    if wanted & _PROPOSING:
        left = dataset.num_items - sample.exclude_target
        check_candidates(sample.num_candidates, left, sample.method)
    if "adversarial" in wanted and adversarial.policy == "gumbel":
        check_candidates(adversarial.num_samples, dataset.num_items, "gumbel")
    if "cross-fit" in wanted:
        check_folds(config.cross_fit.folds, dataset.num_users)
    if config.selection.enabled:
        check_selection(dataset, config.selection)
        if _fits_choices(config, wanted):
            choosers(dataset, 0, np.random.default_rng(0))


def _fits_choices(config: RunConfig, wanted: set[str]) -> bool:
    """Whether a stage fits weights to what users chose on validation."""
    adversarial = config.adversarial
    if adversarial.relation_weights == "fitted" and config.generator.relations:
        return bool(wanted & {"calibrate", *_WITH_RELATIONS})
    return "calibrate" in wanted or ("adversarial" in wanted and adversarial.reward == "calibrated")


def check_folds(folds: int, num_users: int) -> None:
    """Complain of more folds than users, or of too few.

    Raises:
        MfganError: There are.
    """
    if not 2 <= folds <= num_users:
        raise MfganError(
            f"cross-fit: cross_fit.folds must be within 2..{num_users} (the users), got {folds}"
        )


def check_selection(dataset: "PreparedDataset", selection: SelectionConfig) -> None:
    """Complain of a metric that there is not, or of a data set that validates nobody.

    Raises:
        MfganError: It is so.
    """
    if selection.metric not in (names := metric_names()):
        raise MfganError(
            f"config: selection.metric must be one of {', '.join(names)}, "
            f"got {selection.metric!r}{nearest(selection.metric, names)}"
        )
    if not len(dataset.target_users("validation")):
        raise MfganError(
            f"{dataset.path}: some user must have a validation target for selection, "
            f"found none; {UNVALIDATED}"
        )
