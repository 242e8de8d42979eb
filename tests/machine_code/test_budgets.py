"""What nvcc makes of the kernels: registers, spills and instructions, for every architecture.

One line of BUDGETS a kernel; a file of csrc/cuda is compiled once for all of its kernels.
"""

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[2] / "csrc"
ARCHITECTURES = ["sm_80", "sm_90"]
COMPILE = ["-std=c++17", "-O3", "-DUSE_CUDA", "-DNDEBUG", f"-I{CSRC}", "-Xptxas", "-v"]
TENSOR_CORES = {"HMMA", "LDSM", "LDGSTS"}
PLAIN = {"FFMA", "LDGSTS"}
SECONDS = 1200


@dataclass(frozen=True)
class Budget:
    """The most registers of a thread, by head size, and what the machine code must hold."""

    registers: dict[int, int]
    instructions: frozenset[str]


def attention(instructions):
    """64 K registers hold 16 warps at 128, 12 at 168, 8 at 255."""
    needs = frozenset(instructions)
    return {
        "attention_forward": Budget({32: 128, 64: 168, 128: 168}, needs),
        "attention_grad_query": Budget({32: 168, 64: 168, 128: 255}, needs),
        "attention_grad_key": Budget({32: 168, 64: 168, 128: 255}, needs),
    }


BUDGETS = {
    "attention_bf16": attention(TENSOR_CORES),
    "attention_fp16": attention(TENSOR_CORES),
    "attention_tf32": attention(TENSOR_CORES),
    "attention_exact": attention(PLAIN),
}


@dataclass(frozen=True)
class Kernel:
    name: str
    sizes: tuple[int, ...]  # template arguments, the head size first
    architecture: str


def kernel_of(symbol, architecture):
    """From a mangled name: `_ZN5mfgan3gpu18attention_grad_keyI...Li128ELi4ELi16EEE...`."""
    length, rest = re.match(r"_ZN5mfgan3gpu(\d+)(.*)", symbol).groups()
    sizes = tuple(map(int, re.findall(r"Li(\d+)E", rest)))
    return Kernel(rest[: int(length)], sizes, architecture)


@cache
def nvcc():
    """The compiler; skips, saying so, where there is none."""
    found = shutil.which("nvcc")
    if found is None:
        pytest.skip("nvcc is not on the path")
    return found


@pytest.fixture(scope="module", params=BUDGETS)
def compiled(request, tmp_path_factory):
    """A file for sm_80, sm_90 and as PTX: its name, the fat binary and what ptxas said."""
    name = request.param
    target = tmp_path_factory.mktemp("code") / f"{name}.fatbin"
    codes = ["-gencode", "arch=compute_80,code=sm_80"]
    codes += ["-gencode", "arch=compute_90,code=[sm_90,compute_90]"]
    command = [nvcc(), "--fatbin", *COMPILE, *codes, CSRC / "cuda" / f"{name}.cu", "-o", target]
    run = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert run.returncode == 0, run.stderr[-4000:]
    return name, target, run.stdout + run.stderr


def resources(log):
    """Of each kernel: registers a thread and bytes spilled."""
    pattern = (
        r"Compiling entry function '(\w+)' for '(\w+)'.*?"
        r"(\d+) bytes spill stores, (\d+) bytes spill loads.*?Used (\d+) registers"
    )
    return {
        kernel_of(symbol, architecture): (int(registers), int(stores) + int(loads))
        for symbol, architecture, stores, loads, registers in re.findall(pattern, log, re.DOTALL)
    }


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


def instructions(fatbin):
    """Of each kernel: the names of the instructions in its machine code."""
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
        elif word := re.match(r"\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9]*)", line):
            names.add(word[1])
    return found


@pytest.mark.slow
def test_registers_and_spills(compiled):
    name, _, log = compiled
    found = resources(log)
    for kernel, (registers, spilled) in found.items():
        budget = BUDGETS[name][kernel.name]
        assert registers <= budget.registers[kernel.sizes[0]], f"{kernel}: {registers} registers"
        assert spilled == 0, f"{kernel}: {spilled} bytes spilled"
    wanted = {
        (kernel, size, architecture)
        for kernel, budget in BUDGETS[name].items()
        for size in budget.registers
        for architecture in ARCHITECTURES
    }
    assert {(x.name, x.sizes[0], x.architecture) for x in found} == wanted


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
