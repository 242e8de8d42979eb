"""Distributions over what was not had yet: the likelihood, the draws, the policy, whole stages."""

import pytest
import torch
from made import made_dataset

from mfgan.config import load_config
from mfgan.data.batch import JaggedBatch
from mfgan.data.batching import TrainingBatches
from mfgan.errors import MfganError
from mfgan.models.seen import Seen
from mfgan.training import candidates, chunks
from mfgan.training.candidates import draw_candidates
from mfgan.training.context import StageContext
from mfgan.training.full_softmax import softmax_cross_entropy
from mfgan.training.policy_loss import PolicyTerms, policy_loss
from mfgan.training.stages import stage_class

ITEMS = 12
# Sessions [1 2 3], [5], [4 1 1 6] after [7 8], [], [9]; the true next item of the last is a repeat.
BATCH = JaggedBatch(
    items=torch.tensor([1, 2, 3, 5, 4, 1, 1, 6]),
    cu_seqlens=torch.tensor([0, 3, 4, 8], dtype=torch.int32),
    offsets=torch.tensor([0, 3, 4, 8]),
    max_seqlen=4,
    positions=torch.tensor([0, 1, 2, 0, 0, 1, 2, 3]),
    users=torch.tensor([0, 1, 2]),
    targets=torch.tensor([2, 3, 4, 6, 1, 1, 6, 4]),
    earlier=torch.tensor([7, 8, 9]),
    earlier_offsets=torch.tensor([0, 2, 2, 3]),
)
HAD = ({7, 8, 1}, {7, 8, 1, 2}, {7, 8, 1, 2, 3}, {5},
       {9, 4}, {9, 4, 1}, {9, 4, 1}, {9, 4, 1, 6})  # fmt: skip


def hidden_logits(logits):
    """The logits without what was had, the target apart."""
    out = logits.clone()
    for row, (had, target) in enumerate(zip(HAD, BATCH.targets.tolist(), strict=True)):
        for item in had - {target}:
            out[row, item - 1] = -torch.inf
    return out


@pytest.fixture
def model():
    draws = torch.Generator().manual_seed(0)
    hidden = torch.randn(8, 5, generator=draws, dtype=torch.float64).requires_grad_()
    table = torch.randn(ITEMS + 1, 5, generator=draws, dtype=torch.float64).requires_grad_()
    return hidden, table


@pytest.mark.parametrize("at_once", [1, 1 << 20])
def test_likelihood_is_over_what_was_not_had(model, monkeypatch, at_once):
    monkeypatch.setattr(chunks, "_OF_A_LOSS_ON_CPU", at_once)
    hidden, table = model
    ours = softmax_cross_entropy(hidden, table, BATCH.targets, seen=Seen.of(BATCH))
    log_p = hidden_logits(hidden @ table[1:].T).log_softmax(1)
    theirs = -log_p.gather(1, BATCH.targets[:, None] - 1).mean()
    torch.testing.assert_close(ours, theirs)
    for mine, other in zip(
        torch.autograd.grad(ours, model), torch.autograd.grad(theirs, model), strict=True
    ):
        torch.testing.assert_close(mine, other)


def test_likelihood_is_exact_where_the_target_has_hardly_a_chance():
    hidden = torch.full((8, 1), 30.0)
    table = torch.zeros(ITEMS + 1, 1)
    table[7], table[8], table[10] = 9.0, 9.0, 8.0  # 7 and 8 were had by the first session
    loss = softmax_cross_entropy(hidden, table, BATCH.targets, seen=Seen.of(BATCH))
    logits = hidden_logits((hidden @ table[1:].T).double())
    wanted = torch.nn.functional.cross_entropy(logits, BATCH.targets - 1)
    torch.testing.assert_close(loss.double(), wanted)


@pytest.mark.parametrize("method", ["multinomial", "gumbel", "top"])
@pytest.mark.parametrize("at_once", [1, 1 << 20])
def test_nothing_that_was_had_is_drawn(model, method, at_once, monkeypatch):
    monkeypatch.setattr(candidates, "logits_at_once", lambda device: at_once)
    hidden, table = (x.detach() for x in model)
    positions = torch.tensor([7, 0, 2, 3, 6])
    for seed in range(20):
        draw = draw_candidates(
            hidden[positions],
            table,
            4,
            method=method,
            rng=torch.Generator().manual_seed(seed),
            exclude=BATCH.targets[positions],
            seen=Seen.of(BATCH, positions),
        )
        for row, place in enumerate(positions.tolist()):
            left_out = HAD[place] | {int(BATCH.targets[place])}
            assert not set(draw.items[row].tolist()) & left_out
        # As probable as in the distribution over what was not had.
        log_p = hidden_logits(hidden @ table[1:].T).log_softmax(1)[positions]
        torch.testing.assert_close(draw.log_probs, log_p.gather(1, draw.items - 1))


