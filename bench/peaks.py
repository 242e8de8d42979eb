"""``python -m bench.peaks``: what share of the machine's measured peak each CPU kernel reaches.

Peaks are measured in every round, so that a change of the machine's pace meets both: multiply-adds and bfloat16 dot products with nothing to wait for
(``peak_fma.cpp``, compiled here), PyTorch's own matrix product, a copy. Work is what the result
needs: the causal half of attention, every factor's products, what backward has to make again, bytes
read and written once. Exponentials, random bits, padding of vectors and cache misses count against
the kernel.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
import torch.nn.functional as F

from bench.bench_attention import TRAIN, both_sides
from bench.bench_score import DIM, LENGTH, NUM_FACTORS, NUM_HEADS, NUM_ITEMS, RNG, SESSIONS
from bench.common import processor, runs_a_round, timed
from bench.plain_score import make_tower
from bench.score_input import draw_items
from mfgan.ops import choice_logsumexp, dropout_residual
from mfgan.training.full_softmax import softmax_cross_entropy

ROUNDS = 7


@dataclass(frozen=True)
class Peaks:
    """GFLOP/s, and GB/s of a copy (bytes read and written)."""

    fma: float
    bf16: float
    matmul: float
    copy: float


@dataclass(frozen=True)
class Kernel:
    """One row: floating-point operations or bytes of a run."""

    name: str
    run: Callable[[], object]
    flops: float = 0.0
    bytes: float = 0.0


def seconds_of(run: Callable[[], object], times: int) -> float:
    return float(np.mean(timed(run, times)))


def vector_rates(program: Path | None) -> tuple[float, float]:
    """GFLOP/s of multiply-adds and of bfloat16 dot products; 0 without a compiler."""
    if program is None:
        return 0.0, 0.0
    command = [str(program), str(torch.get_num_threads())]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    fma, bf16 = done.stdout.split()
    return float(fma), float(bf16)


def compiled(folder: str) -> Path | None:
    compiler = shutil.which("c++")
    if compiler is None:
        return None
    source, program = Path(__file__).with_name("peak_fma.cpp"), Path(folder) / "peak"
    options = ["-O3", "-march=native", "-ffp-contract=fast", "-pthread"]
    subprocess.run([compiler, *options, str(source), "-o", str(program)], check=True)
    return program


class Machine:
    """Measures the peaks, again and again."""

    def __init__(self, folder: str):
        self.program = compiled(folder)
        self.square = torch.randn(3, 1024, 1024)
        self.from_, self.to = torch.randn(2, 16 << 20)

    def peaks(self) -> Peaks:
        a, b, c = self.square
        matmul = 2 * 1024**3 / seconds_of(lambda: torch.mm(a, b, out=c), 5) / 1e9
        copied = 2 * self.to.nbytes / 1e9
        copy = copied / seconds_of(lambda: self.to.copy_(self.from_), 3)
        return Peaks(*vector_rates(self.program), matmul, copy)


def attention_kernels(name: str) -> list[Kernel]:
    """Both passes of one of the compared batches, by the operators themselves."""
    ours, _ = both_sides(*TRAIN[name])
    q, k, v = (x.detach() for x in ours.inputs)
    lengths = ours.bounds.diff().double()
    pairs = float((lengths * (lengths + 1) / 2).sum()) * q.shape[1]
    rng = ours.dropout["rng"] if ours.dropout["dropout_p"] else None
    options = {"causal": True, "scale": q.shape[2] ** -0.5, "site": 0}
    options["dropout_p"] = ours.dropout["dropout_p"]
    shape = ours.bounds, ours.max_len, None, rng
    forward, backward = (
        torch.ops.mfgan.varlen_attention.default,
        torch.ops.mfgan.varlen_attention_backward.default,
    )
    out, lse = forward(q, k, v, *shape, **options)
    label = name.removeprefix("attention-train-")
    # Two products forward; backward makes the weights again and has four of its own.
    product = 2 * q.shape[2] * pairs
    return [
        Kernel(
            f"attention {label}, forward", lambda: forward(q, k, v, *shape, **options), 2 * product
        ),
        Kernel(
            f"attention {label}, backward",
            lambda: backward(ours.grad, q, k, v, out, lse, *shape, **options),
            5 * product,
        ),
    ]


def score_kernels(num_candidates: int) -> list[Kernel]:
    tower = make_tower(NUM_FACTORS, NUM_ITEMS, DIM, LENGTH)
    history = draw_items(NUM_ITEMS, SESSIONS, LENGTH, seed=1)
    total = history.numel()
    candidates = draw_items(NUM_ITEMS, total, num_candidates, seed=2)
    weights = [getattr(tower, name) for name in ("out_weight", "ff1_weight", "ff1_bias")]
    weights += [getattr(tower, name) for name in ("ff2_weight", "ff2_bias", "head_weight")]
    floats = [x.detach() for x in (*tower.tables(), *weights, tower.head_bias)]
    bounds = torch.arange(0, total + 1, LENGTH, dtype=torch.int32)
    inputs = *floats, history.flatten(), candidates, torch.arange(total), bounds, LENGTH, RNG
    options = {"num_heads": NUM_HEADS, "dropout_p": 0.25, "site": 0}
    grad = torch.ones(total, num_candidates, NUM_FACTORS)
    forward, backward = (
        torch.ops.mfgan.factor_score.default,
        torch.ops.mfgan.factor_score_backward.default,
    )
    rows = NUM_FACTORS * total * num_candidates
    # Backward makes forward's products again and has twice as many of its own.
    # A row attends over (LENGTH + 1) / 2 keys on average, item and distance terms added up once.
    attend, dense = 2 * rows * DIM * (LENGTH + 3) / 2, 2 * rows * DIM * DIM
    name = f"factor_score, {num_candidates} candidate" + "s" * (num_candidates > 1)
    return [
        Kernel(f"{name}, forward", lambda: forward(*inputs, **options), 2 * attend + 3 * dense),
        Kernel(
            f"{name}, backward",
            lambda: backward(grad, *inputs, **options),
            6 * attend + 9 * dense,
        ),
    ]


def other_kernels() -> list[Kernel]:
    x, residual = torch.randn(2, 25_600, 50)
    utilities = torch.randn(1_000_000)
    offsets = torch.arange(0, 1_000_001, 10)
    hidden = torch.randn(25_600, 50, requires_grad=True)
    table = torch.randn(3_417, 50, requires_grad=True)
    targets = torch.randint(1, 3_417, (25_600,))

    def softmax():
        loss = softmax_cross_entropy(hidden, table, targets)
        torch.autograd.grad(loss, (hidden, table))

    def dropped(dtype):
        a, b = x.to(dtype), residual.to(dtype)
        return lambda: dropout_residual(a, b, dropout_p=0.2, rng=RNG, site=0)

    return [
        Kernel("dropout_residual", dropped(torch.float32), bytes=3 * x.nbytes),
        Kernel("dropout_residual, bfloat16", dropped(torch.bfloat16), bytes=1.5 * x.nbytes),
        Kernel(
            "F.dropout and a sum (PyTorch)",
            lambda: F.dropout(x, 0.2) + residual,
            bytes=3 * x.nbytes,
        ),
        Kernel(
            "choice_logsumexp, sets of 10",
            lambda: choice_logsumexp(utilities, offsets, no_click=True),
            bytes=utilities.nbytes + offsets.nbytes + 4 * len(offsets),
        ),
        Kernel(
            "softmax in chunks, 25,600 x 3,416, both passes",
            softmax,
            flops=3 * 2 * 25_600 * 3_416 * 50,
        ),
    ]


def row(kernel: Kernel, seconds: list[float], peaks: list[Peaks]) -> str:
    """The medians over rounds of the time and of the shares."""

    def share(peak: str) -> str:
        shares = [
            (kernel.flops or kernel.bytes) / x / 1e9 / getattr(at, peak)
            for x, at in zip(seconds, peaks, strict=True)
            if getattr(at, peak)
        ]
        return f"{median(shares):.0%}" if shares else "-"

    parts = [share("fma"), share("matmul"), ""] if kernel.flops else ["", "", share("copy")]
    return f"| {kernel.name} | {median(seconds) * 1e3:.3f} | {' | '.join(parts)} |"


def main() -> None:
    torch.manual_seed(0)
    names = "long", "dropout-long", "heads", "50", "short"
    with torch.no_grad():
        kernels = [x for name in names for x in attention_kernels(f"attention-train-{name}")]
        kernels += [x for count in (1, 11) for x in score_kernels(count)]
    kernels += other_kernels()
    times = [runs_a_round(kernel.run) for kernel in kernels]
    peaks: list[Peaks] = []
    seconds: list[list[float]] = [[] for _ in kernels]
    with tempfile.TemporaryDirectory() as folder:
        machine = Machine(folder)
        for _ in range(ROUNDS):
            peaks.append(machine.peaks())
            for kernel, count, taken in zip(kernels, times, seconds, strict=True):
                taken.append(seconds_of(kernel.run, count))
    print(f"{processor()}; {torch.get_num_threads()} threads, torch {torch.__version__}")
    at = {name: median(getattr(x, name) for x in peaks) for name in Peaks.__annotations__}
    print("peaks, GFLOP/s: FMA {fma:.0f}, bf16 dot product {bf16:.0f}, ".format(**at), end="")
    print("matmul {matmul:.0f}; copy {copy:.1f} GB/s".format(**at))
    print("\n| kernel | ms | of FMA | of matmul | of copy |\n|---|---|---|---|---|")
    for kernel, taken in zip(kernels, seconds, strict=True):
        print(row(kernel, taken, peaks))


if __name__ == "__main__":
    main()
