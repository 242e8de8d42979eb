"""Items that a session has had: never proposed, so never judged, and no choice among what is."""

import numpy as np
import pytest
import torch
from made import made_dataset
from made_scores import InMemoryDataset
from small_adversary import AT_ENDS, context_of

from mfgan.data.batch import JaggedBatch
from mfgan.data.batching import TrainingBatches
from mfgan.errors import MfganError
from mfgan.training import relation_weights
from mfgan.training.candidates import choose_positions
from mfgan.training.choices import choices, choosers, new_to
from mfgan.training.stages.adversarial import AdversarialStage
from mfgan.training.stages.pretrain_discriminator import PretrainDiscriminatorStage

UNSEEN = "generator.unseen_only=true"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return made_dataset(tmp_path_factory.mktemp("data"))


def is_repeated(dataset, user, place):
    history = dataset.items[dataset.offsets[user] :]
    return history[place] in history[:place]


def places_of(dataset, batch):
    """User and place in her history of each token's next item."""
    lengths = batch.offsets.diff()
    users = batch.users.repeat_interleave(lengths)
    ends = torch.tensor(dataset.train_end[users.numpy()])
    places = ends - lengths.repeat_interleave(lengths) + batch.positions
    return list(zip(users.tolist(), places.tolist(), strict=True))


@pytest.mark.parametrize("max_len", [3, 20])
def test_positions_before_a_repeated_item_are_left_out(dataset, max_len):
    batches = TrainingBatches(dataset, max_len=max_len, batch_size=16, seed=0).epoch(0)
    left_out = 0
    for batch in batches:
        rng = np.random.default_rng(1)
        chosen = choose_positions(batch, 99, rng, only_new=True).tolist()
        repeated = [is_repeated(dataset, *place) for place in places_of(dataset, batch)]
        assert chosen == np.flatnonzero(~np.array(repeated)).tolist()
        left_out += sum(repeated)
    assert left_out >= 10


def test_as_many_positions_are_drawn_of_those_that_are_left():
    sequences = [[1, 2, 1, 3, 4, 3, 5], [6, 6, 6], [7, 8, 9]]
    batch = JaggedBatch.from_sequences([s[:-1] for s in sequences], max_len=9)
    targets = torch.tensor([item for s in sequences for item in s[1:]])
    batch = JaggedBatch(**{**vars(batch), "targets": targets})
    for seed in range(20):
        chosen = choose_positions(batch, 2, np.random.default_rng(seed), only_new=True).tolist()
        assert len(chosen) == 4
        assert set(chosen[:2]) <= {0, 2, 3, 5}
        assert chosen[2:] == [8, 9]


def test_where_nothing_repeats_the_draws_are_the_same():
    sequences = [list(range(1, 9)), [9, 10, 11]]
    batch = JaggedBatch.from_sequences(sequences, max_len=9)
    batch = JaggedBatch(**{**vars(batch), "targets": batch.items + 20})
    first, second = (
        choose_positions(batch, 3, np.random.default_rng(5), only_new=only) for only in (0, 1)
    )
    assert torch.equal(first, second)


def test_a_batch_of_repeats_alone_is_judged_as_it_is():
    batch = JaggedBatch.from_sequences([[4, 4], [5]], max_len=9)
    batch = JaggedBatch(**{**vars(batch), "targets": batch.items})
    assert choose_positions(batch, 9, np.random.default_rng(0), only_new=True).tolist() == [0, 1, 2]


@pytest.mark.parametrize("unseen_only", [True, False])
def test_judges_learn_and_are_measured_where_the_next_item_is_new(dataset, unseen_only):
    overrides = ["sample.positions=99", f"generator.unseen_only={str(unseen_only).lower()}"]
    context = context_of(dataset, *overrides)
    judging = PretrainDiscriminatorStage(context)
    adversarial = AdversarialStage(context)
    turn = adversarial.settings.generator_epochs  # the discriminators' pass follows
    for stage, epoch in ((judging, 0), (adversarial, turn)):
        batch = stage.batches(epoch)[0]
        drawn = stage.host_draws(batch, epoch=epoch, step=0)["positions"]
        repeated = np.array([is_repeated(dataset, *place) for place in places_of(dataset, batch)])
        assert repeated.any()
        assert repeated[drawn].any() != unseen_only
    users = judging._heldout_users()
    repeated = [is_repeated(dataset, user, dataset.validation[user]) for user in users]
    assert any(repeated) != unseen_only


def test_choosers_have_not_had_their_item(dataset):
    users = np.flatnonzero(dataset.validation > 0)
    new = [not is_repeated(dataset, user, dataset.validation[user]) for user in users]
    assert 0 < sum(new) < len(new)
    assert new_to(dataset, users).tolist() == new
    found = choosers(dataset, 0, np.random.default_rng(0))
    assert found.tolist() == users[new].tolist()


def test_somebody_must_have_a_new_item():
    again = InMemoryDataset([[1, 2, 1, 3], [2, 1, 2, 3], [1, 3, 1, 2]], 3)
    with pytest.raises(MfganError, match="at least 2 users must have .* that lacks it, found 0"):
        choosers(again, 0, np.random.default_rng(0))


def test_what_was_had_is_no_alternative_where_too_few_are_unseen(dataset):
    context = context_of(dataset)
    generator = context.generator().eval()
    users = np.flatnonzero(dataset.validation > 0)
    features, chosen = choices(
        generator, lambda batch, at, items: torch.zeros(*items.shape, 1), dataset, users, 1000
    )
    assert len(chosen) == new_to(dataset, users).sum() < len(users)
    assert features[torch.arange(len(chosen)), chosen].isfinite().all()
    assert features[..., 0].isneginf().any()  # other places are filled with what was had


def test_no_reward_makes_likelier_what_was_had(dataset):
    settings = ("adversarial.policy=top", "adversarial.num_samples=30", "adversarial.baseline=none")
    context = context_of(dataset, *AT_ENDS, *settings, UNSEEN)
    stage = AdversarialStage(context)
    batch = stage.batches(0)[0]
    hidden = stage.generator(batch)[batch.last_tokens()].detach()
    found = stage.policy.act(batch, hidden, None, torch.Generator())
    for user, items, coefficients in zip(
        batch.users.tolist(), found.items, found.coefficients, strict=True
    ):
        had = np.isin(items.numpy(), dataset.train_history(user))
        assert had.any()
        assert not coefficients[had].any()
        assert coefficients[~had].any()
        assert abs(float(coefficients.sum())) < 1e-6


@pytest.mark.parametrize("gain", [-0.1, 0.0, 0.1])
def test_relations_that_validation_ranks_no_better_with_weigh_nothing(dataset, monkeypatch, gain):
    related = "generator.relations=['transition', 'similarity']"
    settings = (*AT_ENDS, "adversarial.discriminator_epochs=0", "selection.metric=MRR")
    context = context_of(dataset, related, *settings)
    features = torch.randn(500, 6, 19, generator=torch.Generator().manual_seed(0))
    features[:, 0] += 0.5  # what is chosen has more of everything
    chosen = torch.zeros(500, dtype=torch.int64)

    def validated(_, generator):
        return {"MRR": 0.5 + gain * bool(generator.relations.weight.any())}

    monkeypatch.setattr(relation_weights, "choices", lambda *_: (features, chosen))
    monkeypatch.setattr(relation_weights, "validate_generator", validated)
    relation_weights.begin_with_relations(context)
    assert bool(context.generator().relations.weight.any()) == (gain > 0)
