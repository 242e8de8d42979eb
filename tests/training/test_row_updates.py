"""When a step updates the item rows that it reads alone."""

import pytest
import torch
from made import made_dataset

from mfgan.config import load_config
from mfgan.training.context import StageContext
from mfgan.training.stages import pretrain_generator

AVERAGED = ("pretrain_generator.loss=bce", "generator.factors=[]")
STEPS = "pretrain_generator.optimizer={average = 0.0, weight_decay = 0.0}"
PLAIN = (*AVERAGED, STEPS)


@pytest.mark.parametrize(
    ("settings", "rows"),
    [
        (PLAIN, True),
        ((*PLAIN, "pretrain_generator.loss=sampled-softmax"), True),
        ((*PLAIN, "pretrain_generator.loss=softmax"), False),
        (AVERAGED, False),
        ((*PLAIN, "pretrain_generator.sparse_items=false"), False),
        ((*PLAIN, "generator.normalize=true"), False),
        ((*PLAIN, "generator.factors=all"), False),
    ],
    ids=["bce", "sampled", "softmax", "averaged", "refused", "normalised", "attributes"],
)
def test_auto_chooses_rows_for_large_tables(tmp_path, monkeypatch, settings, rows):
    dataset = made_dataset(tmp_path)
    for many, wanted in ((dataset.num_items, rows), (dataset.num_items + 1, False)):
        monkeypatch.setattr(pretrain_generator, "_MANY_ITEMS", many)
        context = StageContext(dataset, load_config(overrides=settings), torch.device("cpu"))
        stage = pretrain_generator.PretrainGeneratorStage(context)
        assert stage.generator.sparse_gradients == wanted
