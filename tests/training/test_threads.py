"""Training does not depend on the number of threads."""

import pytest
import torch
from made import made_dataset

from mfgan.config import load_config
from mfgan.training import chunks
from mfgan.training.context import StageContext
from mfgan.training.full_softmax import softmax_cross_entropy
from mfgan.training.loop import train_step
from mfgan.training.stages.pretrain_generator import PretrainGeneratorStage

# Wide and long enough that torch and the kernels do share work out among threads.
SETTINGS = ("generator.hidden_dim=50", "generator.num_heads=1", "generator.dropout=0.2")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return made_dataset(folder, num_users=128, num_items=700, min_len=20, max_len=80)


def trained(dataset, loss, threads):
    config = load_config(
        overrides=[*SETTINGS, f"pretrain_generator.loss={loss}", "pretrain_generator.batch_size=64"]
    )
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        stage = PretrainGeneratorStage(StageContext(dataset, config, torch.device("cpu")))
        for number, batch in enumerate(stage.batches(0)):
            output, _ = train_step(stage, batch, epoch=0, step=number)
        return output.loss.detach(), stage.generator.state_dict()
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("loss", ["softmax", "sampled-softmax", "gbce", "bce"])
def test_a_few_steps_end_in_the_same_weights(dataset, loss):
    (loss_1, one), (loss_2, two) = (trained(dataset, loss, threads) for threads in (1, 2))
    assert torch.equal(loss_1, loss_2)
    for name, weight in one.items():
        assert torch.equal(weight, two[name]), name


def test_few_rows_left_over_change_nothing():
    """Products of five to eleven rows are not the same bits on one and on two threads."""
    rng = torch.Generator().manual_seed(0)
    rows = chunks._OF_A_LOSS_ON_CPU // 1682 + 10
    hidden, table = torch.randn(rows, 128, generator=rng), torch.randn(1683, 128, generator=rng)
    targets = torch.randint(1, 1683, (rows,), generator=rng)
    results, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            leaves = hidden.clone().requires_grad_(), table.clone().requires_grad_()
            softmax_cross_entropy(*leaves, targets).backward()
            results.append([leaf.grad for leaf in leaves])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))
