"""The weights that a run is begun from: copies of another run's, which may change or go."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from mfgan.errors import MfganError
from mfgan.files import atomic_directory, read_json, write_json
from mfgan.training.context import MODELS, StageContext
from mfgan.training.stages import STAGE_NAMES

if TYPE_CHECKING:
    from mfgan.training.run import Run

START = "start"  # where they lie beside the stages' folders
_STATE = "state.json"


def take_start(run: "Run") -> None:
    """Copy the weights of ``run.init`` into a run that has not begun.

    Those of a cross-fit come with the seed that parted its users, and only where it has as many
    folds as the run is to have: no user may be proposed to by a generator that has seen her.

    Raises:
        MfganError: The other run is gone, or some of its weights are.
    """
    from mfgan.training.run import Run

    folder = run.stage_directory(START)
    if run.init is None or folder.is_dir() or any(map(run.has_begun, STAGE_NAMES)):
        return
    source = Run.open(run.init)
    with atomic_directory(folder) as draft:
        for model in MODELS:
            if (path := source.weights(model)) is not None:
                shutil.copyfile(path / f"{model}.safetensors", draft / f"{model}.safetensors")
        state: dict[str, str | int | None] = {"fingerprint": run.fingerprint, "folds_seed": None}
        if (folds := _folds_of(source, run.config.cross_fit.folds)) is not None:
            path, state["folds_seed"] = folds
            for fold in range(run.config.cross_fit.folds):
                shutil.copyfile(path / _fold(fold), draft / _fold(fold))
        write_json(draft / _STATE, state)


def load_start(folder: Path, context: StageContext) -> None:
    """Give the models of a context what was copied.

    Raises:
        MfganError: It is damaged or of other sizes.
    """
    state = read_json(folder / _STATE)
    try:
        seed = state["folds_seed"]
    except (KeyError, TypeError):
        raise MfganError(f"{folder / _STATE}: folds_seed must be there, found none") from None
    context.load(folder)
    if seed is not None:
        context.load_folds(folder, seed=seed)


def _fold(number: int) -> str:
    return f"fold-{number}.safetensors"


def _folds_of(source: "Run", count: int) -> tuple[Path, int] | None:
    """The folder of a run's fold generators and the seed that parted their users, if so many."""
    path, seed = source.store("cross-fit").best_path(), source.config.seed
    if path is None and source.start is not None:
        path, seed = source.start, read_json(source.start / _STATE)["folds_seed"]
    if path is None or not count or len(list(path.glob("fold-*.safetensors"))) != count:
        return None
    return path, seed
