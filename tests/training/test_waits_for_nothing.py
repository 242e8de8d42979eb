"""No step reads anything back from its device or copies anything there: shown on the meta device.

Tensors of the meta device have no values, so whatever depends on one raises: ``item``, ``nonzero``,
boolean masks, ``cpu``. Copies in the other direction are caught as they are dispatched.
"""

from importlib import import_module

import pytest
import torch
from made import made_dataset
from plain import PLAIN
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from mfgan.config import load_config
from mfgan.ops import reference_softmax_choices
from mfgan.training.context import StageContext
from mfgan.training.full_softmax import softmax_cross_entropy
from mfgan.training.stages import stage_class

META = torch.device("meta")
SMALL = (*PLAIN, "generator.hidden_dim=8", "generator.max_len=12", "discriminator.hidden_dim=8")
STEPS = {
    "softmax": ("pretrain-generator", 0, ()),
    "smoothed": (
        "pretrain-generator",
        0,
        (
            "pretrain_generator.label_smoothing=0.1",
            "generator.unseen_only=false",
        ),
    ),
    "options": (
        "pretrain-generator",
        0,
        ("generator.positions=end", "generator.distance_bias=true", "generator.normalize=true"),
    ),
    "convolution": ("pretrain-generator", 0, ("generator.convolution=3",)),
    "unseen only": (
        "pretrain-generator",
        0,
        ("generator.unseen_only=true", "generator.max_len=4"),
    ),
    "bce": ("pretrain-generator", 0, ("pretrain_generator.loss=bce",)),
    "gbce": ("pretrain-generator", 0, ("pretrain_generator.loss=gbce",)),
    "sampled-softmax": ("pretrain-generator", 0, ("pretrain_generator.loss=sampled-softmax",)),
    "discriminators": ("pretrain-discriminator", 0, ()),
    "discriminators at the end": ("pretrain-discriminator", 0, ("sample.positions=0",)),
    "discriminators, gumbel": ("pretrain-discriminator", 0, ("sample.method=gumbel",)),
    "learned mixture": ("pretrain-discriminator", 0, ("discriminator.combination=learned",)),
    "adversarial": ("adversarial", 0, ()),
    "adversarial, unseen only": (
        "adversarial",
        0,
        ("generator.unseen_only=true", "generator.max_len=4"),
    ),
    "adversarial, some positions": ("adversarial", 0, ("adversarial.positions=2",)),
    "adversarial, gumbel": ("adversarial", 0, ("adversarial.policy=gumbel",)),
    "as published": (
        "adversarial",
        0,
        ("adversarial.policy=likelihood", "adversarial.baseline=none"),
    ),
    "adversarial, discriminators": ("adversarial", 1, ()),
}


class NothingMoves(TorchDispatchMode):
    """Raises where a tensor of the host goes to the device; numbers of one element may."""

    def __init__(self):
        super().__init__()
        self.seen = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        self.seen += 1
        flat, _ = torch.utils._pytree.tree_flatten((args, kwargs))
        host = [x for x in flat if isinstance(x, torch.Tensor) and x.device.type == "cpu"]
        moves = kwargs.get("device", torch.device("cpu")) == META or any(
            isinstance(x, torch.Tensor) and x.device == META for x in flat
        )
        if host and moves:
            raise AssertionError(f"{function} copies from the host")
        return function(*args, **kwargs)


class NothingIsMade(TorchFunctionMode):
    """Raises where a tensor of the device is made from Python's numbers: that is a copy, too."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        makes = function in (torch.tensor, torch.as_tensor, torch.asarray)
        if makes and torch.device(kwargs.get("device") or "cpu") == META:
            raise AssertionError(f"{function.__name__} copies from the host")
        return function(*args, **kwargs)


@pytest.fixture(scope="module", params=[30, 3000], ids=["few items", "many items"])
def dataset(request, tmp_path_factory):
    return made_dataset(tmp_path_factory.mktemp("data"), num_items=request.param)


@pytest.fixture(params=[False, True], ids=["plain PyTorch", "operators"])
def operators(request, monkeypatch):
    """With the compiled operators' fakes, where they are built, and with the references."""
    if request.param:
        for name in ("attention", "dropout", "factor_score"):
            module = import_module(f"mfgan.ops.{name}")
            if not module._DEVICES:
                pytest.skip("the operators are not built")
            monkeypatch.setattr(module, "_DEVICES", module._DEVICES | {"meta"})


def stage_on(device, dataset, name, overrides):
    config = load_config(overrides=[*SMALL, *overrides])
    context = StageContext(dataset, config, torch.device(device))
    context.generator()
    context.discriminators()
    return stage_class(name)(context)


