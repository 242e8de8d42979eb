"""The generator: packed equals single, causal, and the same as a plain padded SASRec."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mfgan.config import GeneratorConfig
from mfgan.data.batch import JaggedBatch
from mfgan.data.factors import Factor
from mfgan.errors import MfganError
from mfgan.models import generator as generator_module
from mfgan.models import layers
from mfgan.models.generator import Generator

NUM_ITEMS = 23
LENGTHS = (5, 1, 12, 3, 8)
VARIANTS = [
    {},
    {"positions": "start"},
    {"positions": "none", "distance_bias": True},
    {"norm_place": "post", "activation": "relu"},
    {"norm": "rms", "activation": "swiglu", "ff_multiple": 1.5},
    {"normalize": True, "temperature": 0.1},
    {"norm_place": "post", "convolution": 3},
    {"norm_place": "pre", "convolution": 12, "convolution_share": 0.2},
]


def make_generator(**options):
    config = GeneratorConfig(hidden_dim=16, max_len=12, init_scale=0.5, **options)
    generator = Generator(config, NUM_ITEMS, seed=1)
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            if name.endswith(("bias", "norm.weight", "taps")):  # not the identity they begin as
                parameter.normal_(0.5, 0.5, generator=torch.Generator().manual_seed(len(name)))
    return generator


def make_sequences(lengths=LENGTHS):
    draws = torch.Generator().manual_seed(2)
    return [torch.randint(1, NUM_ITEMS + 1, (n,), generator=draws).tolist() for n in lengths]


def pack(sequences, max_len=12):
    return JaggedBatch.from_sequences(sequences, max_len=max_len)


@pytest.mark.parametrize("options", VARIANTS)
def test_packed_equals_one_session_at_a_time(options):
    generator, sequences = make_generator(**options), make_sequences()
    together = generator.logits(generator(pack(sequences)))
    alone = [generator.logits(generator(pack([sequence]))) for sequence in sequences]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("options", VARIANTS)
def test_no_token_sees_what_comes_after_it(options):
    if options.get("positions", "end") == "end":
        options = {**options, "positions": "start"}  # from the end, length itself is position
    generator, (sequence,) = make_generator(**options), make_sequences((9,))
    whole = generator(pack([sequence]))
    part = generator(pack([sequence[:4]]))
    torch.testing.assert_close(whole[:4], part, atol=1e-5, rtol=1e-5)


def test_the_convolution_has_its_share():
    """All of it leaves nothing of attention, none of it nothing of the convolution."""
    batch = pack(make_sequences())

    def without(**options):
        generator = make_generator(norm_place="post", num_blocks=1, **options)
        with torch.no_grad():
            generator.blocks[0].attention.out.weight.zero_()
        return generator(batch)

    def whole(**options):
        return make_generator(norm_place="post", num_blocks=1, **options)(batch)

    all_of_it = {"convolution": 3, "convolution_share": 1.0}
    torch.testing.assert_close(without(**all_of_it), whole(**all_of_it))
    half = {"convolution": 3, "convolution_share": 0.5}
    assert not torch.allclose(without(**half), whole(**half), atol=1e-3)
    assert not torch.allclose(whole(**half), whole(**all_of_it), atol=1e-3)
    none_of_it = {"convolution": 3, "convolution_share": 0.0}
    torch.testing.assert_close(whole(**none_of_it), whole())


@pytest.mark.parametrize("options", VARIANTS)
def test_last_tokens_alone_are_those_of_all(options):
    generator, batch = make_generator(**options), pack(make_sequences())
    expected = generator(batch)[batch.last_tokens()]
    torch.testing.assert_close(generator(batch, last_only=True), expected, atol=1e-5, rtol=1e-5)


def plain_padded_sasrec(generator, sequences, width):
    """SASRec as it is usually written: left-padded matrices, masks, a loop over blocks."""
    weights, heads = dict(generator.named_parameters()), generator.config.num_heads
    items = torch.tensor([[0] * (width - len(s)) + s for s in sequences])
    is_item = items > 0
    x = weights["item_embedding"][items] + weights["position_embedding"].flip(0)[-width:]

    def norm(name, x):
        return F.layer_norm(
            x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-6
        )

    def linear(name, x):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    mask = torch.ones(width, width).tril().bool() & is_item[:, None, :]
    for place in range(generator.config.num_blocks):
        block = f"blocks.{place}"
        y = linear(f"{block}.attention.qkv", norm(f"{block}.attention_norm", x))
        q, k, v = (
            part.view(*part.shape[:2], heads, -1).transpose(1, 2) for part in y.chunk(3, dim=-1)
        )
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        scores = scores.masked_fill(~mask[:, None], -1e9)
        attended = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        x = x + linear(f"{block}.attention.out", attended)
        inner = linear(f"{block}.feed_forward.up", norm(f"{block}.feed_forward_norm", x))
        inner = F.gelu(inner, approximate="tanh")
        x = x + linear(f"{block}.feed_forward.down", inner)
    return (norm("final_norm", x) @ weights["item_embedding"].T)[is_item]


@pytest.mark.parametrize("width", [12, 16])
def test_equals_a_plain_padded_sasrec(width):
    generator, sequences = make_generator(num_heads=4), make_sequences()
    if width > 12:  # a longer window only adds padding
        wide = torch.zeros(width - 12, 16)
        table = torch.cat([generator.position_embedding.detach(), wide])
        generator.position_embedding = torch.nn.Parameter(table)
    expected = plain_padded_sasrec(generator, sequences, width)
    actual = generator.logits(generator(pack(sequences)))
    torch.testing.assert_close(actual[:, 1:], expected[:, 1:], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("norm_place", ["pre", "post"])
def test_gradients_reach_every_weight(norm_place):
    generator = make_generator(distance_bias=True, convolution=3, norm_place=norm_place)
    hidden = generator(pack(make_sequences()), rng=torch.tensor([3, 0]))
    generator.logits(hidden)[:, 1:].logsumexp(1).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in generator.parameters())


def test_dropout_follows_seed_and_step_alone():
    generator, batch = make_generator(dropout=0.5), pack(make_sequences())
    first, again, later = (generator(batch, rng=torch.tensor([3, step])) for step in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.allclose(first, later)
    assert torch.equal(generator(batch), generator(batch))
    mean = torch.stack([generator(batch, rng=torch.tensor([3, n])) for n in range(50)]).mean(0)
    assert not torch.allclose(mean, generator(batch), atol=1e-4)


def test_every_place_that_draws_has_a_site_of_its_own(monkeypatch):
    sites = []

    def noted(function):
        def wrapper(*arguments, **keywords):
            if keywords.get("rng") is not None:
                sites.append(keywords["site"])
            return function(*arguments, **keywords)

        return wrapper

    drawing = (
        (generator_module, "dropout_residual"),
        (layers, "dense"),
        (layers, "varlen_attention"),
        (layers, "dropout_residual"),
    )
    for module, name in drawing:
        monkeypatch.setattr(module, name, noted(getattr(module, name)))
    make_generator(num_blocks=3)(pack(make_sequences()), rng=torch.tensor([3, 0]))
    assert len(sites) == 1 + 3 * 3
    without = sorted(sites)
    sites.clear()
    make_generator(num_blocks=3, convolution=2)(pack(make_sequences()), rng=torch.tensor([3, 0]))
    assert len(set(sites)) == len(sites) == len(without) + 3
    assert sorted(sites)[: len(without)] == without


def test_initial_weights_follow_the_seed():
    config = GeneratorConfig(hidden_dim=8)
    one, same, other = (Generator(config, 5, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["item_embedding"], other["item_embedding"])


def test_item_zero_is_never_recommended():
    generator = make_generator()
    logits = generator.logits(generator(pack(make_sequences())))
    assert logits.shape == (sum(LENGTHS), NUM_ITEMS + 1)
    assert torch.all(logits[:, 0] == -torch.inf)
    assert torch.all(logits[:, 1:].isfinite())


def test_empty_batches_and_sessions_are_legal():
    generator = make_generator()
    assert generator(pack([])).shape == (0, 16)
    sequences = make_sequences((3,))
    alone = generator(pack(sequences))
    assert torch.equal(generator(pack([[], *sequences, []])), alone)


def test_sessions_longer_than_max_len_are_refused():
    with pytest.raises(ValueError, match="at most max_len 12 interactions, got 13"):
        make_generator()(pack(make_sequences((13,)), max_len=13))


def test_cosine_logits_are_bounded_by_the_temperature():
    generator = make_generator(normalize=True, temperature=0.25)
    logits = generator.logits(generator(pack(make_sequences())))[:, 1:]
    assert logits.abs().max() <= 4 + 1e-5
    assert logits.abs().max() > 1


def made_factors():
    colors = np.array([0, *(1 + i % 3 for i in range(NUM_ITEMS))], np.int32)
    sizes = np.random.default_rng(0).normal(size=(NUM_ITEMS + 1, 2)).astype(np.float32)
    return [
        Factor("size", "dense", 2, sizes, None, ()),
        Factor("unused", "categorical", 1, np.zeros(NUM_ITEMS + 1, np.int32), None, ("unknown",)),
        Factor("color", "categorical", 4, colors, None, ("unknown", "red", "green", "blue")),
    ]


@pytest.mark.parametrize("options", [{}, {"normalize": True, "temperature": 0.1}])
def test_factors_are_added_where_items_are_read_and_ranked(options):
    config = GeneratorConfig(
        hidden_dim=16, max_len=12, init_scale=0.5, factors=("color", "size"), **options
    )
    generator = Generator(config, NUM_ITEMS, factors=made_factors(), seed=1)
    plain = Generator(config.model_copy(update={"factors": ()}), NUM_ITEMS, seed=1)
    with torch.no_grad():
        color, size = generator.factor_embedding()
        assert torch.equal(color[1], color[4])
        assert not torch.equal(color[1], color[2])
        assert not torch.equal(size[1], size[4])
        plain.item_embedding += color + size
    few, many = pack([[3, 1, 4]]), pack([*make_sequences(), *make_sequences()])
    assert few.total_tokens < NUM_ITEMS < many.total_tokens
    for sequences in (few, many):
        torch.testing.assert_close(generator(sequences), plain(sequences))
    torch.testing.assert_close(generator.item_table, plain.item_table)
    for sequences in (few, many):
        generator.zero_grad()
        generator(sequences).square().sum().backward()
        assert generator.factor_embedding.table.grad.abs().sum() > 0
        assert generator.factor_embedding.dense_weight.grad.abs().sum() > 0
    generator.zero_grad()
    generator.logits(generator(many).detach()).logsumexp(1).sum().backward()
    assert generator.factor_embedding.table.grad.abs().sum() > 0


def test_a_factor_begins_the_same_whatever_others_there_are():
    config = GeneratorConfig(hidden_dim=16, factors=("color",))
    alone = Generator(config, NUM_ITEMS, factors=made_factors()).factor_embedding()[0]
    config = GeneratorConfig(hidden_dim=16, factors=("size", "color"))
    beside = Generator(config, NUM_ITEMS, factors=made_factors()).factor_embedding()[1]
    assert torch.equal(alone, beside)


def test_all_are_the_attributes_that_are_no_vectors():
    same = np.arange(NUM_ITEMS + 1, dtype=np.int32)
    derived = [
        Factor(name, "categorical", NUM_ITEMS + 1, same, None, tuple(map(str, same)))
        for name in ("id", "popularity")
    ]
    every = Generator(
        GeneratorConfig(hidden_dim=16, factors="all"),
        NUM_ITEMS,
        factors=[*derived, *made_factors()],
    )
    assert every.factor_names == ("unused", "color")
    named = Generator(
        GeneratorConfig(hidden_dim=16, factors=("unused", "color")),
        NUM_ITEMS,
        factors=made_factors(),
    )
    for name, weight in named.state_dict().items():
        assert torch.equal(weight, every.state_dict()[name]), name
    assert Generator(GeneratorConfig(factors="all"), NUM_ITEMS).factor_embedding is None


def test_a_factor_that_is_not_there_is_named():
    config = GeneratorConfig(hidden_dim=16, factors=("colour",))
    with pytest.raises(MfganError, match="generator: factor must be one of size, unused, color"):
        Generator(config, NUM_ITEMS, factors=made_factors())


@pytest.mark.parametrize("options", [{}, {"normalize": True, "temperature": 0.1}])
def test_parts_of_logits_add_up_to_them(options):
    config = GeneratorConfig(
        hidden_dim=16, max_len=12, init_scale=0.5, factors=("color", "size"), **options
    )
    generator = Generator(config, NUM_ITEMS, factors=made_factors(), seed=1)
    hidden = generator(pack(make_sequences()))[:4]
    items = torch.tensor([[1, 5, 5], [2, 7, 23], [9, 1, 4], [3, 2, 1]])
    parts = generator.logit_parts(hidden, items)
    assert parts.shape == (4, 3, 3)
    assert generator.part_names == ("item itself", "color", "size")
    torch.testing.assert_close(parts.sum(-1), generator.logits(hidden).gather(1, items))
    with torch.no_grad():
        generator.factor_embedding.table.zero_()
    color, size = generator.logit_parts(hidden, items)[..., 1:].unbind(-1)
    assert not color.any()  # size is a vector, which the table has no part in
    assert size.all()
