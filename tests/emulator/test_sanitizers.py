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


BUGS = {
    "no barrier before a tile is overwritten": Bug(
        "kernels/attention_forward.cuh",
        "__syncthreads();  // the next fetch may overwrite this stage",
        "",
        "attention_thread",
        ("skewed", "eager"),
    ),
    "no barrier after a tile has come": Bug(
        "kernels/attention_forward.cuh",
        "__syncthreads();  // every thread's part of this stage has arrived",
        "",
        "attention_none",
        ("forward", "lazy"),
    ),
    "a copy that nobody waits for": Bug(
        "kernels/attention_forward.cuh",
        "simt::cp_async_wait<0>();",
        "",
        "attention_none",
        ("forward", "lazy"),
    ),
    "a key too many": Bug(
        "kernels/attention_tile.cuh", "key <= query", "key <= query + 1", "attention_none",
        ("forward", "lazy"),
    ),
    "keys of the session before": Bug(
        "kernels/attention_tile.cuh", "key >= session.begin", "key >= session.begin - 1",
        "attention_none", ("forward", "lazy"),
    ),
    "a row beyond the tile": Bug(
        "kernels/attention_forward.cuh",
        "constexpr int kTiles = kWarps * kWarpRows + 2 * 2 * kColumns;",
        "constexpr int kTiles = kWarps * kWarpRows + 2 * 2 * kColumns - 1;",
        "attention_address",
        ("forward", "lazy"),
    ),
    "an output row left out": Bug(
        "kernels/attention_tile.cuh",
        "if (token < p.total_tokens && column < p.head_dim) {",
        "if (token < p.total_tokens - 1 && column < p.head_dim) {",
        "attention_none",
        ("forward", "lazy"),
    ),
    "a shuffle of half a warp": Bug(
        "kernels/softmax.cuh",
        "x += __shfl_xor_sync(0xffffffffu, x, 1);",
        "x += __shfl_xor_sync(0x0000ffffu, x, 1);",
        "attention_none",
        ("forward", "lazy"),
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
