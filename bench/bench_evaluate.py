"""Full-ranking evaluation against RecTools' recommendation of ten items for all users.

Both have a SASRec of the same size with random weights over ML-1M's histories without the test
item, cut at 200. Ours returns every metric and what is recommended; the rival the ten items alone,
without a metric. RecTools is asked with the batch size at which it was the fastest here.
"""

import numpy as np
import pytest
import torch

from bench.common import SEQUENCES, real_data
from bench.rectools_client import RecTools
from mfgan.config import GeneratorConfig
from mfgan.data.prepare import prepare
from mfgan.evaluation.protocol import evaluate
from mfgan.evaluation.scorers import GeneratorScorer
from mfgan.models.generator import Generator

MODEL = {"num_blocks": 2, "num_heads": 1, "hidden_dim": 50, "max_len": 200, "dropout": 0.2}
BATCH_SIZE = 128


@pytest.fixture
def rival():
    worker = RecTools(
        path=str(real_data(SEQUENCES["ml-1m"])),
        held_out=1,
        threads=torch.get_num_threads(),
        batch_size=128,
        recommend_batch_size=256,
        **MODEL,
    )
    yield worker
    worker.close()


def test_evaluate_full(compare, rival, tmp_path):
    dataset = prepare(real_data(SEQUENCES["ml-1m"]), tmp_path / "ml-1m", format="sequences")
    config = GeneratorConfig(ff_multiple=1.0, activation="relu", **MODEL)
    scorer = GeneratorScorer(Generator(config, dataset.num_items).eval())

    def ours():
        found = evaluate(dataset, scorer, max_len=config.max_len, batch_size=BATCH_SIZE)
        assert 0 < found.metrics["NDCG@10"] < 0.1  # random weights
        assert found.num_users == np.count_nonzero(dataset.test >= 0) == 6040

    compare("evaluate-full", ours, rival.recommend, repeats=7)
