"""Checkpoints of a stage: safetensors and a JSON state, whole or not there at all.

A stage's folder holds ``step-NNNNNNNNNN`` folders, from which training goes on exactly, and one
``best-NNNNNNNNNN`` with the best weights by then. A new best one is written before the step folder
that names it, and an old best one goes only after that, so that a process killed at any moment
leaves a step folder whose best one is there.
"""

import operator
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from mfgan.errors import MfganError
from mfgan.files import atomic_directory, read_json, write_json
from mfgan.models.relation_tables import RelationTables
from mfgan.models.relation_term import RelationTerm
from mfgan.training.optimizer import Optimizer

_STATE = "state.json"
_NAME = re.compile(r"(step|best)-(\d{10})")


@dataclass
class Best:
    """The best validation so far: the weights after ``step`` steps."""

    step: int
    epoch: int
    value: float | None


@dataclass
class Progress:
    """Where a stage stands; with models and optimizers, all that going on needs.

    Args:
        step: Steps done.
        epoch: Epochs done.
        batch: Batches done of the epoch under way.
        sums: Sums over that epoch's steps so far, by name.
        best: The best validation.
        stale: Validations since then.
        finished: The stage is done.
        elapsed: Seconds spent in steps and validations.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    best: Best | None = None
    stale: int = 0
    finished: bool = False
    elapsed: float = 0.0

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Progress":
        """The inverse of ``dataclasses.asdict``.

        Raises:
            KeyError, TypeError: It is something else.
        """
        best = value["best"]
        found = cls(**{**value, "best": None if best is None else Best(**best)})
        for name in ("step", "epoch", "batch", "stale"):
            operator.index(getattr(found, name))
        if found.best is not None:
            operator.index(found.best.step)
        return found


class CheckpointStore:
    """The checkpoints of one stage of one run.

    Args:
        directory: The stage's folder.
        fingerprint: Of the data set; checkpoints of another one are refused.
        keep: How many of the newest step folders stay.
    """

    def __init__(self, directory: Path, *, fingerprint: str, keep: int = 2) -> None:
        self.directory = directory
        self.fingerprint = fingerprint
        self.keep = keep

    def exists(self) -> bool:
        """Whether there is anything to go on from."""
        return bool(self._numbered("step"))

    def progress(self) -> Progress | None:
        """Where the newest checkpoint stands, or none where there is no checkpoint."""
        steps = self._numbered("step")
        return self._read_state(steps[-1]) if steps else None

    def save(
        self,
        progress: Progress,
        models: Mapping[str, nn.Module],
        optimizers: Mapping[str, Optimizer],
    ) -> None:
        """Write a step folder, then drop what it makes superfluous."""
        tensors = {
            f"{name}/{key}": tensor
            for name, optimizer in optimizers.items()
            for key, tensor in optimizer.state_tensors().items()
        }
        state = {
            "fingerprint": self.fingerprint,
            "progress": asdict(progress),
            "optimizers": {name: optimizer.steps for name, optimizer in optimizers.items()},
        }
        path = self._path("step", progress.step)
        with atomic_directory(path, overwrite=True) as draft:
            for name, model in models.items():
                _write_tensors(draft / f"{name}.safetensors", model.state_dict())
            _write_tensors(draft / "optimizer.safetensors", tensors)
            write_json(draft / _STATE, state)
        best = progress.best.step if progress.best else None
        self._prune(best)

    def save_best(self, best: Best, weights: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Write the best weights so far, by model and name; the next ``save`` must name them."""
        with atomic_directory(self._path("best", best.step), overwrite=True) as draft:
            for name, tensors in weights.items():
                _write_tensors(draft / f"{name}.safetensors", tensors)
            write_json(draft / _STATE, {"fingerprint": self.fingerprint, "best": asdict(best)})

    def restore(
        self, models: Mapping[str, nn.Module], optimizers: Mapping[str, Optimizer]
    ) -> Progress | None:
        """Load the newest step folder into models and optimizers.

        Returns:
            Where it stands, or none where there is no checkpoint.

        Raises:
            MfganError: It is damaged, of another data set or of other sizes.
        """
        steps = self._numbered("step")
        if not steps:
            return None
        path = steps[-1]
        progress, state = self._read_state(path), read_json(path / _STATE)
        for name, model in models.items():
            load_model(path, name, model)
        tensors = _read_tensors(path / "optimizer.safetensors")
        for name, optimizer in optimizers.items():
            prefix = f"{name}/"
            mine = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
            try:
                optimizer.load_state(mine, int(state["optimizers"][name]))
            except (KeyError, ValueError) as error:
                raise MfganError(f"{path}: {error}; the run has other settings") from None
        self._clean()
        return progress

    def best_path(self) -> Path | None:
        """The folder of the weights that a finished stage hands on; none where there are none."""
        progress = self.progress()
        if progress is None or not progress.finished or progress.best is None:
            return None
        return self._path("best", progress.best.step)

    def weights_of(self, model: str) -> Path | None:
        """The folder of a model's weights that a finished stage hands on; none where it has none.

        Raises:
            MfganError: The stage has trained it, and the weights are no longer there.
        """
        path, file = self.best_path(), f"{model}.safetensors"
        if path is None or (path / file).exists():
            return path
        if (self._numbered("step")[-1] / file).exists():
            raise MfganError(f"{path / file}: must exist, found nothing")
        return None

    def _read_state(self, path: Path) -> Progress:
        state = read_json(path / _STATE)
        try:
            found, progress = str(state["fingerprint"]), Progress.from_json(state["progress"])
        except (KeyError, TypeError, ValueError) as error:
            raise MfganError(f"{path / _STATE}: must be a checkpoint's state, {error}") from None
        if found != self.fingerprint:
            raise MfganError(
                f"{path}: must be a checkpoint of this data set {self.fingerprint[:12]}, "
                f"got one of {found[:12]}"
            )
        return progress

    def _path(self, kind: str, step: int) -> Path:
        return self.directory / f"{kind}-{step:010d}"

    def _numbered(self, kind: str) -> list[Path]:
        if not self.directory.is_dir():
            return []
        names = (path.name for path in self.directory.iterdir())
        matches = [match for name in names if (match := _NAME.fullmatch(name))]
        return sorted(self.directory / match[0] for match in matches if match[1] == kind)

    def _prune(self, best: int | None) -> None:
        for path in self._numbered("step")[: -self.keep]:
            shutil.rmtree(path)
        for path in self._numbered("best"):
            if best is None or path != self._path("best", best):
                shutil.rmtree(path)

    def _clean(self) -> None:
        """Remove drafts that a killed process left; the run's lock keeps live ones out of here."""
        for path in self.directory.glob(".*"):
            shutil.rmtree(path)


