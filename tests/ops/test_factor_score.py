import pytest
import torch
from score_inputs import Block, expand_prefixes, make_inputs

from mfgan.ops import factor_score, reference_score

RNG = torch.tensor([11, 3])


def whole_block(inputs, seed=5):
    generator = torch.Generator().manual_seed(seed)
    dim = inputs.floats[0].shape[-1]
    items, places = inputs.floats[0], inputs.floats[4]
    matrices = torch.randn(3, len(items), dim, dim, generator=generator, dtype=items.dtype)
    return Block(items, places, *matrices.unbind(0), inputs.floats[6:])


@pytest.mark.parametrize("lengths", [[1], [6], [3, 0, 7, 1]], ids=str)
@pytest.mark.parametrize("num_candidates", [1, 3])
def test_equals_every_prefix_as_a_sequence_of_its_own(lengths, num_candidates):
    inputs = make_inputs(lengths, num_candidates)
    block = whole_block(inputs)
    leaves = [block.items, block.places, *block.rest]
    expanded = expand_prefixes(block, inputs)
    floats = block.tables()
    shared = factor_score(*floats, *inputs.indices, inputs.max_history, num_heads=2)
    torch.testing.assert_close(shared, expanded)
    grad = torch.randn_like(expanded)
    torch.testing.assert_close(
        torch.autograd.grad(shared, leaves, grad), torch.autograd.grad(expanded, leaves, grad)
    )


def test_reference_with_dropout_draws_from_its_index_alone():
    inputs = make_inputs([4, 3], 3)
    whole = inputs.score(reference_score.factor_score, dropout_p=0.3, rng=RNG)
    torch.testing.assert_close(whole, inputs.score(dropout_p=0.3, rng=RNG))
    assert not torch.allclose(whole, inputs.score(dropout_p=0.3, rng=RNG + 1))
    assert not torch.allclose(whole, inputs.score())
