"""A run with models that nobody trained, for tests of what is done with a run."""

from dataclasses import dataclass, field

from mfgan.config import DiscriminatorConfig, GeneratorConfig, RunConfig
from mfgan.data.dataset import PreparedDataset
from mfgan.models.discriminator import Discriminators
from mfgan.models.generator import Generator


@dataclass
class UntrainedRun:
    """Stands in for ``mfgan.training.run.Run``."""

    dataset: PreparedDataset
    config: RunConfig = field(
        default_factory=lambda: RunConfig(
            generator=GeneratorConfig(hidden_dim=8, max_len=10, init_scale=1.0),
            discriminator=DiscriminatorConfig(hidden_dim=8, max_history=6, sharpness=2.0),
        )
    )

    def generator(self, stage=None):
        return Generator(self.config.generator, self.dataset.num_items, seed=1)

    def discriminators(self, stage=None):
        factors = [self.dataset.factor(name) for name in self.dataset.factor_names]
        found = Discriminators(self.config.discriminator, factors, seed=2)
        found.head_weight.data.mul_(50)  # otherwise every judgement is near a coin's toss
        return found
