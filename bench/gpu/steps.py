"""Whole training steps: batch in, weights moved. No rival; the host's pace counts."""

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F

from bench.gpu.cases import OURS, Case, Contender
from bench.gpu.lengths import session_lengths
from bench.gpu.settings import DISCRIMINATOR, GENERATOR, OPTIMIZER, settings
from mfgan.data.batch import JaggedBatch
from mfgan.models.discriminator import Discriminators
from mfgan.models.generator import Generator
from mfgan.models.seen import Seen
from mfgan.training.full_softmax import softmax_cross_entropy
from mfgan.training.optimizer import Optimizer
from mfgan.training.replay import record_on_gpu

_NUM_ITEMS = {"ml-1m": 3416, "games": 23715}
_STEPS = 10_000  # of the learning rate's schedule
_CANDIDATES = 11


def step_cases(device: torch.device, *, small: bool) -> list[Case]:
    """Steps of the generator and of the discriminators.

    Args:
        device: Where they run.
        small: Sizes for a trial run.
    """
    cases = []
    for dataset in ("ml-1m", "games"):
        for precision in ("float32", "bf16"):
            build = partial(_generator, device, dataset, precision, small)
            cases.append(_case(f"generator step, {dataset}, {precision}", build))
            if device.type == "cuda":
                build = partial(build, replayed=True)
                cases.append(_case(f"generator step, {dataset}, {precision}, replayed", build))
        name = f"discriminators step, {dataset}, float32"
        cases.append(_case(name, partial(_discriminators, device, dataset, small)))
    return cases


def _case(name: str, build: Callable[[], Contender]) -> Case:
    return Case(name=name, group="step", contenders={OURS: build}, wall=True)


def made_batch(device: torch.device, dataset: str, num_sessions: int, max_len: int) -> JaggedBatch:
    """Sessions of a data set's lengths over items drawn evenly, with targets."""
    lengths, _ = session_lengths(dataset, max_len, num_sessions)
    rng = np.random.default_rng(0)
    drawn = [rng.integers(1, _NUM_ITEMS[dataset] + 1, (2, length)) for length in lengths]
    return JaggedBatch.from_sequences(
        [items for items, _ in drawn], targets=[targets for _, targets in drawn], max_len=max_len
    ).to(device)


def _optimizer(model: torch.nn.Module) -> Optimizer:
    parameters = dict(model.named_parameters())
    return Optimizer(parameters, settings(OPTIMIZER), total_steps=_STEPS)


def _generator(
    device: torch.device, dataset: str, precision: str, small: bool, *, replayed: bool = False
) -> Contender:
    max_len = 20 if small else 200
    batch = made_batch(device, dataset, 4 if small else 128, max_len)
    config = settings(
        GENERATOR, max_len=max_len, hidden_dim=16 if small else GENERATOR["hidden_dim"]
    )
    model = Generator(config, _NUM_ITEMS[dataset], seed=0).to(device)
    optimizer = _optimizer(model)
    rng = torch.tensor([1, 0], device=device)

    halves = {"enabled": precision == "bf16", "cache_enabled": False}

    def differentiate() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, **halves):
            hidden = model(batch, rng=rng)
        loss = softmax_cross_entropy(
            hidden.float(), model.item_table, batch.targets, seen=Seen.of(batch)
        )
        loss.backward()

    # What is replayed leaves its gradients where the recording did.
    differentiated = record_on_gpu(differentiate) if replayed else differentiate

    def step() -> None:
        rng[1] += 1
        differentiated()
        optimizer.step()

    return Contender({"step": step})


def _discriminators(device: torch.device, dataset: str, small: bool) -> Contender:
    max_len = 10 if small else 50
    batch = made_batch(device, dataset, 4 if small else 128, max_len)
    factors = _made_factors(_NUM_ITEMS[dataset] + 1)
    config = settings(DISCRIMINATOR, max_history=max_len, hidden_dim=8 if small else 50)
    model = Discriminators(config, factors, seed=0).to(device)
    optimizer = _optimizer(model)
    rng = torch.tensor([2, 0], device=device)
    positions = torch.arange(batch.total_tokens, device=device)
    generator = torch.Generator().manual_seed(3)
    shape = batch.total_tokens, _CANDIDATES - 1
    drawn = torch.randint(1, _NUM_ITEMS[dataset] + 1, shape, generator=generator).to(device)
    items = torch.cat([batch.targets[:, None], drawn], 1)

    def step() -> None:
        rng[1] += 1
        optimizer.zero_grad()
        logits = model(batch, positions, items, rng=rng)
        loss = F.softplus(-logits[:, :1]).mean() + F.softplus(logits[:, 1:]).mean()
        loss.backward()
        optimizer.step()

    return Contender({"step": step})


def _made_factors(num_rows: int) -> list[SimpleNamespace]:
    """An id, two categories of few values, and bags of tags."""
    rng = np.random.default_rng(1)

    def categorical(name: str, num_values: int, values: np.ndarray) -> SimpleNamespace:
        return SimpleNamespace(
            name=name, kind="categorical", num_values=num_values, values=values, offsets=None
        )

    few = (("popularity", 16), ("genre", 40))
    made = [categorical("id", num_rows, np.arange(num_rows))]
    made += [categorical(name, size, rng.integers(0, size, num_rows)) for name, size in few]
    offsets = np.concatenate([[0], np.cumsum(rng.integers(1, 6, num_rows))])
    tags = rng.integers(0, 300, offsets[-1])
    made.append(
        SimpleNamespace(name="tags", kind="multi", num_values=300, values=tags, offsets=offsets)
    )
    return made
