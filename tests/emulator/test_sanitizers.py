"""The emulated kernels under ThreadSanitizer and AddressSanitizer; planted bugs are caught."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[2] / "csrc"
BUILD_SECONDS = 600


@dataclass(frozen=True)
class Bug:
    """A line of a kernel changed for the worse, and the check that has to notice."""

    file: str
    right: str
    wrong: str
    check: str
    schedule: tuple[str, str]


FORWARD = "kernels/attention_forward.cuh"
BACKWARD = "kernels/attention_backward.cuh"
TILE = "kernels/attention_tile.cuh"
VALUES, RACES, ADDRESSES = "attention_none", "attention_thread", "attention_address"
CONVOLUTION, TAPS = "kernels/convolution.cuh", "convolution_none"
PLAIN, SKEWED = ("forward", "lazy"), ("skewed", "eager")
BUGS = {
    "no barrier before a tile is overwritten": Bug(
        FORWARD, "__syncthreads();  // the next fetch may overwrite this stage", "", RACES, SKEWED
    ),
    "backward: no barrier before a tile is overwritten": Bug(
        BACKWARD,
        "__syncthreads();  // the next fetch and the next statistics may overwrite this stage",
        "",
        RACES,
        SKEWED,
    ),
    "no barrier after a tile has come": Bug(
        FORWARD,
        "__syncthreads();  // every thread's part of this stage has arrived",
        "",
        VALUES,
        PLAIN,
    ),
    "backward: no barrier after a tile has come": Bug(
        BACKWARD,
        "__syncthreads();  // this stage, its statistics and its row keys have arrived",
        "",
        VALUES,
        PLAIN,
    ),
    "a copy that nobody waits for": Bug(FORWARD, "simt::cp_async_wait<0>();", "", VALUES, PLAIN),
    "a key too many": Bug(TILE, "row + 1}", "row + 2}", VALUES, PLAIN),
    "backward: a query too many": Bug(TILE, "Span{row,", "Span{row - 1,", VALUES, PLAIN),
    "keys of the session before": Bug(
        TILE, "return {p.cu_seqlens[first],", "return {p.cu_seqlens[first] - 1,", VALUES, PLAIN
    ),
    "a chunk left out": Bug(
        TILE, "return first < high", "return first + 8 < high", VALUES, PLAIN
    ),
    "a row beyond the tile": Bug(
        FORWARD,
        "constexpr int kTiles = kWarps * kWarpRows + 2 * 2 * kColumns;",
        "constexpr int kTiles = kWarps * kWarpRows + 2 * 2 * kColumns - 1;",
        ADDRESSES,
        PLAIN,
    ),
    "backward: statistics beyond the block": Bug(
        BACKWARD,
        "2 * kColumns * (sizeof(RowKey) + 2 * sizeof(float));",
        "2 * kColumns * (sizeof(RowKey) + 1 * sizeof(float));",
        ADDRESSES,
        PLAIN,
    ),
    "an output row left out": Bug(
        TILE,
        "if (rows[half] >= p.total_tokens) continue;",
        "if (rows[half] >= p.total_tokens - 1) continue;",
        VALUES,
        PLAIN,
    ),
    "backward: the values' gradient left out": Bug(
        BACKWARD, "static_cast<Value*>(g.grad_v), grad_v,", "static_cast<Value*>(g.grad_k), grad_k,",
        VALUES, PLAIN,
    ),
    "a shuffle of half a warp": Bug(
        "kernels/softmax.cuh",
        "x += __shfl_xor_sync(0xffffffffu, x, 1);",
        "x += __shfl_xor_sync(0x0000ffffu, x, 1);",
        VALUES,
        PLAIN,
    ),
    "sums of keys and positions read too early": Bug(
        "kernels/factor_score_gather.cuh",
        "__syncwarp();  // the sums are there",
        "",
        "factor_score_thread",
        ("skewed", "eager"),
    ),
    "weights overwritten while they are used": Bug(
        "kernels/factor_score_dense.cuh",
        "__syncthreads();  // the next fetch may overwrite this stage",
        "",
        "factor_score_thread",
        ("skewed", "eager"),
    ),
    "no barrier between attention and dense layers": Bug(
        "kernels/factor_score_forward.cuh",
        "__syncthreads();  // all rows are attended, and the attention's tiles may be overwritten",
        "",
        "factor_score_none",
        ("skewed", "lazy"),
    ),
    "a distance too few": Bug(
        "kernels/factor_score_attend.cuh",
        "first + element_column(n, e) <= unit.history",
        "first + element_column(n, e) < unit.history",
        "factor_score_none",
        ("forward", "lazy"),
    ),
    "scores of the next session": Bug(
        "kernels/factor_score_grad_keys.cuh",
        " && last_token < end",
        "",
        "factor_score_none",
        ("forward", "lazy"),
    ),
    "positions past their table": Bug(
        "kernels/factor_score_gather.cuh",
        "if (first + row > last || column >= p.head_dim) return;",
        "if (column >= p.head_dim) return;",
        "factor_score_address",
        ("forward", "lazy"),
    ),
    "the last key's gradient left out": Bug(
        "kernels/factor_score_grad_keys.cuh",
        "if (key >= num_keys ||",
        "if (key >= num_keys - 1 ||",
        "factor_score_none",
        ("forward", "lazy"),
    ),
    "taps that reach into the session before": Bug(
        CONVOLUTION, "token - walk.begin() + 1 :", "token - walk.begin() + 2 :", TAPS, PLAIN
    ),
    "taps that reach out of their session's end": Bug(
        CONVOLUTION, "walk.end() - token;", "walk.end() - token + 1;", TAPS, PLAIN
    ),
    "rows past the last token": Bug(
        CONVOLUTION,
        "token >= 0 && token < p.total_tokens;",
        "token >= 0;",
        "convolution_address",
        PLAIN,
    ),
    "a run's rows past the last token": Bug(
        CONVOLUTION,
        "if (token >= p.total_tokens) continue;",
        "",
        "convolution_address",
        PLAIN,
    ),
    "the taps' gradient forgets what came before a chunk": Bug(
        CONVOLUTION, "seen[j] = value_at(first - 1", "seen[j] = value_at(-1", TAPS, PLAIN
    ),
    "a session that is not left": Bug(
        CONVOLUTION, "cu_seqlens[session + 1] <= token) ++session", "false) ++session", TAPS, PLAIN
    ),
}  # fmt: skip


def build(directory, *, csrc=CSRC, targets=()):
    configure = ["cmake", "-S", CSRC / "tests", "-B", directory, "-G", "Ninja"]
    configure += [f"-DMFGAN_CSRC={csrc}"]
    named = [word for target in targets for word in ("--target", target)]
    for command in (configure, ["cmake", "--build", directory, *named]):
        subprocess.run(command, check=True, capture_output=True, timeout=BUILD_SECONDS)


@pytest.fixture(scope="module", autouse=True)
def tools():
    for tool in ("cmake", "ninja", "c++"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not on the path")


@pytest.mark.slow
def test_no_schedule_shows_a_race_or_a_bad_address(tmp_path):
    build(tmp_path)
    run = subprocess.run(
        ["ctest", "--test-dir", tmp_path, "--output-on-failure"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-4000:]
    assert "100% tests passed" in run.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_caught(name, tmp_path):
    bug = BUGS[name]
    changed = tmp_path / "csrc"
    shutil.copytree(CSRC, changed)
    text = (changed / bug.file).read_text()
    assert bug.right in text
    (changed / bug.file).write_text(text.replace(bug.right, bug.wrong))
    build(tmp_path / "build", csrc=changed, targets=[bug.check])
    command = [tmp_path / "build" / bug.check, *bug.schedule]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert run.returncode != 0, f"{name} went unnoticed: {run.stdout[-2000:]}"
