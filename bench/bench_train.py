"""One training step of the generator against RecTools' SASRec, and against itself.

Both sides train the same sessions in batches prepared before: width 50, two blocks, one head,
dropout 0.2, sessions cut at 200, batches of 128, Adam. The rival's step is its model's forward
pass, its loss, backward and its optimizer, without the trainer around it; ours is what
``mfgan train`` does a step, the draw of negatives included.
"""

import itertools

import numpy as np
import pytest
import torch

from bench.common import SEQUENCES, real_data
from bench.rectools_client import RecTools
from mfgan.config import parse_config
from mfgan.data.batching import TrainingBatches
from mfgan.data.prepare import prepare
from mfgan.training.context import StageContext
from mfgan.training.loop import train_step
from mfgan.training.stages.pretrain_generator import PretrainGeneratorStage

SHORT_SESSIONS, SHORT_LENGTH = 2048, 9
MODEL = {"num_blocks": 2, "num_heads": 1, "hidden_dim": 50, "max_len": 200, "dropout": 0.2}
NUM_BATCHES = 4
ADAM = {"kind": "adam", "learning_rate": 1e-3, "beta2": 0.98, "clip_norm": 0}


def training(dataset, loss, precision="float32", **settings):
    """The stage as ``mfgan train`` makes it, and its first batches."""
    generator = {**MODEL, "attention_dropout": MODEL["dropout"], "ff_multiple": 1.0}
    config = parse_config(
        {
            "precision": precision,
            "generator": {**generator, "activation": "relu"},
            "pretrain_generator": {
                "loss": loss,
                "batch_size": 128,
                "optimizer": ADAM,
                **settings,
            },
        }
    )
    stage = PretrainGeneratorStage(StageContext(dataset, config, torch.device("cpu")))
    batches = stage.batches(0)
    return stage, [batches[i] for i in range(NUM_BATCHES)]


def stepper(stage, batches):
    """Runs the next step."""
    count = itertools.count()

    def step():
        number = next(count)
        train_step(stage, batches[number % len(batches)], epoch=0, step=number)

    return step


def sessions_of(batch, item_ids):
    """The sessions of a batch, each with its last target, as the source file writes items."""
    bounds = batch.offsets.tolist()
    sessions = []
    for first, last in itertools.pairwise(bounds):
        items = [*batch.items[first:last].tolist(), int(batch.targets[last - 1])]
        sessions.append([int(item_ids[item]) for item in items])
    return sessions


@pytest.mark.parametrize(
    ("name", "data", "loss"),
    [
        ("train-step-bce-long", "ml-1m", "bce"),
        ("train-step-bce-short", "games", "bce"),
        ("train-step-softmax", "ml-1m", "softmax"),
    ],
)
def test_train_step(compare, tmp_path, name, data, loss):
    path = real_data(SEQUENCES[data])
    dataset = prepare(path, tmp_path / data, format="sequences")
    stage, batches = training(dataset, loss)
    rival = RecTools(
        path=str(path),
        held_out=2,
        threads=torch.get_num_threads(),
        batch_size=128,
        recommend_batch_size=256,
        loss={"bce": "BCE"}.get(loss, loss),
        **MODEL,
    )
    try:
        for batch in batches:
            rival.add_batch(sessions_of(batch, dataset.item_ids))
        compare(name, stepper(stage, batches), rival.train, repeats=9)
    finally:
        rival.close()


def large_catalogue(folder, num_items):
    """``SHORT_SESSIONS`` users of uniformly drawn items, and others who make all items occur."""
    rng = np.random.default_rng(0)
    users = np.concatenate(
        [
            np.repeat(np.arange(SHORT_SESSIONS), SHORT_LENGTH),
            SHORT_SESSIONS + np.arange(num_items) // 200,
        ]
    )
    drawn = rng.integers(0, num_items, SHORT_SESSIONS * SHORT_LENGTH)
    items = np.concatenate([drawn, rng.permutation(num_items)])
    source = folder / f"{num_items}.txt"
    np.savetxt(source, np.stack([users, items], 1) + 1, fmt="%d")
    return prepare(source, folder / f"{num_items}", format="sequences", k_core=1)


def short_steps(dataset):
    stage, _ = training(dataset, "sampled-softmax", sparse_items=True)
    sessions = TrainingBatches(
        dataset, max_len=200, batch_size=128, seed=0, users=np.arange(SHORT_SESSIONS)
    ).epoch(0)
    return stepper(stage, [sessions[i] for i in range(NUM_BATCHES)])


def test_train_table(compare, tmp_path):
    """A million items against ten thousand, both ours: at least 0.5 is wanted."""
    ours, rival = (short_steps(large_catalogue(tmp_path, n)) for n in (1_000_000, 10_000))
    compare("train-table", ours, rival)


def test_train_bf16(compare, tmp_path):
    """The softmax step in bf16 against the one in float32, both ours."""
    dataset = prepare(real_data(SEQUENCES["ml-1m"]), tmp_path / "ml-1m", format="sequences")
    steps = [
        stepper(*training(dataset, "softmax", precision=given)) for given in ("bf16", "float32")
    ]
    compare("train-step-softmax-bf16", *steps, repeats=9)
