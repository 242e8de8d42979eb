"""Builds the compiled parts by CMake: CMakeLists.txt is the one build definition, this runs it.

Switches, all environment variables: ``MFGAN_NO_EXT=1`` builds nothing, ``MFGAN_CUDA`` is AUTO
(the CUDA kernels where nvcc is and torch can use them), ON or OFF, ``MFGAN_CUDA_ARCH`` the GPUs to
build for as CMake writes them, ``MFGAN_EMULATOR`` ON builds the CUDA kernels for the CPU as well
(the tests use it), ``MFGAN_BUILD_TYPE`` is a CMake build type, ``MAX_JOBS`` the parallel jobs.
"""

import importlib.machinery
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
NO_EXTENSION = os.environ.get("MFGAN_NO_EXT") == "1"


def find_torch() -> Path:
    """The installed torch, found without importing it, from inside an isolated build too."""
    if "MFGAN_TORCH_DIR" in os.environ:
        return Path(os.environ["MFGAN_TORCH_DIR"])
    paths = [*sys.path, sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    # An isolated build has a prefix of its own; the executable's is that of the environment.
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    prefix = Path(sys.executable).parent.parent
    paths += [str(prefix / "lib" / version / "site-packages")]
    spec = importlib.machinery.PathFinder.find_spec("torch", paths)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(
            "mfgan: torch must be installed before mfgan is built, found none; "
            "run: pip install torch==2.13.0 (CPU) or any torch from 2.11 on"
        )
    return Path(next(iter(spec.submodule_search_locations)))


def cuda_mode(torch: Path) -> str:
    """``MFGAN_CUDA``; for a torch without CUDA, which would not load the kernels, AUTO is OFF."""
    mode = os.environ.get("MFGAN_CUDA", "AUTO")
    version = torch / "version.py"
    if mode == "AUTO" and version.exists():
        found = re.search(r"^cuda\b[^=]*=\s*(.+)$", version.read_text(), re.MULTILINE)
        if found and found.group(1).strip() == "None":
            return "OFF"
    return mode


class CMakeBuild(build_ext):
    """One CMake run builds every target; a machine without a compiler gets the references alone."""

    def run(self) -> None:
        if NO_EXTENSION:
            return
        if shutil.which(os.environ.get("CXX", "c++")) is None:
            self.warn("mfgan: no C++ compiler found, the slower PyTorch references will serve")
            return
        build = Path(self.build_temp).resolve()
        build.mkdir(parents=True, exist_ok=True)
        into_source = self.inplace or self.editable_mode
        output = ROOT / "mfgan" if into_source else Path(self.build_lib).resolve() / "mfgan"
        configure = ["cmake", "-S", str(ROOT), "-B", str(build), "-G", "Ninja"]
        torch = find_torch()
        configure += [
            f"-DMFGAN_TORCH_DIR={torch}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-DMFGAN_OUTPUT_DIR={output}",
            f"-DMFGAN_CUDA={cuda_mode(torch)}",
            f"-DMFGAN_EMULATOR={os.environ.get('MFGAN_EMULATOR', 'OFF')}",
            f"-DCMAKE_BUILD_TYPE={os.environ.get('MFGAN_BUILD_TYPE', 'Release')}",
        ]
        if "MFGAN_CUDA_ARCH" in os.environ:
            configure.append(f"-DMFGAN_CUDA_ARCH={os.environ['MFGAN_CUDA_ARCH']}")
        try:
            import pybind11

            configure.append(f"-DMFGAN_PYBIND11_INCLUDE={pybind11.get_include()}")
        except ImportError:
            self.warn("mfgan: pybind11 not found, mfgan._native is not built")
        subprocess.check_call(configure)
        jobs = os.environ.get("MAX_JOBS", str(os.cpu_count() or 1))
        subprocess.check_call(["cmake", "--build", str(build), "--parallel", jobs])

    def get_outputs(self) -> list[str]:
        return [str(path) for path in (Path(self.build_lib) / "mfgan").glob("*.so")]


if "sdist" not in sys.argv and not NO_EXTENSION:
    find_torch()  # fails in the metadata step, before pip resolves gigabytes of dependencies
setup(
    ext_modules=[] if NO_EXTENSION else [Extension("mfgan._ops", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
)
