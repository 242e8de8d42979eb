"""The stages after the generator's first training: schedule, choice, resumption, no leak."""

import json
import shutil

import numpy as np
import pytest
import torch
from made import made_dataset
from small_adversary import AT_ENDS, CALIBRATED, context_of, small

from mfgan.data.dataset import PreparedDataset
from mfgan.training import choice_fit, train
from mfgan.training.loop import run_training
from mfgan.training.stages.adversarial import AdversarialStage
from mfgan.training.stages.pretrain_discriminator import PretrainDiscriminatorStage
from mfgan.training.stages.pretrain_generator import ContinueMleStage


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return made_dataset(tmp_path_factory.mktemp("data"))


def final_weights(run):
    """Bytes of the best weights of every stage, by stage and model."""
    found = {}
    for stage in ("pretrain-generator", "pretrain-discriminator", "adversarial"):
        for file in run.store(stage).best_path().glob("*.safetensors"):
            found[stage, file.name] = file.read_bytes()
    return found


def with_other_items(dataset, directory, splits):
    """A copy of the data set in which every target of the splits is another item."""
    shutil.copytree(dataset.path, directory)
    path = directory / "sequences" / "items.npy"
    items = np.load(path)
    for split in splits:
        places = getattr(dataset, split)
        has = np.flatnonzero(places >= 0)
        where = dataset.offsets[has] + places[has]
        items[where] = items[where] % dataset.num_items + 1
    np.save(path, items)
    return PreparedDataset.open(directory)


TEST_ALONE, BOTH = ("true", "test"), ("false", "validation", "test")


@pytest.mark.parametrize(
    ("selection", "policy", "settings"),
    [
        *((TEST_ALONE, policy, ()) for policy in ("multinomial", "likelihood")),
        *((BOTH, policy, ()) for policy in ("multinomial", "likelihood")),
        *((selection, "multinomial", AT_ENDS) for selection in (TEST_ALONE, BOTH)),
        (TEST_ALONE, "top", (CALIBRATED,)),  # which wants validation items
    ],
)
def test_no_stage_learns_from_what_is_held_out(dataset, tmp_path, selection, policy, settings):
    enabled, *splits = selection
    config = small(f"selection.enabled={enabled}", f"adversarial.policy={policy}", *settings)
    other = with_other_items(dataset, tmp_path / "other", splits)
    assert other.fingerprint != dataset.fingerprint
    ours, theirs = (
        final_weights(train(data, tmp_path / name, config))
        for data, name in ((dataset, "a"), (other, "b"))
    )
    assert len(ours) == 4
    assert ours == theirs
    if policy == "multinomial" and not settings:
        # And the comparison can tell: training items do matter.
        third = with_other_items(dataset, tmp_path / "third", [])
        path = third.path / "sequences" / "items.npy"
        items = np.load(path)
        items[0] = items[0] % dataset.num_items + 1
        np.save(path, items)
        changed = final_weights(train(PreparedDataset.open(third.path), tmp_path / "c", config))
        assert all(changed[key] != value for key, value in ours.items())


class Killed(Exception):
    pass


CAREFUL = ("adversarial.generator_optimizer.average=0.9", "checkpoint_seconds=0")
# A reward whose weights must be those of the models that the stage began with.
FITTED = (*CAREFUL, CALIBRATED, "calibrate.top_k=10")


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choice_fit, "_SURE", -torch.inf)
        return {
            settings: train(dataset, folder / str(len(settings)), small(*settings))
            for settings in (CAREFUL, FITTED)
        }