@pytest.mark.usefixtures("operators")
@pytest.mark.parametrize("step", STEPS)
def test_a_whole_step(dataset, step):
    name, epoch, overrides = STEPS[step]
    stage = stage_on(META, dataset, name, overrides)
    optimizer = stage.optimizers[stage.optimizer_of(epoch)]
    packed = stage.batches(epoch)[0]
    drawn = {k: x.to(META) for k, x in stage.host_draws(packed, epoch=epoch, step=3).items()}
    batch = packed.to(META)
    with NothingIsMade(), NothingMoves() as mode:
        optimizer.zero_grad()
        output = stage.step(batch, epoch=epoch, step=3, drawn=drawn)
        output.loss.backward()
        norm = optimizer.step()
    assert mode.seen > 50
    assert output.loss.device == norm.device == META
    assert all(figure.device == META for figure in output.metrics.values())


def test_what_reads_or_moves_is_caught():
    x = torch.ones(4, device=META)
    for read in (x.sum().item, x.nonzero, x.cpu, lambda: x[x > 0], lambda: bool(x.any())):
        with pytest.raises((RuntimeError, NotImplementedError)):
            read()
    with NothingMoves(), pytest.raises(AssertionError, match="copies from the host"):
        torch.ones(3).to(META)
    with NothingMoves(), pytest.raises(AssertionError, match="copies from the host"):
        torch.zeros(3, device=META).copy_(torch.ones(3))
    with NothingIsMade(), pytest.raises(AssertionError, match="tensor copies from the host"):
        torch.tensor([1, 2], device=META)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
def test_the_softmax_is_the_same_without_a_kernel(smoothing, precision, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    hidden, table = (torch.randn(9, 5, generator=generator) * 9 for _ in range(2))
    targets = torch.tensor([1, 0, 3, 8, 2, 2, 0, 5, 7])

    def run():
        leaves = [x.clone().requires_grad_() for x in (hidden, table)]
        loss = softmax_cross_entropy(
            *leaves, targets, label_smoothing=smoothing, precision=precision
        )
        return [loss, *torch.autograd.grad(loss, leaves)]

    by_kernel = run()
    near = {"rtol": 2e-2, "atol": 2e-2} if precision == torch.bfloat16 else {}
    definition = reference_softmax_choices.softmax_choices
    monkeypatch.setattr("mfgan.training.full_softmax.softmax_choices", definition)
    for got, wanted in zip(run(), by_kernel, strict=True):
        torch.testing.assert_close(got, wanted, **near)


@pytest.mark.parametrize("name", ["discriminators", "discriminators at the end"])
def test_judgements_with_fixed_sizes_are_the_same(dataset, name, monkeypatch):
    stage = stage_on("cpu", dataset, "pretrain-discriminator", (*STEPS[name][2],))
    stage.discriminators.head_weight.data.mul_(50)
    batch = stage.batches(0)[0]
    positions = stage.host_draws(batch, epoch=0, step=0)["positions"]
    generator = torch.Generator().manual_seed(0)
    items = torch.randint(1, dataset.num_items + 1, (len(positions), 3), generator=generator)

    def run():
        stage.discriminators.zero_grad()
        logits = stage.discriminators(batch, positions, items)
        logits.square().sum().backward()
        return logits, [p.grad.clone() for p in stage.discriminators.parameters()]

    logits, grads = run()
    monkeypatch.setattr("mfgan.models.fixed.fixed_sizes", lambda device: True)
    fixed_logits, fixed_grads = run()
    torch.testing.assert_close(fixed_logits, logits)
    for got, wanted in zip(fixed_grads, grads, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_rows_of_items_that_are_all_distinct(dataset, monkeypatch):
    if dataset.num_items < 100:
        pytest.skip("the whole catalogue is in play")
    stage = stage_on("cpu", dataset, "pretrain-discriminator", ())
    monkeypatch.setattr("mfgan.models.fixed.fixed_sizes", lambda device: True)
    items, candidates = torch.tensor([9, 4, 7]), torch.tensor([[1, 2000], [2, 8]])
    rows, history_rows, candidate_rows = stage.discriminators._rows(items, candidates)
    assert len(rows) == 7
    assert torch.equal(rows[history_rows], items)
    assert torch.equal(rows[candidate_rows], candidates)


def test_rows_alone_are_updated_only_on_a_cpu_unless_asked_for(dataset, monkeypatch):
    monkeypatch.setattr("mfgan.training.stages.pretrain_generator._MANY_ITEMS", 1)
    overrides = ["pretrain_generator.loss=gbce", "pretrain_generator.optimizer.average=0"]
    overrides.append("generator.factors=[]")
    on = {d: stage_on(d, dataset, "pretrain-generator", overrides)._sparse for d in ("cpu", META)}
    assert on == {"cpu": True, META: False}
    overrides.append("pretrain_generator.sparse_items=true")
    assert stage_on(META, dataset, "pretrain-generator", overrides)._sparse
