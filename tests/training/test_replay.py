"""Steps over static, padded batches give what the batches themselves give."""

import numpy as np
import pytest
import torch
from made import made_dataset
from plain import PLAIN

from mfgan.config import load_config
from mfgan.console import Reporter
from mfgan.data.batch import JaggedBatch
from mfgan.training import loop, train
from mfgan.training.context import StageContext
from mfgan.training.feed import StepInput
from mfgan.training.replay import ReplayedStep, Sizes, padded
from mfgan.training.stages import stage_class

SMALL = (
    *PLAIN,
    "generator.hidden_dim=8",
    "generator.max_len=12",
    "generator.dropout=0.3",
    "generator.attention_dropout=0.3",
    "generator.init_scale=0.5",
    "pretrain_generator.token_budget=40",
    "pretrain_generator.epochs=2",
    "cuda_graph=true",
)
SIZES = Sizes(total_tokens=20, num_sessions=9, max_len=6)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return made_dataset(tmp_path_factory.mktemp("data"))


def stage_of(dataset, *overrides):
    config = load_config(overrides=[*SMALL, *overrides])
    return stage_class("pretrain-generator")(StageContext(dataset, config, torch.device("cpu")))


def at_once(work):
    """A recording on the CPU: the work itself, over the same tensors."""
    return work


def packed(*lengths):
    rng = np.random.default_rng(sum(lengths))
    items, targets = ([rng.integers(1, 9, n) for n in lengths] for _ in range(2))
    return JaggedBatch.from_sequences(items, targets=targets, max_len=6)


@pytest.mark.parametrize("lengths", [(3, 6, 1), (6, 6, 6, 2), (1,), (5, 5, 5, 4)], ids=str)
def test_padding_stands_behind_and_has_no_targets(lengths):
    batch = packed(*lengths)
    more = padded(batch, SIZES)
    tokens = batch.total_tokens
    assert (more.total_tokens, more.num_sessions, more.max_seqlen) == (20, 9, 6)
    for name in ("items", "targets", "positions"):
        assert torch.equal(getattr(more, name)[:tokens], getattr(batch, name))
    assert not more.targets[tokens:].any()
    assert not more.items[tokens:].any()
    assert torch.equal(more.offsets[: batch.num_sessions + 1], batch.offsets)
    assert more.offsets.diff().max() <= 6
    assert int(more.offsets[-1]) == 20
    starts = more.offsets[:-1].repeat_interleave(more.offsets.diff())
    assert torch.equal(more.positions, torch.arange(20) - starts)


@pytest.mark.parametrize("lengths", [(6, 6, 6, 3), (1,) * 10], ids=str)
def test_what_does_not_fit_is_refused(lengths):
    with pytest.raises(ValueError, match=r"^padded: a batch must fit Sizes\(.*got "):
        padded(packed(*lengths), SIZES)


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("generator.positions=end", "generator.distance_bias=true", "generator.convolution=3"),
        ("precision=bf16",),
        ("generator.unseen_only=true", "generator.max_len=4", "pretrain_generator.token_budget=16"),
    ],
    ids=["plain", "options", "bf16", "unseen only"],
)
def test_replayed_steps_are_the_steps(dataset, overrides):
    plain, replaying = stage_of(dataset, *overrides), stage_of(dataset, *overrides)
    replayed, batches = ReplayedStep(replaying, at_once), plain.batches(0)
    assert len(batches) > 4
    losses = []
    for number in (0, 3, 1, 1):
        batch = batches[number]
        plain.optimizers["generator"].zero_grad()
        wanted = plain.step(batch, epoch=0, step=len(losses))
        wanted.loss.backward()
        given = StepInput(padded(batch, replaying.fixed_sizes()), {}, batch.total_tokens)
        output = replayed(given, epoch=0, step=len(losses))
        assert output.tokens == wanted.tokens == batch.total_tokens
        tolerance = {"rtol": 2e-2, "atol": 1e-3} if "precision=bf16" in overrides else {}
        torch.testing.assert_close(output.loss, wanted.loss, **tolerance)
        for mine, own in zip(
            replaying.generator.parameters(), plain.generator.parameters(), strict=True
        ):
            if tolerance and own.numel():
                assert (mine.grad - own.grad).norm() <= 0.05 * own.grad.norm()
            else:
                torch.testing.assert_close(mine.grad, own.grad, rtol=1e-4, atol=1e-6)
        losses.append(output.loss.item())
    # The same batch again: another step's dropout.
    assert losses[2] != losses[3]
    replayed.close()
    assert replaying.rng_at(7).tolist() == [replaying.seed, 7]