@pytest.mark.parametrize(
    ("stage", "settings"),
    [
        (PretrainDiscriminatorStage, CAREFUL),
        (AdversarialStage, CAREFUL),
        (AdversarialStage, FITTED),
    ],
)
@pytest.mark.parametrize("stop", [1, 2, 3])
def test_going_on_gives_the_same_weights_bit_for_bit(
    dataset, whole, tmp_path, monkeypatch, stage, settings, stop
):
    monkeypatch.setattr(choice_fit, "_SURE", -torch.inf)  # so that there are weights
    begun = tmp_path / "begun"
    original, calls = stage.step, []

    def step(self, *args, **kwargs):
        if len(calls) == stop:
            raise Killed
        calls.append(1)
        return original(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(stage, "step", step)
        with pytest.raises(Killed):
            train(dataset, begun, small(*settings))
    resumed = train(dataset, begun, small(*settings), resume=True)
    assert final_weights(resumed) == final_weights(whole[settings])
    rows = [json.loads(line) for line in resumed.metrics_path.read_text().splitlines()]
    assert [(row["stage"], row["epoch"]) for row in rows] == [
        *(("pretrain-generator", epoch) for epoch in (1, 2)),
        *(("pretrain-discriminator", epoch) for epoch in (1, 2)),
        *(("adversarial", epoch) for epoch in range(5)),
    ]


def test_the_first_generator_is_a_candidate_for_the_best(dataset, tmp_path):
    good = ("pretrain_generator.epochs=25", "pretrain_generator.optimizer.learning_rate=0.02")
    ruin = ("adversarial.generator_optimizer.learning_rate=3.0", "adversarial.mle_weight=0")
    run = train(dataset, tmp_path / "run", small(*good, *ruin))
    first, last = (
        run.store(stage).best_path() / "generator.safetensors"
        for stage in ("pretrain-generator", "adversarial")
    )
    assert first.read_bytes() == last.read_bytes()
    assert run.store("adversarial").progress().best.epoch == 0


@pytest.mark.parametrize(
    ("generator", "discriminators", "every", "expected"),
    [
        (1, 1, 1, [1, 3, 5, 7]),
        (2, 1, 1, [2, 5, 8, 11]),
        (2, 1, 3, [8, 11]),
        (1, 0, 1, [1, 2, 3, 4]),
        (0, 2, 1, [2, 4, 6, 8]),
        (0, 0, 1, []),
    ],
)
def test_schedule_of_a_turn(dataset, generator, discriminators, every, expected):
    stage = AdversarialStage(
        context_of(
            dataset,
            f"adversarial.generator_epochs={generator}",
            f"adversarial.discriminator_epochs={discriminators}",
            f"adversarial.evaluate_every={every}",
            "adversarial.turns=4",
        )
    )
    assert stage.num_epochs == 4 * (generator + discriminators)
    turn = ["generator"] * generator + ["discriminators"] * discriminators
    assert [stage.optimizer_of(epoch) for epoch in range(stage.num_epochs)] == 4 * turn
    ends = [epochs for epochs in range(1, stage.num_epochs + 1) if stage.validates_after(epochs)]
    assert ends == expected


def test_the_control_is_validated_where_turns_are(dataset):
    settings = ("adversarial.generator_epochs=3", "adversarial.turns=5")
    context = context_of(dataset, *settings, "adversarial.evaluate_every=2")
    control = ContinueMleStage(context)
    epochs = range(1, control.num_epochs + 1)
    assert [epoch for epoch in epochs if control.validates_after(epoch)] == [6, 12, 15]


def test_a_pass_moves_only_its_own_model(dataset):
    stage = AdversarialStage(context_of(dataset))
    for epoch, mine in ((0, "generator"), (1, "discriminators")):
        stage.step(stage.batches(epoch)[0], epoch=epoch, step=0).loss.backward()
        for name, model in stage.models.items():
            moved = any(p.grad is not None for p in model.parameters())
            assert moved == (name == mine)
            model.zero_grad()


def expected_reward(stage, batch):
    """The mean over positions of the reward of every item, weighted by the generator."""
    positions = torch.arange(batch.total_tokens)
    items = torch.arange(1, stage.generator.num_items + 1).expand(len(positions), -1)
    with torch.no_grad():
        chance = stage.generator.logits(stage.generator(batch))[:, 1:].softmax(1)
        rewards = stage.discriminators(batch, positions, items).mean(-1)
    return float((chance * rewards).sum(1).mean())


@pytest.mark.parametrize(("policy", "samples"), [("multinomial", 3), ("gumbel", 3), ("top", 15)])
@pytest.mark.parametrize("positions", [0, 2])
def test_policy_gradient_raises_the_expected_reward(dataset, policy, samples, positions):
    context = context_of(
        dataset,
        f"adversarial.policy={policy}",
        f"adversarial.positions={positions}",
        "adversarial.mle_weight=0",
        "adversarial.anchor_weight=0",
        "adversarial.generator_epochs=20",
        "adversarial.discriminator_epochs=0",
        "adversarial.generator_optimizer.learning_rate=0.01",
        "generator.dropout=0",
        "adversarial.reward=log-odds",
        "adversarial.turns=1",
        "adversarial.batch_size=64",
        f"adversarial.num_samples={samples}",
    )
    with torch.no_grad():
        context.discriminators().head_weight.mul_(50)
    stage = AdversarialStage(context)
    optimizer, batch = stage.optimizers["generator"], stage.batches(0)[0]
    before = expected_reward(stage, batch)
    for step in range(20):
        optimizer.zero_grad()
        stage.step(batch, epoch=0, step=step).loss.backward()
        optimizer.step()
    assert expected_reward(stage, batch) > before + 0.3


def test_rewards_at_some_positions_weigh_as_much_as_at_all(dataset):
    stage = AdversarialStage(context_of(dataset, "adversarial.positions=2"))
    batch = stage.batches(0)[0]
    hidden = stage.generator(batch).detach()
    positions = stage.host_draws(batch, epoch=0, step=0)["positions"]
    found = stage.policy.act(batch, hidden, positions, torch.Generator().manual_seed(0))
    assert found.items.shape == found.coefficients.shape == (batch.total_tokens, 3)
    chosen = found.coefficients.abs().sum(1) > 0
    per_session = torch.tensor(
        [int(chosen[a:b].sum()) for a, b in zip(batch.offsets, batch.offsets[1:], strict=False)]
    )
    assert torch.equal(per_session, batch.offsets.diff().clamp(max=2))
    count = len(found.rewards)
    centered = (found.rewards - found.rewards.mean(1, keepdim=True)) / 2
    torch.testing.assert_close(found.coefficients[chosen], centered * (batch.total_tokens / count))


def test_published_reward_weighs_the_likelihood_of_the_real_items(dataset):
    stage = AdversarialStage(
        context_of(dataset, "adversarial.policy=likelihood", "adversarial.baseline=none")
    )
    batch = stage.batches(0)[0]
    hidden = stage.generator(batch).detach()
    found = stage.policy.act(batch, hidden, None, torch.Generator().manual_seed(0))
    assert torch.equal(found.items[:, 0], batch.targets)
    last = batch.last_tokens()
    logits = stage.generator.logits(hidden[last])
    for row, user in enumerate(batch.users.tolist()):
        met = dataset.train_history(user)[:-1].tolist()  # the last one is the target
        logits[row, met] = -torch.inf
    best = logits.argmax(1, keepdim=True)
    with torch.no_grad():
        expected = stage.discriminators.combine(stage.discriminators(batch, last, best))[:, 0]
    owner = torch.repeat_interleave(torch.arange(batch.num_sessions), batch.offsets.diff())
    torch.testing.assert_close(found.coefficients[:, 0], expected[owner])


def test_the_anchor_holds_the_generator_back(dataset):
    distances = []
    for weight in (0, 100):
        stage = AdversarialStage(context_of(dataset, f"adversarial.anchor_weight={weight}"))
        start = {name: p.detach().clone() for name, p in stage.generator.named_parameters()}
        assert all(torch.equal(p, start[name]) for name, p in stage._anchor.named_parameters())
        optimizer = stage.optimizers["generator"]
        for step in range(15):
            optimizer.zero_grad()
            output = stage.step(stage.batches(0)[0], epoch=0, step=step)
            output.loss.backward()
            optimizer.step()
        assert all(torch.equal(p, start[name]) for name, p in stage._anchor.named_parameters())
        batch = stage.batches(0)[0]
        logs = [
            model.logits(model(batch))[:, 1:].log_softmax(1)
            for model in (stage.generator, stage._anchor)
        ]
        distances.append(float((logs[0].exp() * (logs[0] - logs[1])).sum(1).mean().detach()))
    assert distances[1] < 0.5 * distances[0]


def test_factors_hand_on_their_own_best_weights(dataset, tmp_path):
    context = context_of(dataset, "pretrain_discriminator.epochs=3")
    stage = PretrainDiscriminatorStage(context)
    names, plan = stage.discriminators.factor_names, iter([0.5, 0.9, 0.6])
    states = []

    def validate():
        scores = [next(plan), *[0.5 + 0.1 * len(states)] * (len(names) - 1)]
        states.append({k: v.clone() for k, v in stage.discriminators.state_dict().items()})
        stage._best.offer(stage.discriminators, scores)
        return {"AUC/best": float(stage._best.scores.mean())}

    stage.validate = validate
    from mfgan.training.checkpoint import CheckpointStore
    from mfgan.training.log import MetricsLog

    store = CheckpointStore(tmp_path / "store", fingerprint="x")
    run_training(stage, store, MetricsLog(tmp_path / "metrics.jsonl"))
    handed = stage.discriminators.state_dict()
    for factor in range(len(names)):
        source = states[1 if factor == 0 else 2]
        for name, rows in stage.discriminators.factor_slices(factor).items():
            assert torch.equal(handed[name][rows], source[name][rows])


@pytest.mark.parametrize("drops", [False, True])
def test_the_generator_drops_out_only_where_it_is_asked_to(dataset, drops):
    stage = AdversarialStage(
        context_of(
            dataset,
            "adversarial.policy=top",
            "adversarial.mle_weight=0",
            "generator.dropout=0.5",
            f"adversarial.dropout={str(drops).lower()}",
        )
    )
    batch = stage.batches(0)[0]
    first, second = (stage.step(batch, epoch=0, step=step) for step in (0, 1))
    assert (first.loss != second.loss) == drops
    # Without it nobody has moved yet: the generator is its own anchor.
    assert (float(first.metrics["divergence"].abs()) < 1e-6) != drops
