"""What the calibrate stage of a run found, and whether it is still of the run's weights."""

from typing import TYPE_CHECKING

from mfgan.files import read_json, sha256_of
from mfgan.models.correction import CALIBRATION_FILE, Correction
from mfgan.models.discriminator import judge_names

if TYPE_CHECKING:
    from mfgan.training.run import Run


def read_calibration(run: "Run") -> Correction | None:
    """As it was written; None where the stage has not finished or selection is off.

    Raises:
        MfganError: The file is not what the stage wrote.
    """
    path = run.stage_directory("calibrate") / CALIBRATION_FILE
    if not run.has_finished("calibrate") or not path.exists():
        return None
    names = judge_names(run.config.discriminator, run.dataset.factor_names)
    return Correction.from_dict(read_json(path), names, str(path))


def changed_since(run: "Run", correction: Correction) -> list[str]:
    """The models whose weights are no longer those that the correction was fitted to."""
    changed = []
    for model, fitted in correction.fitted_to.items():
        folder = run.weights(model)
        if folder is not None and sha256_of(folder / f"{model}.safetensors") != fitted:
            changed.append(model)
    return changed
