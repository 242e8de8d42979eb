"""What nvcc makes of the kernels: registers, spills and instructions, for every architecture.

One line of BUDGETS a kernel; a file of csrc/cuda is compiled once for all of its kernels.
"""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[2] / "csrc"
ARCHITECTURES = ["sm_80", "sm_90"]
COMPILE = [
    "-std=c++17",
    "-O3",
    "-DUSE_CUDA",
    "-DNDEBUG",
    "-DTORCH_TARGET_VERSION=0x020b000000000000",
]
COMPILE += ["-Xptxas", "-v", "-gencode", "arch=compute_80,code=sm_80"]
COMPILE += ["-gencode", "arch=compute_90,code=[sm_90,compute_90]"]
SECONDS = 1200
NO_SIZE = 0  # kernels that are the same for every head size

TENSOR_CORES = frozenset({"HMMA", "LDSM", "LDGSTS"})
PLAIN = frozenset({"FFMA", "LDGSTS"})
# Sums and dropout see every value once: nothing for tensor cores, nothing to share in a block.
SUMS = frozenset({"FADD", "LDG"})
WIDE = frozenset({"LDG.128", "STG.128"})


@dataclass(frozen=True)
class Budget:
    """What ptxas may take of a thread by head size, and what the machine code must hold.

    No kernel spills and none has static shared memory; test_shared_memory.py has the dynamic.
    """

    registers: dict[int, int]
    instructions: frozenset[str]


def attention(instructions):
    """64 K registers hold 16 warps at 128, 12 at 168, 8 at 255."""
    return {
        "attention_forward": Budget({32: 128, 64: 168, 128: 168}, instructions),
        "attention_grad_query": Budget({32: 168, 64: 168, 128: 255}, instructions),
        "attention_grad_key": Budget({32: 168, 64: 168, 128: 255}, instructions),
    }


def factor_score(instructions, *, narrow_keys):
    """Blocks of four warps: two are on a multiprocessor at 255 registers, three at 168.

    The dense layers' shared memory leaves room for two in the passes over scores.
    """
    keys = Budget({32: narrow_keys, 64: 255, 128: 255}, instructions)
    return {
        "factor_score_forward": Budget({32: 216, 64: 232, 128: 255}, instructions),
        "factor_score_grad_rows": Budget({32: 240, 64: 255, 128: 255}, instructions),
        "factor_score_grad_keys TokenKeys": keys,
        "factor_score_grad_keys DistanceKeys": keys,
        "score_row_bounds": Budget({NO_SIZE: 32}, frozenset({"LDG"})),
        "score_table_grads": Budget({NO_SIZE: 64}, SUMS),
        "score_weight_grads": Budget({NO_SIZE: 40}, SUMS),
        "score_position_grads": Budget({NO_SIZE: 40}, SUMS),
    }


def convolution(value, *, wide, registers):
    """Some columns a thread, or one; five blocks of four warps are on a multiprocessor at 96."""
    return {
        f"convolve {value}": Budget({wide: registers}, WIDE | {"FFMA"}),
        f"convolve {value} alone": Budget({1: 48}, frozenset({"LDG", "STG", "FFMA"})),
        f"convolution_tap_grads {value}": Budget({NO_SIZE: 40}, frozenset({"LDG", "STG", "FFMA"})),
    }


# For dropout and the convolution the values of a part stand in place of the head size.
BUDGETS = {
    "attention_bf16": attention(TENSOR_CORES),
    "attention_fp16": attention(TENSOR_CORES),
    "attention_tf32": attention(TENSOR_CORES),
    "attention_exact": attention(PLAIN),
    "factor_score_bf16": factor_score(TENSOR_CORES, narrow_keys=168),
    "factor_score_fp16": factor_score(TENSOR_CORES, narrow_keys=168),
    "factor_score_tf32": factor_score(TENSOR_CORES, narrow_keys=200),
    "factor_score_exact": factor_score(PLAIN, narrow_keys=200),
    "convolution": {
        **convolution("float", wide=4, registers=64),
        **convolution("__nv_bfloat16", wide=8, registers=96),
        **convolution("__half", wide=8, registers=96),
        "sum_parts": Budget({NO_SIZE: 32}, frozenset({"FADD", "LDG"})),
    },
    "dropout": {
        "dropout_residual float": Budget({4: 32}, WIDE),
        "dropout_residual float alone": Budget({1: 32}, frozenset({"LDG", "STG"})),
        "dropout_residual __nv_bfloat16": Budget({8: 32}, WIDE),
        "dropout_residual __nv_bfloat16 alone": Budget({1: 32}, frozenset({"LDG", "STG"})),
        "dropout_residual __half": Budget({8: 32}, WIDE),
        "dropout_residual __half alone": Budget({1: 32}, frozenset({"LDG", "STG"})),
    },
}


@dataclass(frozen=True)
class Kernel:
    name: str  # with what tells its instantiations apart beside sizes and the arithmetic
    sizes: tuple[int, ...]  # template arguments, the head size first
    architecture: str

    @property
    def size(self):
        return self.sizes[0] if self.sizes else NO_SIZE


def kernel_of(symbol, architecture):
    """From a mangled name: `_ZN5mfgan3gpu18attention_grad_keyI...Li128ELi4ELi16EEE...`."""
    length, rest = re.match(r"_ZN5mfgan3gpuL?(\d+)(.*)", symbol).groups()
    name, rest = rest[: int(length)], rest[int(length) :]
    sizes = tuple(int(x.replace("n", "-")) for x in re.findall(r"Li(n?\d+)E", rest))
    if keys := re.search(r"TokenKeys|DistanceKeys", rest):
        name += f" {keys[0]}"
    value = re.match(r"I(?:f|\d+(__nv_bfloat16|__half))(?:Li|E)", rest)
    if value and (sizes or name.startswith("convolution")):
        name += f" {value[1] or 'float'}" + (" alone" if sizes[:1] == (1,) else "")
    return Kernel(name, sizes, architecture)


