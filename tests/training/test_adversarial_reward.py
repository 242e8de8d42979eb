"""Where the policy gradient is taken, and what it is rewarded by."""

from types import SimpleNamespace

import pytest
import torch
from made import made_dataset
from small_adversary import AT_ENDS, CALIBRATED, context_of, small

from mfgan.data.batch import JaggedBatch
from mfgan.errors import MfganError
from mfgan.training import choice_fit, train
from mfgan.training.context import StageContext
from mfgan.training.loop import train_step
from mfgan.training.stages.adversarial import AdversarialStage


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return made_dataset(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("drops", [False, True])
def test_at_ends_the_gradient_is_that_of_the_last_tokens(dataset, drops):
    """Against the whole sessions' states, of which all but the last are then left out."""
    settings = ("adversarial.policy=top", f"adversarial.dropout={str(drops).lower()}")
    stage = AdversarialStage(context_of(dataset, *AT_ENDS, *settings, "generator.unseen_only=true"))
    batch = stage.batches(0)[0]
    assert batch.targets is None
    for user, session in zip(batch.users.tolist(), batch.offsets.diff().tolist(), strict=True):
        assert session == min(12, int(dataset.train_end[user]))
    # So that there is something to be drawn back from.
    with torch.no_grad():
        table = stage.generator.item_embedding
        table.add_(0.1 * torch.randn(table.shape, generator=torch.Generator().manual_seed(0)))
        stage.discriminators.head_weight.mul_(50)
    loss = stage.step(batch, epoch=0, step=3).loss
    loss.backward()
    grad = stage.generator.item_embedding.grad.clone()
    stage.generator.zero_grad()

    last, rng = batch.last_tokens(), stage.rng_at(3) if drops else None
    hidden = stage.generator(batch, rng=rng)[last]
    seen = [dataset.train_history(user).tolist() for user in batch.users.tolist()]

    def log_probs(model, states):
        logits = model.logits(states)
        for row, items in enumerate(seen):
            logits[row, items] = -1e4
        return logits[:, 1:].log_softmax(1)

    ours = log_probs(stage.generator, hidden)
    with torch.no_grad():
        anchor = log_probs(stage._anchor, stage._anchor(batch)[last])
        chance, best = ours.exp().topk(3, dim=1)
        rewards = stage.discriminators(batch, last, best + 1).sigmoid().mean(-1)
        level = (chance * rewards).sum(1, keepdim=True) / chance.sum(1, keepdim=True)
    policy = -(chance * (rewards - level) * ours.gather(1, best)).sum(1).mean()
    divergence = (ours.exp() * (ours - anchor)).sum(1).mean()
    expected = policy + stage.settings.anchor_weight * divergence
    expected.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(grad, stage.generator.item_embedding.grad, rtol=1e-4, atol=1e-7)


def test_calibrated_rewards_are_the_corrected_rankings(dataset, tmp_path, monkeypatch):
    """What the stage ``calibrate`` finds of the same models."""
    monkeypatch.setattr(choice_fit, "_SURE", -torch.inf)
    stages = ("pretrain-generator", "pretrain-discriminator", "calibrate")
    config = small(CALIBRATED, "calibrate.top_k=10", "calibrate.users=0")
    run = None
    for stage in stages:
        run = train(dataset, tmp_path / "run", config, stage=stage, resume=run is not None)
    correction = run.correction()
    stage = AdversarialStage(
        StageContext(
            dataset,
            config,
            torch.device("cpu"),
            {"generator": run.generator(), "discriminators": run.discriminators()},
        )
    )
    weights = torch.tensor([factor.weight for factor in correction.factors])
    torch.testing.assert_close(stage._fitted, weights)
    assert weights.abs().max() > 0.1
    batch = stage.batches(0)[0]
    last = batch.last_tokens()
    items = torch.arange(1, 4).expand(len(last), -1)
    expected = stage.discriminators(batch, last, items) @ weights
    torch.testing.assert_close(stage.policy.rewards(batch, last, items), expected)


def test_factors_with_nothing_to_say_change_nothing(dataset):
    said = []
    context = context_of(dataset, *AT_ENDS, CALIBRATED, "adversarial.policy=top")
    context.reporter = SimpleNamespace(note=said.append)
    with torch.no_grad():  # whatever it knows is noise, and far too much of it
        rng = torch.Generator().manual_seed(0)
        context.discriminators().head_weight.normal_(std=5.0, generator=rng)
    stage = AdversarialStage(context)
    assert stage._fitted.tolist() == [0.0] * len(stage.discriminators.factor_names)
    assert said == [
        "adversarial: on validation items no factor says more than chance; no item earns a "
        "reward, and the generator stays as it is"
    ]
    stage.step(stage.batches(0)[0], epoch=0, step=0).loss.backward()
    assert float(stage.generator.item_embedding.grad.abs().max()) < 1e-6


@pytest.mark.parametrize(
    ("setting", "passes"),
    [
        ("adversarial.discriminator_epochs=0", 0),
        ("adversarial.discriminator_epochs=1", 4),
        ("adversarial.entropy_weight=0.1", 2),
    ],
)
def test_where_no_pass_would_teach_anything_there_is_none(
    dataset, tmp_path, monkeypatch, setting, passes
):
    monkeypatch.setattr(choice_fit, "_SURE", torch.inf)
    config = small(*AT_ENDS, CALIBRATED, "adversarial.discriminator_epochs=0", setting)
    run = None
    for stage in ("pretrain-generator", "pretrain-discriminator", "adversarial"):
        run = train(dataset, tmp_path / "run", config, stage=stage, resume=run is not None)
    assert run.store("adversarial").progress().epoch == passes
    if passes == 0:
        before, after = (run.generator(stage) for stage in ("pretrain-generator", "adversarial"))
        assert torch.equal(before.item_embedding, after.item_embedding)


def test_calibrated_rewards_need_validation_items():
    with pytest.raises(MfganError, match=r"without selection.enabled, got calibrated"):
        small(CALIBRATED, "selection.enabled=false")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["mle_weight=0.5"], "mle_weight must be 0 with contexts ends, got 0.5"),
        (["policy=likelihood"], "policy must be another with contexts ends, got likelihood"),
        (["positions=4"], "positions must be 0 with contexts ends, got 4"),
        (["history=windows"], "history must be last with contexts ends, got windows"),
    ],
)
def test_what_ends_cannot_have_is_refused(settings, message):
    with pytest.raises(MfganError, match=message):
        small(*AT_ENDS, *(f"adversarial.{setting}" for setting in settings))


