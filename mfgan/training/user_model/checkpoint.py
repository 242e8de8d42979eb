"""The state of a stage on disk: whole or not at all, and nothing pickled."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mfgan.errors import MfganError
from mfgan.files import atomic_directory, read_json, write_json
from mfgan.models.user_model import UserModel
from mfgan.training.optimizer import Optimizer

LAST = "last"
BEST = ("best-loss", "best-P@1", "best-P@2")
_MODEL, _OPTIMIZER, _STATE = "model.safetensors", "optimizer.safetensors", "state.json"
Weights = dict[str, Tensor]


def weights_of(models: Mapping[str, UserModel]) -> Weights:
    """A copy of all weights and statistics, by model and name."""
    return {
        f"{name}.{key}": value.detach().clone().contiguous()
        for name, model in models.items()
        for key, value in model.state_dict().items()
    }


def set_weights(models: Mapping[str, UserModel], weights: Mapping[str, Tensor], where: str) -> None:
    """Put weights back.

    Raises:
        MfganError: They are those of another model.
    """
    for name, model in models.items():
        mine = {
            key.removeprefix(f"{name}."): value
            for key, value in weights.items()
            if key.startswith(f"{name}.")
        }
        try:
            model.load_state_dict(mine)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise MfganError(
                f"{where}: must hold the weights of this model, got {reason}"
            ) from None


def save_stage(
    path: Path,
    *,
    models: Mapping[str, UserModel],
    optimizers: Mapping[str, Optimizer],
    best: Mapping[str, Weights],
    state: Mapping[str, Any],
) -> None:
    """Write a stage's directory: where it is, and the best weights so far.

    Args:
        path: ``checkpoints/<stage>``.
        models: By name.
        optimizers: By the name of their model.
        best: Weights by the name of the checkpoint.
        state: Iteration, best values and the like.
    """
    with atomic_directory(path, overwrite=True) as draft:
        for name, weights in best.items():
            (draft / name).mkdir()
            save_file(weights, draft / name / _MODEL)
        last = draft / LAST
        last.mkdir()
        save_file(weights_of(models), last / _MODEL)
        moments = {
            f"{name}.{key}": value.contiguous()
            for name, optimizer in optimizers.items()
            for key, value in optimizer.state_tensors().items()
        }
        save_file(moments, last / _OPTIMIZER)
        steps = {name: optimizer.steps for name, optimizer in optimizers.items()}
        write_json(draft / _STATE, {**state, "optimizer_steps": steps})


def read_weights(path: Path) -> Weights:
    """The weights of one checkpoint.

    Raises:
        MfganError: They are missing or damaged.
    """
    return _load(path / _MODEL)


def _load(path: Path) -> Weights:
    try:
        weights: Weights = load_file(path)
    except FileNotFoundError:
        raise MfganError(f"{path}: must exist, found nothing") from None
    except (SafetensorError, OSError) as error:
        raise MfganError(f"{path}: must be a whole safetensors file, got {error}") from None
    return weights


def resume_stage(
    path: Path, *, models: Mapping[str, UserModel], optimizers: Mapping[str, Optimizer]
) -> tuple[dict[str, Any], dict[str, Weights]]:
    """Put a stage back to where ``save_stage`` left it.

    Returns:
        The state, and the best weights so far.

    Raises:
        MfganError: The directory is damaged or of another model.
    """
    state: dict[str, Any] = read_json(path / _STATE)
    set_weights(models, read_weights(path / LAST), str(path / LAST))
    moments = _load(path / LAST / _OPTIMIZER)
    for name, optimizer in optimizers.items():
        mine = {
            key.removeprefix(f"{name}."): value
            for key, value in moments.items()
            if key.startswith(f"{name}.")
        }
        try:
            optimizer.load_state(mine, state["optimizer_steps"][name])
        except ValueError as error:
            raise MfganError(f"{path / LAST}: {error}") from None
    best = {name: read_weights(path / name) for name in BEST if (path / name).is_dir()}
    return state, best


def has_stage(path: Path) -> bool:
    """Whether a stage has been saved there."""
    return (path / _STATE).is_file()
