"""The generator as a scorer: the states it computes, and only those."""

import pytest
import torch

from mfgan.config import GeneratorConfig
from mfgan.data.batch import JaggedBatch
from mfgan.evaluation.scorers import GeneratorScorer
from mfgan.models.generator import Generator


@pytest.fixture
def batch():
    return JaggedBatch.from_sequences([[1, 2, 3], [4], [5, 6, 7, 8, 9, 1]], max_len=6)


@pytest.mark.parametrize("norm_place", ["pre", "post"])
@pytest.mark.parametrize("num_blocks", [1, 2])
def test_last_states_are_those_of_the_whole_pass(batch, norm_place, num_blocks):
    config = GeneratorConfig(
        hidden_dim=8, max_len=6, num_blocks=num_blocks, norm_place=norm_place, init_scale=1.0
    )
    generator = Generator(config, 9)
    whole = generator(batch)[batch.last_tokens()]
    torch.testing.assert_close(generator(batch, last_only=True), whole)
    scores = GeneratorScorer(generator)(batch)
    torch.testing.assert_close(scores[:, 1:], generator.logits(whole)[:, 1:])


def test_last_states_are_without_dropout(batch):
    generator = Generator(GeneratorConfig(hidden_dim=8, max_len=6), 9)
    with pytest.raises(ValueError, match="generator: last_only must be without dropout"):
        generator(batch, rng=torch.tensor([1, 2]), last_only=True)


def test_no_session(batch):
    generator = Generator(GeneratorConfig(hidden_dim=8, max_len=6), 9)
    nobody = JaggedBatch.from_sequences([], max_len=6)
    assert GeneratorScorer(generator)(nobody).shape == (0, 10)
