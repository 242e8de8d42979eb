"""Discriminators: shared scores equal written-out prefixes; factors are judged apart."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mfgan.config import DiscriminatorConfig
from mfgan.data.batch import JaggedBatch
from mfgan.data.factors import Factor
from mfgan.errors import MfganError
from mfgan.models import factor_towers
from mfgan.models.discriminator import Discriminators

NUM_ITEMS = 12
TAGS = [[0]] + [[1 + i % 4, 1 + i % 3] if i % 2 else [i % 5] for i in range(1, NUM_ITEMS + 1)]


def made_factors():
    rng = np.random.default_rng(0)
    genre = np.arange(NUM_ITEMS + 1, dtype=np.int32) % 4
    vectors = rng.standard_normal((NUM_ITEMS + 1, 3)).astype(np.float32)
    vectors[[0, 5]] = 0
    return [
        Factor("id", "categorical", NUM_ITEMS + 1, np.arange(NUM_ITEMS + 1, dtype=np.int32), None,
               tuple(map(str, range(NUM_ITEMS + 1)))),
        Factor("vector", "dense", 3, vectors, None, ()),
        Factor("tags", "multi", 5, np.concatenate(TAGS).astype(np.int32),
               np.cumsum([0, *map(len, TAGS)]), tuple("u1234")),
        Factor("genre", "categorical", 4, genre, None, tuple("uabc")),
    ]  # fmt: skip


def made_batch(lengths=(3, 1, 7, 5), seed=0):
    rng = np.random.default_rng(seed)
    return JaggedBatch.from_sequences(
        [rng.integers(1, NUM_ITEMS + 1, n) for n in lengths], max_len=100
    )


def made_model(**settings):
    config = DiscriminatorConfig(
        **{"hidden_dim": 6, "num_heads": 2, "max_history": 4, "dropout": 0.0, **settings}
    )
    model = Discriminators(config, made_factors(), seed=3).double()
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():  # biases and heads away from their first values
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, dtype=parameter.dtype, generator=rng)
    return model


def item_vector(model, factor, item):
    """The vector of one factor of one item, from the raw factor."""
    made = made_factors()[factor]
    rows = model.embedding.slices(factor)
    if made.kind == "dense":
        weight = model.embedding.dense_weight[rows["dense_weight"]]
        return torch.from_numpy(made.values[item]).double() @ weight
    table = model.embedding.table[rows["table"]]
    bag = TAGS[item] if made.kind == "multi" else [int(made.values[item])]
    return table[bag].mean(0)


def judge_one(model, factor, history, candidate):
    """One tower over one written-out sequence, as the definition says."""
    sequence = [*history[-model.config.max_history :], candidate]
    hidden = torch.stack(
        [
            item_vector(model, factor, item) + model.distance[factor, len(sequence) - 1 - place]
            for place, item in enumerate(sequence)
        ]
    )
    heads = model.config.num_heads
    for depth, block in enumerate(model.blocks):
        entry = hidden if depth == 0 else F.layer_norm(hidden, hidden.shape[-1:])
        query = entry @ block.query_weight[factor].T + block.query_bias[factor]
        key, value = entry @ block.key_weight[factor].T, entry @ block.value_weight[factor].T
        mixed = []
        for q, k, v in zip(query.chunk(heads, 1), key.chunk(heads, 1), value.chunk(heads, 1),
                           strict=True):  # fmt: skip
            mixed.append((q @ k.T / math.sqrt(q.size(1))).softmax(1) @ v)
        hidden = hidden + torch.cat(mixed, 1) @ block.out_weight[factor].T + block.out_bias[factor]
        inner = F.layer_norm(hidden, hidden.shape[-1:]) @ block.ff1_weight[factor].T
        inner = (inner + block.ff1_bias[factor]).relu() @ block.ff2_weight[factor].T
        hidden = hidden + inner + block.ff2_bias[factor]
    return hidden[-1] @ model.head_weight[factor] + model.head_bias[factor]


def judge_naively(model, batch, positions, candidates):
    sessions = np.searchsorted(batch.offsets.numpy(), positions.numpy(), side="right") - 1
    rows = []
    for place, position in enumerate(positions.tolist()):
        history = batch.items[int(batch.offsets[sessions[place]]) : position + 1].tolist()
        for candidate in candidates[place].tolist():
            rows += [judge_one(model, f, history, candidate) for f in range(model.num_factors)]
    return torch.stack(rows).view(*candidates.shape, -1)


@pytest.mark.parametrize("num_blocks", [1, 2])
def test_scores_and_gradients_equal_every_prefix_written_out(num_blocks):
    model, batch = made_model(num_blocks=num_blocks), made_batch()
    positions = torch.tensor([0, 2, 3, 5, 8, 10, 15])  # ends, starts, histories cut and whole
    candidates = torch.randint(
        1, NUM_ITEMS + 1, (len(positions), 3), generator=torch.Generator().manual_seed(0)
    )
    weight = torch.randn(len(positions), 3, 4, dtype=torch.float64,
                         generator=torch.Generator().manual_seed(1))  # fmt: skip
    ours = model(batch, positions, candidates)
    (ours * weight).sum().backward()
    ours_grad = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    naive = judge_naively(model, batch, positions, candidates)
    (naive * weight).sum().backward()
    torch.testing.assert_close(ours, naive, rtol=1e-9, atol=1e-9)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(ours_grad[name], parameter.grad, rtol=1e-8, atol=1e-9)


def test_distinct_items_and_whole_catalogue_give_the_same_scores():
    model, batch = made_model(), made_batch((2, 1))
    positions, candidates = torch.tensor([1, 2]), torch.tensor([[4], [9]])
    few = model(batch, positions, candidates)
    assert batch.total_tokens + candidates.numel() <= NUM_ITEMS
    many = model(batch, positions, candidates.repeat(1, 9))
    torch.testing.assert_close(few.expand(-1, 9, -1), many, rtol=1e-12, atol=1e-12)


def test_tables_made_once_give_the_same_scores():
    model, batch = made_model(), made_batch()
    positions, candidates = torch.tensor([1, 9]), torch.tensor([[4, 2], [9, 9]])
    tables = model.item_tables()
    wanted = model(batch, positions, candidates)
    assert torch.equal(model(batch, positions, candidates, tables=tables), wanted)
    # They serve a call that would make those of a few items alone.
    batch, positions = made_batch((2, 1)), torch.tensor([1, 2])
    candidates = torch.tensor([[4], [9]])
    assert batch.total_tokens + candidates.numel() <= NUM_ITEMS
    found = model(batch, positions, candidates, tables=tables)
    torch.testing.assert_close(found, model(batch, positions, candidates), rtol=1e-12, atol=1e-12)


def test_tables_of_several_blocks_or_too_many_items_are_not_made(monkeypatch):
    assert made_model(num_blocks=2).item_tables() is None
    model = made_model()
    numbers = 4 * model.num_towers * (NUM_ITEMS + 1) * 6  # four tables of width 6
    monkeypatch.setattr(factor_towers, "_MOST_KEPT", numbers)
    assert model.item_tables() is not None
    monkeypatch.setattr(factor_towers, "_MOST_KEPT", numbers - 1)
    assert model.item_tables() is None


def test_tables_made_once_are_those_of_autocast():
    model, batch = made_model().float(), made_batch()
    positions, candidates = torch.tensor([1, 9]), torch.tensor([[4, 2], [9, 9]])
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        wanted = model(batch, positions, candidates)
        tables = model.item_tables()
        assert torch.equal(model(batch, positions, candidates, tables=tables), wanted)
    # Nothing is left to be cast at every call.
    assert {tables.query.dtype, tables.residual.dtype} == {torch.float32}
    assert not torch.equal(model(batch, positions, candidates), wanted)


def test_written_out_parts_equal_the_whole(monkeypatch):
    from mfgan.models import expanded

    model, batch = made_model(num_blocks=2), made_batch()
    positions = torch.tensor([0, 4, 10, 15])
    candidates = torch.tensor([[1, 2], [3, 4], [5, 6], [7, 8]])
    whole = model(batch, positions, candidates)
    monkeypatch.setattr(expanded, "_TOKENS_AT_ONCE", 1)
    parts = model(batch, positions, candidates)
    torch.testing.assert_close(parts, whole)
    assert model(batch, positions[:0], candidates[:0]).shape == (0, 2, 4)


def test_order_of_factors_only_permutes_the_scores():
    factors, config = made_factors(), DiscriminatorConfig(hidden_dim=6, max_history=4)
    order = [2, 3, 0, 1]
    straight = Discriminators(config, factors, seed=5)
    turned = Discriminators(config, [factors[j] for j in order], seed=5)
    batch, positions = made_batch(), torch.tensor([2, 8, 15])
    candidates = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    torch.testing.assert_close(
        straight(batch, positions, candidates)[..., order], turned(batch, positions, candidates)
    )
    alone = Discriminators(config, factors[3:], seed=5)(batch, positions, candidates)
    torch.testing.assert_close(alone[..., 0], turned(batch, positions, candidates)[..., 1])


def test_multi_factor_is_the_mean_of_its_values_and_dense_is_linear():
    model = made_model()
    vectors = model.embedding()
    assert vectors.shape == (4, NUM_ITEMS + 1, 6)
    for factor in range(4):
        expected = torch.stack([item_vector(model, factor, i) for i in range(NUM_ITEMS + 1)])
        torch.testing.assert_close(vectors[factor], expected)
    rows = torch.tensor([7, 2, 2, 0])
    torch.testing.assert_close(model.embedding(rows), vectors[:, rows])


def test_unknown_values_are_one_learned_value():
    model = made_model()
    vectors = model.embedding()
    genre = vectors[3]
    torch.testing.assert_close(genre[4], genre[8])  # both unknown
    assert not torch.equal(genre[4], genre[1])
    vectors[3, 4].sum().backward()
    rows = model.embedding.slices(3)["table"]
    touched = model.embedding.table.grad.abs().sum(1) > 0
    assert touched.nonzero().flatten().tolist() == [rows.start]
    assert torch.equal(vectors[1, 5], torch.zeros(6, dtype=torch.float64))


def test_dropout_follows_the_step_and_only_training_has_it():
    model, batch = made_model(dropout=0.5), made_batch()
    positions, candidates = torch.tensor([2, 8]), torch.tensor([[1, 2], [3, 4]])

    def judge(step):
        rng = None if step is None else torch.tensor([7, step])
        return model(batch, positions, candidates, rng=rng)

    assert torch.equal(judge(1), judge(1))
    assert not torch.equal(judge(1), judge(2))
    torch.testing.assert_close(judge(None), judge_naively(model, batch, positions, candidates))
    draws = torch.stack([judge(step) for step in range(100)])
    spread = draws.std(0) / 100**0.5
    assert torch.all((draws.mean(0) - judge(None)).abs() < 5 * spread + 0.5)


def test_one_factor_can_be_taken_from_elsewhere():
    mine, other = made_model(), made_model()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += 1
    before = {name: p.clone() for name, p in mine.state_dict().items()}
    mine.load_factor(1, other.state_dict())
    batch, positions = made_batch(), torch.tensor([2, 8])
    candidates = torch.tensor([[1, 2], [3, 4]])
    ours, theirs = mine(batch, positions, candidates), other(batch, positions, candidates)
    torch.testing.assert_close(ours[..., 1], theirs[..., 1])
    mine.load_factor(1, before)
    assert all(torch.equal(p, before[name]) for name, p in mine.state_dict().items())


def test_head_penalty_is_half_the_squared_length():
    model = made_model()
    expected = torch.stack([0.5 * (w @ w) for w in model.head_weight])
    torch.testing.assert_close(model.head_penalty(), expected)


def test_factors_are_chosen_by_name():
    config = DiscriminatorConfig(factors=("genre", "id"))
    assert Discriminators(config, made_factors()).factor_names == ("genre", "id")
    with pytest.raises(MfganError, match="factor must be one of id, vector, tags, genre, got 'x'"):
        Discriminators(DiscriminatorConfig(factors=("x",)), made_factors())
    with pytest.raises(MfganError, match="at least one factor"):
        Discriminators(DiscriminatorConfig(), [])


@pytest.mark.parametrize("num_blocks", [1, 2])
def test_a_shared_tower_is_equal_towers_whose_gradients_add_up(num_blocks):
    shared = made_model(shared=True, num_blocks=num_blocks)
    apart = made_model(num_blocks=num_blocks)
    state = shared.state_dict()
    for name, parameter in apart.named_parameters():
        parameter.data.copy_(state[name].expand_as(parameter))
    batch, positions = made_batch(), torch.tensor([1, 5, 9])
    candidates = torch.tensor([[3, 4], [1, 2], [7, 3]])
    weights = torch.randn(3, 2, shared.num_factors, generator=torch.Generator().manual_seed(0))
    found = [model(batch, positions, candidates) for model in (shared, apart)]
    torch.testing.assert_close(*found)
    for logits in found:
        (logits * weights).sum().backward()
    theirs = dict(apart.named_parameters())
    for name, parameter in shared.named_parameters():
        expected = theirs[name].grad
        if name.startswith("blocks."):
            assert len(parameter) == 1
            expected = expected.sum(0, keepdim=True)
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-6)
    assert not any(name.startswith("blocks.") for name in shared.factor_slices(0))
