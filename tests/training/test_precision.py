"""Training in bf16: near float32, weights and statistics float32, the same key by two flags."""

import json
import subprocess
import sys

import pytest
import torch
from made import made_dataset
from plain import PLAIN

from mfgan.config import load_config
from mfgan.training.context import StageContext
from mfgan.training.stages import stage_class

SMALL = (*PLAIN, "generator.hidden_dim=16", "generator.max_len=12", "discriminator.hidden_dim=8")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return made_dataset(tmp_path_factory.mktemp("data"))


def a_step(dataset, stage, epoch, precision):
    config = load_config(overrides=[*SMALL, f"precision={precision}"])
    context = StageContext(dataset, config, torch.device("cpu"))
    context.generator()
    context.discriminators()
    made = stage_class(stage)(context)
    output = made.step(made.batches(epoch)[0], epoch=epoch, step=0)
    output.loss.backward()
    model = made.models[made.optimizer_of(epoch)]
    return output, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    ("stage", "epoch"),
    [("pretrain-generator", 0), ("pretrain-discriminator", 0), ("adversarial", 0)],
)
def test_a_step_in_bf16_is_near_one_in_float32(dataset, stage, epoch):
    output, grads = a_step(dataset, stage, epoch, "bf16")
    plain, wanted = a_step(dataset, stage, epoch, "float32")
    assert output.loss.dtype == torch.float32
    assert any(not torch.equal(grad, wanted[name]) for name, grad in grads.items())
    torch.testing.assert_close(output.loss, plain.loss, rtol=2e-2, atol=1e-3)
    assert grads.keys() == wanted.keys()
    for name, grad in grads.items():
        assert grad.dtype == torch.float32
        assert (grad - wanted[name]).norm() <= 0.1 * wanted[name].norm() + 1e-3, name


def trained(dataset, run, *flags):
    settings = [f"--set={name}" for name in SMALL]
    settings += ["--set=pretrain_generator.epochs=1", "--set=pretrain_generator.batch_size=32"]
    command = [sys.executable, "-m", "mfgan", "train", str(dataset.path), "--run", str(run)]
    command += ["--stage", "pretrain-generator", "--json", *settings, *flags]
    return subprocess.run(command, capture_output=True, text=True)


def test_both_flags_set_one_key(dataset, tmp_path):
    done = trained(dataset, tmp_path / "run", "--amp", "bf16")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["stages"]
    assert load_config(file=tmp_path / "run" / "config.toml").precision == "bf16"
    done = trained(dataset, tmp_path / "other", "--amp", "bf16", "--precision", "float32")
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr.strip()
        == "mfgan: train: --amp must be what --precision is, got bf16 and float32"
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_takes_one_line(dataset, tmp_path):
    done = trained(dataset, tmp_path / "run", "--device", "cuda")
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("mfgan: device must be one torch has, got 'cuda'")
