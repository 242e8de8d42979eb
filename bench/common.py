"""What every comparison needs: real session lengths, timing, the processor's name."""

import gzip
import math
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import pytest

DATA = Path(os.environ.get("MFGAN_DATA", Path(__file__).parents[2] / "shared" / "data"))
SEQUENCES = {"ml-1m": "ml-1m/sasrec.txt.gz", "games": "amazon/sasrec_Video.txt.gz"}
REPEATS = 15
# Seconds of a round at least: a shorter run is repeated and its mean taken.
LEAST_ROUND = 0.01

# Runs once. One that cannot be timed from here (it runs in another process) returns its seconds.
Run = Callable[[], object]


def real_data(name: str) -> Path:
    """The path of a real file; the comparison is skipped, saying so, where it is missing."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"real data {name} is not here; set MFGAN_DATA to its folder")
    return path


def lengths(dataset: str, max_len: int, num_sessions: int, seed: int = 0) -> np.ndarray:
    """Lengths of training inputs of ``num_sessions`` users drawn without replacement.

    The last two interactions of a user validate and test, and an input lacks the last of the rest.

    Args:
        dataset: ``"ml-1m"`` or ``"games"``.
        max_len: Longer inputs are cut.
        num_sessions: How many.
        seed: Of the draw.
    """
    with gzip.open(real_data(SEQUENCES[dataset]), "rt") as lines:
        users = np.loadtxt(lines, dtype=np.int64)[:, 0]
    counts = np.bincount(users)
    counts = counts[counts > 0]
    counts = np.where(counts < 4, counts, counts - 2) - 1
    inputs = np.minimum(counts[counts > 0], max_len)
    return np.random.default_rng(seed).choice(inputs, num_sessions, replace=False)


def timed(run: Run, times: int = 1) -> list[float]:
    """Seconds of each of ``times`` runs, one after the other."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        own = run()
        seconds.append(own if isinstance(own, float) else time.perf_counter() - start)
    return seconds


def runs_a_round(run: Run) -> int:
    """Warm up, and say how many runs make a round of at least ``LEAST_ROUND`` seconds."""
    (seconds,) = timed(run)
    if seconds >= 100 * LEAST_ROUND:
        return 1
    return math.ceil(LEAST_ROUND / min(timed(run, 5)))


def ratio_line(name: str, ours: float, rival: float) -> str:
    """The line that a comparison prints, from two medians in seconds."""
    return f"RATIO {name} {rival / ours:.2f} (ours {ours * 1e3:.3f} ms rival {rival * 1e3:.3f} ms)"


def summary(
    name: str, ours: list[float], rival: list[float], note: str | None = None
) -> dict[str, object]:
    """A comparison for JSON: medians and the spread between quartiles, in seconds."""

    def side(seconds: list[float]) -> dict[str, object]:
        low, high = np.percentile(seconds, [25, 75])
        return {"median": median(seconds), "quartiles": [float(low), float(high)]}

    return {
        "name": name,
        "ratio": median(rival) / median(ours),
        "ours": side(ours),
        "rival": side(rival),
        "repeats": len(ours),
        **({"note": note} if note else {}),
    }


def _cpuinfo() -> str:
    info = Path("/proc/cpuinfo")
    return info.read_text() if info.exists() else ""


def has_avx512() -> bool:
    """Whether the processor has 512-bit vectors, which the targets were set for."""
    return "avx512f" in _cpuinfo()


def processor() -> str:
    """The processor's name, its cores and whether it has 512-bit vectors."""
    names = [
        line.split(":", 1)[1].strip() for line in _cpuinfo().splitlines() if "model name" in line
    ]
    name = names[0] if names else platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores, {'with' if has_avx512() else 'without'} AVX-512"
