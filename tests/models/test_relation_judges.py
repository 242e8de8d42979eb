"""Discriminators of relations: their formula, their place among the others, their checkpoints."""

import pytest
import torch
from made import made_dataset

from mfgan.config import DiscriminatorConfig
from mfgan.data.batch import JaggedBatch
from mfgan.data.relations import count_relation
from mfgan.errors import MfganError
from mfgan.models.discriminator import Discriminators, judge_names
from mfgan.training.checkpoint import Best, CheckpointStore, load_model

NAMES = ("genre", "transition", "popularity", "similarity")
SPAN_STARTS = (0, 1, 2, 3, 4, 8, 16, 32, 64)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return made_dataset(tmp_path_factory.mktemp("data"), max_len=60)


def made_judges(dataset, names=NAMES, *, counted=True, history=50):
    config = DiscriminatorConfig(
        hidden_dim=8, max_history=6, factors=names, relation_history=history
    )
    factors = [dataset.factor(name) for name in dataset.factor_names]
    judges = Discriminators(config, factors, seed=0).eval()
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in judges.relations.parameters():
            parameter += torch.randn(parameter.shape, generator=rng)
    if counted:
        counted = {name: count_relation(name, dataset) for name in judges.relations.names}
        judges.relations.take({n: judges.relations.laid_out(r) for n, r in counted.items()})
    return judges


def sessions(dataset):
    histories = [dataset.history(user, "test") for user in (3, 8, 11)]
    return JaggedBatch.from_sequences(histories, max_len=99)


CANDIDATES = torch.arange(1, 31).repeat(3, 1)


@torch.no_grad()
def test_logits_add_up_what_the_history_says(dataset):
    judges, batch = made_judges(dataset, history=7), sessions(dataset)
    logits = judges(batch, batch.last_tokens(), CANDIDATES)
    assert logits.shape == (3, 30, 4)
    for relation, name in enumerate(("transition", "similarity")):
        counted = count_relation(name, dataset)
        for row, user in enumerate((3, 8, 11)):
            history = dataset.history(user, "test").tolist()[::-1][:7]
            for column, item in enumerate(CANDIDATES[row].tolist()):
                total = float(judges.relations.bias[relation])
                for distance, had in enumerate(history):
                    places = slice(counted.offsets[had], counted.offsets[had + 1])
                    said = dict(zip(counted.items[places], counted.values[places], strict=True))
                    span = max(s for s, start in enumerate(SPAN_STARTS) if start <= distance)
                    weight = float(judges.relations.weight[relation, span])
                    total += weight * float(said.get(item, 0.0))
                found = float(logits[row, column, 2 + relation])
                assert found == pytest.approx(total, rel=1e-4, abs=1e-5)


@torch.no_grad()
def test_relations_stand_behind_the_factors_and_change_nothing_of_theirs(dataset):
    judges, batch = made_judges(dataset), sessions(dataset)
    assert judges.factor_names == ("genre", "popularity", "transition", "similarity")
    assert judges.num_factors == 4
    last = batch.last_tokens()
    logits = judges(batch, last, CANDIDATES)
    config = DiscriminatorConfig(hidden_dim=8, max_history=6, factors=("genre", "popularity"))
    factors = [dataset.factor(name) for name in dataset.factor_names]
    alone = Discriminators(config, factors, seed=0).eval()
    assert alone.relations is None
    torch.testing.assert_close(logits[..., :2], alone(batch, last, CANDIDATES))
    only = made_judges(dataset, ("similarity",))
    assert only(batch, last, CANDIDATES).shape == (3, 30, 1)
    assert only.head_penalty().shape == (1,)


def test_names_of_factors_come_before_those_of_relations(dataset):
    config = DiscriminatorConfig(factors=NAMES)
    assert judge_names(config, dataset.factor_names)[2:] == ("transition", "similarity")
    # A column of the item table that is called so is a factor.
    named = judge_names(config, ["genre", "popularity", "transition"])
    assert named == ("genre", "transition", "popularity", "similarity")
    factors = judge_names(DiscriminatorConfig(), dataset.factor_names)
    assert factors == tuple(dataset.factor_names)
    everyone = DiscriminatorConfig(factors="all")
    assert judge_names(everyone, ["id", "genre", "popularity"]) == ("genre", "popularity")
    with pytest.raises(MfganError, match="factor must be one of .*, got 'transitions'"):
        made_judges(dataset, ("genre", "transitions"))


def test_a_checkpoint_has_the_counts(dataset, tmp_path):
    judges, batch = made_judges(dataset), sessions(dataset)
    CheckpointStore(tmp_path, fingerprint="").save_best(
        Best(1, 1, None), {"discriminators": judges.state_dict()}
    )
    path = tmp_path / "best-0000000001"
    again = made_judges(dataset, counted=False)
    assert not len(again.relations.table("transition")[2])
    load_model(path, "discriminators", again)
    last = batch.last_tokens()
    assert torch.equal(again(batch, last, CANDIDATES), judges(batch, last, CANDIDATES))
    with pytest.raises(MfganError, match="discriminators must have the sizes of this run"):
        load_model(path, "discriminators", made_judges(dataset, ("genre", "similarity")))


def test_a_relation_takes_its_own_best_weights_alone(dataset):
    judges, other = made_judges(dataset), made_judges(dataset)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += 1.0
    before = {name: value.clone() for name, value in judges.state_dict().items()}
    judges.load_factor(3, other.state_dict())
    after = judges.state_dict()
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert changed == ["relations.weight", "relations.bias"]
    assert torch.equal(after["relations.weight"][0], before["relations.weight"][0])
    assert torch.equal(after["relations.weight"][1], other.relations.weight[1])


@torch.no_grad()
def test_what_says_most_is_of_the_history(dataset):
    judges, batch = made_judges(dataset), sessions(dataset)
    judges.relations.weight.zero_()
    judges.relations.weight[0, 2] = 1.0  # of transitions two before the last alone
    last = batch.last_tokens()
    found = judges.relations.strongest(batch, last, CANDIDATES)
    counted = count_relation("transition", dataset)
    some = 0
    for row, user in enumerate((3, 8, 11)):
        had = int(dataset.history(user, "test")[-3])
        follows = set(counted.items[counted.offsets[had] : counted.offsets[had + 1]].tolist())
        for column, item in enumerate(CANDIDATES[row].tolist()):
            assert int(found[row, column, 0]) == (had if item in follows else 0)
            some += item in follows
    assert some > 0
    assert not found[..., 1].any()


@torch.no_grad()
def test_dealt_anew_an_item_has_the_relations_of_another(dataset):
    judges, batch = made_judges(dataset), sessions(dataset)
    last, owners = batch.last_tokens(), torch.arange(dataset.num_items + 1)
    before = judges(batch, last, CANDIDATES)
    judges.relations.dealt(torch.stack([owners, owners]))
    assert torch.equal(judges(batch, last, CANDIDATES), before)
    turned = torch.cat([owners[:1], owners[1:].roll(1)])
    judges.relations.dealt(torch.stack([owners, turned]))
    after = judges(batch, last, CANDIDATES)
    assert torch.equal(after[..., :3], before[..., :3])
    assert not torch.equal(after[..., 3], before[..., 3])
    histories = [turned[dataset.history(user, "test").tolist()].tolist() for user in (3, 8, 11)]
    mapped = JaggedBatch.from_sequences(histories, max_len=99)
    plain = made_judges(dataset)(mapped, last, turned[CANDIDATES])
    assert torch.equal(after[..., 3], plain[..., 3])