@cache
def nvcc():
    """The compiler; skips, saying so, where there is none."""
    found = shutil.which("nvcc")
    if found is None:
        pytest.skip("nvcc is not on the path")
    return found


@cache
def sources():
    """A hash of all that a compilation depends on."""
    version = subprocess.run([nvcc(), "--version"], capture_output=True, check=True).stdout
    parts = [version, repr(COMPILE).encode()]
    for path in sorted(CSRC.rglob("*")):
        if path.suffix in {".h", ".cuh", ".cu"}:
            parts += [path.name.encode(), path.read_bytes()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def compile_file(name, directory):
    """A file for sm_80, sm_90 and as PTX: its fat binary and what ptxas said."""
    target, log = directory / f"{name}.fatbin", directory / f"{name}.log"
    if not log.exists():
        torch = importlib.util.find_spec("torch").submodule_search_locations[0]
        include = [f"-I{CSRC}", "-isystem", f"{torch}/include"]
        command = [nvcc(), "--fatbin", *COMPILE, *include, CSRC / "cuda" / f"{name}.cu"]
        run = subprocess.run(
            [*command, "-o", target], capture_output=True, text=True, timeout=SECONDS, check=False
        )
        assert run.returncode == 0, run.stderr[-4000:]
        log.write_text(run.stdout + run.stderr)
    return target, log.read_text()


@pytest.fixture(scope="module")
def compilations(request):
    """Every file on its way, as many at a time as there are processors; kept while none changes."""
    directory = request.config.cache.mkdir(f"machine_code_{sources()}")
    params = [getattr(item, "callspec", None) for item in request.session.items]
    selected = {x.params["compiled"] for x in params if x and "compiled" in x.params}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        longest_first = sorted(selected, key=lambda name: (not name.endswith("exact"), name))
        yield {name: pool.submit(compile_file, name, directory) for name in longest_first}


@pytest.fixture(scope="module", params=BUDGETS)
def compiled(request, compilations):
    """A file's name, its fat binary and what ptxas said."""
    return request.param, *compilations[request.param].result()


def resources(log):
    """Of each kernel: registers a thread, bytes spilled and bytes of static shared memory."""
    pattern = (
        r"Compiling entry function '(\w+)' for '(\w+)'.*?"
        r"(\d+) bytes spill stores, (\d+) bytes spill loads.*?Used (\d+) registers([^\n]*)"
    )
    found = {}
    for symbol, architecture, stores, loads, used, rest in re.findall(pattern, log, re.DOTALL):
        static = re.search(r"(\d+) bytes smem", rest)
        spilled = int(stores) + int(loads)
        kernel = kernel_of(symbol, architecture)
        found[kernel] = int(used), spilled, int(static[1]) if static else 0
    return found


@cache
def disassembler():
    """cuobjdump and a path on which it finds nvdisasm; skips, saying so, where they are missing."""
    path = os.environ["PATH"]
    package = importlib.util.find_spec("nvidia")
    for root in package.submodule_search_locations if package else ():
        path += f"{os.pathsep}{root}/cu13/bin"
    if any(shutil.which(tool, path=path) is None for tool in ("cuobjdump", "nvdisasm")):
        pytest.skip("cuobjdump and nvdisasm are not installed: they come with the test extra")
    return shutil.which("cuobjdump", path=path), {**os.environ, "PATH": path}


WORD = r"([A-Z][A-Z0-9]*)((?:\.[A-Z0-9]+)*)"


def instructions(fatbin):
    """Of each kernel: the names of the instructions in its machine code, and `.128` if so wide."""
    tool, environment = disassembler()
    run = subprocess.run(
        [tool, "-sass", fatbin], capture_output=True, text=True, env=environment, check=True
    )
    found, architecture, names = {}, "", set()
    for line in run.stdout.splitlines():
        if code := re.match(r"\s*code for (sm_\d+)", line):
            architecture = code[1]
        elif function := re.match(r"\s*Function : (\w+)", line):
            names = found.setdefault(kernel_of(function[1], architecture), set())
        elif word := re.match(rf"\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?{WORD}", line):
            names |= {word[1], f"{word[1]}.128"} if ".128" in (word[2] or "") else {word[1]}
    return found


@pytest.mark.slow
def test_registers_and_spills(compiled):
    name, _, log = compiled
    found = resources(log)
    for kernel, (registers, spilled, static) in found.items():
        budget = BUDGETS[name][kernel.name]
        assert registers <= budget.registers[kernel.size], f"{kernel}: {registers} registers"
        assert spilled == 0, f"{kernel}: {spilled} bytes spilled"
        assert static == 0, f"{kernel}: {static} bytes of static shared memory"
    wanted = {
        (kernel, size, architecture)
        for kernel, budget in BUDGETS[name].items()
        for size in budget.registers
        for architecture in ARCHITECTURES
    }
    assert {(x.name, x.size, x.architecture) for x in found} == wanted


@pytest.mark.slow
def test_machine_code(compiled):
    name, fatbin, log = compiled
    found = instructions(fatbin)
    assert found.keys() == resources(log).keys()
    for kernel, names in found.items():
        missing = BUDGETS[name][kernel.name].instructions - names
        assert not missing, f"{kernel} has no {missing}"
        assert not names & {"LDL", "STL"}, f"{kernel} uses local memory"
    tool, environment = disassembler()
    listed = subprocess.run(
        [tool, "--list-ptx", fatbin], capture_output=True, text=True, env=environment, check=True
    )
    assert "sm_90.ptx" in listed.stdout
