"""Dynamic shared memory of every launch, as the code that plans the launches counts it."""

import shutil
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[2] / "csrc"
# The most that a block may ask for.
LIMITS = {"sm_80": 163 << 10, "sm_86": 99 << 10, "sm_90": 227 << 10}

HEAD_SIZES = (32, 64, 128)
attention = import_module("mfgan.ops.attention")
factor_score = import_module("mfgan.ops.factor_score")
SMALL = (str(factor_score._MOST_SHARED_DIM), str(factor_score._MOST_SHARED_WIDTH))
# The most bytes over all sizes that a launch may meet, by head size. A float32 kernel's tiles are
# the same whether its products are exact or rounded to TF32. `factor_score_small` is the most of
# `forward` and `grad_rows` over sizes that are not large.
HALF = {
    "attention_forward": (25_600, 46_080, 52_224),
    "attention_grad_query": (28_928, 45_312, 56_576),
    "attention_grad_key": (21_504, 37_888, 52_736),
    "factor_score_forward": (100_992, 100_992, 100_992),
    "factor_score_grad_rows": (101_248, 101_248, 101_248),
    "factor_score_grad_keys": (20_480, 36_864, 69_632),
    "factor_score_small": (101_120, 101_120, 100_736),
}
SINGLE = {
    "attention_forward": (46_080, 52_224, 67_584),
    "attention_grad_query": (45_312, 56_576, 105_728),
    "attention_grad_key": (37_888, 52_736, 101_888),
    "factor_score_forward": (117_824, 117_824, 117_824),
    "factor_score_grad_rows": (154_816, 154_816, 154_816),
    "factor_score_grad_keys": (36_864, 69_632, 135_168),
    "factor_score_small": (101_248, 101_248, 101_056),
}
BYTES = {
    (kernel, arithmetic, head_size): num_bytes
    for arithmetic, table in {"bf16": HALF, "fp16": HALF, "tf32": SINGLE, "exact": SINGLE}.items()
    for kernel, row in table.items()
    for head_size, num_bytes in zip(HEAD_SIZES, row, strict=True)
} | {("score_table_grads", "any", 0): 2_560}


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """What the plans of both families print."""
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("c++ is not on the path")
    found = {}
    for family in ("attention", "factor_score"):
        program = tmp_path_factory.mktemp("plan") / family
        source = CSRC / "tests" / f"shared_memory_{family}.cpp"
        command = [compiler, "-std=c++17", "-DSIMT_IMPLEMENTATION", f"-I{CSRC}"]
        subprocess.run([*command, source, "-o", program, "-lpthread"], check=True)
        run = subprocess.run([program, *SMALL], check=True, capture_output=True, text=True)
        for line in run.stdout.splitlines():
            kernel, arithmetic, head_size, num_bytes = line.split()
            found[kernel, arithmetic, int(head_size)] = int(num_bytes)
    return found


def test_every_launch_asks_for_what_the_table_says(planned):
    assert planned == BYTES


def is_large(kernel, arithmetic, head_size):
    """Whether the operator leaves such launches to PyTorch where there is little shared memory."""
    module = attention if kernel.startswith("attention") else factor_score
    beyond = head_size > module._MOST_SHARED_HEAD
    beyond |= kernel in ("factor_score_forward", "factor_score_grad_rows")  # not of every size
    return arithmetic in ("tf32", "exact") and beyond


@pytest.mark.parametrize("architecture", LIMITS)
def test_no_launch_asks_for_more_than_there_is(planned, architecture):
    for launch, num_bytes in planned.items():
        if architecture != "sm_86" or not is_large(*launch):
            assert num_bytes <= LIMITS[architecture], launch
