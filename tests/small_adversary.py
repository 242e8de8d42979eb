"""Settings of all stages small enough to train in a moment."""

import torch
from plain import PLAIN

from mfgan.config import load_config
from mfgan.training.context import StageContext

SMALL = (
    *PLAIN,
    "generator.hidden_dim=8",
    "generator.num_blocks=1",
    "generator.max_len=12",
    "threads=1",
    "discriminator.hidden_dim=8",
    "discriminator.max_history=6",
    "sample.positions=3",
    "sample.num_candidates=3",
    "pretrain_generator.epochs=2",
    "pretrain_generator.batch_size=16",
    "pretrain_discriminator.epochs=2",
    "pretrain_discriminator.batch_size=16",
    "adversarial.turns=2",
    "adversarial.batch_size=16",
    "adversarial.num_samples=3",
)
CALIBRATED = "adversarial.reward=calibrated"
AT_ENDS = ("adversarial.contexts=ends", "adversarial.mle_weight=0")


def small(*overrides):
    return load_config(overrides=[*SMALL, *overrides])


def context_of(dataset, *overrides):
    return StageContext(dataset, small(*overrides), torch.device("cpu"))
