"""Commands of the parts that build, test and sanitise the kernels: each one a process of its own."""

import importlib.util
import os
import shutil
import sys
from pathlib import Path

_OP_TESTS = "tests/ops"


def build_command(arch: str) -> tuple[list[str], dict[str, str]]:
    """Build in place with this machine's nvcc, for one architecture.

    Args:
        arch: As CMake writes it, for example ``90``.

    Returns:
        The command and what it needs in its environment.
    """
    # CMake and Ninja may be Python's packages, and nvcc where it is installed by default.
    folders = [str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/local/cuda/bin"]
    environment = {
        "PATH": os.pathsep.join(folders),
        "MFGAN_CUDA": "ON",
        "MFGAN_CUDA_ARCH": arch,
        "MAX_JOBS": os.environ.get("MAX_JOBS", str(os.cpu_count() or 1)),
    }
    return [sys.executable, "setup.py", "-q", "build_ext", "--inplace"], environment


def test_command(device: str) -> list[str]:
    """The operators' tests on a device, in several processes where pytest-xdist is there.

    Warnings are no errors here: another torch may have others, and the results are what counts.
    """
    command = [sys.executable, "-m", "pytest", _OP_TESTS, "-q", "--device", device]
    command += ["-p", "no:cacheprovider", "--maxfail", "30", "--tb", "line", "-W", "default"]
    if importlib.util.find_spec("xdist") is not None:
        command += ["-n", str(min(8, max(1, (os.cpu_count() or 2) // 2)))]
    return command


def sanitizer_command(tool: str) -> tuple[list[str], dict[str, str]] | None:
    """``compute-sanitizer`` over a small case; None where it is not installed.

    Args:
        tool: ``memcheck`` or ``racecheck``.
    """
    found = shutil.which("compute-sanitizer") or shutil.which(
        "compute-sanitizer", path="/usr/local/cuda/bin"
    )
    if found is None:
        return None
    command = [found, "--tool", tool, "--error-exitcode", "9", "--print-limit", "20"]
    command += [sys.executable, "-m", "bench.gpu.small_case"]
    # With PyTorch's own allocator a read past a tensor's end stays inside a block of its.
    return command, {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
