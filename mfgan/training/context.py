"""What the stages of one run share: its data, settings, device and models."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from mfgan.config import RunConfig
from mfgan.console import SILENT, Reporter
from mfgan.errors import MfganError
from mfgan.training.checkpoint import load_model
from mfgan.training.seeds import derived_seed

if TYPE_CHECKING:
    from mfgan.data.dataset import PreparedDataset
    from mfgan.models.discriminator import Discriminators
    from mfgan.models.generator import Generator

MODELS = ("generator", "discriminators")
_INIT_ID = 0


@dataclass
class StageContext:
    """What stages of one run share.

    Args:
        dataset: The prepared data set.
        config: Settings of the whole run.
        device: Where models and batches live.
        models: The run's models by name, with the weights that the stages before handed on.
        sources: The files that these weights are from.
        folds_seed: What parted the users into the folds whose generators are among the models:
            the seed of the run that trained those.
        reporter: Where progress goes.
    """

    dataset: "PreparedDataset"
    config: RunConfig
    device: torch.device
    models: dict[str, nn.Module] = field(default_factory=dict)
    sources: dict[str, Path] = field(default_factory=dict)
    folds_seed: int | None = None
    reporter: Reporter = field(default_factory=lambda: SILENT)

    def generator(self) -> "Generator":
        """The run's generator, made with the run's seed where no stage has made it yet."""
        from mfgan.models.generator import Generator

        if "generator" not in self.models:
            seed = self.init_seed("generator")
            names = self.config.generator.factors
            made = Generator(
                self.config.generator,
                self.dataset.num_items,
                factors=[self.dataset.factor(name) for name in self.dataset.factor_names if names],
                seed=seed,
            )
            self.models["generator"] = made.to(self.device)
        generator = self.models["generator"]
        if not isinstance(generator, Generator):
            raise TypeError(f"stage: generator must be a Generator, got {type(generator).__name__}")
        return generator

    def discriminators(self) -> "Discriminators":
        """The run's discriminators, made with the run's seed where no stage has made them yet."""
        from mfgan.models.discriminator import Discriminators

        if "discriminators" not in self.models:
            factors = [self.dataset.factor(name) for name in self.dataset.factor_names]
            seed = self.init_seed("discriminators")
            config = self.config.discriminator
            # Behind what a session holds nothing is learned, so nothing there is looked at.
            longest = self.config.generator.max_len
            reaches = {
                name: min(getattr(config, name), longest)
                for name in ("max_history", "relation_history")
            }
            config = config.model_copy(update=reaches)
            made = Discriminators(config, factors, seed=seed)
            self.models["discriminators"] = made.to(self.device)
        discriminators = self.models["discriminators"]
        if not isinstance(discriminators, Discriminators):
            got = type(discriminators).__name__
            raise TypeError(f"stage: discriminators must be Discriminators, got {got}")
        return discriminators

    def load(self, directory: Path) -> None:
        """Give the run's models the weights that a checkpoint's folder has of them."""
        for name in MODELS:
            if (directory / f"{name}.safetensors").exists():
                self.load_model(name, directory)

    def load_folds(self, directory: Path, *, seed: int) -> None:
        """Give the cross-fit's generators the weights that a checkpoint's folder has of them.

        Args:
            directory: The folder.
            seed: Of the run that parted the users into these folds.
        """
        for file in directory.glob("fold-*.safetensors"):
            load_model(directory, file.stem, self._fold_generator(file.stem))
            self.folds_seed = seed

    def load_model(self, name: str, directory: Path) -> None:
        """Give one of ``MODELS`` the weights that a checkpoint's folder has of it."""
        load_model(directory, name, getattr(self, name)())
        self.sources[name] = directory / f"{name}.safetensors"

    def fold_generators(self) -> "list[Generator]":
        """The generators of the cross-fit stage, fold by fold.

        Raises:
            MfganError: There are not as many as the configuration wants.
        """
        names = [f"fold-{fold}" for fold in range(self.config.cross_fit.folds)]
        if absent := [name for name in names if name not in self.models]:
            raise MfganError(
                f"cross_fit.folds: stage cross-fit must have trained {len(names)} generators, "
                f"found no {absent[0]}; run it before"
            )
        return [self._fold_generator(name) for name in names]

    def _fold_generator(self, name: str) -> "Generator":
        # The generator's maker under another name.
        own = replace(self, models={})
        made = self.models.setdefault(name, own.generator())
        return cast("Generator", made)

    def init_seed(self, model: str) -> int:
        """The seed that the initial weights of ``model`` are drawn from."""
        return derived_seed(self.config.seed, _INIT_ID, *model.encode())