def test_what_came_before_is_padded_to_the_most_there_can_be(dataset):
    stage = stage_of(dataset, "generator.unseen_only=true", "generator.max_len=4")
    sizes = stage.fixed_sizes()
    cut = 0
    for batch in stage.batches(0):
        more = padded(batch, sizes)
        assert more.earlier.shape == (sizes.earlier,)
        assert int(more.earlier_offsets[-1]) == sizes.earlier
        if batch.earlier is not None:
            cut += 1
            assert torch.equal(more.earlier[: len(batch.earlier)], batch.earlier)
            mine = more.earlier_offsets[: batch.num_sessions + 1]
            assert torch.equal(mine, batch.earlier_offsets)
            assert not more.earlier[len(batch.earlier) :].any()
    assert cut
    with pytest.raises(ValueError, match="earlier must be at most 1, got"):
        padded(next(b for b in stage.batches(0) if b.earlier is not None),
               Sizes(sizes.total_tokens, sizes.num_sessions, sizes.max_len, 1))  # fmt: skip


def test_gradients_of_a_recording_come_back_to_their_parameters(dataset):
    stage = stage_of(dataset)
    batch = padded(stage.batches(0)[0], stage.fixed_sizes())

    def once(work):
        """As a graph does: what is replayed makes no new gradients, it fills the recorded ones."""
        work()
        return lambda: None

    replayed = ReplayedStep(stage, once)
    replayed(StepInput(batch), epoch=0, step=0)
    before = [p.grad for p in stage.generator.parameters()]
    stage.optimizers["generator"].zero_grad()
    replayed(StepInput(batch), epoch=0, step=1)
    assert all(p.grad is g for p, g in zip(stage.generator.parameters(), before, strict=True))
    with pytest.raises(ValueError, match=r"^replay: must be .* as before, got "):
        replayed(StepInput(stage.batches(0)[1]), epoch=0, step=2)


def run(dataset, path, lines=None, *overrides):
    class Noted(Reporter):
        def note(self, line):
            lines.append(line)

    reporter = Noted(quiet=True) if lines is not None else Reporter(quiet=True)
    settings = load_config(overrides=[*SMALL, "selection.enabled=false", *overrides])
    done = train(dataset, path, settings, stage="pretrain-generator", reporter=reporter)
    return done.generator().state_dict()


def assert_same_weights(found, wanted):
    for name, weights in found.items():
        # A key's bias changes no attention: its gradient is rounding, which Adam makes large.
        if not name.endswith("qkv.bias"):
            torch.testing.assert_close(weights, wanted[name], rtol=1e-3, atol=1e-4)


def test_a_whole_training_replayed(dataset, tmp_path, monkeypatch):
    lines = []
    wanted = run(dataset, tmp_path / "plain", lines)
    assert lines == ["pretrain-generator: cuda_graph is not used: device must be a GPU, got cpu"]
    monkeypatch.setattr(loop, "recorder_of", lambda device: at_once)
    lines = []
    found = run(dataset, tmp_path / "replayed", lines)
    assert lines == []
    assert_same_weights(found, wanted)


def test_what_cannot_be_recorded_runs_as_ever_and_says_so(dataset, tmp_path, monkeypatch):
    def refuse(work):
        work()
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    wanted = run(dataset, tmp_path / "plain")
    monkeypatch.setattr(loop, "recorder_of", lambda device: refuse)
    lines = []
    found = run(dataset, tmp_path / "refused", lines)
    said = "pretrain-generator: cuda_graph is not used: operation not permitted when stream is capturing"
    assert lines == [said]
    assert_same_weights(found, wanted)


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (("pretrain_generator.loss=gbce",), "loss must be softmax, got gbce"),
        (("pretrain_generator.token_budget=0",), "token_budget must be at least max_len 12, got 0"),
    ],
)
def test_steps_of_no_fixed_size_say_what_they_need(dataset, overrides, reason):
    assert stage_of(dataset, *overrides).fixed_sizes() == reason


def test_other_stages_have_no_fixed_sizes(dataset):
    context = StageContext(dataset, load_config(overrides=[*SMALL]), torch.device("cpu"))
    stage = stage_class("pretrain-discriminator")(context)
    assert stage.fixed_sizes().startswith(
        "stage pretrain-discriminator must have steps of one size"
    )