def load_model(path: Path, name: str, model: nn.Module) -> None:
    """Load a model's weights from a checkpoint's folder.

    Raises:
        MfganError: They are missing, damaged or of another shape.
    """
    tensors = _read_tensors(path / f"{name}.safetensors")
    for prefix, module in model.named_modules():
        if isinstance(module, RelationTables):
            module.make_room(tensors, f"{prefix}.")
        if isinstance(module, RelationTerm) and f"{prefix}.weight" not in tensors:
            # Of a generator without relations: its logits are those of one that counted none.
            module.forget()
            tensors |= {f"{prefix}.{name}": value for name, value in module.state_dict().items()}
    own = model.state_dict()
    wrong = [key for key in own if key not in tensors or tensors[key].shape != own[key].shape]
    wrong += [key for key in tensors if key not in own]
    if wrong:
        raise MfganError(f"{path}: {name} must have the sizes of this run, {wrong[0]} differs")
    model.load_state_dict(tensors)


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    # save_file reports a full disk as an error of its own; plain writing gives the OSError.
    path.write_bytes(save({key: t.detach().contiguous() for key, t in tensors.items()}))


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load(path.read_bytes())
    except FileNotFoundError:
        raise MfganError(f"{path}: must exist, found nothing") from None
    except SafetensorError as error:
        raise MfganError(f"{path}: must be a whole safetensors file, got {error}") from None