def test_top_has_no_more_actions_than_items(dataset):
    stage = AdversarialStage(
        context_of(dataset, "adversarial.policy=top", "adversarial.num_samples=99")
    )
    batch = stage.batches(0)[0]
    found = stage.policy.act(
        batch, stage.generator(batch).detach(), None, torch.Generator().manual_seed(0)
    )
    assert found.items.shape == (batch.total_tokens, dataset.num_items)


@pytest.mark.parametrize("policy", ["likelihood", "top"])
def test_rewards_are_those_of_the_judges_as_they_are_now(dataset, policy, monkeypatch):
    """What the judges' items give is kept for a pass of the generator, and not beyond it."""
    mle = "adversarial.mle_weight=0"
    stage = AdversarialStage(context_of(dataset, f"adversarial.policy={policy}", mle))
    made = []
    item_tables = stage.discriminators.item_tables
    monkeypatch.setattr(
        stage.discriminators, "item_tables", lambda: made.append(None) or item_tables()
    )
    with torch.no_grad():
        stage.discriminators.head_weight.mul_(50)  # so that steps are seen
    batch = stage.batches(0)[0]
    tokens = batch.last_tokens()
    items = torch.arange(1, 4).expand(len(tokens), -1)

    def rewards_now():
        with torch.no_grad():
            return stage.discriminators(batch, tokens, items).sigmoid().mean(-1)

    for turn in range(2):
        before = rewards_now()
        for step in range(2):
            train_step(stage, batch, epoch=0, step=step)
            torch.testing.assert_close(stage.policy.rewards(batch, tokens, items), before)
        assert len(made) == turn + 1
        train_step(stage, stage.batches(1)[0], epoch=1, step=2)
        now = rewards_now()
        assert (now - before).abs().max() > 1e-3
        torch.testing.assert_close(stage.policy.rewards(batch, tokens, items), now)


@pytest.mark.parametrize(
    "overrides",
    [
        ["adversarial.policy=top"],
        ["adversarial.policy=gumbel", "adversarial.baseline=leave-one-out"],
        ["adversarial.policy=multinomial", "adversarial.baseline=leave-one-out"],
    ],
)
def test_one_sample_that_is_its_own_baseline_is_refused(overrides):
    with pytest.raises(MfganError, match="num_samples must be at least 2 for .*, got 1"):
        small(*overrides, "adversarial.num_samples=1")


def test_a_batch_of_one_session_has_a_reward_without_a_spread(dataset):
    stage = AdversarialStage(context_of(dataset, "adversarial.policy=likelihood"))
    one = stage.batches(0)[0]
    session = slice(0, int(one.offsets[1]))
    single = JaggedBatch(
        items=one.items[session],
        cu_seqlens=one.cu_seqlens[:2],
        offsets=one.offsets[:2],
        max_seqlen=int(one.offsets[1]),
        positions=one.positions[session],
        users=one.users[:1],
        targets=one.targets[session],
    )
    assert float(stage.step(single, epoch=0, step=0).metrics["reward_spread"]) == 0.0
