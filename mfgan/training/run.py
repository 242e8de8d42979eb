"""A run directory: made by ``train``, opened by everything that uses what was trained."""

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mfgan._version import __version__
from mfgan.config import RunConfig, stored_config
from mfgan.data.dataset import PreparedDataset
from mfgan.errors import MfganError, nearest
from mfgan.files import atomic_file, read_json, write_json
from mfgan.training.calibration import changed_since, read_calibration
from mfgan.training.checkpoint import CheckpointStore, load_model
from mfgan.training.context import StageContext
from mfgan.training.stages import CONTROL_STAGE, STAGE_NAMES
from mfgan.training.start import START

if TYPE_CHECKING:
    from mfgan.models.correction import Correction
    from mfgan.models.discriminator import Discriminators
    from mfgan.models.generator import Generator

_SCHEMA_VERSION = 1
_HEADER: dict[str, type | tuple[type, ...]] = {
    "dataset": str,
    "fingerprint": str,
    "init": (str, type(None)),
}
_RUN, _CONFIG, _METRICS, _CHECKPOINTS = "run.json", "config.toml", "metrics.jsonl", "checkpoints"


class Run:
    """A run directory. Open one with `Run.open`.

    Attributes:
        path: The directory.
        config: The settings it was made with.
        fingerprint: That of its data set.
        init: The run whose weights it was begun from, which are copied into it; none where it was
            begun anew.

    Example:
        >>> run = Run.open("runs/ml-1m")
        >>> run.generator().item_table.shape
    """

    def __init__(self, path: Path, config: RunConfig, header: dict[str, Any]) -> None:
        self.path, self.config = path, config
        self.fingerprint: str = header["fingerprint"]
        self.init: str | None = header["init"]
        self._dataset_path = Path(header["dataset"])

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """Open a run directory.

        Raises:
            MfganError: It is none, or a newer version wrote it.
        """
        path = Path(path)
        if not (path / _RUN).is_file():
            raise MfganError(f"{path}: must be a run made by `mfgan train`, found no {_RUN} in it")
        header = read_json(path / _RUN)
        version = header.get("schema_version") if isinstance(header, dict) else None
        if not isinstance(version, int) or version < 1:
            raise MfganError(f"{path / _RUN}: schema_version must be 1 or more, got {version!r}")
        if version > _SCHEMA_VERSION:
            raise MfganError(
                f"{path}: schema_version must be at most {_SCHEMA_VERSION}, got {version}: a newer "
                "mfgan wrote it; upgrade mfgan"
            )
        for name, kinds in _HEADER.items():
            if not isinstance(header.get(name), kinds):
                raise MfganError(f"{path / _RUN}: {name} must be text, got {header.get(name)!r}")
        return cls(path, stored_config(path / _CONFIG), header)

    @classmethod
    def create(
        cls, path: Path, dataset: PreparedDataset, config: RunConfig, init: str | None
    ) -> "Run":
        """Make a run directory without any checkpoint."""
        header = {
            "schema_version": _SCHEMA_VERSION,
            "created_by": f"mfgan {__version__}",
            "dataset": os.path.relpath(dataset.path.resolve(), path.resolve()),
            "fingerprint": dataset.fingerprint,
            "init": init,
        }
        path.mkdir(parents=True, exist_ok=True)
        run = cls(path, config, header)
        run.write_config(config)
        write_json(path / _RUN, header)
        return run

    def write_config(self, config: RunConfig) -> None:
        """Replace the settings on disk."""
        self.config = config
        with atomic_file(self.path / _CONFIG) as handle:
            handle.write(config.to_toml().encode())

    @cached_property
    def dataset(self) -> PreparedDataset:
        """The prepared data set.

        Raises:
            MfganError: It is no longer there, or another one is in its place.
        """
        dataset = PreparedDataset.open(Path(os.path.normpath(self.path / self._dataset_path)))
        self.check_dataset(dataset)
        return dataset

    def check_dataset(self, dataset: PreparedDataset) -> None:
        """Refuse any data set but the one that the run was made with.

        Raises:
            MfganError: It is another one.
        """
        if dataset.fingerprint != self.fingerprint:
            raise MfganError(
                f"{self.path}: must be used with the data set it was made with, "
                f"{self.fingerprint[:12]}, got {dataset.path} ({dataset.fingerprint[:12]})"
            )

    @property
    def metrics_path(self) -> Path:
        """The curves, one JSON object a line."""
        return self.path / _METRICS

    def stage_directory(self, stage: str) -> Path:
        """Where a stage keeps its checkpoints or files."""
        return self.path / _CHECKPOINTS / stage

    def store(self, stage: str) -> CheckpointStore:
        """The checkpoints of a stage."""
        return CheckpointStore(
            self.stage_directory(stage),
            fingerprint=self.fingerprint,
            keep=self.config.keep_checkpoints,
        )

    def has_begun(self, stage: str) -> bool:
        """Whether the stage has left anything."""
        directory = self.stage_directory(stage)
        return directory.is_dir() and any(directory.iterdir())

    def has_finished(self, stage: str) -> bool:
        """Whether the stage came to its end."""
        progress = self.store(stage).progress()
        return progress is not None and progress.finished

    def needs(self, stage: str) -> bool:
        """Whether a stage has not come to its end, or what it left is of weights no longer used."""
        if not self.has_finished(stage):
            return True
        found = read_calibration(self) if stage == "calibrate" else None
        return found is not None and bool(changed_since(self, found))

    @property
    def finished_stages(self) -> list[str]:
        """The stages that are done, in order."""
        return [stage for stage in STAGE_NAMES if self.has_finished(stage)]

    @property
    def stage(self) -> str | None:
        """The last stage that is done."""
        finished = self.finished_stages
        return finished[-1] if finished else None

    def weights(self, model: str, stage: str | None = None) -> Path | None:
        """The folder of the last finished stage's weights of a model.

        A model that no stage of this run has trained is the one it was begun from.

        Args:
            model: ``generator`` or ``discriminators``.
            stage: The last stage to look at, of all where None. The likelihood's control counts
                where it is asked for, and where no adversarial stage has finished.

        Raises:
            MfganError: There is no such stage, it is not finished, or its weights are gone.
        """
        stages = self.finished_stages
        if stage is not None:
            if stage not in stages:
                raise MfganError(
                    f"{self.path}: stage must be one that is finished, {', '.join(stages)}, "
                    f"got {stage!r}{nearest(stage, stages)}"
                )
            stages = stages[: stages.index(stage) + 1]
        if "adversarial" in stages and stage != CONTROL_STAGE:
            stages = [name for name in stages if name != CONTROL_STAGE]
        for name in reversed(stages):
            if (path := self.store(name).weights_of(model)) is not None:
                return path
        if self.start is not None and (self.start / f"{model}.safetensors").exists():
            return self.start
        return None

    @property
    def start(self) -> Path | None:
        """The folder of the weights that the run was begun from; none where it was not.

        Raises:
            MfganError: It was, and they are not there.
        """
        if self.init is None:
            return None
        folder = self.stage_directory(START)
        if not folder.is_dir():
            raise MfganError(
                f"{folder}: must hold the weights that the run was begun from, found nothing; "
                "begin it anew with --init"
            )
        return folder

    def generator(self, stage: str | None = None) -> "Generator":
        """The trained generator, on the CPU.

        Args:
            stage: Whose weights; of the last stage that trained it where None.

        Raises:
            MfganError: No stage has trained it.
        """
        model = self._context().generator()
        self._load("generator", model, stage)
        return model

    def discriminators(self, stage: str | None = None) -> "Discriminators":
        """The trained discriminators, on the CPU.

        Args:
            stage: Whose weights; of the last stage that trained them where None.

        Raises:
            MfganError: No stage has trained them.
        """
        model = self._context().discriminators()
        self._load("discriminators", model, stage)
        return model

    def correction(self) -> "Correction | None":
        """What the calibrate stage found; None where it has not run or selection is off.

        It is of the weights that ``generator()`` and ``discriminators()`` give without a stage.

        Raises:
            MfganError: The file is not what the stage wrote, or it was fitted to other weights.
        """
        found = read_calibration(self)
        if found is not None and (changed := changed_since(self, found)):
            raise MfganError(
                f"{self.path}: the calibration must be of the weights that the run is used with, "
                f"got one that was fitted to another {' and other '.join(changed)}; run "
                "`mfgan train --stage calibrate --resume`"
            )
        return found

    def _context(self) -> StageContext:
        return StageContext(self.dataset, self.config, torch.device("cpu"))

    def _load(self, name: str, model: torch.nn.Module, stage: str | None) -> None:
        path = self.weights(name, stage)
        if path is None:
            raise MfganError(f"{self.path}: {name} must have been trained, found no finished stage")
        load_model(path, name, model)
        model.eval()
