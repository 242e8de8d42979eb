"""Relations in the generator's logits: their sum, their parts, what is drawn, their checkpoints."""

from dataclasses import replace

import pytest
import torch
from made import made_dataset
from made_run import related

from mfgan.config import GeneratorConfig, SampleConfig
from mfgan.data.batch import JaggedBatch
from mfgan.data.relations import count_relation
from mfgan.errors import MfganError
from mfgan.models.generator import ITEM_ITSELF, Generator
from mfgan.names import RELATIONS
from mfgan.training import candidates
from mfgan.training.candidates import draw_candidates
from mfgan.training.checkpoint import Best, CheckpointStore, load_model
from mfgan.training.trials import trials_at

SPAN_STARTS = (0, 1, 2, 3, 4, 8, 16, 32, 64)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return made_dataset(tmp_path_factory.mktemp("data"), max_len=60)


def made_generator(dataset, relations=RELATIONS, *, counted=True, **settings):
    config = GeneratorConfig(
        hidden_dim=8, max_len=50, init_scale=1.0, relations=relations, **settings
    )
    generator = Generator(config, dataset.num_items, seed=0).eval()
    return related(generator, dataset) if counted else generator


def sessions(dataset):
    return JaggedBatch.from_sequences(
        [dataset.history(user, "test") for user in (3, 8, 11)], max_len=50
    )


@torch.no_grad()
def test_scores_are_the_vectors_and_what_the_history_says(dataset):
    generator, batch = made_generator(dataset), sessions(dataset)
    hidden, scores = generator(batch, last_only=True), generator.scores_after(batch)
    wanted = hidden @ generator.item_table.T
    for relation, name in enumerate(RELATIONS):
        counted = count_relation(name, dataset)
        for row in range(3):
            history = batch.items[batch.offsets[row] : batch.offsets[row + 1]].tolist()[::-1]
            for distance, had in enumerate(history):
                span = max(place for place, first in enumerate(SPAN_STARTS) if first <= distance)
                weight = generator.relations.weight[relation, span] * generator.relations.scale
                places = slice(counted.offsets[had], counted.offsets[had + 1])
                items = torch.from_numpy(counted.items[places]).long()
                wanted[row, items] += weight * torch.from_numpy(counted.values[places])
    torch.testing.assert_close(scores[:, 1:], wanted[:, 1:], rtol=1e-4, atol=1e-4)
    assert (scores - hidden @ generator.item_table.T).abs().max() > 0.1


@torch.no_grad()
def test_before_they_are_counted_they_change_nothing(dataset):
    plain, silent = made_generator(dataset, ()), made_generator(dataset, counted=False)
    batch = sessions(dataset)
    assert silent.relation_scores(batch, batch.last_tokens()) is None
    assert torch.equal(silent(batch), plain(batch))
    assert torch.equal(silent.scores_after(batch), plain.scores_after(batch))
    items = torch.arange(1, 7).repeat(3, 1)
    parts = silent.logit_parts(silent(batch, last_only=True), items, None)
    assert silent.part_names[1:] == RELATIONS
    assert not parts[..., 1:].any()


@torch.no_grad()
@pytest.mark.parametrize("normalize", [False, True])
def test_parts_add_up_to_the_scores(dataset, normalize):
    generator, batch = made_generator(dataset, normalize=normalize), sessions(dataset)
    hidden, scores = generator(batch, last_only=True), generator.scores_after(batch)
    items = torch.randint(1, dataset.num_items + 1, (3, 9))
    last = batch.last_tokens()
    parts = generator.logit_parts(hidden, items, generator.relation_scores(batch, last))
    assert parts.shape == (3, 9, 3)
    torch.testing.assert_close(parts.sum(-1), scores.gather(1, items), rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("at_once", [1, 1 << 20])
def test_what_is_drawn_and_judged_has_them_in_its_logits(dataset, monkeypatch, at_once):
    monkeypatch.setattr(candidates, "logits_at_once", lambda device: at_once)
    generator, batch = made_generator(dataset), sessions(dataset)
    last = batch.last_tokens()
    hidden, scores = generator(batch, last_only=True), generator.scores_after(batch)
    draw = draw_candidates(
        hidden,
        generator.item_table,
        4,
        method="top",
        rng=torch.Generator(),
        relations=generator.relation_scores(batch, last),
    )
    log_probs = scores[:, 1:].log_softmax(1)
    values, places = log_probs.topk(4)
    assert torch.equal(draw.items, places + 1)
    torch.testing.assert_close(draw.log_probs, values, rtol=1e-4, atol=1e-4)
    alone = draw_candidates(hidden, generator.item_table, 4, method="top", rng=torch.Generator())
    assert not torch.equal(alone.items, draw.items)
    settings, real = SampleConfig(num_candidates=3, method="top"), torch.tensor([1, 2, 3])
    trials = trials_at(generator, batch, last, real, settings, torch.Generator())
    torch.testing.assert_close(trials.logits, scores.gather(1, trials.items), rtol=1e-4, atol=1e-4)


def kept(path, generator):
    weights = {"generator": generator.state_dict()}
    CheckpointStore(path, fingerprint="").save_best(Best(1, 1, None), weights)
    return path / "best-0000000001"


@torch.no_grad()
def test_a_checkpoint_has_counts_and_weights(dataset, tmp_path):
    generator, batch = made_generator(dataset), sessions(dataset)
    again = made_generator(dataset, counted=False)
    load_model(kept(tmp_path, generator), "generator", again)
    assert torch.equal(again.scores_after(batch), generator.scores_after(batch))


@torch.no_grad()
def test_a_generator_without_relations_is_taken_as_one_that_counted_none(dataset, tmp_path):
    plain, generator, batch = (
        made_generator(dataset, ()),
        made_generator(dataset),
        sessions(dataset),
    )
    load_model(kept(tmp_path, plain), "generator", generator)
    assert generator.relations.is_empty
    assert not generator.relations.weight.any()
    assert torch.equal(generator.scores_after(batch), plain.scores_after(batch))
    with pytest.raises(MfganError, match="generator must have the sizes of this run"):
        load_model(kept(tmp_path / "other", made_generator(dataset)), "generator", plain)


def test_a_factor_that_is_called_as_a_relation_is_comes_first(dataset):
    called = replace(dataset.factor("genre"), name="transition")
    config = GeneratorConfig(
        hidden_dim=4, num_heads=1, factors=("transition",), relations=("transition", "similarity")
    )
    generator = Generator(config, dataset.num_items, factors=[called])
    assert generator.part_names == (ITEM_ITSELF, "transition", "similarity")


def test_names_and_catalogues_decide_which_there_are(dataset):
    assert made_generator(dataset, "all", counted=False).relations.names == RELATIONS
    config = GeneratorConfig(hidden_dim=2, num_heads=1, relations="all")
    assert Generator(config, 20_001).relations.names == ("transition",)
    assert Generator(GeneratorConfig(hidden_dim=2, num_heads=1), 5).relations is None
    named = GeneratorConfig(hidden_dim=2, num_heads=1, relations=("similarity",))
    message = "generator.relations: similarity must be of at most 20,000 items, got 20,001"
    with pytest.raises(MfganError, match=message):
        Generator(named, 20_001)
