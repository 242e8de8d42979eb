"""The CPU kernels on other processors than this one, and what else they bring into a process."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [
    "csrc/tests/cpu_check.cpp",
    "csrc/tests/cpu_check_scores.cpp",
    *(
        f"csrc/cpu/{kernel}_kernel.cpp"
        for kernel in ("attention", "dropout", "factor_score", "softmax_choices")
    ),
    "csrc/cpu/factor_score_plan.cpp",
    "csrc/cpu/scratch.cpp",
]
# Kinds of processor: compiler with options, what runs its programs, instruction sets.
PROCESSORS = {
    "here": (["c++"], [], ["base", "v3", "v4"]),
    "aarch64": (["aarch64-linux-gnu-g++", "-static"], ["qemu-aarch64"], ["base"]),
}
USED = """
import numpy as np, torch
from mfgan.data.kcore import k_core
from mfgan.ops import dropout_residual, varlen_attention
torch.set_num_threads(2)
q, k, v = torch.randn(3, 4000, 2, 32, requires_grad=True).unbind(0)
bounds = torch.arange(0, 4001, 100, dtype=torch.int32)
rng = torch.tensor([1, 2])
out = varlen_attention(q, k, v, bounds, 100, dropout_p=0.5, rng=rng)
dropout_residual(out.flatten(1), None, dropout_p=0.5, rng=rng, site=1).sum().backward()
k_core(np.arange(100_000) % 1000, np.arange(100_000) % 999, k=5)
print(open("/proc/self/maps").read())
"""


@pytest.mark.slow
@pytest.mark.parametrize("processor", PROCESSORS)
def test_kernels_without_torch_agree_with_their_definition(processor, tmp_path):
    compiler, runner, instruction_sets = PROCESSORS[processor]
    for tool in (compiler[0], *runner):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not here; Debian has g++-aarch64-linux-gnu and qemu-user")
    program = tmp_path / "cpu_check"
    options = ["-std=c++17", "-O2", "-ffp-contract=fast", "-Icsrc", "-o", str(program)]
    subprocess.run([*compiler, *options, *SOURCES], cwd=ROOT, check=True)
    for isa in instruction_sets:
        environment = {**os.environ, "MFGAN_ISA": isa}
        command = [*runner, str(program)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{isa}:\n{done.stdout}{done.stderr}"
        assert done.stdout.endswith("all good\n")


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="no /proc/self/maps here")
def test_one_openmp_runtime_serves_all():
    done = subprocess.run(
        [sys.executable, "-c", USED], cwd=ROOT, check=True, capture_output=True, text=True
    )
    files = {line.split()[-1] for line in done.stdout.splitlines() if "/" in line}
    runtimes = {
        name for name in files if Path(name).name.startswith(("libgomp", "libomp", "libiomp"))
    }
    assert len(runtimes) <= 1, runtimes
    assert any("libtorch_cpu" in name for name in files)