@pytest.mark.parametrize("method", ["multinomial", "gumbel", "top"])
def test_where_too_little_is_left_all_may_be_drawn(model, method):
    hidden, table = (x.detach() for x in model)
    draw = draw_candidates(
        hidden, table, 8, method=method, rng=torch.Generator().manual_seed(0), seen=Seen.of(BATCH)
    )
    assert draw.log_probs.isfinite().all()
    enough = [row for row, had in enumerate(HAD) if ITEMS - len(had) >= 8]
    assert 0 < len(enough) < len(HAD)
    for row in enough:
        assert not set(draw.items[row].tolist()) & HAD[row]
    if method == "top":
        assert set(draw.items[2].tolist()) & HAD[2]


@pytest.mark.parametrize(("anchored", "spread"), [(0.3, 0.2), (0, 0)])
def test_the_policy_is_over_what_was_not_had(model, anchored, spread):
    hidden, table = model
    draws = torch.Generator().manual_seed(1)
    anchor_hidden = torch.randn(8, 5, generator=draws, dtype=torch.float64)
    anchor_table = torch.randn(ITEMS + 1, 5, generator=draws, dtype=torch.float64)
    coefficients = torch.randn(8, 1, generator=draws, dtype=torch.float64)
    items = torch.full((8, 1), 11)
    given = (0.7, items, coefficients, anchor_hidden, anchor_table, anchored, spread)
    ours = policy_loss(hidden, table, PolicyTerms(BATCH.targets, *given, seen=Seen.of(BATCH)))

    log_p = hidden_logits(hidden @ table[1:].T).log_softmax(1)
    anchor = hidden_logits(anchor_hidden @ anchor_table[1:].T).log_softmax(1)
    there = log_p.isfinite()
    log_p, anchor = log_p.masked_fill(~there, 0.0), anchor.masked_fill(~there, 0.0)
    chance = log_p.exp() * there
    nll = -log_p.gather(1, BATCH.targets[:, None] - 1).mean()
    policy = -(coefficients * log_p.gather(1, items - 1)).sum(1).mean()
    divergence = (chance * (log_p - anchor)).sum(1).mean()
    negative_entropy = (chance * log_p).sum(1).mean()
    theirs = 0.7 * nll + policy + anchored * divergence + spread * negative_entropy
    torch.testing.assert_close(ours.loss, theirs)
    torch.testing.assert_close(ours.entropy, -negative_entropy)
    for mine, other in zip(
        torch.autograd.grad(ours.loss, model), torch.autograd.grad(theirs, model), strict=True
    ):
        torch.testing.assert_close(mine, other)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return made_dataset(tmp_path_factory.mktemp("made"))


@pytest.mark.parametrize("history", ["last", "windows"])
def test_a_session_knows_what_came_before_it(dataset, history):
    batches = TrainingBatches(dataset, max_len=4, batch_size=8, seed=0, history=history)
    cut = 0
    for batch in batches.epoch(1):
        for session, user in enumerate(batch.users.tolist()):
            inputs = batch.items[batch.offsets[session] : batch.offsets[session + 1]].tolist()
            bounds = batch.earlier_offsets
            before = [] if bounds is None else batch.earlier[bounds[session] : bounds[session + 1]]
            met = [*map(int, before), *inputs]
            assert met == dataset.train_history(user)[: len(met)].tolist()
            cut += len(before) > 0
    assert cut


def stage_of(dataset, *settings):
    config = load_config(
        overrides=["generator.hidden_dim=8", "generator.max_len=4", "threads=1", *settings]
    )
    context = StageContext(dataset, config, torch.device("cpu"))
    return stage_class("pretrain-generator")(context)


def test_a_stage_trains_over_what_was_not_had(dataset):
    settings = ("generator.dropout=0", "generator.attention_dropout=0")
    stage = stage_of(dataset, "generator.unseen_only=true", *settings)
    batch = stage.batches(0)[0]
    loss = stage.step(batch, epoch=0, step=0).loss
    hidden = stage.generator(batch)
    wanted = softmax_cross_entropy(
        hidden, stage.generator.item_table, batch.targets, seen=Seen.of(batch)
    )
    torch.testing.assert_close(loss, wanted)
    everything = (
        stage_of(dataset, "generator.unseen_only=false", *settings)
        .step(batch, epoch=0, step=0)
        .loss
    )
    assert loss < everything - 1e-3


def test_settings_that_do_not_fit_are_named(dataset):
    settings = ("pretrain_generator.token_budget=64", "generator.unseen_only=true")
    windows = "pretrain_generator.history=windows"
    assert "history must be last" in stage_of(dataset, *settings, windows).fixed_sizes()
    with pytest.raises(
        MfganError, match=r"^config: pretrain_generator\.label_smoothing must be 0 with"
    ):
        load_config(
            overrides=["generator.unseen_only=true", "pretrain_generator.label_smoothing=0.1"]
        )
